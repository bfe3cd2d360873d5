"""XenStore on Unix sockets, for real clients: the shell in front of ``xenstore.session`` (xen-pci.md 8.5, 8.6).

``FOLDER/socket`` has dom0's rights; ``FOLDER/guest-NAME/socket`` has a guest's, for as long as its domain is known to
the store. Nobody is waited for: each turn takes at most one request of each client, and what a client does not take
stays in its session, which is bounded.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from hypervisor_stub.machine import Machine
from hypervisor_stub.xenstore.budget import Budget
from hypervisor_stub.xenstore.paths import INTRODUCE_DOMAIN, RELEASE_DOMAIN
from hypervisor_stub.xenstore.session import Session
from kernel_stub.kernel import Kernel
from protocol.ids import DOM0
from protocol.transport_loop import Loop
from protocol.transport_zmq import TransportError, check_address

CLIENTS_MAX = {True: 128, False: 16}  # at a time and socket: with dom0's rights, with a guest's
NOBODY_LEFT = select.EPOLLHUP | select.EPOLLERR


class Peer:
    """One connected client."""

    def __init__(self, epoll: select.epoll, sock: socket.socket, session: Session) -> None:
        self.sock = sock
        self.session = session
        self.closed = False
        self.held = False  # nothing more is taken from it for a while
        self.on_close: Callable[[], None] = lambda: None
        self._epoll = epoll
        self._mask = select.EPOLLIN
        sock.setblocking(False)
        epoll.register(sock, self._mask)
        session.on_output = self.wait
        session.on_end = lambda reason: self.close()

    def serve(self, events: int) -> None:
        """Something happened to the socket: take one request at most, send what there is."""
        try:
            if events & select.EPOLLIN:
                self._take()
            self._send()
        except BlockingIOError:
            events = 0
        except OSError:  # the client is gone, in whichever way
            self.close()
        if events & NOBODY_LEFT and not (events & select.EPOLLIN and self.session.wanted):
            self.close()
        self.wait()

    def _take(self) -> None:
        for _ in range(2):  # header, payload
            wanted = self.session.wanted
            if not wanted:
                return
            data = self.sock.recv(wanted)
            if not data:
                self.close()
                return
            self.session.feed(data)
            if self.session.output():
                return

    def _send(self) -> None:
        while output := self.session.output():
            self.session.sent(self.sock.send(output))

    def wait(self) -> None:
        """Be told of what can be gone on with."""
        if self.closed:
            return
        mask = select.EPOLLIN if self.session.wanted and not self.held else 0
        mask |= select.EPOLLOUT if self.session.output() else 0
        if mask != self._mask:
            self._mask = mask
            self._epoll.modify(self.sock, mask)

    def close(self) -> None:
        """End the connection; harmless if it has ended."""
        if not self.closed:
            self.closed = True
            self._epoll.unregister(self.sock)
            self.sock.close()
            self.session.close()
            self.on_close()


class Door:
    """One listening socket: who connects here speaks for domain ``domid``."""

    def __init__(self, kernel: Kernel, path: Path, domid: int) -> None:
        self.path = path
        self.domid = domid
        self.privileged = domid == DOM0
        self._kernel = kernel
        self._budget = Budget(kernel.now())
        self._held = False
        self.peers: dict[int, Peer] = {}  # by file descriptor
        check_address(f"ipc://{path}")
        path.parent.mkdir(mode=0o700, parents=True)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.sock.bind(str(path))
        path.chmod(0o600)
        self.sock.listen()

    @property
    def full(self) -> bool:
        """No further client is served."""
        return len(self.peers) >= CLIENTS_MAX[self.privileged]

    def add(self, fd: int, peer: Peer) -> None:
        """One more client."""
        self.peers[fd] = peer
        peer.held = self._held
        peer.wait()

    def account(self, changes: int) -> None:
        """The domain's clients have changed the store; a guest's are held back if that was too much."""
        if self.privileged or not changes:
            return
        now = self._kernel.now()
        free = self._budget.spend(now, changes)
        if free > now and not self._held:
            self._hold(True)
            self._kernel.call_at(free, lambda: self._hold(False))

    def _hold(self, on: bool) -> None:
        self._held = on
        for peer in self.peers.values():
            peer.held = on
            peer.wait()

    def close(self) -> None:
        """Close socket and clients; the socket's directory goes with all that is in it."""
        for peer in list(self.peers.values()):
            peer.close()
        self.sock.close()
        shutil.rmtree(self.path.parent, ignore_errors=True)


class XenStoreSockets:
    """All sockets of one system. Its domains are known from the store's own special watches."""

    def __init__(self, loop: Loop, machine: Machine, folder: Path) -> None:
        self._loop = loop
        self._machine = machine
        self._folder = folder
        self._epoll = select.epoll()
        self._doors: dict[int, Door] = {}  # by domain
        self._callbacks: dict[int, Callable[[int], None]] = {}  # by file descriptor
        shutil.rmtree(folder, ignore_errors=True)  # left by a system that was killed
        self._open(DOM0, folder / "socket")
        loop.add_reader(self._epoll.fileno(), self._turn)
        self._conn = machine.store.connect(DOM0, lambda path, token: self._domains_changed(), privileged=True)
        for path in (INTRODUCE_DOMAIN, RELEASE_DOMAIN):
            self._conn.watch(path, "sockets")

    def _turn(self) -> None:
        for fd, events in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            if callback is not None:  # else: closed by one of those before it
                callback(events)

    # -- doors ---------------------------------------------------------------------------------
    def _domains_changed(self) -> None:
        store = self._machine.store
        known = {d.domid: d.name for d in self._machine.domains if store.is_domain_introduced(d.domid)}
        for domid in self._doors.keys() - known.keys() - {DOM0}:
            self._close(self._doors.pop(domid))
        for domid in known.keys() - self._doors.keys():
            self._open(domid, self._folder / f"guest-{known[domid]}" / "socket")

    def _open(self, domid: int, path: Path) -> None:
        """A system without one of these sockets is a system all the same."""
        try:
            door = Door(self._machine.kernel, path, domid)
        except (TransportError, OSError) as error:
            sys.stderr.write(f"hypervisor: no XenStore socket {path}: {error}\n")
            sys.stderr.flush()
            return
        self._doors[domid] = door
        self._callbacks[door.sock.fileno()] = lambda events: self._accept(door)
        self._epoll.register(door.sock, select.EPOLLIN)

    def _close(self, door: Door) -> None:
        self._epoll.unregister(door.sock)
        del self._callbacks[door.sock.fileno()]
        door.close()

    def _accept(self, door: Door) -> None:
        with contextlib.suppress(OSError):  # who knocked has gone again
            sock, _ = door.sock.accept()
            if door.full:
                sock.close()
            else:
                self._welcome(door, sock)

    def _welcome(self, door: Door, sock: socket.socket) -> None:
        session = Session(self._machine.store, door.domid, privileged=door.privileged, exists=self._exists)
        fd, peer = sock.fileno(), Peer(self._epoll, sock, session)

        def serve(events: int) -> None:
            before = session.conn.changes
            peer.serve(events)
            door.account(session.conn.changes - before)

        def gone() -> None:
            del door.peers[fd], self._callbacks[fd]

        peer.on_close = gone
        self._callbacks[fd] = serve
        door.add(fd, peer)

    def _exists(self, domid: int) -> bool:
        return domid == DOM0 or self._machine.domains.get(domid) is not None

    def close(self) -> None:
        """Close everything; the folder goes."""
        self._conn.close()
        self._loop.remove_reader(self._epoll.fileno())
        for domid in sorted(self._doors, reverse=True):  # dom0's last: it is in the folder of all others
            self._close(self._doors.pop(domid))
        self._epoll.close()
