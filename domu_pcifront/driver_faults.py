"""Misbehaviour that a campaign arms in a guest: it strikes around whatever driver is bound, once or a few times.

The driver's own handler runs where the fault leaves it a chance to: a wrong vote replaces its answer, a late one
delays it. A driver without a handler for the phase is not called, and so cannot misbehave in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from domu_pcifront.driver import PciDriver, call_handler
from kernel_stub.kernel import MS
from kernel_stub.rpc import RpcError
from kernel_stub.sync import Future
from protocol.ers import Phase

ANY = -1  # device number: whichever device is asked first
DOES = ("vote", "invalid", "late", "twice", "hang", "spin", "raise", "exit", "panic")
ANSWERS = ("vote", "invalid")  # faults that replace the driver's answer
FORM = "driver-fault: arguments are devfn (-1: any), phase, what, answer, ms (at least 0), times (at least 1)"
EXIT_STATUS = 1


class DriverFaultError(Exception):
    """The exception that a campaign asked for: the AER worker dies with an oops (S11)."""


@dataclass(slots=True)
class DriverFault:
    """``vote``: the answer instead of the driver's; ``ms``: how late (late), how much later again (twice)."""

    devfn: int
    phase: Phase
    does: str
    vote: int
    ms: float
    times: int


class DriverFaults:
    """What is armed in one guest. ``again`` is told of an answer to be given a second time, and after how many ns."""

    def __init__(self) -> None:
        self.armed: list[DriverFault] = []
        self.again: Callable[[int, int], None] = lambda answer, ns: None

    def arm(self, args: Sequence[Any]) -> None:
        """Arguments of the control verb ``driver-fault``. Raises RpcError that says what is allowed."""
        if len(args) != 6 or [type(args[index]) for index in (0, 1, 2, 3, 5)] != [int, str, str, int, int]:
            raise RpcError(FORM)
        devfn, phase, does, vote, ms, times = args
        if type(ms) not in (int, float) or ms < 0 or times < 1 or not -(1 << 31) <= vote < 1 << 31:
            raise RpcError(FORM)
        if phase not in list(Phase) or does not in DOES:
            raise RpcError(f"driver-fault: phases are {', '.join(Phase)}; what may happen: {', '.join(DOES)}")
        self.armed.append(DriverFault(devfn, Phase(phase), does, vote, ms, times))

    def _take(self, devfn: int, phase: Phase) -> DriverFault | None:
        """The fault that strikes now; used up if this is its last time."""
        for fault in self.armed:
            if fault.phase is phase and fault.devfn in (ANY, devfn):
                fault.times -= 1
                if not fault.times:
                    self.armed.remove(fault)
                return fault
        return None

    async def call(self, driver: PciDriver, phase: Phase, *args: Any) -> int:
        """``driver.call_handler``, and what was armed for it. Raises what the handler raises, DriverFaultError."""
        fault = self._take(driver.dev.devfn, phase)
        if fault is None:
            return await call_handler(driver, phase, *args)
        driver.dev.trace("fault.driver", phase, fault.does)
        driver.dev.kernel.journal.flush()  # what follows may end this process
        if fault.does in _BREAKS:
            await _BREAKS[fault.does](driver, phase)
        answer = await call_handler(driver, phase, *args)
        if fault.does == "late":
            await driver.dev.sleep(fault.ms)
        elif fault.does == "twice":
            self.again(answer, int(fault.ms * MS))
        return fault.vote if fault.does in ANSWERS else answer


async def _hang(driver: PciDriver, phase: Phase) -> None:
    await Future(driver.dev.kernel, f"nothing, in {phase.value}").wait()


async def _raise(driver: PciDriver, phase: Phase) -> NoReturn:
    raise DriverFaultError(f"{phase.value} fails as armed")


async def _spin(driver: PciDriver, phase: Phase) -> None:
    if driver.dev.machine is not None:
        driver.dev.machine.spin()


async def _exit(driver: PciDriver, phase: Phase) -> None:
    if driver.dev.machine is not None:
        driver.dev.machine.exit(EXIT_STATUS)


async def _panic(driver: PciDriver, phase: Phase) -> None:
    if driver.dev.machine is not None:
        driver.dev.machine.panic(f"{phase.value} panics as armed")


_BREAKS: dict[str, Callable[[PciDriver, Phase], Any]] = {
    "hang": _hang,
    "raise": _raise,
    "spin": _spin,
    "exit": _exit,
    "panic": _panic,
}
