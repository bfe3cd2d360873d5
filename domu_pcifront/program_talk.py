"""A conversation with an external program: calls, the requests in them, and calls in place of an answer.

The program acts only while it is called, and after each line that it is told it says exactly one: so its thinking takes
no virtual time, and nothing depends on how fast it is. While a request waits for (virtual) time to pass, another call
may come; calls are a stack, and the answer to a request is held back until its call is on top again.
"""

from __future__ import annotations

from dataclasses import dataclass

from domu_pcifront.device import GuestPciDev
from domu_pcifront.program_verbs import serve
from domu_pcifront.program_wire import FAIL, OK, Program, ProgramError, ProgramGoneError, Read, shown
from kernel_stub.sync import WaitQueue


@dataclass(eq=False, slots=True)
class _Call:
    line: str

    @property
    def what(self) -> str:
        """``slot_reset``."""
        return self.line.partition(" ")[0]


class Conversation:
    """With one program, about one device. ``label`` is what messages call the program. ``fault``: why it is over."""

    def __init__(self, program: Program, dev: GuestPciDev, label: str) -> None:
        self.fault = ""
        self._program = program
        self._dev = dev
        self._label = label
        self._stack: list[_Call] = []
        self._changed = WaitQueue(dev.kernel, f"driver program of {dev.name}")

    async def idle(self) -> None:
        """Wait until no call is under way."""
        await self._changed.wait_until(lambda: not self._stack)

    async def call(self, line: str, read: Read) -> object:
        """Make a call; what it came to. Raises ProgramError: it failed, or the program is at fault or gone."""
        call = _Call(line)
        self._stack.append(call)
        try:
            end = await self._until_end(call)
            if end.partition(" ")[0] == FAIL:
                raise self._error(call, end[len(FAIL) :].strip() or f"the driver says {FAIL}")
            return self._value(call, end, read)
        except ProgramError:
            raise
        except BaseException:  # the request cannot be answered any more, and so the program never goes on
            self.close()
            raise
        finally:
            self._stack.remove(call)
            self._changed.wake_all()

    async def _until_end(self, call: _Call) -> str:
        """Serve requests until the program ends the call; the line that does."""
        line = self._exchange(call, call.line)
        while line.partition(" ")[0] not in (OK, FAIL):
            try:
                answer = await serve(self._dev, line)
            except ValueError as error:
                raise self._broken(call, str(error)) from None
            await self._changed.wait_until(lambda: self._stack[-1] is call)
            line = self._exchange(call, answer)
        return line

    def _value(self, call: _Call, end: str, read: Read) -> object:
        try:
            return read(end[len(OK) :].strip())
        except ValueError as error:
            raise self._broken(call, f"wrote {shown(end)}; allowed: {error}, or {FAIL} TEXT") from None

    def _exchange(self, call: _Call, line: str) -> str:
        if self.fault:
            raise self._error(call, self.fault)
        try:
            return self._program.exchange(line).strip()
        except ProgramGoneError as error:
            raise self._broken(call, str(error)) from None

    def _broken(self, call: _Call, text: str) -> ProgramError:
        """It is at fault, and is asked nothing any more."""
        self.fault = f"{self._label}, called with {shown(call.line)}, {text}"
        self.close()
        return self._error(call, self.fault)

    def _error(self, call: _Call, text: str) -> ProgramError:
        return ProgramError(text, call.what, self._label)

    def leave(self) -> None:
        """The last call is over: the program may end by itself."""
        self.fault = self.fault or f"{self._label} has been removed from its device"
        self._program.leave()

    def close(self) -> None:
        """End the program."""
        self.fault = self.fault or f"{self._label} has been ended"
        self._program.close()
