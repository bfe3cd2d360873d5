"""Stand-ins for the tests of the operator's side: a control server on a real socket, and a scripted system."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import zmq

from protocol.codec import Decoder, encode
from protocol.messages import TO_HYPERVISOR
from xenaer.campaign.steps.system import Call, Watch
from xenaer.control import ControlError
from xenaer.journal import Entry

Answer = Callable[[str, str, list[Any]], Any]


class FakeStub:
    """A hypervisor stub's front door in a thread: answers hello, and ctl by a function (ControlError: refuse)."""

    def __init__(self, address: str, answer: Answer) -> None:
        self.address = address
        self.asked: list[tuple[str, str, list[Any]]] = []
        self._answer = answer
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(address)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        decoder = Decoder(TO_HYPERVISOR)
        while not self._stop.is_set():
            if self._socket.poll(20):
                identity, raw = self._socket.recv_multipart()
                self._socket.send_multipart([identity, encode(self._reply(decoder.decode(raw)))])

    def _reply(self, message: Any) -> Any:
        op, serial, *args = message
        if op == "hello":
            return ("ok", serial, {})
        target, verb, words = args
        words = [list(word) if isinstance(word, tuple) else word for word in words]
        self.asked.append((target, verb, words))
        try:
            return ("ok", serial, self._answer(target, verb, words))
        except ControlError as error:
            return ("error", serial, str(error))

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self._context.term()


class FakeSystem:
    """A system for ``Runner``: virtual time; records appear when their time has come."""

    def __init__(self, answer: Answer) -> None:
        self.now = 0.0
        self.entries: list[Entry] = []
        self.asked: list[tuple[str, str, list[Any]]] = []
        self.on_ctl: Callable[[str, str, list[Any]], None] = lambda target, verb, args: None
        self._answer = answer

    @property
    def now_s(self) -> float:
        """See ``xenaer.campaign.steps.system.System``."""
        return self.now

    @property
    def now_ns(self) -> int:
        """See ``xenaer.campaign.steps.system.System``."""
        return round(self.now * 1e9)

    def add(self, delay_s: float, party: str, label: str, subject: str, **fields: Any) -> None:
        """A record that appears ``delay_s`` from now."""
        item = {"t": self.now + delay_s, "party": party, "task": "t", "label": label, "subject": subject, **fields}
        self.entries.append(item)
        self.entries.sort(key=lambda entry: float(entry["t"]))

    def ctl(self, target: str, verb: str, args: list[Any]) -> Any:
        """See ``xenaer.campaign.steps.system.System``."""
        self.asked.append((target, verb, args))
        self.on_ctl(target, verb, args)
        return self._answer(target, verb, args)

    def start(self, target: str, verb: str, args: list[Any], *, at_once: bool = False) -> Call:
        """Nothing here takes time that one could not wait for."""
        raise ControlError(f"{target}: {verb} cannot be done in the background here")

    def signal(self, target: str, does: str, for_ms: float | None = None) -> None:
        """There are no processes."""
        raise ControlError(f"{target} is not running")

    def arm(self, watch: Watch, fire: Callable[[], None]) -> None:
        """There are no points."""
        raise ControlError("nothing can be armed here")

    def disarm(self) -> None:
        """See ``xenaer.campaign.steps.system.System``."""

    def recorded(self) -> None:
        """See ``xenaer.campaign.steps.system.System``."""

    def records(self, cursor: Any) -> tuple[list[Entry], Any]:
        """See ``xenaer.campaign.steps.system.System``."""
        begin = cursor or 0
        ready = [item for item in self.entries[begin:] if item["t"] <= self.now]
        return ready, begin + len(ready)

    def advance(self, ms: float) -> None:
        """See ``xenaer.campaign.steps.system.System``."""
        self.now += ms / 1000

    def close(self) -> None:
        """See ``xenaer.campaign.steps.system.System``."""
