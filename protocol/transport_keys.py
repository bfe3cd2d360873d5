"""Keys over tcp: every party has a CurveZMQ pair, and the public halves lie in the run directory.

A party makes its pair when it starts, keeps the secret half in its memory and leaves the public one in
``RUN/keys``; so who may write there (the run directory's owner, mode 0700) decides who belongs to the system, and
no secret is ever on disk. A guest does not get its authority there: the hypervisor stub makes a pair for each
domain when it creates it, and hands it out over the connection of its supervisor.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any, NamedTuple

import zmq

FOLDER = "keys"  # in the run directory
SUFFIX = ".pub"
KEY_LENGTH = 40  # Z85 text of 32 bytes
POLL_S = 0.005
STUB, DOM0, SUPERVISOR, CONTROL = "hypervisor", "dom0", "supervisor-", "control-"  # names, and how they begin


class KeyPair(NamedTuple):
    """A CurveZMQ pair, both halves as Z85 text."""

    public: bytes
    secret: bytes


class Identity(NamedTuple):
    """What a party needs to connect: its own pair, and the public key of the hypervisor stub."""

    own: KeyPair
    stub: bytes


def make_pair() -> KeyPair:
    """A fresh pair."""
    return KeyPair(*zmq.curve_keypair())


def pair_of(secret: str) -> KeyPair:
    """The pair of a secret key that somebody else made."""
    return KeyPair(zmq.curve_public(secret.encode()), secret.encode())


def use_as_client(socket: zmq.Socket[Any], own: KeyPair | None, server: bytes) -> None:
    """Speak CurveZMQ with whoever has the secret half of ``server``; nothing if there is no ``server``."""
    if server and own is not None:
        socket.curve_serverkey = server
        socket.curve_publickey, socket.curve_secretkey = own


def use_as_server(socket: zmq.Socket[Any], own: KeyPair | None) -> None:
    """Let in only who speaks CurveZMQ to our key and passes the gate."""
    if own is not None:
        socket.curve_server = True
        socket.curve_secretkey = own.secret


class KeyRing:
    """The public keys of a system, one file per party."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER

    @property
    def exists(self) -> bool:
        """The system speaks CurveZMQ."""
        return self.folder.is_dir()

    def create(self) -> None:
        """An empty folder that only its owner may use. Raises OSError."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def publish(self, name: str, public: bytes) -> None:
        """Make ``public`` the key of party ``name``. Raises OSError."""
        fresh = self.folder / f"{name}.{os.getpid()}"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(public)
        fresh.rename(self.folder / f"{name}{SUFFIX}")

    def withdraw(self, name: str) -> None:
        """Party ``name`` has ended."""
        (self.folder / f"{name}{SUFFIX}").unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """The key of party ``name``; None if there is none, or if the file is not one of our own."""
        try:
            fd = os.open(self.folder / f"{name}{SUFFIX}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            info = os.fstat(fd)
            ours = stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022
            key = os.read(fd, KEY_LENGTH + 1) if ours else b""
        finally:
            os.close(fd)
        return key if len(key) == KEY_LENGTH else None

    def name_of(self, public: bytes) -> str | None:
        """Which party has this key. Looked up anew each time: connections are made rarely, keys come and go."""
        try:
            names = [name.removesuffix(SUFFIX) for name in os.listdir(self.folder) if name.endswith(SUFFIX)]
        except OSError:
            return None
        return next((name for name in names if self.read(name) == public), None)

    def introduce(self, name: str, seconds: float) -> Identity | None:
        """Make and publish a pair for party ``name`` once the stub has its own; None if it has none in time."""
        deadline = time.monotonic() + seconds
        while (stub := self.read(STUB)) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_S)
        own = make_pair()
        self.publish(name, own.public)
        return Identity(own, stub)
