"""A whole host in one thread: the real stub, dom0 and supervisors; guests are real ones or scripted frontends.

Every message goes through the codec of its border. Time passes only when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dom0_pciback.dom0 import Dom0
from domu_pcifront.domu import DomU
from hypervisor_stub.hypervisor import Hypervisor
from hypervisor_stub.supervisor import Supervisor
from kernel_stub.kernel import MS, Kernel
from kernel_stub.rpc import Rpc, RpcError
from protocol.channel import Channel
from protocol.codec import Decoder, decode_channel
from protocol.ids import Sbdf
from protocol.messages import DEVBUS, TO_CONTROL, TO_DOM0, TO_DOMU, TO_HYPERVISOR, TO_SUPERVISOR
from protocol.sharedinfo import PCIB_AERHANDLER, SharedPage
from protocol.topology import AssignmentSpec, FunctionSpec, GuestDriverSpec, GuestSpec, HostSpec, TimingSpec
from protocol.xenbus import backend_dir, frontend_dir
from tests.kernel_stub.world import FakeMachine, WireLink, World

CARD, CARD_1, SPARE = "0000:01:00.0", "0000:01:00.1", "0000:02:00.0"
DECODERS = {"channel": decode_channel, "devbus": Decoder(DEVBUS).decode}


def endpoint(bdf: str, parent: str, **more: Any) -> FunctionSpec:
    return FunctionSpec(bdf, "endpoint", parent, **more)


def root_port(bdf: str, bus: int) -> FunctionSpec:
    return FunctionSpec(bdf, "root_port", secondary=bus, subordinate=bus, dom0_driver="pcieport")


def assign(bdf: str, driver: str = "scripted", **options: Any) -> AssignmentSpec:
    return AssignmentSpec(bdf, GuestDriverSpec(driver, options))


def make_host(*devices: str, guests: list[GuestSpec] | None = None, **options: Any) -> HostSpec:
    """Two root ports; a card of two functions below the first, one function below the second."""
    functions = [
        root_port("0000:00:01.0", 1),
        endpoint(CARD, "0000:00:01.0", model="nic"),
        endpoint(CARD_1, "0000:00:01.0"),
        root_port("0000:00:02.0", 2),
        endpoint(SPARE, "0000:00:02.0"),
    ]
    if guests is None:
        guests = [GuestSpec("guest1", devices=[assign(bdf) for bdf in devices or (CARD,)])]
    options.setdefault("timing", TimingSpec(aer_budget_ms=5_000, connect_grace_ms=1_000))
    return HostSpec("test", functions, guests, **options)


class Board:
    """Addresses that somebody listens on."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.waiting: dict[str, WireLink] = {}
        self.connected: list[str] = []
        self.serial = 0

    def listen(self, kind: str, name: str) -> tuple[str, WireLink]:
        self.serial += 1
        here, there = self.world.pair(DECODERS[kind])
        address = f"test://{kind}-{name}-{self.serial}"
        self.waiting[address] = there
        return address, here

    def admit(self, name: str, key: str) -> None: ...

    def connect(self, kind: str, address: str) -> WireLink:
        self.connected.append(address)
        link = self.waiting.pop(address, None)
        return link if link is not None else WireLink(self.world, DECODERS[kind])


class RealGuest:
    """One incarnation of the real ``DomU``."""

    def __init__(self, host: Host, domid: int, token: str, name: str) -> None:
        self.domid = domid
        self.kernel = host.world.kernel(name, panic_on_oops=False)
        self.machine = FakeMachine()
        self.link = host.party(TO_DOMU)
        self.domu = DomU(self.kernel, self.link, host.board, self.machine, token)

    def links(self) -> list[Any]:
        front = self.domu.pcifront
        return [self.link, *([front.ops.channel] if front is not None and front.ops is not None else [])]


class ScriptedGuest:
    """A frontend that does what a test says, through the same door as a real one."""

    def __init__(self, host: Host, domid: int, token: str, name: str) -> None:
        self.host = host
        self.domid = domid
        self.kernel = host.world.kernel(name, panic_on_oops=False)
        self.link = host.party(TO_DOMU)
        self.rpc = Rpc(self.kernel, self.link, "hypervisor")
        self.opened: dict[int, str] = {}
        self.rpc.events["evtchn_open"] = self.opened.__setitem__
        self.devbus_addresses: list[str] = []
        self.rpc.events["devbus_open"] = self.devbus_addresses.append
        self.page = SharedPage()
        self.channel: Channel | None = None
        self.devbus: Rpc | None = None
        self.kernel.spawn(self.rpc.call("hello", "domu", token), "hello")

    def links(self) -> list[Any]:
        return [self.link, *([self.channel] if self.channel else []), *([self.devbus.link] if self.devbus else [])]

    def call(self, op: str, *args: Any) -> Any:
        return self.host.world.run(self.rpc.call(op, *args), self.kernel)

    def write(self, name: str, value: str | bytes) -> None:
        """Write a node of the frontend's directory; then everybody reacts."""
        raw = value.encode("latin-1") if isinstance(value, str) else value
        self.call("xs_write", 0, f"{frontend_dir(self.domid)}/{name}", raw)
        self.host.world.settle(5)

    def state(self, value: object) -> None:
        self.write("state", str(value))

    def offer(self, **nodes: Any) -> None:
        """F1: page, port and magic, each of which may be given; None leaves the node out. Then state 3."""
        self.page.set_bit(PCIB_AERHANDLER)
        self.page.pending.clear()
        if "gref" not in nodes:
            nodes["gref"] = self.call("grant", 0, False, bytes(self.page.data))
        if "port" not in nodes:
            nodes["port"] = self.call("evtchn_alloc", 0)
        nodes.setdefault("magic", "7")
        for name, key in (("pci-op-ref", "gref"), ("event-channel", "port"), ("magic", "magic")):
            if nodes[key] is not None:
                value = nodes[key]
                self.write(name, value if isinstance(value, bytes) else str(value))
        self.nodes = nodes
        self.state(3)

    def connect(self) -> Channel:
        """F1, F3: until both ends are Connected."""
        self.offer()
        address = self.opened[self.nodes["port"]]
        self.channel = Channel(self.host.board.connect("channel", address), self.page)
        self.state(4)
        return self.channel

    def open_devbus(self) -> Rpc:
        link = self.host.board.connect("devbus", self.devbus_addresses[-1])
        self.devbus = Rpc(self.kernel, link, "device bus")
        return self.devbus


Guest = RealGuest | ScriptedGuest


class Runner:
    """``hypervisor_stub.supervisor.GuestRunner`` in this thread."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.on_death: Callable[[int, int], None] = lambda pid, status: None
        self.guests: dict[int, Guest] = {}

    async def start(self, domid: int, token: str, name: str) -> int:
        pid = 1000 + domid
        make = RealGuest if self.host.real else ScriptedGuest
        self.guests[pid] = self.host.guests[name] = make(self.host, domid, token, name)
        return pid

    def kill(self, pid: int) -> None:
        self.end(pid, 9)

    def end(self, pid: int, status: int) -> None:
        guest = self.guests.pop(pid, None)
        if guest is None:
            return
        self.host.world.kernels.remove(guest.kernel)
        for link in guest.links():
            link.close()
        self.on_death(pid, status)

    def pause(self, pid: int, *, on: bool) -> None:
        guest = self.guests[pid]
        if on:
            self.host.world.kernels.remove(guest.kernel)
        else:
            self.host.world.kernels.append(guest.kernel)


class Host:
    """``real``: guests are ``DomU``; otherwise ``ScriptedGuest``."""

    def __init__(self, spec: HostSpec | None = None, *, real: bool = False, boot: bool = True) -> None:
        self.spec = spec or make_host()
        self.real = real
        self.world = World()
        self.board = Board(self.world)
        self.guests: dict[str, Any] = {}
        self.runners: dict[str, Runner] = {}
        self._tokens = 0
        self.kernel = self.world.kernel("hypervisor")
        self.hypervisor = Hypervisor(self.kernel, self.spec, self._token)
        dom0 = self.world.kernel("dom0")
        self.dom0 = Dom0(dom0, self.world.clock, self.party(TO_DOM0), self.board)
        for guest in self.spec.guests:
            self._supervisor(guest.name)
        if boot:
            self.ctl("hypervisor", "boot")
            self.world.settle(50)

    def _token(self) -> str:
        self._tokens += 1
        return f"token-{self._tokens}"

    def party(self, table: dict[str, tuple[Any, ...]]) -> WireLink:
        """A connection of a party to the stub; ``table`` is what the party understands."""
        mine, theirs = self.world.pair(Decoder(table).decode, Decoder(TO_HYPERVISOR).decode)
        self.hypervisor.accept(theirs)
        return mine

    def _supervisor(self, name: str) -> None:
        runner = self.runners[name] = Runner(self)
        kernel = self.world.kernel(f"supervisor-{name}")
        Supervisor(kernel, self.party(TO_SUPERVISOR), runner, name)

    @property
    def guest(self) -> Any:
        return self.guests["guest1"]

    @property
    def pdev(self) -> Any:
        return self.dom0.pciback.guests[self.guest.domid]

    @property
    def dom0_kernel(self) -> Kernel:
        return self.dom0.kernel

    def psdev(self, bdf: str = CARD) -> Any:
        return self.dom0.pciback.slots[Sbdf.parse(bdf)]

    def ctl(self, target: str, verb: str, *args: Any) -> Any:
        """A control request as the operator makes it: through the codec. Raises RpcError."""
        control = Rpc(self.world.main, self.party(TO_CONTROL), "hypervisor")
        self.world.run(control.call("hello", "control", ""))
        return self.world.run(control.call("ctl", target, verb, list(args)))

    def dom0_call(self, op: str, *args: Any) -> Any:
        """What the stub asks of dom0."""
        return self.world.run(self.hypervisor.machine.ask_dom0(op, *args), self.kernel)

    def xl(self, line: str) -> tuple[int, str, str]:
        code, out, err = self.ctl("hypervisor", "xl", *line.split())
        self.world.settle(50)
        return code, out, err

    def read(self, path: str) -> str | None:
        value: str | None = self.hypervisor.machine.xs.read(path)
        return value

    def write(self, path: str, value: object) -> None:
        """The toolstack writes behind everybody's back."""
        self.hypervisor.machine.xs.write(path, str(value))
        self.world.settle(5)

    def be(self, name: str, domid: int | None = None) -> str | None:
        return self.read(f"{backend_dir(self.guest.domid if domid is None else domid)}/{name}")

    def fe(self, name: str) -> str | None:
        return self.read(f"{frontend_dir(self.guest.domid)}/{name}")

    def error(self) -> str | None:
        """The backend's error node."""
        return self.read(f"/local/domain/0/error/backend/pci/{self.guest.domid}/0/error")

    def settle(self, ms: float = 5) -> None:
        self.world.settle(ms)

    def fails(self, *request: Any) -> str:
        """The text with which a control request is refused."""
        try:
            self.ctl(*request)
        except RpcError as error:
            return str(error)
        raise AssertionError(f"{request} was accepted")

    @property
    def log(self) -> list[str]:
        return self.world.log


def connected(*devices: str, **options: Any) -> Host:
    """A host whose scripted guest is connected."""
    host = Host(make_host(*devices, **options))
    host.guest.connect()
    return host


__all__ = ["CARD", "CARD_1", "MS", "SPARE", "Host", "connected", "make_host"]
