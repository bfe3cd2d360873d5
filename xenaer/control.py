"""The operator's connection to a running system, and where a running system is described.

``RUN/system.json`` says at which address the hypervisor stub listens; ``Control`` asks there.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq

from protocol.codec import Decoder, ProtocolError, encode
from protocol.messages import TO_CONTROL
from protocol.transport_keys import CONTROL, KeyRing, use_as_client
from protocol.transport_zmq import listened_at

TIMEOUT_S = 30.0
LOOK_S = 0.5  # how often whoever waits looks whether the other side is still there


class ControlError(Exception):
    """The system is not there, does not answer, or refuses; the text says which and why."""


class NoSystemError(ControlError):
    """Nothing runs in the run directory."""


@dataclass(slots=True)
class SystemFile:
    """What ``RUN/system.json`` says of a running system; ``journals`` are its parties' journal files."""

    address: str
    pid: int
    host: str
    journals: list[str] = field(default_factory=list)


def run_dir(option: Path | None = None) -> Path:
    """The run directory: the option, else ``XENAER_RUN``, else one per user."""
    if option is not None:
        return option
    if os.environ.get("XENAER_RUN"):
        return Path(os.environ["XENAER_RUN"])
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"xenaer-{os.getuid()}"


def read_system(run: Path) -> SystemFile:
    """The system that runs in ``run``. Raises NoSystemError, ControlError."""
    path = run / "system.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return SystemFile(data["address"], data["pid"], data["host"], list(data.get("journals", [])))
    except FileNotFoundError:
        raise NoSystemError(f"no system is running in {run}; start one with: xenaer up") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ControlError(f"{path}: not a system description ({error})") from None


def _check_lives(address: str) -> None:
    """Raises NoSystemError if nobody listens at a local address: the system was killed and has left its files."""
    if not address.startswith("ipc://"):
        return
    path = address.removeprefix("ipc://")
    try:
        alive = listened_at(path)
    except OSError as error:
        raise ControlError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not alive:
        raise NoSystemError(f"the system at {path} has ended; start one with: xenaer up")


class Control:
    """A blocking client of the hypervisor stub: one request at a time, each with a deadline."""

    def __init__(self, address: str, timeout_s: float = TIMEOUT_S, run: Path | None = None) -> None:
        """Connect and introduce oneself. ``run`` is the system's run directory, where keys are left over tcp.

        Raises NoSystemError, ControlError.
        """
        _check_lives(address)
        self._ring = KeyRing(run) if run is not None and address.startswith("tcp://") else None
        self._name = f"{CONTROL}{os.getpid()}-{secrets.token_hex(4)}"
        self.address = address
        self.timeout_s = timeout_s
        self._decoder = Decoder(TO_CONTROL)
        self._serial = 0
        self._answers: dict[int, tuple[str, Any]] = {}  # of requests that nobody waits for now
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        try:
            self._use_key()
            self._socket.connect(address)
            self.call("hello", "control", "")
        except zmq.ZMQError as error:
            self.close()
            raise ControlError(f"{address}: {error.strerror}") from None
        except ControlError:
            self.close()
            raise

    def ctl(self, target: str, verb: str, args: list[Any], timeout_s: float | None = None) -> Any:
        """Ask a party (``hypervisor``, ``dom0`` or a guest) to do ``verb``. Raises ControlError."""
        return self.call("ctl", target, verb, args, timeout_s=timeout_s)

    def call(self, op: str, *args: Any, timeout_s: float | None = None) -> Any:
        """One request of ``protocol.messages.TO_HYPERVISOR`` and its answer. Raises ControlError."""
        serial = self.post(op, *args)
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        while not self.answered(serial, min(LOOK_S, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise ControlError(f"no answer from {self.address} within {limit_s:g} s")
            _check_lives(self.address)
        return self.take(serial)

    def post(self, op: str, *args: Any) -> int:
        """Send a request and do not wait; returns its number, for ``answered`` and ``take``."""
        self._serial += 1
        self._socket.send(encode((op, self._serial, *args)))
        return self._serial

    def answered(self, serial: int, wait_s: float = 0.0) -> bool:
        """There is an answer to a request, or one comes within ``wait_s``. Raises ControlError."""
        deadline = time.monotonic() + wait_s
        while serial not in self._answers and self._socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            kind, number, value = self._receive()
            self._answers[number or serial] = kind, value  # 0: the stub could not even read a request
        return serial in self._answers

    def take(self, serial: int) -> Any:
        """The answer to a request that has one. Raises ControlError with the reason if it was refused."""
        kind, value = self._answers.pop(serial)
        if kind == "error":
            raise ControlError(str(value))
        return value

    def _receive(self) -> tuple[str, int, Any]:
        try:
            kind, serial, value = self._decoder.decode(self._socket.recv())
        except (ProtocolError, ValueError) as error:
            raise ControlError(f"{self.address} does not speak as a hypervisor stub does: {error}") from None
        return kind, serial, value

    def _use_key(self) -> None:
        """Over tcp, leave a fresh public key where only a user of the run directory can. Raises ControlError."""
        if self._ring is None or not self._ring.exists:
            return
        try:
            who = self._ring.introduce(self._name, self.timeout_s)
        except OSError as error:
            raise ControlError(f"{self._ring.folder}: {(error.strerror or str(error)).lower()}") from None
        if who is None:
            raise ControlError(f"the hypervisor stub has left no key in {self._ring.folder}")
        use_as_client(self._socket, who.own, who.stub)

    def close(self) -> None:
        """Give the connection up."""
        if self._ring is not None:
            self._ring.withdraw(self._name)
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()
