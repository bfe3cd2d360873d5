"""Carries out a script against a system, in either world, and says what held.

Decisions come from the journal and from what the toolstack shows, never from what a party says of itself.
A failed expectation lets the script go on; a failed action or wait ends it, since what follows has no ground.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kernel_stub.rpc import RpcError
from protocol.xenbus import XenbusState
from xenaer.campaign.steps.judge import (
    config_state,
    counted,
    describe,
    list_state,
    matches,
    recovery_outcome,
    show_entry,
    show_match,
)
from xenaer.campaign.steps.later import FAILURES, Later, StepResult, owners_of
from xenaer.campaign.steps.orders import Context, StepError, make_order, xl_result
from xenaer.campaign.steps.point_form import MatchForm, PointForm
from xenaer.campaign.steps.points import Owners, Point, point_of
from xenaer.campaign.steps.script import Script, resolve_bdf, resolve_subject
from xenaer.campaign.steps.steps_form import PASSIVE, ExpectForm, SleepForm, StepForm, WaitForm
from xenaer.campaign.steps.system import System
from xenaer.control import ControlError
from xenaer.journal import Entry

__all__ = ["Runner", "StepError", "StepResult", "xl", "xl_result"]

POLL_MS = 10.0
SETTLE_MS = 50.0  # records of the last action still arrive


class Runner:
    """Plays the steps of one script. The ``on_`` callbacks tell a view what happens; ``on_records`` also that nothing
    did. ``on_step`` is called once more for a step that is not done at its turn, when it is known what came of it.

    ``play``, then ``settle``; ``run`` is both, with a moment for the last records only.
    """

    def __init__(self, system: System, script: Script) -> None:
        self.system = system
        self.script = script
        self.host = script.host
        self.results: list[StepResult] = []
        self.on_records: Callable[[list[Entry]], None] | None = None
        self.on_begin: Callable[[StepForm, int], None] = lambda step, number: None
        self.on_step: Callable[[StepResult], None] = lambda result: None
        self._entries: list[Entry] = []
        self._cursor: Any = None
        self._mark = 0  # index of the first record of the last action
        self._begin_ns = system.now_ns
        self._later: list[Later] = []
        self._context = Context(self.host, script.texts, self._guest_devfn)

    # -- running -------------------------------------------------------------------------------
    def run(self) -> bool:
        """Play all steps, and wait a moment; True if everything that was expected held."""
        self.play()
        self.advance(SETTLE_MS)
        return self._conclude()

    def play(self) -> None:
        """Do each step at its turn. One that fails ends the script, unless it is an expectation, or may fail."""
        steps = self.script.steps
        self._begin_ns = self.system.now_ns
        for number, step in enumerate(steps, 1):
            self.on_begin(step, number)
            result = self._step(step, number, len(steps))
            self.results.append(result)
            self.on_step(result)
            if not result.good and step.action != "expect":
                break

    def settle(self, ms: float) -> bool:
        """Let what is under way come to its end; then no program point is waited for any more. As ``run``."""
        self.advance(ms)
        good = self._conclude()
        if self._later:
            self.system.disarm()
        return good

    def _conclude(self) -> bool:
        for later in self._later:
            if not later.over:
                later.conclude()
                self.on_step(later.result)
        return all(result.good for result in self.results)

    def _step(self, step: StepForm, number: int, total: int) -> StepResult:
        action, now_s = step.action, self.system.now_s
        active = action not in PASSIVE
        if active and step.at is None:
            self._mark = self._recorded()
        result = StepResult(number, total, step.name or describe(step), action, True, "", now_s, now_s)
        try:
            if active:
                self._act(step, result)
            else:
                method: Callable[[Any], str] = getattr(self, f"_{action}")
                result.text = method(getattr(step, action))
        except FAILURES as error:
            result.good, result.text = step.may_fail, str(error)
        result.end_s = self.system.now_s
        return result

    def _act(self, step: StepForm, result: StepResult) -> None:
        """Do it, begin it, or arm it."""
        order = make_order(step.action, getattr(step, step.action), self._context)
        if step.at is None and not step.background:
            result.text = order.do(self.system)
            return
        later = Later(self.system, order, result, forgiving=step.may_fail)
        if step.at is None:
            later.begin()
        else:
            elapsed_ms = (self.system.now_ns - self._begin_ns) / 1e6
            later.arm(self.point(step.at), step.at.after_ms, self.owners, elapsed_ms)
        self._later.append(later)

    def point(self, form: PointForm) -> Point:
        """The program point that a form means."""
        device = resolve_bdf(self.host, form.device) if form.device is not None else None
        subject = resolve_subject(self.host, form.record.subject) if form.record is not None else None
        return point_of(form, device, subject)

    def owners(self) -> Owners:
        """Who has which device now."""
        return owners_of(self.system.ctl("hypervisor", "status", []))

    def _guest_devfn(self, guest: str, device: str) -> int:
        devfn = self.owners().devfn(guest, resolve_bdf(self.host, device))
        if devfn is None:
            raise StepError(f"{guest} does not have {device}")
        return devfn

    # -- records -------------------------------------------------------------------------------
    @property
    def entries(self) -> list[Entry]:
        """Every journal record until now."""
        self.refresh()
        return self._entries

    def _recorded(self) -> int:
        """How many records there are; they are read only where that is the way to know."""
        count = self.system.recorded()
        return len(self.entries) if count is None or self.on_records is not None else count

    def refresh(self) -> None:
        """Take in the records that have appeared."""
        new, self._cursor = self.system.records(self._cursor)
        self._entries += new
        if self.on_records is not None:
            self.on_records(new)

    def advance(self, ms: float) -> None:
        """Let time pass; a view is shown the records."""
        self.system.advance(ms)
        if self.on_records is not None:
            self.refresh()

    def wait_until(self, condition: Callable[[], str | None], within_s: float) -> str | None:
        """Poll until ``condition`` gives a text; None when ``within_s`` has passed without one."""
        deadline = self.system.now_ns + round(within_s * 1e9)
        while (text := condition()) is None and self.system.now_ns < deadline:
            self.advance(POLL_MS)
        return text

    # -- steps that take their turn -------------------------------------------------------------
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
        entries = self.entries
        return entries[self._mark :] if since == "action" else entries

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
