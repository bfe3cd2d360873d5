"""A whole system in virtual time, described in a few lines, and what its journal says afterwards.

``Rig`` boots a host, injects errors, lets time pass and reads everything it reports from the journal, so that no
party is believed about itself. ``check`` holds the invariants that every end of a test must keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dom0_pciback.pciback.stub import PcistubDevice
from dom0_pciback.pcie.function import Function
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP, EXP_DEVSTA_ERRORS
from protocol.topology import AssignmentSpec, FunctionSpec, GuestDriverSpec, GuestSpec, HostSpec, TimingSpec
from protocol.xenbus import BACKEND_ROOT
from tests.simulation.invariants import violations
from xenaer.journal import Entry
from xenaer.simulation import SimSystem

COMP_ABORT, UNX_COMP, POISON_TLP = 1 << 15, 1 << 16, 1 << 12  # non-fatal by default
MALF_TLP, DLP = 1 << 18, 1 << 4  # fatal by default
BAD_TLP = 1 << 6  # correctable
SETTLE_MS = 20_000
BUDGET_MS = 300_000
SHORT = {"error_detected": "ED", "mmio_enabled": "MM", "slot_reset": "SR", "resume": "RS"}
HEADER_BYTES = range(0x04, 0x40)
LOG_BITS = 0x1F  # First Error Pointer in AER CAP: read-only history, not a setting (R3)


# -- hosts ---------------------------------------------------------------------------------------
def full(bdf: str) -> str:
    """``01:00.0`` as the journal writes it."""
    return str(Sbdf.parse(bdf))


def root_port(bdf: str, secondary: int, last: int = 0) -> FunctionSpec:
    """A root port; ``last`` is the highest bus below."""
    return _port(bdf, "root_port", "", (secondary, last or secondary))


def switch(upstream: str, parent: str, inner: int, down: dict[str, int]) -> list[FunctionSpec]:
    """An upstream port and its downstream ports: address -> bus below."""
    top = _port(upstream, "upstream_port", parent, (inner, max(down.values())))
    return [top, *(_port(bdf, "downstream_port", upstream, (bus, bus)) for bdf, bus in down.items())]


def _port(bdf: str, kind: Any, parent: str, buses: tuple[int, int]) -> FunctionSpec:
    parent = full(parent) if parent else ""
    return FunctionSpec(
        full(bdf), kind, parent, secondary=buses[0], subordinate=buses[1], vendor=0x1B36, device=0xC,
        dom0_driver="pcieport",
    )  # fmt: skip


def endpoint(bdf: str, parent: str, **options: Any) -> FunctionSpec:
    """An endpoint; ``options`` are fields of FunctionSpec."""
    return FunctionSpec(full(bdf), "endpoint", full(parent), **options)


def guest(
    name: str, *devices: str, driver: str = "scripted", spec: dict[str, Any] | None = None, **options: Any
) -> GuestSpec:
    """A guest with the same driver and options for all its devices; ``spec`` are fields of GuestSpec."""
    plan = [AssignmentSpec(full(bdf), GuestDriverSpec(driver, dict(options)), permissive=True) for bdf in devices]
    return GuestSpec(name, devices=plan, **(spec or {}))


def host(functions: Sequence[FunctionSpec], guests: Sequence[GuestSpec], **options: Any) -> HostSpec:
    """A host; ``options`` are fields of HostSpec, or of TimingSpec if their name ends in ``_ms``."""
    timing = TimingSpec(**{key: options.pop(key) for key in list(options) if key.endswith("_ms")})
    return HostSpec("test", list(functions), list(guests), timing=timing, **options)


def one_port(*guests: GuestSpec, functions: int = 1, fields: dict[str, Any] | None = None, **options: Any) -> HostSpec:
    """One root port 00:04.0 with functions 01:00.0, 01:00.1, ... below; ``fields`` of FunctionSpec for all."""
    below = [endpoint(f"01:00.{n}", "00:04.0", **(fields or {})) for n in range(functions)]
    return host([root_port("00:04.0", 1), *below], guests, **options)


class Rig:
    """A booted system. ``mark`` is the first record of what is looked at; ``inject`` sets it once."""

    def __init__(self, spec: HostSpec, seed: int = 1, *, boot: bool = True) -> None:
        self.spec = spec
        self.system = SimSystem(spec, seed, boot=False)
        self.system.advance(3_000)
        self.aerfail: list[str] = []
        xs = self.system.hypervisor.machine.xs
        xs.watch(BACKEND_ROOT, "kit", lambda path: self._store_changed(path))
        self.seized = {bdf: self.registers(bdf) for bdf in self._endpoints()}
        self.mark = self._cursor = 0
        self._seen: list[Entry] = []
        if boot:
            self.system.ctl("hypervisor", "boot", [])
            self.system.advance(200)
        self.live = {bdf: self.registers(bdf) for bdf in self._endpoints()}

    def _endpoints(self) -> list[str]:
        return [f.bdf for f in self.spec.functions if f.kind == "endpoint"]

    def _store_changed(self, path: str) -> None:
        if path.endswith("/aerState") and self.system.hypervisor.machine.xs.read(path) == "aerfail":
            self.aerfail.append(path)

    # -- acting ----------------------------------------------------------------------------------
    def inject(self, bdf: str, uncor: int, cor: int = 0, *, advisory: bool = False) -> Rig:
        """The hardware of ``bdf`` detects errors; nothing has run yet when this returns."""
        self.mark = self.mark or len(self.system.parts.records)
        hierarchy = self.system.dom0.hierarchy
        assert hierarchy is not None
        hierarchy.inject(Sbdf.parse(bdf), cor, uncor, advisory=advisory)
        return self

    def settle(self, ms: float = SETTLE_MS) -> Rig:
        """Let time pass, by default long enough for every recovery that does not wait for a mute guest."""
        self.system.advance(ms)
        return self

    def xl(self, *words: str) -> tuple[int, str, str]:
        """An ``xl`` command, to its end."""
        status, out, err = self.system.ctl("hypervisor", "xl", list(words))
        return int(status), str(out), str(err)

    def start_xl(self, *words: str) -> None:
        """An ``xl`` command in the background."""
        control = self.system.hypervisor.control
        self.system.kernel.spawn(control.ctl("hypervisor", "xl", list(words)), f"xl {' '.join(words)}")

    def workload(self, name: str, count: int = 4) -> dict[str, int]:
        """Move data through every device of a guest: units verified per device."""
        return dict(self.system.ctl(name, "workload", [-1, count]))

    def function(self, bdf: str) -> Function:
        """The hardware of a function."""
        assert self.system.dom0.hierarchy is not None
        return self.system.dom0.hierarchy.functions[Sbdf.parse(bdf)]

    def psdev(self, bdf: str) -> PcistubDevice:
        """pciback's view of a function."""
        return self.system.dom0.pciback.slots[Sbdf.parse(bdf)]

    # -- reading the journal ---------------------------------------------------------------------
    def records(self, label: str, party: str | None = None) -> list[Entry]:
        """Records with this label since the first injection."""
        return [e for e in self.entries() if e["label"] == label and party in (None, e["party"])]

    def entries(self) -> list[Entry]:
        """All records since the first injection."""
        self._seen += self.system.records(max(self.mark, self._cursor))[0]
        self._cursor = len(self.system.parts.records)
        return self._seen

    def callbacks(self, name: str | None = None) -> list[str]:
        """Callbacks of guest drivers that returned, as ``ED(1) 2``, ``MM 5``, ``SR 5``, ``RS``."""
        found = [e for e in self.records("driver.callback", name) if e["party"] != "dom0"]
        return [_callback(e) for e in found]

    def resets(self) -> list[str]:
        """Methods of the resets, in order."""
        return [str(e["method"]) for e in self.records("pci.reset")]

    def resets_of(self, bdf: str) -> list[str]:
        """Methods of the resets of one function or port."""
        return [str(e["method"]) for e in self.records("pci.reset") if e["subject"] == full(bdf)]

    def verdicts(self) -> list[str]:
        """Verdicts of the groups, in order."""
        return [str(e["verdict"]) for e in self.records("recovery.end")]

    def verdict_lines(self) -> list[str]:
        """What the kernel log says at the end of recoveries."""
        return [t.partition("device recovery ")[2] for t in self.log() if "device recovery " in t]

    def outcomes(self) -> dict[str, str]:
        """Last outcome per function."""
        return {str(e["subject"]): str(e["outcome"]) for e in self.records("recovery.outcome")}

    def outcome(self, bdf: str) -> str:
        """Last outcome of one function, empty if it had none."""
        return self.outcomes().get(full(bdf), "")

    def log(self, party: str = "dom0") -> list[str]:
        """Kernel log lines of a party."""
        return [str(e["text"]) for e in self.records("printk", party)]

    def steps(self, *labels: str) -> list[str]:
        """``label subject`` of the records with these labels, in order."""
        return [f"{e['label']} {e['subject']}" for e in self.entries() if e["label"] in labels]

    # -- how things are --------------------------------------------------------------------------
    def alive(self, name: str) -> bool:
        """``xl list`` has the guest."""
        return self.xl("list", name)[0] == 0

    def registers(self, bdf: str) -> dict[str, int]:
        """The hardware's settings and error status, read past the bus: BARs, Command, controls, masks."""
        function = self.function(bdf)
        peek, exp, aer = function.config.peek, function.exp, function.aer
        found = {f"BAR{n}": peek(0x10 + 4 * n, 4) for n in range(6)} if not function.is_port else {}
        found |= {"Command": peek(HEADER.COMMAND, 2), "line": peek(HEADER.INTERRUPT_LINE, 1)}
        found |= {reg.name: peek(exp + reg, reg.width) for reg in (EXP.DEVCTL, EXP.LNKCTL, EXP.DEVCTL2)}
        masks = (AER.UNCOR_MASK, AER.UNCOR_SEVER, AER.COR_MASK)
        found |= {reg.name: peek(aer + reg, reg.width) for reg in masks}
        found |= {"status": peek(aer + AER.UNCOR_STATUS, 4) | peek(aer + AER.COR_STATUS, 4)}
        return found | {"DevSta": peek(exp + EXP.DEVSTA, 2) & EXP_DEVSTA_ERRORS}

    def clean(self, bdf: str) -> bool:
        """As at seizure, and assignable again (errata 9.1)."""
        return self.registers(bdf) == self.seized[full(bdf)] and self.assignable(bdf)

    def assignable(self, bdf: str) -> bool:
        """``xl pci-assignable-list`` has it."""
        return full(bdf) in self.xl("pci-assignable-list")[1]

    def fault(self, bdf: str) -> str:
        """Why the stub gives the function to nobody; "" if it does not think so (KILL-5)."""
        status = self.system.ctl("hypervisor", "status", [])
        return next(str(device["fault"]) for device in status["devices"] if device["bdf"] == full(bdf))

    def same(self, bdf: str) -> bool:
        """Configured as before the error, and no status left."""
        return self.registers(bdf) == self.live[full(bdf)]

    def check(self) -> None:
        """The invariants; called at the end of every test."""
        found = violations(self.system)
        assert not found, "\n".join(found)


def _callback(e: Entry) -> str:
    name = SHORT[str(e["phase"])]
    state = f"({e['state']})" if name == "ED" else ""
    return name if name == "RS" else f"{name}{state} {e['answer']}"


def good(rig: Rig, bdfs: Iterable[str]) -> bool:
    """All these functions are as they were before the error."""
    return all(rig.same(bdf) for bdf in bdfs)
