"""What one guest may make pciback do per second, and what it is refused (X13, X23, X30, X34; ``hardened`` only)."""

from __future__ import annotations

from kernel_stub.kernel import Kernel
from kernel_stub.refusals import Refusals
from protocol.channel import Channel
from protocol.limits import CONNECTS, STATE_CHANGES, Bucket
from protocol.sharedinfo import PCIB_AERHANDLER


class GuestShare:
    """Counters and limits of the guest called ``name``. ``limited`` is False in the profile ``linux``."""

    def __init__(self, kernel: Kernel, refusals: Refusals, name: str, *, limited: bool) -> None:
        self.kernel = kernel
        self.name = name
        self.limited = limited
        self.catching_up = False  # the frontend's state is looked at later, once for all changes until then
        self.handler_flag = False  # as it was seen last
        self._refusals = refusals
        self._changes = Bucket(*STATE_CHANGES)
        self._connects = Bucket(*CONNECTS)

    def refuse(self, kind: str, text: str) -> None:
        """Count what this guest did not get, or did wrong."""
        self._refusals.refuse(kind, self.name, text)

    def state_changes(self) -> int | None:
        """X30: 0 if a new state of the frontend may be followed now, else after how many ns; None: never mind."""
        wait = self._changes.take(self.kernel.now()) if self.limited else 0
        if not self.catching_up and not wait:
            return 0
        self.refuse("state", "its state changes too fast")
        if self.catching_up:
            return None
        self.catching_up = True
        return wait

    def may_connect(self) -> bool:
        """X34: one more connection of the frontend."""
        if not self.limited or not self._connects.take(self.kernel.now()):
            return True
        self.refuse("reconnect", "it connects again and again")
        return False

    def spurious(self, channel: Channel | None) -> None:
        """X13, X23: a doorbell that asks for nothing; what the guest may have changed instead is looked at."""
        self.refuse("spurious", "a doorbell without a request")
        if channel is not None and channel.page.test_bit(PCIB_AERHANDLER) != self.handler_flag:
            self.handler_flag = not self.handler_flag
            self.refuse("handler-flag", f"AER handler flag is {int(self.handler_flag)} while connected")
