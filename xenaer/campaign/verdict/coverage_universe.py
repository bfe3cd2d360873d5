"""Every point that can be reached on a host, enumerated from the tables of the product and the journal's vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dom0_pciback.aer.recovery import GENERATIONS, RESET
from dom0_pciback.pciback.groups import Outcome
from dom0_pciback.pciback.profile import Situation, make_profile
from hypervisor_stub.libxl_pci import DETACH
from hypervisor_stub.teardown import ORDERS
from protocol.bits import COR, UNCOR
from protocol.ers import MERGE, ChannelState, ErsResult, Phase, merge, result_name
from protocol.labels import LABELS
from protocol.topology import HostSpec
from protocol.xenbus import XenbusState
from xenaer.campaign.verdict.facts_parts import FAULTS, MOMENTS, SILENCES

# Situations in which a question can end: the others keep pciback from asking.
ASKED = (
    Situation.ANSWER_NONE, Situation.ANSWER_DISCONNECT, Situation.ANSWER_VALID, Situation.ANSWER_INVALID,
    Situation.TIMEOUT,
)  # fmt: skip
ASKED_HARDENED = (*ASKED, Situation.DETACHED, Situation.GUEST_DEAD, Situation.CHANNEL_LOST)
FRONTEND_STATES = (
    XenbusState.UNKNOWN, XenbusState.INITIALISING, XenbusState.INITIALISED, XenbusState.CONNECTED, XenbusState.CLOSING,
    XenbusState.CLOSED, XenbusState.RECONFIGURING,
)  # fmt: skip
# H17: the two ways of a hardened recovery, as steps that follow one another.
HARDENED_WAYS = (
    "begin>error_detected", "error_detected>mmio_enabled", "error_detected>slot_reset", "error_detected>resume",
    "mmio_enabled>slot_reset", "mmio_enabled>resume", "slot_reset>resume",
    *(f"{phase}>perm_failure" for phase in Phase),  # guests that their policy lets live
)  # fmt: skip
VALID_VOTES = (ErsResult.CAN_RECOVER, ErsResult.NEED_RESET, ErsResult.DISCONNECT, ErsResult.RECOVERED)


def points(host: HostSpec) -> Iterator[str]:
    """All of them."""
    hardened = host.profile == "hardened"
    yield from _pciback(host, hardened)
    yield from (f"merge/{cell}" for cell in _merges(hardened))
    yield from (f"transition/{way}" for way in (HARDENED_WAYS if hardened else _linux_ways(host.kernel)))
    yield from (f"verdict/{word}" for word in ("successful", "failed", *(("abandoned",) if hardened else ())))
    if hardened:
        yield from (f"outcome/{outcome}" for outcome in Outcome if outcome not in _impossible(host))
    yield from (f"reset/{method}/{how}" for method in _methods(host) for how in ("good", "failed"))
    yield from (f"end/{how}" for how in ("killed", "crashed", "died", "ended"))
    yield from (f"teardown/{step}" for steps in ORDERS[host.profile].values() for step in steps)
    yield from (f"detach/{step}" for step in DETACH[host.profile])
    yield from (f"frontend/{int(state)}" for state in FRONTEND_STATES)
    yield from _errors()
    yield from (f"fault/{kind}@{moment}" for kind in FAULTS for moment in MOMENTS if _strikes(kind, moment))
    yield from (f"label/{label}" for label in LABELS if _written(label, host))


def _pciback(host: HostSpec, hardened: bool) -> Iterator[str]:
    profile = make_profile(host.profile, host.turned_over())
    contained = hardened and any(f.dpc for f in host.functions)
    for table in (profile.table(), profile.bystander_table()):
        rows = (table[key].label for key in table if contained or key[0] is not Situation.CONTAINED)
        yield from (f"row/{label}" for label in rows)
    for phase in Phase:
        for situation in ASKED_HARDENED if hardened else ASKED:
            yield f"answer/{phase}/{situation}"
        if contained:
            yield f"answer/{phase}/{Situation.CONTAINED}"
    yield from (f"unasked/{why}" for why in SILENCES)


def _merges(hardened: bool) -> Iterator[str]:
    """Cells that a recovery can come to: from the statuses that a phase begins with, over all votes that count."""
    votes = VALID_VOTES if hardened else tuple(ErsResult)
    seen, waiting = set[int](), [int(ErsResult.CAN_RECOVER), int(ErsResult.RECOVERED)]
    while waiting:
        status = waiting.pop()
        if status in seen or status not in MERGE:
            continue
        seen.add(status)
        for vote in votes:
            yield f"{result_name(status)}+{vote.name}"
            waiting.append(merge(status, vote))


def _linux_ways(kernel: str) -> Iterator[str]:
    """Steps of the kernel's table that can follow one another, whatever the votes are."""
    generation = GENERATIONS[kernel]
    every = tuple(int(result) for result in ErsResult)
    for state in (ChannelState.NORMAL, ChannelState.FROZEN):
        waiting = [(0, int(ErsResult.CAN_RECOVER), "begin")]
        seen = set(waiting)
        while waiting:
            index, status, before = waiting.pop()
            if index == len(generation.steps):
                if generation.tell_drivers:
                    yield f"{before}>perm_failure"
                continue
            step = generation.steps[index]
            following = [(index + 1, status, before)]
            if status in step.status_in or state in step.channel_in:
                following = [(index + 1, status, before)]
                if step.action != RESET:
                    yield f"{before}>{step.action}"
                    begin = status if step.becomes is None else step.becomes
                    following = [(index + 1, merge(begin, vote), str(step.action)) for vote in every]
                if step.action == Phase.RESUME:
                    continue
                if step.action == RESET and generation.tell_drivers:
                    yield f"{before}>perm_failure"  # a reset that fails
            waiting += [each for each in following if each not in seen]
            seen.update(following)


def _has_native(host: HostSpec) -> bool:
    return any(f.dom0_driver not in ("pciback", "pcieport", "") for f in host.functions)


def _impossible(host: HostSpec) -> set[Outcome]:
    """Outcomes that no function of this host can come to."""
    rows = ((Outcome.FAILED, _has_native(host)), (Outcome.SUPERSEDED, any(f.dpc for f in host.functions)))
    return {outcome for outcome, possible in rows if not possible}


def _methods(host: HostSpec) -> Iterator[str]:
    endpoints = [f for f in host.functions if f.kind == "endpoint"]
    rows: tuple[tuple[str, bool], ...] = (
        ("flr", any(f.flr for f in endpoints)),
        ("pm", any(f.pm_reset for f in endpoints)),
        ("bus", True),
        ("dpc", any(f.dpc for f in host.functions)),
    )
    yield from (method for method, offered in rows if offered)


def _errors() -> Iterator[str]:
    """Bits at their default severity and unmasked; after a fatal error the core reads none (T19)."""
    yield from (f"error/{severity}" for severity in ("CORRECTABLE", "NONFATAL", "FATAL"))
    yield from (f"error/CORRECTABLE/{bit.name}" for bit in COR if not bit.masked_by_default)
    yield from (f"error/NONFATAL/{bit.name}" for bit in UNCOR if not bit.fatal and not bit.masked_by_default)
    yield from (f"inject/{bit.name}" for bit in (*COR, *UNCOR))


def _strikes(kind: str, moment: str) -> bool:
    """A driver misbehaves where it is called."""
    return kind != "driver" or moment in tuple(Phase)


# Labels that not every host, or nothing in a case, writes; first prefix that fits decides.
LABEL_ROWS: tuple[tuple[str, Callable[[HostSpec], bool]], ...] = (
    ("bench.", lambda host: False),
    ("party.lost", lambda host: False),  # processes only
    ("party.end", lambda host: False),  # with the system, not with a case
    ("kernel.oops", lambda host: host.profile == "linux"),
    ("kill.refused", lambda host: False),  # no device belongs to domain 0
    ("uevent.nvme", lambda host: any(f.dom0_driver == "nvme" for f in host.functions)),
    ("hw.dpc_trigger", lambda host: any(f.dpc for f in host.functions)),
    ("hw.rp_pio", lambda host: any(f.dpc for f in host.functions)),
    ("dpc.", lambda host: any(f.dpc for f in host.functions)),
    ("edr.", lambda host: host.boot.edr),
    ("pciehp.", lambda host: host.boot.hotplug == "native"),
    ("pci.slot_reset", lambda host: host.boot.hotplug != "none"),
    ("recovery.outcome", lambda host: host.profile == "hardened"),
    ("recovery.round", lambda host: host.profile == "hardened"),
    ("recovery.check", lambda host: host.profile == "hardened"),
    ("recovery.detected", lambda host: host.profile == "linux" or _has_native(host)),
    ("recovery.uevent", lambda host: host.profile == "linux" or _has_native(host)),
    ("recovery.report", lambda host: host.profile == "linux" or _has_native(host)),
    ("pciback.call", lambda host: host.profile == "linux"),
    ("pciback.return", lambda host: host.profile == "linux"),
    ("", lambda host: True),
)


def _written(label: str, host: HostSpec) -> bool:
    return next(rule for prefix, rule in LABEL_ROWS if label.startswith(prefix))(host)
