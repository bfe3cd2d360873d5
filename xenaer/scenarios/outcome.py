"""What came of a scenario, read from the journal and from the hardware: a value that can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from dom0_pciback.pcie.function import Function
from kernel_stub.kernel import ERR
from protocol.layout_aer import AER
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP, EXP_DEVSTA_ERRORS
from xenaer.journal import Entry
from xenaer.scenarios.hosts import PORTS, letter
from xenaer.scenarios.stage import Stage

LINE_NUMBER = re.compile(r"\.py:\d+")  # in the log of a guest that died: of our own source
SHORT = {"error_detected": "ED", "mmio_enabled": "MM", "slot_reset": "SR", "resume": "RS"}
SLOW_S = 5.0  # a recovery that took longer is worth a word
Registers = dict[str, int]


class Outcome(NamedTuple):
    """One row of results. Everything is text, so that rows can be shown and compared field by field.

    ``calls`` are callbacks of guest drivers that returned, ``asked`` the questions of pciback and what came of
    them, ``aerfail`` how often a guest was reported, ``alive`` the domains at the end, ``devices`` owner and
    condition of each function that any guest had, ``replies`` what configuration requests brought, ``log`` the
    lines of level error and above.
    """

    calls: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    resets: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    aerfail: int = 0
    alive: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    def changed(self, other: Outcome) -> tuple[str, ...]:
        """Names of the fields that differ."""
        return tuple(name for name in self._fields if getattr(self, name) != getattr(other, name))


class Condition:
    """Registers of all endpoints before any guest, and with their guests."""

    def __init__(self, stage: Stage) -> None:
        self.seized = self._all(stage)
        self.live: dict[str, Registers] = {}

    def with_guests(self, stage: Stage) -> None:
        """The guests have connected."""
        self.live = self._all(stage)

    def _all(self, stage: Stage) -> dict[str, Registers]:
        assert stage.system.dom0.hierarchy is not None
        functions = stage.system.dom0.hierarchy.functions
        return {str(sbdf): registers(function) for sbdf, function in functions.items()}

    def word(self, bdf: str, now: Registers) -> str:
        """``clean`` as at seizure, ``same`` as with its guest, else ``dirty``."""
        rows = ((self.seized[bdf], "clean"), (self.live.get(bdf), "same"))
        return next((word for found, word in rows if found == now), "dirty")


def registers(function: Function) -> Registers:
    """The hardware's settings and error status, read past the bus."""
    peek, exp, aer = function.config.peek, function.exp, function.aer
    found = {f"BAR{n}": peek(0x10 + 4 * n, 4) for n in range(6)} if not function.is_port else {}
    found |= {"Command": peek(HEADER.COMMAND, 2), "line": peek(HEADER.INTERRUPT_LINE, 1)}
    found |= {reg.name: peek(exp + reg, reg.width) for reg in (EXP.DEVCTL, EXP.DEVCTL2)}
    found |= {reg.name: peek(aer + reg, reg.width) for reg in (AER.UNCOR_MASK, AER.UNCOR_SEVER, AER.COR_MASK)}
    found |= {"status": peek(aer + AER.UNCOR_STATUS, 4) | peek(aer + AER.COR_STATUS, 4)}
    return found | {"DevSta": peek(exp + EXP.DEVSTA, 2) & EXP_DEVSTA_ERRORS}


def outcome(stage: Stage, condition: Condition) -> Outcome:
    """Read everything that a scenario left behind."""
    entries = stage.system.records(stage.mark)[0]
    machine = stage.system.hypervisor.machine
    return Outcome(
        calls=_grouped(_calls(entries)),
        asked=_grouped(_asked(entries)),
        resets=tuple(f"{_name(e['subject'])} {e['method']}" for e in entries if e["label"] == "pci.reset"),
        verdicts=_grouped(f"{_name(e['subject'])} {e['verdict']}" for e in entries if e["label"] == "recovery.end"),
        aerfail=len(stage.aerfail),
        alive=tuple(sorted(domain.name for domain in machine.domains)),
        devices=tuple(_devices(stage, condition)),
        replies=tuple(stage.replies),
        notes=(*stage.notes, *_notes(entries)),
        log=tuple(sorted(set(_log(entries)))),
    )


def _grouped(texts: Iterable[str]) -> tuple[str, ...]:
    """By guest or device, in order of time within each: who of two strangers is first is no outcome."""
    return tuple(sorted(texts, key=lambda text: text.partition(" ")[0]))


def _name(bdf: str) -> str:
    found = letter(bdf)
    return next((f"port of {name}" for name, port in PORTS.items() if port == bdf), found)


def _calls(entries: Iterable[Entry]) -> Iterator[str]:
    for e in entries:
        if e["label"] == "driver.callback" and e["party"] != "dom0":
            phase = SHORT[str(e["phase"])]
            yield f"{e['party']} {phase}" + (f"({e['state']})" if phase == "ED" else "") + f" {e['answer']}"


def _asked(entries: Iterable[Entry]) -> Iterator[str]:
    waiting: list[str] = []
    for e in entries:
        if e["label"] not in ("pciback.ask", "pciback.answer"):
            continue
        what = f"{letter(str(e['subject']))} {SHORT[str(e['phase'])]}"
        if e["label"] == "pciback.ask":
            waiting.append(what)
            continue
        waiting.remove(what)
        situation = str(e["situation"])
        yield f"{what} {e['answer']}" if situation.startswith("answer-") else f"{what} {situation}"
    yield from (f"{what} waiting" for what in waiting)


def _devices(stage: Stage, condition: Condition) -> Iterator[str]:
    hierarchy = stage.system.dom0.hierarchy
    assert hierarchy is not None
    used = {record[3] for _, record in stage.system.parts.records if record[2] in ("pciback.export", "pci.attach")}
    for sbdf, function in hierarchy.functions.items():
        bdf = str(sbdf)
        psdev = stage.system.dom0.pciback.slots.get(sbdf)
        if psdev is None:
            continue
        state = "faulty" if psdev.faulty else condition.word(bdf, registers(function))
        if bdf in used or state != "clean" or psdev.domid is not None:
            owner = "-" if psdev.domid is None else stage.system.dom0.pciback.guest_name(psdev.domid)
            yield f"{letter(bdf)} {owner} {state}" + ("" if _assignable(stage, psdev, bdf) else " hidden")


def _assignable(stage: Stage, psdev: Any, bdf: str) -> bool:
    """Nobody has it, and the toolstack offers it; what a guest has is not hidden but in use."""
    listing = stage.system.ctl("hypervisor", "xl", ["pci-assignable-list"])[1]
    return psdev.domid is not None or bdf in str(listing)


def _notes(entries: Iterable[Entry]) -> Iterator[str]:
    begun: dict[str, float] = {}
    for e in entries:
        subject = str(e["subject"])
        if e["label"] == "recovery.begin":
            begun[subject] = float(e["t"])
        elif e["label"] == "recovery.end" and e["t"] - begun.get(subject, e["t"]) > SLOW_S:
            yield f"recovery of {letter(subject)} took {e['t'] - begun[subject]:.0f} s"
        elif e["label"] in ("kill.zombie", "pciback.release", "kernel.oops"):
            yield f"{e['label']} {_name(subject)}"


def _log(entries: Iterable[Entry]) -> Iterator[str]:
    for e in entries:
        if e["label"] == "printk" and e["level"] <= ERR and not e["party"].startswith("supervisor"):
            text = str(e["text"])
            if "AER: " not in text and "Bus Error" not in text and "error status" not in text and "    [" not in text:
                yield f"{e['party']}: {LINE_NUMBER.sub('.py', text.partition('xen_pciback: ')[2] or text)}"
