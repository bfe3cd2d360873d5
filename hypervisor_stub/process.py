"""The processes of the hypervisor's side: the stub itself, and one supervisor per guest."""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypervisor_stub.hypervisor import Hypervisor
from hypervisor_stub.supervisor import Supervisor
from hypervisor_stub.xenstore_sockets import XenStoreSockets
from hypervisor_stub.zygote import GuestMain, Zygote
from kernel_stub.kernel import MS, Kernel, Timer
from kernel_stub.rpc import RpcError
from protocol.codec import Decoder
from protocol.journal_file import ConsoleJournal, JournalFile
from protocol.limits import CONNECTIONS
from protocol.messages import TO_HYPERVISOR, TO_SUPERVISOR
from protocol.topology import HostSpec
from protocol.transport_door import FrontDoor
from protocol.transport_gate import Gate
from protocol.transport_keys import STUB, SUPERVISOR, KeyRing, make_pair, pair_of
from protocol.transport_loop import Loop, RealClock
from protocol.transport_zmq import NetEndpoints, identify, open_party_link

LOST = 3
PATIENCE_MS = 1_000  # how long the stub waits for the others to end


@dataclass(slots=True)
class HypervisorOptions:
    """``doors``: addresses to bind. ``base``: where parties reach their own sockets. ``run``: run directory.
    ``epoch``: zero of the system's clock, ns. ``boot``: create the guests as soon as the parties are there.
    ``console``: show the log on standard output."""

    host: HostSpec
    doors: list[str]
    base: str
    run: Path
    epoch: int
    boot: bool = True
    console: bool = False


class HypervisorProcess:
    """Runs until ``stop`` (status 0) or until dom0 is gone (status 3)."""

    def __init__(self, options: HypervisorOptions) -> None:
        self.options = options
        clock = RealClock(options.epoch)
        file = JournalFile(options.run / "journal" / "hypervisor.mpk")
        journal = ConsoleJournal(file, "(XEN)") if options.console else file
        self.kernel = Kernel("hypervisor", clock, journal)
        self.loop = Loop(self.kernel)
        self.hypervisor = Hypervisor(self.kernel, options.host, lambda: secrets.token_hex(8))
        self.hypervisor.epoch = options.epoch
        self.hypervisor.on_fatal = self._fatal
        self.loop.refuse = self.hypervisor.machine.refusals.refuse
        limit_descriptors()
        self.door = FrontDoor(self.loop, options.doors, self._endpoints(), self.hypervisor.accept)
        self.sockets = XenStoreSockets(self.loop, self.hypervisor.machine, options.run / "xenstored")
        self.status = 0
        self._patience: Timer | None = None
        if options.boot:
            self.kernel.spawn(self._boot(), "boot")

    def _endpoints(self) -> NetEndpoints:
        """Sockets with a gate. Where the run directory has a place for keys, every peer must prove to have one."""
        options, machine = self.options, self.hypervisor.machine
        ring = KeyRing(options.run)
        decoders = {"party": Decoder(TO_HYPERVISOR).decode}
        if not ring.exists:
            return NetEndpoints(self.loop, options.base, decoders, Gate(self.loop))
        own, gate = make_pair(), Gate(self.loop, ring)
        machine.tokens = lambda: make_pair().secret.decode()
        machine.public = lambda token: pair_of(token).public.decode()
        machine.admit = gate.admit
        ring.publish(STUB, own.public)
        return NetEndpoints(self.loop, options.base, decoders, gate, own)

    async def _boot(self) -> None:
        try:
            result: list[list[str]] = await self.hypervisor.control.ctl("hypervisor", "boot", [])
        except RpcError as error:
            result = [["boot", str(error)]]
        for name, how in result:
            if how not in ("connected", "started"):
                sys.stderr.write(f"hypervisor: {name}: {how}\n")
        sys.stderr.flush()

    def _fatal(self, reason: str) -> None:
        sys.stderr.write(f"hypervisor: {reason}; without dom0 the host ends\n")
        self.status = LOST
        self.loop.stop()

    def _leave(self) -> None:
        """End as the last one, so that nobody loses the stub before it has read that this is the end."""
        if self._patience is None:
            self._patience = self.kernel.call_at(self.kernel.now() + PATIENCE_MS * MS, self.loop.stop)
        if self.hypervisor.deserted and self.kernel.idle:
            self.loop.stop()

    def run(self) -> int:
        """The exit status."""
        ready = self.options.run / "ready"
        ready.write_text(f"{os.getpid()}\n")
        try:
            while not self.loop.stopped:
                self.loop.run_once()
                if self.hypervisor.stopped:
                    self._leave()
        finally:
            ready.unlink(missing_ok=True)
            self.kernel.trace("party.end", "hypervisor", self.status)
            self.kernel.journal.flush()
            self.sockets.close()
            self.loop.close()
        return self.status


@dataclass(slots=True)
class SupervisorOptions:
    """``door``: the hypervisor stub. ``name``: the guest. ``run``, ``epoch`` as above. ``guest_main`` runs in
    the guest's process with a configuration as keyword dictionary."""

    door: str
    name: str
    run: Path
    epoch: int
    guest_main: GuestMain
    console: bool = False


class ZygoteRunner:
    """``supervisor.GuestRunner`` with real processes: fork by the zygote, death by pidfd."""

    def __init__(self, zygote: Zygote, options: SupervisorOptions, loop: Loop, stub: bytes) -> None:
        self.zygote = zygote
        self.stub = stub  # public key of the hypervisor stub, b"" where no keys are used
        self.options = options
        self.loop = loop
        self.on_death: Callable[[int, int], None] = lambda pid, status: None

    async def start(self, domid: int, token: str, name: str) -> int:
        """Fork the guest and watch its pidfd."""
        options = self.options
        config = {"domid": domid, "token": token, "name": name, "door": options.door, "console": options.console}
        config["stub"] = self.stub
        try:
            pid = self.zygote.fork({**config, "run": str(options.run), "epoch": options.epoch})
        except OSError as error:
            raise RpcError(str(error)) from None
        fd = os.pidfd_open(pid)
        self.loop.add_reader(fd, lambda: self._ended(pid, fd))
        return pid

    def _ended(self, pid: int, fd: int) -> None:
        self.loop.remove_reader(fd)
        os.close(fd)
        self.on_death(pid, self.zygote.reap(pid))

    def kill(self, pid: int) -> None:
        """SIGKILL the guest's process group, stopped or not."""
        self._signal(pid, signal.SIGKILL)

    def pause(self, pid: int, *, on: bool) -> None:
        """SIGSTOP, SIGCONT."""
        self._signal(pid, signal.SIGSTOP if on else signal.SIGCONT)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself: that is a success too
            os.killpg(pid, number)


class SupervisorProcess:
    """Runs until ``stop`` (status 0) or until the hypervisor stub is gone (status 3); takes its guest along."""

    def __init__(self, options: SupervisorOptions) -> None:
        self.zygote = Zygote(options.guest_main)  # before any socket is made
        name = f"supervisor-{options.name}"
        self.kernel = Kernel(name, RealClock(options.epoch), JournalFile(options.run / "journal" / f"{name}.mpk"))
        self.loop = Loop(self.kernel)
        who = identify(options.run, SUPERVISOR + options.name, options.door)  # after the fork: no guest inherits it
        link = open_party_link(self.loop, options.door, Decoder(TO_SUPERVISOR).decode, who)
        runner = ZygoteRunner(self.zygote, options, self.loop, who.stub if who else b"")
        self.supervisor = Supervisor(self.kernel, link, runner, options.name)
        self.supervisor.on_stop = self.loop.stop
        self.supervisor.rpc.on_close = self._lost
        self.status = 0

    def _lost(self, reason: str) -> None:
        self.kernel.trace("party.lost", "hypervisor", reason)
        sys.stderr.write(f"{self.kernel.name}: the hypervisor stub is gone ({reason})\n")
        self.status = LOST
        self.supervisor.end()
        self.loop.stop()

    def run(self) -> int:
        """The exit status."""
        try:
            self.loop.run()
        finally:
            self.supervisor.end()
            self.kernel.trace("party.end", self.kernel.name, self.status)
            self.kernel.journal.flush()
            self.zygote.close()
            self.loop.close()
        return self.status


def limit_descriptors() -> None:
    """A peer that opens connection after connection finds an end, and one that is known."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = CONNECTIONS if hard == resource.RLIM_INFINITY else min(CONNECTIONS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main_hypervisor(options: HypervisorOptions) -> int:
    """Run the hypervisor stub; returns the exit status."""
    return HypervisorProcess(options).run()


def main_supervisor(options: SupervisorOptions) -> int:
    """Run one guest's supervisor; returns the exit status."""
    return SupervisorProcess(options).run()
