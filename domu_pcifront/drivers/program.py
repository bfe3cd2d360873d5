"""A driver that is an external program (``driver: "program:./mydriver --flag"``), in whatever language.

To the guest it is a driver like any other: this class hands each call to the program and takes its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from domu_pcifront import program_wire as wire
from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import Handler, PciDriver, ProbeError, WorkloadError
from domu_pcifront.program_talk import Conversation
from domu_pcifront.program_wire import Greeting, ProgramError, ProgramGoneError
from protocol.ers import ChannelState, Phase


class ProgramDriver(PciDriver):
    """Base of the classes that ``program_driver`` makes, one for each binding; ``name`` is what the program says."""

    WORDS: ClassVar[tuple[str, ...]]
    FOLDER: ClassVar[str]
    restorable: ClassVar[bool] = False  # nobody can set a program's memory back

    def __init__(self, dev: GuestPciDev, options: dict[str, Any]) -> None:
        super().__init__(dev, options)
        self._handlers: frozenset[Phase] = frozenset()
        self._talk: Conversation | None = None

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> list[str]:
        """A program takes any options that are texts or numbers."""
        return wire.option_problems(options)

    def handler(self, phase: Phase) -> Handler | None:
        """None for those that the program has not named."""
        return super().handler(phase) if phase in self._handlers else None

    async def probe(self) -> None:
        """Start the program, greet it, have it probe. Raises ProbeError; then the program has ended."""
        try:
            talk = self._talk = self._start()
            hello = wire.hello(self.dev.name, self.options)
            greeting = await talk.call(hello, wire.greeting)
            assert isinstance(greeting, Greeting)
            type(self).name, self._handlers = greeting
            await talk.call("probe", wire.nothing)
        except ProgramError as error:
            if self._talk is not None:
                self._talk.close()
            raise ProbeError(str(error)) from None
        self.dev.trace("driver.probe", self.name)

    def _start(self) -> Conversation:
        if self.dev.machine is None:
            raise ProbeError("this guest has no machine that could run a program")
        label = " ".join(self.WORDS)
        try:
            program = self.dev.machine.start_program(self.WORDS, self.FOLDER)
        except ProgramGoneError as error:
            raise ProbeError(f"{label} {error}") from None
        return Conversation(program, self.dev, label)

    async def remove(self) -> None:
        """Have the program stop the device; then it ends. Raises ProgramError."""
        talk = self._talk
        if talk is None or talk.fault:
            return
        try:
            await talk.call("remove", wire.nothing)
        finally:
            talk.leave()
        self.dev.trace("driver.remove", self.name)

    async def transfer(self, count: int) -> int:
        """``transfer COUNT``, once no other call is under way. Raises WorkloadError."""
        talk = self._talked
        await talk.idle()
        try:
            verified = await talk.call(f"transfer {count}", wire.verified(count))
        except ProgramError as error:
            raise WorkloadError(str(error)) from None
        assert isinstance(verified, int)
        return verified

    async def error_detected(self, state: ChannelState) -> int:
        """``error_detected frozen 2``: name and number of the state. Raises ProgramError, as the others do."""
        return await self._vote(f"error_detected {state.name.lower()} {state.value}")

    async def mmio_enabled(self) -> int:
        """``mmio_enabled``."""
        return await self._vote("mmio_enabled")

    async def slot_reset(self) -> int:
        """``slot_reset``."""
        return await self._vote("slot_reset")

    async def resume(self) -> None:
        """``resume``."""
        await self._talked.call("resume", wire.nothing)

    async def _vote(self, line: str) -> int:
        vote = await self._talked.call(line, wire.vote)
        assert isinstance(vote, int)
        return vote

    @property
    def _talked(self) -> Conversation:
        assert self._talk is not None, "nobody calls a driver before its probe"
        return self._talk


def program_driver(words: tuple[str, ...], folder: str) -> type[ProgramDriver]:
    """The class of a driver that is the program ``words``, started in ``folder``."""
    name = words[0].rpartition("/")[2]
    return type("Program", (ProgramDriver,), {"WORDS": words, "FOLDER": folder, "name": name, "__module__": __name__})
