"""Steps that are not done at their turn: begun in the background, or armed at a program point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kernel_stub.rpc import RpcError
from xenaer.campaign.steps.orders import Order, Signal, StepError
from xenaer.campaign.steps.points import Owners, Point, TimePoint, Watch, show
from xenaer.campaign.steps.system import Call, System
from xenaer.control import ControlError

FAILURES = (StepError, ControlError, RpcError, ValueError)


@dataclass(slots=True)
class StepResult:
    """How a step went. ``number`` counts from 1; times in seconds of the system.

    ``reached`` is False for a step that was armed at a program point which did not come.
    """

    number: int
    total: int
    name: str
    action: str
    good: bool
    text: str
    begin_s: float
    end_s: float
    reached: bool = True

    def line(self) -> str:
        """One line for reports."""
        mark = "ok  " if self.good else "FAIL"
        took_ms = (self.end_s - self.begin_s) * 1000
        return f"[{self.number:2}/{self.total}] {mark} {self.name:<54} {took_ms:8.1f} ms  {self.text}".rstrip()


class Later:
    """One such step. ``forgiving``: whatever comes of it is good."""

    def __init__(self, system: System, order: Order | Signal, result: StepResult, *, forgiving: bool) -> None:
        self.system = system
        self.order = order
        self.result = result
        self.forgiving = forgiving
        self.over = False
        self._point = ""
        self._reached = False
        self._call: Call | None = None
        self._problem = ""

    def begin(self) -> None:
        """In the background, now."""
        self._reached = True
        self._strike(at_once=False)
        self.result.text = "begun"

    def arm(self, point: Point, after_ms: float, owners: Callable[[], Owners], elapsed_ms: float) -> None:
        """At a point; a time counts from the beginning of the case, ``elapsed_ms`` ago. Raises ControlError."""
        self._point = show(point)
        self.result.text = f"waits for {self._point}"
        self.result.reached = False
        watch = Watch(TimePoint(max(0.0, point.ms - elapsed_ms)) if isinstance(point, TimePoint) else point)
        if watch.needs_owners:
            watch.owners = owners()
        watch.kills = self.order.kills if not after_ms else ""
        self.system.arm(watch, lambda: self._at_point(after_ms))

    def _at_point(self, after_ms: float) -> None:
        self._reached = self.result.reached = True
        if after_ms:
            self.system.arm(Watch(TimePoint(after_ms)), lambda: self._strike(at_once=True))
        else:
            self._strike(at_once=True)

    def _strike(self, *, at_once: bool) -> None:
        self.result.begin_s = self.result.end_s = self.system.now_s
        try:
            self._call = self.order.start(self.system, at_once=at_once)
        except FAILURES as error:
            self._problem = str(error)

    def conclude(self) -> None:
        """What has come of it until now."""
        if self.over:
            return
        good, text = self._judge()
        if self._point:
            text = f"at {self._point}: {text}" if self._reached else f"never reached: {self._point}"
        self.result.good, self.result.text = good or self.forgiving, text

    def _judge(self) -> tuple[bool, str]:
        call = self._call
        if self._problem or call is None:
            return False, self._problem or "not yet"
        if not call.done:
            return False, "no answer yet"
        self.over = True
        try:
            return True, self.order.means(call.result())
        except FAILURES as error:
            return False, str(error)


def owners_of(status: Any) -> Owners:
    """Who has which device, from the hypervisor stub's ``status``."""
    owners = Owners()
    for domain in status["domains"]:
        for device in domain["devices"]:
            owners.know(device["bdf"], domain["name"], device["vdev"])
    return owners
