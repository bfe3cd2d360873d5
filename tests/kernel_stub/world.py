"""Several kernels on one manual clock, joined by links that carry the bytes of the real codec."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from domu_pcifront.program_process import ProgramProcess
from kernel_stub.kernel import MS, Kernel
from protocol.codec import ProtocolError, encode
from protocol.ports import Message, Record

Decode = Callable[[bytes], Message]
NEVER = 1 << 62


class ManualClock:
    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        return self.time


class ListJournal:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.flushed = 0

    def append(self, record: Record) -> None:
        self.records.append(record)

    def flush(self) -> None:
        self.flushed += 1


class FakeMachine:
    """``domu_pcifront.device.Machine`` that only notes what a faulty driver asks of it."""

    pid = 0

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.programs: list[ProgramProcess] = []

    def spin(self) -> None:
        self.calls.append(("spin",))

    def exit(self, status: int) -> None:
        self.calls.append(("exit", status))

    def panic(self, text: str) -> None:
        self.calls.append(("panic", text))

    def halt(self) -> None:
        self.calls.append(("halt",))

    def start_program(self, words: Sequence[str], folder: str) -> ProgramProcess:
        self.programs.append(ProgramProcess(words, folder, own_group=True))
        return self.programs[-1]


class WireLink:
    """One end of a pair; bytes wait in the world's wire. Wrong bytes end the link, as a real socket's would."""

    def __init__(self, world: World, decode: Decode) -> None:
        self.world = world
        self.decode = decode
        self.peer: WireLink | None = None
        self.closed = False
        self.sent: list[Message] = []
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None

    def send(self, message: Message) -> bool:
        if self.closed or self.peer is None:
            return False
        self.sent.append(message)
        self.send_raw(encode(message))
        return True

    def send_raw(self, raw: bytes) -> None:
        assert self.peer is not None
        self.world.wire.append((self.peer, raw))

    def pause(self, ns: int) -> None: ...

    def close(self) -> None:
        if not self.closed and self.peer is not None:
            self.world.wire.append((self.peer, None))
        self.closed = True

    def deliver(self, raw: bytes | None) -> None:
        if self.closed:
            return
        try:
            if raw is not None:
                self.on_message(self.decode(raw))
                return
            reason = "connection lost"
        except ProtocolError as error:
            reason = f"protocol violation: {error}"
        self.close()
        self.on_close(reason)


class World:
    """Runs everything that is ready, then one message, then time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.journal = ListJournal()
        self.kernels: list[Kernel] = []
        self.wire: deque[tuple[WireLink, bytes | None]] = deque()
        self.main = self.kernel("main")

    def kernel(self, name: str, *, panic_on_oops: bool = True) -> Kernel:
        kernel = Kernel(name, self.clock, self.journal, panic_on_oops=panic_on_oops)
        self.kernels.append(kernel)
        return kernel

    def pair(self, left: Decode, right: Decode | None = None) -> tuple[WireLink, WireLink]:
        """Two ends; ``left`` and ``right`` decode what arrives at them."""
        here, there = WireLink(self, left), WireLink(self, right or left)
        here.peer, there.peer = there, here
        return here, there

    def step(self, until: int) -> bool:
        """One piece of work at or before ``until`` (ns); False if there is none."""
        busy = [kernel for kernel in self.kernels if not kernel.idle or self._due(kernel) <= self.clock.time]
        for kernel in busy:
            kernel.run()
        if busy:
            return True
        if self.wire:
            end, raw = self.wire.popleft()
            end.deliver(raw)
            return True
        due = min(map(self._due, self.kernels))
        if due > until:
            return False
        self.clock.time = due
        return True

    def _due(self, kernel: Kernel) -> int:
        timer = kernel.next_timer()
        return NEVER if timer is None else timer

    def settle(self, ms: float = 0) -> None:
        """Let ``ms`` milliseconds pass, and everything happen that happens meanwhile."""
        until = self.clock.time + int(ms * MS)
        while self.step(until):
            continue
        self.clock.time = until

    def run(self, coro: Coroutine[Any, Any, Any], kernel: Kernel | None = None, ms: float = 600_000) -> Any:
        """Run a coroutine to its end, letting time pass as it needs; its result, or its exception."""
        outcome: list[Any] = []

        async def body() -> None:
            try:
                outcome.append((await coro, None))
            except Exception as error:
                outcome.append((None, error))

        task = (kernel or self.main).spawn(body(), "test")
        until = self.clock.time + int(ms * MS)
        while not outcome and self.step(until):
            continue
        assert outcome, f"{task} has not ended"
        result, error = outcome[0]
        if error is not None:
            raise error
        return result

    def traced(self, label: str) -> list[tuple[Any, ...]]:
        """Subject and fields of all records with ``label``."""
        return [record[3:] for record in self.journal.records if record[2] == label]

    @property
    def log(self) -> list[str]:
        """All kernel log lines of all parties."""
        return [fields[2] for fields in self.traced("printk")]
