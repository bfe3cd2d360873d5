"""A driver that answers what the host file says: the tests' counterpart of the recording driver ``aerprobe``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from domu_pcifront.device import GuestPciDev, Machine
from domu_pcifront.driver import Handler, PciDriver, ProbeError
from domu_pcifront.options import Option, flag, number, per_phase, phases, vote, whole
from kernel_stub.sync import Future
from protocol.ers import ChannelState, ErsResult, Phase

FAILURES = ("raise", "exit", "spin", "hang", "panic")
_MS = number(0, 3_600_000)

# error_detected answers by state; ed_perm follows ed unless it is given (xen-pci-errata.md 5).
VOTE_OPTION: dict[ChannelState, str] = {
    ChannelState.NORMAL: "ed",
    ChannelState.FROZEN: "ed_frozen",
    ChannelState.PERM_FAILURE: "ed_perm",
}
DELAY_OPTION: dict[Phase, str] = {
    Phase.ERROR_DETECTED: "ed_ms",
    Phase.MMIO_ENABLED: "mmio_ms",
    Phase.SLOT_RESET: "slot_reset_ms",
    Phase.RESUME: "resume_ms",
}


class ScriptedFailureError(Exception):
    """The script asked for an exception: the AER worker dies with an oops (S11)."""


class Scripted(PciDriver):
    """Every vote, delay and failure comes from the options. It has no data path."""

    name: ClassVar[str] = "scripted"
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "ed": Option(vote, "CAN_RECOVER", "answer of error_detected, state normal"),
        "ed_frozen": Option(vote, "NEED_RESET", "answer of error_detected, state frozen"),
        "ed_perm": Option(vote, None, "answer of error_detected, state perm_failure; default: that of ed"),
        "mmio": Option(vote, "RECOVERED", "answer of mmio_enabled"),
        "slot_reset": Option(vote, "RECOVERED", "answer of slot_reset"),
        "ed_ms": Option(_MS, 0, "how long error_detected sleeps, in ms"),
        "mmio_ms": Option(_MS, 0, "how long mmio_enabled sleeps, in ms"),
        "slot_reset_ms": Option(_MS, 0, "how long slot_reset sleeps, in ms"),
        "resume_ms": Option(_MS, 0, "how long resume sleeps, in ms"),
        "missing": Option(phases, (), "handlers that the driver does not have"),
        "no_err_handler": Option(flag, False, "the driver has no table of handlers at all"),
        "restore": Option(flag, False, "slot_reset enables the device, restores its state and sets bus master"),
        "fail": Option(per_phase(FAILURES), {}, "what goes wrong in which phase, after its delay"),
        "exit_status": Option(whole(0, 255), 1, "status that fail: exit ends the guest with"),
    }

    def __init__(self, dev: GuestPciDev, options: dict[str, Any]) -> None:
        super().__init__(dev, options)
        self.no_err_handler = self.options["no_err_handler"]
        self._missing = frozenset(self.options["missing"])
        if self.options["ed_perm"] is None:
            self.options["ed_perm"] = self.options["ed"]

    def handler(self, phase: Phase) -> Handler | None:
        """None for the phases in ``missing``."""
        return None if phase in self._missing else super().handler(phase)

    async def probe(self) -> None:
        """Switch the device on; keep its state only if ``restore`` will want it."""
        if await self.dev.enable_device() < 0:
            raise ProbeError("cannot enable the device")
        await self.dev.set_master()
        if self.options["restore"]:
            await self.dev.save_state()

    async def remove(self) -> None:
        """Switch the device off."""
        await self.dev.disable_device()

    async def error_detected(self, state: ChannelState) -> int:
        """``ed``, ``ed_frozen``, ``ed_perm``."""
        await self._act(Phase.ERROR_DETECTED)
        return self._vote(VOTE_OPTION[state])

    async def mmio_enabled(self) -> int:
        """``mmio``."""
        await self._act(Phase.MMIO_ENABLED)
        return self._vote("mmio")

    async def slot_reset(self) -> int:
        """``slot_reset``; restores first, whatever the answer is (linux-aer-errata.md 2.2)."""
        if self.options["restore"]:
            await self.dev.enable_device()
            await self.dev.restore_state()
            await self.dev.set_master()
        await self._act(Phase.SLOT_RESET)
        return self._vote("slot_reset")

    async def resume(self) -> None:
        """Nothing to start again."""
        await self._act(Phase.RESUME)

    def _vote(self, option: str) -> int:
        value = self.options[option]
        return int(ErsResult[value]) if isinstance(value, str) else int(value)

    async def _act(self, phase: Phase) -> None:
        """Sleep, then fail, as the options say."""
        delay = self.options[DELAY_OPTION[phase]]
        if delay:
            await self.dev.sleep(delay)
        failure = self.options["fail"].get(phase)
        if failure == "raise":
            raise ScriptedFailureError(f"{phase.value} fails as scripted")
        if failure == "hang":
            await Future(self.dev.kernel, f"nothing, in {phase.value}").wait()
        elif failure is not None:
            self._break(phase, failure)

    def _break(self, phase: Phase, failure: str) -> None:
        machine: Machine | None = self.dev.machine
        if machine is None:
            raise ScriptedFailureError(f"{failure} in {phase.value}: this guest has no machine to break")
        if failure == "spin":
            machine.spin()
        elif failure == "exit":
            machine.exit(self.options["exit_status"])
        else:
            machine.panic(f"{phase.value} panics as scripted")
