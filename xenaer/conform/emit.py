"""From what was seen to the keys of a case file (errata 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dom0_pciback.drivers.aerlab import VARIANTS
from kernel_stub.kernel import INFO
from protocol.bits import COR_BY_NUMBER, UNCOR_BY_NUMBER
from protocol.ids import Sbdf
from protocol.ports import Record
from xenaer.conform.case import OUTPUTS, Case
from xenaer.conform.perform import Seen
from xenaer.conform.state import HIDDEN, DeviceState

TRACE_DWORDS = 14
SEVERITY = {"CORRECTABLE": "Corrected", "FATAL": "Fatal", "NONFATAL": "Uncorrected, non-fatal"}
FINAL_WORDS = ("AER", "aer", "recovery", "error")


def emit(seen: Seen, case: Case) -> dict[str, Any]:
    """All compared keys of the case, as the recording has them."""
    lines = dmesg(seen.records)
    listed = set(case.before) if "registers" in case.recorded else _with_roots(seen)
    found: dict[str, Any] = {
        "handlers": collect(seen.records, HANDLERS),
        "core_calls": collect(seen.records, CORE_CALLS),
        "recovery": [[record[3], record[4]] for record in seen.records if record[2] == "recovery.end"],
        "dmesg": lines,
        "dmesg_text": [text for _, _, text in lines],
        "aer_event": collect(seen.records, AER_EVENTS),
        "uevents": uevents(seen),
        "counters": counters(seen),
        "registers": registers(seen, listed),
        "device_changes": device_changes(seen),
        "left_without_state": left_without_state(seen),
        "final_line": final_line([text for _, _, text in lines]),
    }
    return {key: found[key] for key in OUTPUTS}


def _with_roots(seen: Seen) -> set[Sbdf]:
    """Functions in which hardware errors were injected, and the root ports above them."""
    devices = seen.machine.core.devices
    return seen.named | {devices[sbdf].root.sbdf for sbdf in seen.named if sbdf in devices}


# -- from journal records to lines ---------------------------------------------------------------
Lines = dict[str, Callable[..., Iterable[str]]]


def collect(records: list[Record], table: Lines) -> list[str]:
    """The lines that ``table`` makes of the records with its labels; called with subject and fields."""
    found: list[str] = []
    for record in records:
        make = table.get(record[2])
        if make is not None:
            found += make(*record[3:])
    return found


def _handler(bdf: str, driver: str, callback: str, state: str, answer: str) -> list[str]:
    prefix = "lab" if driver in VARIANTS else "portdrv" if driver == "pcieport" else driver
    arguments = f"({state})" if callback == "error_detected" else ""
    return [f"{bdf} {prefix}.{callback}{arguments}{' -> ' + answer if answer else ''}"]


HANDLERS: Lines = {"pci.callback": _handler}


def _vote(bdf: str, phase: str, vote: str, merged: str) -> list[str]:
    word = {"mmio_enabled": "mmio", "slot_reset": "slot"}.get(phase)
    return [f"rep_{word}({bdf}) merged={merged}"] if word else []


CORE_CALLS: Lines = {
    "recovery.begin": lambda bdf, state: [f"pcie_do_recovery({bdf}, io_{state.lower()})"],
    "recovery.uevent": lambda bdf, vote: [f"pci_uevent_ers({bdf}, {vote})"],
    "recovery.detected": lambda bdf, state, merged: [f"rep_{state.lower()}({bdf}) merged={merged}"],
    "recovery.vote": _vote,
    "recovery.report": lambda bdf, phase: [f"rep_{'perm' if phase == 'perm_failure' else phase}({bdf})"],
    "pci.slot_reset": lambda bdf, probe, result: [f"slot_reset_fn(probe={probe}, ret={result})"],
    "pciehp.reset_slot": lambda bdf, probe, result: [f"pciehp_reset_slot(probe={probe}, ret={result})"],
    "pciehp.bus_reset": lambda bdf, result: [f"pci_bridge_secondary_bus_reset({bdf}) -> {result}"],
    "pci.reset": lambda bdf, method, result: [f"flr(dev={bdf}, ret={result})"] if method == "flr" else [],
    "aer.root_reset": lambda bdf, result: [f"aer_root_reset({bdf}) -> {result}"],
    "recovery.end": lambda bdf, result, verdict: [f"pcie_do_recovery({bdf}) -> {result}"],
}


def _aer_event(bdf: str, severity: str, status: int, header: list[int]) -> list[str]:
    """The print format of ``ras:aer_event`` (linux-aer.md 8)."""
    table = COR_BY_NUMBER if severity == "CORRECTABLE" else UNCOR_BY_NUMBER
    named = [(bit.mask, bit.trace) for bit in table.values() if bit.trace is not None]
    words = [text for mask, text in named if status & mask]
    rest = status & ~sum(mask for mask, _ in named)
    if rest:
        words.append(f"{rest:#x}")
    log = "Not available"
    if header:
        log = "{" + ",".join(f"{dword:#x}" for dword in (*header, *[0] * TRACE_DWORDS)[:TRACE_DWORDS]) + "}"
    return [f"{bdf} PCIe Bus Error: severity={SEVERITY[severity]}, {'|'.join(words)}, TLP Header={log}"]


AER_EVENTS: Lines = {"aer.error": _aer_event}


def dmesg(records: list[Record]) -> list[list[Any]]:
    """Lines of level information and above: microseconds since the first one, level, text."""
    found = [(record[0], record[4], record[5]) for record in records if record[2] == "printk" and record[4] <= INFO]
    return [[(time - found[0][0]) // 1000, level, text] for time, level, text in found]


def final_line(lines: list[str]) -> str:
    """The last line about errors that is not the recording driver's."""
    about = [text for text in lines if any(word in text for word in FINAL_WORDS) and "aerlab:" not in text]
    return about[-1] if about else ""


def uevents(seen: Seen) -> list[dict[str, str]]:
    """Every uevent as a map of its variables."""
    found = []
    for record in seen.records:
        if record[2] == "uevent":
            found.append(_uevent(seen, record))
        elif record[2] == "uevent.nvme":
            found.append({"ACTION": record[4], "DEVPATH": record[5], "SUBSYSTEM": "nvme"})
    return found


def _uevent(seen: Seen, record: Record) -> dict[str, str]:
    bdf, action, event, online, driver, path = record[3:]
    dev = seen.machine.known(Sbdf.parse(bdf))
    variables = {"ACTION": action, "DEVPATH": path, "SUBSYSTEM": "pci"}
    if event:
        variables |= {"ERROR_EVENT": event, "DEVICE_ONLINE": str(online)}
    if driver:
        variables["DRIVER"] = driver
    identity = {"PCI_ID": f"{dev.vendor:04X}:{dev.device:04X}", "PCI_CLASS": f"{dev.class_code:04X}"}
    return variables | {"PCI_SLOT_NAME": bdf} | identity


# -- from two states to their difference -----------------------------------------------------------
def counters(seen: Seen) -> dict[str, Any]:
    """Functions whose counters differ; those that are gone are left out."""
    return {
        str(sbdf): {"before": seen.before[sbdf].counters, "after": after.counters}
        for sbdf, after in seen.after.items()
        if after.counters != seen.before[sbdf].counters
    }


def registers(seen: Seen, listed: set[Sbdf]) -> dict[str, Any]:
    """Registers of the functions ``listed`` and of those that changed."""
    found = {}
    for sbdf, after in seen.after.items():
        old, new = seen.before[sbdf].registers, after.registers
        changed = {name: value for name, value in new.items() if old.get(name) != value}
        if changed or sbdf in listed:
            before = {name: value for name, value in old.items() if name not in HIDDEN}
            found[str(sbdf)] = {"before": before, "changed": changed}
    return found


def device_changes(seen: Seen) -> dict[str, str]:
    """Functions that are gone or have another driver."""
    changes = {}
    for sbdf, old in seen.before.items():
        new = seen.after.get(sbdf)
        if new is None:
            changes[str(sbdf)] = "gone"
        elif new.driver != old.driver:
            changes[str(sbdf)] = f"driver {old.driver} -> {new.driver}"
    return changes


def left_without_state(seen: Seen) -> list[str]:
    """Recording devices that ended without memory decoding or with other error enables."""
    return [
        str(sbdf)
        for sbdf, old in seen.before.items()
        if old.recording and sbdf in seen.after and _lost(old, seen.after[sbdf])
    ]


def _lost(old: DeviceState, new: DeviceState) -> bool:
    if new.registers["id"] == "ffff:ffff":
        return True
    memory = int(str(new.registers["command"]), 16) & 2
    enables = [int(str(each.registers.get("devctl", "0")), 16) & 0xF for each in (old, new)]
    return not memory or enables[0] != enables[1]
