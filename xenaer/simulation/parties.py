"""The parties of a simulated system: the same cores as in the processes, on simulated links and kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domu_pcifront.domu import DomU
from domu_pcifront.program_process import ProgramProcess
from kernel_stub.kernel import EMERG, Halted, Kernel
from protocol.ports import Record
from xenaer.simulation.links import SimEndpoints, SimLink, Switchboard, pair
from xenaer.simulation.world import World, party_of

FORK_NS = 4_000_000  # start of a guest's process
DEATH_NS = 700_000  # SIGKILL to pidfd
CRASH = 3
LOST = 3  # exit status of a party that has lost one which it cannot live without
SIGKILL = 9


class MemoryJournal:
    """``protocol.ports.Journal`` in memory: a list of (party, record) shared by all parties of a system."""

    __slots__ = ("append", "party", "records")

    def __init__(self, party: str, records: list[tuple[str, Record]]) -> None:
        self.party = party
        self.records = records
        add = records.append
        self.append: Callable[[Record], None] = lambda record: add((party, record))

    def flush(self) -> None:
        """Nothing waits."""


class SimMachine:
    """``device.Machine`` of a simulated guest: what ends or stops it ends or stops its kernel."""

    pid = 0

    def __init__(self, guest: SimGuest) -> None:
        self._guest = guest

    def spin(self) -> None:
        """No task of this guest runs any more; it lives on until it is killed."""
        self.halt()

    def exit(self, status: int) -> None:
        """The process ends."""
        self._guest.end(status << 8)
        raise Halted("exit")

    def panic(self, text: str) -> None:
        """Say so, report SHUTDOWN_crash, stand still."""
        kernel = self._guest.kernel
        kernel.printk(EMERG, f"Kernel panic - not syncing: {text}")
        self._guest.domu.rpc.post("shutdown", CRASH)
        self.halt()

    def halt(self) -> None:
        """Nothing of this guest runs any more."""
        self._guest.halt()
        raise Halted("stands still")

    def start_program(self, words: Sequence[str], folder: str) -> ProgramProcess:
        """A real process, which ends with the guest's kernel. Raises ProgramGoneError."""
        program = ProgramProcess(words, folder, own_group=True)
        self._guest.kernel.at_close.append(program.close)
        return program


class SimGuest:
    """One simulated guest process."""

    def __init__(self, system: SimParts, pid: int, domid: int, token: str, name: str) -> None:
        self.system = system
        self.pid = pid
        self.ended = False
        self.halted = False
        self.on_death: Callable[[int, int], None] = lambda pid, status: None
        self.endpoints = SimEndpoints(system.board, name)
        self.kernel = system.make_kernel(name, panic_on_oops=False)
        link = system.connect_hypervisor(f"{name}.{domid}")
        self.endpoints.links.append(link)
        self.domu = system.domu_of(name)(self.kernel, link, self.endpoints, SimMachine(self), token)
        self.domu.rpc.on_close = self._lost

    def freeze(self, *, on: bool) -> None:
        """Stop the guest where it is, or let it go on: neither its tasks nor its interrupts run meanwhile."""
        if self.ended or self.halted:
            return
        if on:
            self.system.world.drop(self.kernel)
        for link in self.endpoints.links:
            link.hold(on=on)
        if not on:
            self.system.world.adopt(self.kernel)

    def halt(self) -> None:
        """Stop the guest where it is for good; only its end is left."""
        self.freeze(on=True)
        self.halted = True

    def _lost(self, reason: str) -> None:
        """The hypervisor stub is gone, or has cut this guest off: the process ends by itself."""
        self.kernel.trace("party.lost", "hypervisor", reason)
        self.system.world.at(self.system.world.now(), self._leave)

    def _leave(self) -> None:
        if not self.ended:
            self.kernel.trace("party.end", self.kernel.name, LOST)
            self.end(LOST << 8)

    def end(self, status: int) -> None:
        """The process is gone; its parent hears of it a moment later."""
        if self.ended:
            return
        self.ended = True
        self.system.world.drop(self.kernel)
        self.kernel.close()
        self.endpoints.close_all()
        arrival = self.system.world.now() + DEATH_NS
        self.system.world.at(arrival, lambda: self.on_death(self.pid, status), (self.kernel.name, "death"))


class SimRunner:
    """``hypervisor_stub.supervisor.GuestRunner``: guests are kernels of the same world."""

    def __init__(self, system: SimParts, kernel: Kernel) -> None:
        self.system = system
        self.kernel = kernel
        self.on_death: Callable[[int, int], None] = lambda pid, status: None
        self._guests: dict[int, SimGuest] = {}

    async def start(self, domid: int, token: str, name: str) -> int:
        """Begin a guest after the time that a fork takes."""
        await self.kernel.sleep(FORK_NS)
        pid = self.system.next_pid()
        guest = self._guests[pid] = self.system.guests[name] = SimGuest(self.system, pid, domid, token, name)
        guest.on_death = lambda pid, status: self.on_death(pid, status)
        return pid

    def kill(self, pid: int) -> None:
        """SIGKILL, which a paused or spinning guest obeys too."""
        self._guests[pid].end(SIGKILL)

    def pause(self, pid: int, *, on: bool) -> None:
        """SIGSTOP takes the kernel out of the world, SIGCONT puts it back."""
        self._guests[pid].freeze(on=on)


class SimParts:
    """What the simulated parties share: world, addresses, journal, and the way to the hypervisor stub."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.board = Switchboard(self.world)
        self.records: list[tuple[str, Record]] = []
        self.kernels: list[Kernel] = []
        self.accept: Callable[[SimLink], None] = lambda link: None
        self.domu_of: Callable[[str], type[DomU]] = lambda name: DomU  # a scenario may have guests without manners
        self.guests: dict[str, SimGuest] = {}  # the last incarnation of each
        self._every: dict[str, Callable[[Kernel], None]] = {}  # what is done to each kernel, also to later ones
        self._pid = 1000

    def make_kernel(self, name: str, *, panic_on_oops: bool = True) -> Kernel:
        """A kernel of this world that writes to the common journal."""
        kernel = Kernel(name, self.world, MemoryJournal(name, self.records), panic_on_oops=panic_on_oops)
        self.world.adopt(kernel)
        self.kernels.append(kernel)
        for prepare in self._every.values():
            prepare(kernel)
        return kernel

    def each_kernel(self, name: str, prepare: Callable[[Kernel], None] | None) -> None:
        """Do something to every kernel, now and when one is made; None ends what ``name`` began."""
        self._every.pop(name, None)
        if prepare is not None:
            self._every[name] = prepare
            for kernel in self.kernels:
                prepare(kernel)

    def connect_hypervisor(self, name: str) -> SimLink:
        """A connection of a party to the stub."""
        here, there = pair(self.world, f"party/{name}")
        here.party, there.party = party_of(name.partition(".")[0]), "hypervisor"
        self.accept(there)
        return here

    def next_pid(self) -> int:
        """Process ids count up."""
        self._pid += 1
        return self._pid
