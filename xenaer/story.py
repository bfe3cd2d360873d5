"""Turns merged journal records into lines for people, and keeps the figures of the summary.

A ``Story`` never looks at the system itself. Every line is finished when it is emitted, and at most ``WIDTH``
columns wide; a recovery is a ladder, with dom0 on the left and the guest on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from protocol.bits import bits_of
from protocol.ers import Severity, result_name
from protocol.topology import HostSpec
from xenaer.campaign.steps.judge import ancestry, end_is_good
from xenaer.journal import Entry

WIDTH = 100
GOOD_VOTES = ("CAN_RECOVER", "NEED_RESET", "RECOVERED")
ARROW = 34  # columns between dom0 and the guest
RIGHT = 63  # column of the guest
SEVERITY_WORDS = {"0": "non-fatal", "1": "fatal", "2": "correctable", "NONFATAL": "non-fatal"}
# Steps of a kill that are shown also when all is well; the others are shown when they fail.
STEP_WORDS = {
    "pause": "is paused",
    "stop": "its process is stopped (SIGKILL)",
    "block_dma": "{bdf} may do no more DMA",
    "reset": "{bdf} is reset: {result}",
    "check": "{bdf} is checked: {result}",
    "deassign": "{bdf} is taken away, into quarantine",
}
REGISTER_MAX = 0xFFFFFFFF
FAILED_RESULTS = ("failed", "bad", "timeout")


@dataclass(slots=True)
class Recovery:
    """Figures of one recovery; ``begin`` is the time of the error, times in seconds."""

    bdf: str
    begin: float
    what: str = ""
    guest: str = ""
    phases: list[str] = field(default_factory=list)
    outcome: str = "running"
    word: str = ""  # outcome of the function itself, where the recovery says so
    end: float = 0.0


@dataclass(slots=True)
class Kill:
    """Figures of one kill."""

    guest: str
    begin: float
    policy: str = ""
    steps: list[str] = field(default_factory=list)
    end: float = 0.0


def short(bdf: str) -> str:
    """A machine address without the segment when that is 0."""
    return bdf.removeprefix("0000:")


def ms(seconds: float) -> str:
    """A duration in milliseconds, right-aligned for a column."""
    return f"{seconds * 1000:9.2f} ms"


def severity_word(value: object) -> str:
    """``non-fatal``, ``fatal`` or ``correctable`` for a number or a name of a severity."""
    text = str(value)
    if text.isdigit() and int(text) in list(Severity):
        return SEVERITY_WORDS[text]
    return SEVERITY_WORDS.get(text.upper(), text.lower())


def error_names(severity: str, status: object) -> str:
    """The names of the bits set in a status register, as the kernel log has them; what is no register stays itself."""
    if not isinstance(status, int) or not 0 <= status <= REGISTER_MAX:  # a guest may write anything into its journal
        return str(status)
    kind = "correctable" if severity == "correctable" else "uncorrectable"
    found = bits_of(kind, status)  # type: ignore[arg-type]
    return ", ".join(bit.name if bit is not None else f"bit {number}" for number, bit in found)


def vote_word(value: object) -> str:
    """The name of a vote that is written as a number or as a name; empty if there is none."""
    return result_name(value) if isinstance(value, int) else str(value or "")


class _Lenient(dict[str, Any]):
    """A record that has every field: a view must not fail because a journal of another version lacks one."""

    def __missing__(self, key: str) -> str:
        return ""


class Story:
    """Journal records in, lines out. ``emit`` gets every line as it is finished."""

    def __init__(self, host: HostSpec, emit: Callable[[Text], None]) -> None:
        self.host = host
        self.emit = emit
        self.owner = {a.bdf: guest.name for guest in host.guests if guest.autostart for a in guest.devices}
        self.recoveries: list[Recovery] = []
        self.kills: list[Kill] = []
        self._killing: Kill | None = None  # the kill that has not ended yet
        self._asked: dict[str, float] = {}  # function -> time of the question that is not answered yet
        self._resets: dict[str, float] = {}  # function -> time of its last reset
        self._gap = True  # the last line was empty
        self._table: dict[str, Callable[[Entry], None]] = {
            "aer.error": self._error,
            "recovery.begin": self._begin,
            "pciback.ask": self._ask,
            "pciback.answer": self._answer,
            "pciback.kill": self._given_up,
            "driver.callback": self._callback,
            "pci.reset": self._reset,
            "recovery.outcome": self._outcome,
            "recovery.end": self._end,
            "kill.incident": self._incident,
            "kill.step": self._kill_step,
            "kill.refused": self._refused,
            "domain.destroy": self._destroyed,
            "domain.create": self._created,
            "pci.attach": self._attach,
            "pci.detach": self._detach,
            "kernel.oops": self._oops,
        }

    def feed(self, items: Iterable[Entry]) -> None:
        """Take in records in the order of time."""
        for item in items:
            handler = self._table.get(item["label"])
            if handler is not None:
                handler(_Lenient(item))

    @property
    def busy(self) -> bool:
        """A recovery or a kill is under way."""
        return self._killing is not None or any(recovery.outcome == "running" for recovery in self.recoveries)

    def interrupted(self) -> None:
        """Somebody else has written a line between those of the story."""
        self._gap = False

    # -- recovery ------------------------------------------------------------------------------
    def _error(self, item: Entry) -> None:
        severity = severity_word(item["severity"])
        what = f"{severity}: {error_names(severity, item['status'])}"
        colour = "yellow" if severity == "correctable" else "bold red"
        if not self._gap:
            self._say("")
        self._say(f"  ⚡ {item['t']:.6f} s  {self._name(item['subject'])}  {what}", colour)
        if severity != "correctable":
            self.recoveries.append(Recovery(item["subject"], item["t"], what, self.owner.get(item["subject"], "")))

    def _begin(self, item: Entry) -> None:
        if self._recovery(item["subject"]) is None:
            owner = self.owner.get(item["subject"], "")
            self.recoveries.append(Recovery(item["subject"], item["t"], "recovery", owner))
        state = str(item["state"]).lower()
        self._say(f"     {'':12}  recovery of {self._name(item['subject'])} begins, channel {state}", "dim")

    def _ask(self, item: Entry) -> None:
        recovery = self._recovery(item["subject"])
        phase = str(item["phase"])
        if recovery is not None:
            recovery.phases.append(phase)
            recovery.guest = recovery.guest or self.owner.get(item["subject"], "")
        self._asked[item["subject"]] = item["t"]
        shaft = "─" * max(2, ARROW - len(phase) - 5)
        guest = self.owner.get(item["subject"], "guest")
        other = recovery is not None and recovery.bdf != item["subject"]
        self._rung(item, f"── {phase} {shaft}▶", "cyan", f"{guest}  {short(item['subject'])}" if other else guest)

    def _answer(self, item: Entry) -> None:
        situation = str(item["situation"])
        asked = self._asked.pop(item["subject"], None)
        if asked is None:
            self._rung(item, f"✗ not asked: {situation}", "red")
            return
        took = ms(item["t"] - asked).strip()
        done = item["phase"] == "resume" and situation.startswith("answer-")
        answer = "done" if done else vote_word(item["answer"]) if situation.startswith("answer-") else situation
        colour = "green" if done or answer in GOOD_VOTES else "red"
        self._rung(item, f"◀{'─' * max(2, ARROW - len(answer) - 5)} {answer} ──", colour, took)

    def _callback(self, item: Entry) -> None:
        if item["party"] in ("dom0", "hypervisor"):
            return
        text = f"driver: {item['phase']}"
        if item["phase"] != "resume":
            text += f" → {vote_word(item['answer'])}"
        self.emit(Text(f"{'':{RIGHT}}{text}"[:WIDTH], style="dim"))

    def _given_up(self, item: Entry) -> None:
        self._rung(item, f"✗ gives {self.owner.get(item['subject'], 'the guest')} up: aerfail", "bold red")

    def _reset(self, item: Entry) -> None:
        good = item["result"] == 0
        self._resets[item["subject"]] = item["t"]
        if self._recovery(item["subject"]) is None and self._killing is None:
            return  # a reset of the toolstack, before a device is given away
        text = f"↻ {item['method']} reset of {self._name(item['subject'])}: {'done' if good else item['result']}"
        self._rung(item, text, "magenta" if good else "bold red")

    def _outcome(self, item: Entry) -> None:
        recovery = self._recovery(item["subject"])
        if recovery is not None and recovery.bdf == item["subject"]:
            recovery.word = str(item["outcome"])

    def _end(self, item: Entry) -> None:
        recovery = self._recovery(item["subject"])
        if recovery is None:
            return
        good = end_is_good(item)
        recovery.end, recovery.outcome = item["t"], recovery.word or ("recovered" if good else "failed")
        mark, colour = ("✔ recovered", "bold green") if good else ("✘ not recovered", "bold red")
        note = "" if item["verdict"] in ("successful", "failed") else f" ({item['verdict']})"
        took = ms(recovery.end - recovery.begin).strip()
        self._say(f"     {mark}: {self._name(recovery.bdf)} after {took}{note}", colour)
        if self._killing is None:
            self._say("")

    # -- kill, life and devices ----------------------------------------------------------------
    def _incident(self, item: Entry) -> None:
        self._killing = Kill(item["subject"], item["t"], str(item["policy"]))
        self.kills.append(self._killing)
        self._say(f"     ☠ {item['subject']} is killed (policy {item['policy']})", "bold red")

    def _kill_step(self, item: Entry) -> None:
        kill = self._kill(item["subject"])
        if kill is None:
            return
        step, bdf, result = str(item["step"]), str(item["bdf"]), str(item["result"])
        kill.steps.append(step)
        kill.end = item["t"]
        failed = result in FAILED_RESULTS
        text = f"{step} {short(bdf)}: {result}" if failed else STEP_WORDS.get(step, "")
        if step == "reset" and self._resets.get(bdf, -1.0) >= kill.begin and not failed:
            text = ""  # dom0's own record of the reset has been shown
        if text:
            text = text.format(bdf=self._name(bdf), result=result)
            self._say(f"     +{ms(item['t'] - kill.begin)}   {text}", "bold red" if failed else "red")

    def _refused(self, item: Entry) -> None:
        self._say(f"     kill of {item['subject']} refused: {item['reason']}", "yellow")

    def _destroyed(self, item: Entry) -> None:
        kill = self._kill(item["subject"])
        self._say(f"     ▪ domain {item['domid']} ({item['subject']}) is gone", "dim")
        if kill is not None and kill is self._killing:
            kill.end, self._killing = item["t"], None
            self._say("")

    def _created(self, item: Entry) -> None:
        self._say(f"     ▫ domain {item['domid']} ({item['subject']}, {item['type']}) is created", "dim")

    def _attach(self, item: Entry) -> None:
        self.owner[item["subject"]] = str(item["domain"])
        self._say(f"     ⇒ {self._name(item['subject'])} is attached to {item['domain']}", "blue")

    def _detach(self, item: Entry) -> None:
        self.owner.pop(item["subject"], None)
        self._say(f"     ⇐ {self._name(item['subject'])} is detached from {item['domain']}", "blue")

    def _oops(self, item: Entry) -> None:
        self._say(f"     ! {item['party']}: {item['error']}: {item['text']}"[:WIDTH], "bold red")

    # -- helpers -------------------------------------------------------------------------------
    def _recovery(self, bdf: str) -> Recovery | None:
        """The running recovery that ``bdf`` takes part in: its own, or one of a port above or below it."""
        for recovery in reversed(self.recoveries):
            if recovery.outcome == "running" and self._related(recovery.bdf, bdf):
                return recovery
        return None

    def _related(self, one: str, other: str) -> bool:
        return one in ancestry(other, self.host) or other in ancestry(one, self.host)

    def _kill(self, guest: str) -> Kill | None:
        return next((kill for kill in reversed(self.kills) if kill.guest == guest), None)

    def _name(self, bdf: str) -> str:
        function = self.host.function(bdf)
        name = f" {function.name}" if function is not None and function.name else ""
        return short(bdf) + name

    def _rung(self, item: Entry, middle: str, colour: str, right: str = "") -> None:
        recovery = self._recovery(item["subject"])
        begun = recovery or self._killing
        since = f"+{ms(item['t'] - begun.begin)}" if begun is not None else ""
        line = Text()
        line.append(f"     {since:<13}   {item['party']:<6}", style="dim")
        line.append(f"{middle:<{ARROW}}", style=colour)
        line.append(f"  {right}"[: WIDTH - len(line.plain)])
        self.emit(line)

    def _say(self, text: str, style: str = "") -> None:
        self._gap = not text
        self.emit(Text(text[:WIDTH], style=style))
