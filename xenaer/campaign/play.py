"""Carries out a script against a system, in either world, and says what held.

Decisions come from the journal and from what the toolstack shows, never from what a party says of itself.
A failed expectation lets the script go on; a failed action or wait ends it, since what follows has no ground.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kernel_stub.rpc import RpcError
from protocol.ids import Sbdf
from protocol.xenbus import XenbusState
from xenaer.campaign.judge import (
    config_state,
    counted,
    describe,
    list_state,
    matches,
    recovery_outcome,
    show_entry,
    show_match,
)
from xenaer.campaign.script import Script, error_bits, resolve_bdf, resolve_subject
from xenaer.campaign.steps_form import (
    AerInjectForm,
    ExpectForm,
    GuestDeviceForm,
    GuestForm,
    InjectForm,
    MatchForm,
    SleepForm,
    StepForm,
    TouchForm,
    WaitForm,
    WorkloadForm,
)
from xenaer.campaign.system import System
from xenaer.control import ControlError
from xenaer.journal import Entry

POLL_MS = 10.0
SETTLE_MS = 50.0  # records of the last action still arrive
XL_WORDS: dict[str, tuple[str, ...]] = {
    "create": ("create",),
    "destroy": ("destroy",),
    "kill": ("destroy", "-f"),
    "shutdown": ("shutdown",),
    "reboot": ("reboot",),
    "pause": ("pause",),
    "unpause": ("unpause",),
    "attach": ("pci-attach",),
    "detach": ("pci-detach",),
}
PASSIVE = ("wait", "expect", "sleep")  # steps after which "since the last action" stays where it was


class StepError(Exception):
    """A step did not do what it should; the text says what happened instead."""


@dataclass(slots=True)
class StepResult:
    """How a step went. ``number`` counts from 1; times in seconds of the system."""

    number: int
    total: int
    name: str
    action: str
    good: bool
    text: str
    begin_s: float
    end_s: float

    def line(self) -> str:
        """One line for reports."""
        mark = "ok  " if self.good else "FAIL"
        took_ms = (self.end_s - self.begin_s) * 1000
        return f"[{self.number:2}/{self.total}] {mark} {self.name:<54} {took_ms:8.1f} ms  {self.text}".rstrip()


class Runner:
    """Runs one script. The ``on_`` callbacks tell a view what happens; ``on_records`` also that nothing did.

    ``entries`` collects every journal record seen.
    """

    def __init__(self, system: System, script: Script) -> None:
        self.system = system
        self.script = script
        self.host = script.host
        self.entries: list[Entry] = []
        self.results: list[StepResult] = []
        self.on_records: Callable[[list[Entry]], None] = lambda entries: None
        self.on_begin: Callable[[StepForm, int], None] = lambda step, number: None
        self.on_step: Callable[[StepResult], None] = lambda result: None
        self._cursor: Any = None
        self._mark = 0  # index of the first record of the last action

    # -- running -------------------------------------------------------------------------------
    def run(self) -> bool:
        """Run all steps; True if everything that was expected held."""
        steps = self.script.steps
        for number, step in enumerate(steps, 1):
            self.on_begin(step, number)
            result = self._step(step, number, len(steps))
            self.results.append(result)
            self.on_step(result)
            if not result.good and step.action != "expect":
                break
        self.advance(SETTLE_MS)
        return all(result.good for result in self.results)

    def _step(self, step: StepForm, number: int, total: int) -> StepResult:
        action, begin_s = step.action, self.system.now_s
        self.refresh()
        if action not in PASSIVE:
            self._mark = len(self.entries)
        try:
            good, text = True, self._do(action, getattr(step, action))
        except (StepError, ControlError, RpcError) as error:
            good, text = False, str(error)
        name = step.name or describe(step)
        return StepResult(number, total, name, action, good, text, begin_s, self.system.now_s)

    def _do(self, action: str, form: Any) -> str:
        if action in XL_WORDS:
            return self._xl_action(action, form)
        method: Callable[[Any], str] = getattr(self, f"_{action}")
        return method(form)

    def refresh(self) -> None:
        """Take in the records that have appeared."""
        new, self._cursor = self.system.records(self._cursor)
        self.entries += new
        self.on_records(new)

    def advance(self, ms: float) -> None:
        """Let time pass, then take in the records."""
        self.system.advance(ms)
        self.refresh()

    def wait_until(self, condition: Callable[[], str | None], within_s: float) -> str | None:
        """Poll until ``condition`` gives a text; None when ``within_s`` has passed without one."""
        deadline = self.system.now_s + within_s
        while (text := condition()) is None and self.system.now_s < deadline:
            self.advance(POLL_MS)
        return text

    # -- actions -------------------------------------------------------------------------------
    def _inject(self, form: InjectForm) -> str:
        bits = [error_bits(name) for name in form.errors]
        cor, uncor = _join(b[0] for b in bits), _join(b[1] for b in bits)
        bdf = resolve_bdf(self.host, form.device)
        self.system.ctl("dom0", "inject", [bdf, cor, uncor, list(form.header)])
        return f"{', '.join(form.errors)} at {bdf}"

    def _touch(self, form: TouchForm) -> str:
        address = Sbdf.parse(resolve_bdf(self.host, form.device))
        if form.function is not None:
            address = address._replace(function=form.function)
        self.system.ctl("dom0", "touch", [str(address)])
        return f"read of {address}"

    def _aer_inject(self, form: AerInjectForm) -> str:
        text = self.script.texts[form.file] if form.file is not None else form.text
        self.system.ctl("dom0", "aer-inject", [text, form.file or "<text>"])
        return form.file or "injected"

    def _xl_action(self, action: str, form: GuestForm | GuestDeviceForm) -> str:
        argv = [*XL_WORDS[action], form.guest]
        if isinstance(form, GuestDeviceForm):
            argv.append(resolve_bdf(self.host, form.device))
        status, out, err = xl(self.system, argv)
        if status != 0:
            raise StepError((err or out).strip().replace("\n", "; ") or f"xl {action}: status {status}")
        return f"xl {' '.join(argv)}"

    def _stop(self, form: GuestForm) -> str:
        return str(self.system.ctl("hypervisor", "stop-guest", [form.guest]))

    def _workload(self, form: WorkloadForm) -> str:
        devfn = -1 if form.device is None else self._guest_devfn(form.guest, form.device)
        result = dict(self.system.ctl(form.guest, "workload", [devfn, form.count]))
        text = ", ".join(f"{name}: {done} of {form.count} verified" for name, done in result.items())
        bad = [name for name, done in result.items() if done != form.count]
        if bad or not result:
            raise StepError(text or f"{form.guest} has no device that carries traffic")
        return text

    def _guest_devfn(self, guest: str, device: str) -> int:
        """Virtual devfn of a device, as the last export in the journal says."""
        self.refresh()
        bdf = resolve_bdf(self.host, device)
        for item in reversed(self.entries):
            if item["label"] == "pciback.export" and item["subject"] == bdf:
                return int(item["vdevfn"])
        raise StepError(f"{device} was never exported to {guest}")

    def _sleep(self, form: SleepForm) -> str:
        self.advance(form.ms)
        return ""

    def _wait(self, form: WaitForm) -> str:
        if form.for_ is not None:
            what, match = f"record {show_match(form.for_)}", form.for_
            text = self.wait_until(lambda: self._first(match), form.within_s)
        elif form.connected is not None:
            what, guest = f"{form.connected} connected", form.connected
            text = self.wait_until(lambda: self._connected(guest), form.within_s)
        else:
            what, guest = f"{form.gone} gone", str(form.gone)
            text = self.wait_until(lambda: None if self.guest_state(guest) != "absent" else what, form.within_s)
        if text is None:
            raise StepError(f"{what}: not within {form.within_s:g} s")
        return text

    def _first(self, match: MatchForm) -> str | None:
        found = self.matching(match, "action")
        return show_entry(found[0]) if found else None

    def _connected(self, guest: str) -> str | None:
        """Both ends of the split driver are connected, and the guest has bound its drivers."""
        domains = self.system.ctl("hypervisor", "status", [])["domains"]
        domain = next((domain for domain in domains if domain["name"] == guest), None)
        if domain is None or (domain["be"], domain["fe"]) != (XenbusState.CONNECTED, XenbusState.CONNECTED):
            return None
        try:
            drivers = dict(self.system.ctl(guest, "status", []))
        except (ControlError, RpcError):  # it is just being replaced; the next look will tell
            return None
        spec = self.host.guest(guest)
        driverless = spec is not None and any(not a.driver.driver for a in spec.devices)
        if not drivers or not (all(drivers.values()) or driverless):
            return None
        return f"{guest}: {', '.join(driver or 'no driver' for driver in drivers.values())}"

    # -- expectations --------------------------------------------------------------------------
    def _expect(self, form: ExpectForm) -> str:
        if form.absent is not None:
            self.advance(SETTLE_MS)
            found = self.matching(form.absent, form.since)
            if found:
                raise StepError(f"there is {show_entry(found[0])}")
            return f"no {show_match(form.absent)}"
        problem = ""

        def holds() -> str | None:
            nonlocal problem
            good, text = self._judge(form)
            problem = "" if good else text
            return text if good else None

        text = self.wait_until(holds, form.within_s)
        if text is None:
            raise StepError(problem)
        return text

    def _judge(self, form: ExpectForm) -> tuple[bool, str]:
        """Does the expectation hold now, and what was found."""
        if form.record is not None:
            found = self.matching(form.record, form.since)
            return counted(form.count, [show_entry(item) for item in found], show_match(form.record))
        if form.log is not None:
            return self._judge_log(form)
        if form.guest is not None:
            state = self.guest_state(form.guest.guest)
            return state == form.guest.state, f"{form.guest.guest} is {state}"
        if form.device is not None:
            bdf = resolve_bdf(self.host, form.device.device)
            state, text = config_state(bytes(self.system.ctl("dom0", "config", [bdf])))
            return state == form.device.state, f"{bdf} is {state}{': ' if text else ''}{text}"
        return self._judge_verdict(form)

    def _judge_log(self, form: ExpectForm) -> tuple[bool, str]:
        assert form.log is not None
        pattern, party = re.compile(form.log.line), form.log.party
        lines = [
            str(item["text"])
            for item in self.since(form.since)
            if item["label"] == "printk" and item["party"] == party and pattern.search(str(item["text"]))
        ]
        return counted(form.count, lines, f"line /{form.log.line}/ of {party}")

    def _judge_verdict(self, form: ExpectForm) -> tuple[bool, str]:
        assert form.verdict is not None
        bdf = resolve_bdf(self.host, form.verdict.device)
        outcome = recovery_outcome(self.since(form.since), bdf, self.host)
        return outcome == form.verdict.outcome, f"recovery of {bdf}: {outcome}"

    def since(self, since: str) -> list[Entry]:
        """Records since the last action, or all."""
        return self.entries[self._mark :] if since == "action" else self.entries

    def matching(self, match: MatchForm, since: str) -> list[Entry]:
        """Records that ``match`` describes."""
        subject = resolve_subject(self.host, match.subject)
        return [item for item in self.since(since) if matches(item, match, subject)]

    def guest_state(self, guest: str) -> str:
        """``running``, ``paused``, ``shutdown`` or ``absent``, as ``xl list`` shows it."""
        status, out, _ = xl(self.system, ["list", guest])
        return list_state(out, guest) if status == 0 else "absent"


def xl(system: System, argv: list[str]) -> tuple[int, str, str]:
    """Run an ``xl`` command: exit status, standard output, standard error."""
    return xl_result(system.ctl("hypervisor", "xl", argv))


def xl_result(answer: Any) -> tuple[int, str, str]:
    """The hypervisor stub's answer to ``xl`` as (status, out, err). Raises ControlError if it is none."""
    try:
        status, out, err = answer
        return int(status), str(out), str(err)
    except (TypeError, ValueError):
        raise ControlError(f"not an answer to xl: {answer!r}") from None


def _join(words: Iterable[int]) -> int:
    result = 0
    for word in words:
        result |= word
    return result
