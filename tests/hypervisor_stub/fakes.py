"""A whole host around the hypervisor stub: scripted dom0, supervisors and guests on links without sockets.

Every message goes through the real codec, so a test also proves that both sides keep to the vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from hypervisor_stub.hypervisor import Hypervisor
from kernel_stub.kernel import MS, Kernel
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.sync import Work
from protocol.codec import Decoder, encode
from protocol.messages import TO_CONTROL, TO_DOM0, TO_DOMU, TO_HYPERVISOR, TO_SUPERVISOR
from protocol.ports import Message
from protocol.topology import GUEST, AssignmentSpec, FunctionSpec, GuestDriverSpec, GuestSpec, HostSpec, TimingSpec
from protocol.xenbus import BACKEND_ROOT, backend_dir, frontend_dir
from tests.kernel_stub.world import ListJournal, ManualClock

CARD = "0000:03:00.0"
CARD_1 = "0000:03:00.1"
SPARE = "0000:04:00.0"
VOCABULARY = {"dom0": TO_DOM0, "domu": TO_DOMU, "supervisor": TO_SUPERVISOR, "control": TO_CONTROL}


class FakeLink:
    """One end of a pair; messages wait in the queue of the world, first in, first out."""

    def __init__(self, wire: deque[tuple[FakeLink, bytes | None]], decoder: Decoder) -> None:
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_close: Callable[[str], None] = lambda reason: None
        self.peer: FakeLink | None = None
        self.open = True
        self._wire = wire
        self._decoder = decoder

    def send(self, message: Message) -> bool:
        if not self.open or self.peer is None:
            return False
        self._wire.append((self.peer, encode(message)))
        return True

    def pause(self, ns: int) -> None: ...

    def close(self) -> None:
        if self.open and self.peer is not None:
            self.open = False
            self._wire.append((self.peer, None))

    def deliver(self, raw: bytes | None) -> None:
        if not self.open:
            return
        if raw is None:
            self.open = False
            self.on_close("peer closed")
        else:
            self.on_message(self._decoder.decode(raw))


class World:
    """Clock, kernel, links, the stub, and the parties that connected to it."""

    def __init__(self, host: HostSpec | None = None, *, guests_answer: bool = True) -> None:
        self.clock = ManualClock()
        self.journal = ListJournal()
        self.kernel = Kernel("hypervisor", self.clock, self.journal)
        self.host = host or make_host()
        self.guests_answer = guests_answer
        self.wire: deque[tuple[FakeLink, bytes | None]] = deque()
        self._tokens = 0
        self.hypervisor = Hypervisor(self.kernel, self.host, self._token)
        self.dom0: FakeDom0
        self.supervisors: dict[str, FakeSupervisor] = {}
        self.control = Rpc(self.kernel, self.link("control"), "control")

    def _token(self) -> str:
        self._tokens += 1
        return f"token-{self._tokens}"

    def link(self, role: str) -> FakeLink:
        mine = FakeLink(self.wire, Decoder(VOCABULARY[role]))
        theirs = FakeLink(self.wire, Decoder(TO_HYPERVISOR))
        mine.peer, theirs.peer = theirs, mine
        self.hypervisor.accept(theirs)
        return mine

    def connect_all(self) -> World:
        self.dom0 = FakeDom0(self)
        self.run(self.dom0.start())
        for guest in self.host.guests:
            self.supervisors[guest.name] = FakeSupervisor(self, guest.name)
            self.run(self.supervisors[guest.name].start())
        self.run(self.control.call("hello", "control", ""))
        return self

    def booted(self) -> World:
        self.connect_all()
        self.ctl("boot")
        return self

    def settle(self, until: int | None = None) -> None:
        """Run until nothing is left to do; with ``until`` (ns) let time pass up to there."""
        while True:
            self.kernel.run()
            if self.wire:
                end, raw = self.wire.popleft()
                end.deliver(raw)
                continue
            timer = self.kernel.next_timer()
            if timer is None or until is None or timer > until:
                break
            self.clock.time = max(timer, self.clock.time)
        if until is not None:
            self.clock.time = max(until, self.clock.time)

    def pass_ms(self, ms: int) -> None:
        self.settle(self.clock.time + ms * MS)

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, letting as much time pass as it needs."""
        outcome: list[Any] = []

        async def body() -> None:
            try:
                outcome.append(await coro)
            except RpcError as error:
                outcome.append(error)

        self.kernel.spawn(body(), "test")
        while not outcome:
            self.settle()
            timer = self.kernel.next_timer()
            if not outcome and timer is not None:
                self.clock.time = max(timer, self.clock.time)
            assert outcome or timer is not None, "nothing can happen any more"
        self.settle()
        if isinstance(outcome[0], RpcError):
            raise outcome[0]
        return outcome[0]

    def ctl(self, verb: str, *args: Any, target: str = "hypervisor") -> Any:
        return self.run(self.control.call("ctl", target, verb, list(args)))

    def xl(self, line: str) -> tuple[int, str, str]:
        code, out, err = self.ctl("xl", *line.split())
        return code, out, err

    def traces(self, label: str) -> list[tuple[Any, ...]]:
        return [record[3:] for record in self.journal.records if record[2] == label]

    def read(self, path: str) -> str | None:
        return self.hypervisor.machine.xs.read(path)

    def steps(self, name: str = "guest1") -> list[str]:
        """Steps of the teardown of a domain, with the function for those of devices."""
        return [f"{step} {bdf}".strip() for subject, step, bdf, _ in self.traces("kill.step") if subject == name]

    @property
    def console(self) -> list[str]:
        return self.hypervisor.machine.console.lines()

    def guest(self, name: str = "guest1") -> FakeGuest:
        guest = self.supervisors[name].guest
        assert guest is not None
        return guest


class FakeDom0:
    """Hardware answers from a script (``broken_reset``, ``bad_check``), and a pciback that knows B1 to B13."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rpc = Rpc(world.kernel, world.link("dom0"), "hypervisor")
        self.calls: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.broken_reset: set[str] = set()
        self.bad_check: set[str] = set()
        self.not_ours: set[str] = set()
        self.drivers = {CARD: "pciback", CARD_1: "pciback", SPARE: "nvme"}
        self._watched: set[int] = set()
        self._xenwatch = Work(world.kernel, "xenwatch", self._look)
        answers: dict[str, Callable[..., Any]] = {
            "hw_assign": lambda bdf, domid: f"devbus-{domid}",
            "hw_deassign": self._deassign,
            "hw_block_dma": lambda bdf: None,
            "domain_withdrawn": lambda domid: None,
            "hw_reset": self._reset,
            "hw_restore": lambda bdf: None,
            "hw_check": lambda bdf: [
                bdf not in self.bad_check,
                "BARs read back as zero" if bdf in self.bad_check else "",
            ],
            "pci_slots": lambda: [[bdf, driver] for bdf, driver in self.drivers.items()],
            "pci_seize": self._seize,
            "pci_release": lambda bdf, driver: self.drivers.update({bdf: driver}),
            "pci_permissive": lambda bdf: None,
            "ctl": lambda verb, args: [verb, list(args)],
        }
        for op, answer in answers.items():
            self.rpc.handlers[op] = self._recorded(op, answer)
        for event in ("evtchn_closed", "domain_stopped", "stop"):
            self.rpc.events[event] = lambda *args, event=event: self.events.append((event, *args))
        self.rpc.events["xs_event"] = self._xs_event

    def _recorded(self, op: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        async def serve(*args: Any) -> Any:
            self.calls.append((op, *args))
            return answer(*args)

        return serve

    def _reset(self, bdf: str, siblings: tuple[str, ...]) -> list[Any]:
        broken = bdf in self.broken_reset
        return [not broken, "flr", "not ready 65535ms after FLR; giving up" if broken else ""]

    def _deassign(self, bdf: str) -> None:
        if bdf in self.not_ours:
            raise RpcError(f"{bdf} is not seized by pciback")

    def _seize(self, bdf: str) -> list[str]:
        if self.drivers[bdf] == "busy":
            raise RpcError(f"{bdf}: driver does not let go")
        had, self.drivers[bdf] = self.drivers[bdf], "pciback"
        return [had]

    def ops(self, *names: str) -> list[tuple[Any, ...]]:
        return [call[:2] for call in self.calls if call[0] in names]

    async def start(self) -> dict[str, Any]:
        result: dict[str, Any] = await self.rpc.call("hello", "dom0", "")
        await self.rpc.call("xs_watch", BACKEND_ROOT, "be")
        return result

    # -- a small pciback -----------------------------------------------------------------------
    def _xs_event(self, path: str, token: str) -> None:
        self._xenwatch.queue()

    async def read(self, path: str) -> str:
        try:
            return bytes(await self.rpc.call("xs_read", 0, path)).decode("latin-1")
        except RpcError:
            return ""

    async def write(self, path: str, value: object) -> None:
        await self.rpc.call("xs_write", 0, path, str(value).encode())

    async def aerfail(self, domid: int) -> None:
        await self.write(f"{backend_dir(domid)}/aerState", "aerfail")

    async def _look(self) -> None:
        try:
            domids = await self.rpc.call("xs_directory", 0, BACKEND_ROOT)
        except RpcError:
            return
        for domid in domids:
            await self._serve(int(domid))

    async def _serve(self, domid: int) -> None:
        be, fe = backend_dir(domid), frontend_dir(domid)
        if domid not in self._watched:
            self._watched.add(domid)
            await self.rpc.call("xs_watch", f"{fe}/state", f"fe-{domid}")
        state, front = await self.read(f"{be}/state"), await self.read(f"{fe}/state")
        if state in ("1", "3") or (state, front) == ("7", "7"):
            await self._export(be)
        new = {("3", "3"): "4", ("7", "7"): "8", ("8", "4"): "4"}.get((state, front))
        if state == "1" or new:
            await self.write(f"{be}/state", new or "3")

    async def _export(self, be: str) -> None:
        for number in range(int(await self.read(f"{be}/num_devs") or "0")):
            if await self.read(f"{be}/state-{number}") == "1":
                await self.write(f"{be}/vdev-{number}", f"0000:00:{number:02x}.00")
                await self.write(f"{be}/state-{number}", "3")
                await self.write(f"{be}/root-0", "0000:00")
                await self.write(f"{be}/root_num", "1")


class FakeSupervisor:
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.guest: FakeGuest | None = None
        self.signals: list[str] = []
        self.deaf = False
        self.pids = 1000
        self.rpc = Rpc(world.kernel, world.link("supervisor"), "hypervisor")
        self.rpc.handlers.update({"start": self._start, "pause": self._pause, "unpause": self._unpause})
        self.rpc.events["kill"] = self._kill
        self.rpc.events["stop"] = lambda: self.signals.append("stop")

    async def start(self) -> Any:
        return await self.rpc.call("hello", "supervisor", self.name)

    async def _start(self, domid: int, token: str, name: str) -> int:
        self.pids += 1
        self.guest = FakeGuest(self.world, domid, token)
        if self.world.guests_answer:
            self.world.kernel.spawn(self.guest.start(), f"guest {domid}")
        return self.pids

    async def _pause(self, domid: int) -> None:
        self.signals.append("pause")

    async def _unpause(self, domid: int) -> None:
        self.signals.append("unpause")

    def _kill(self, domid: int) -> None:
        self.signals.append("kill")
        if not self.deaf:
            self.die(domid, 9)

    def die(self, domid: int, status: int) -> None:
        assert self.guest is not None
        self.guest.rpc.link.close()
        self.rpc.post("died", domid, self.pids, status)


class FakeGuest:
    """A pcifront that knows F1 to F8; ``mute`` answers no state any more."""

    def __init__(self, world: World, domid: int, token: str) -> None:
        self.domid = domid
        self.token = token
        self.mute = False
        self.config: dict[str, Any] = {}
        self.log: list[tuple[Any, ...]] = []
        self._kernel = world.kernel
        self.rpc = Rpc(world.kernel, world.link("domu"), "hypervisor")
        self.rpc.handlers["ctl"] = self._ctl
        for event in ("evtchn_open", "evtchn_closed", "devbus_open"):
            self.rpc.events[event] = lambda *args, event=event: self.log.append((event, *args))
        self.rpc.events["xs_event"] = self._xs_event

    def _xs_event(self, path: str, token: str) -> None:
        self._kernel.spawn(self._backend(), "xenwatch")

    async def _ctl(self, verb: str, args: Any) -> list[Any]:
        return [self.domid, verb]

    async def start(self) -> None:
        self.config = await self.rpc.call("hello", "domu", self.token)
        self.log.append(("hello",))
        spec = GUEST.validate_json(self.config["guest"])
        if spec.type == "pv" and spec.front and spec.devices:
            await self._state("3")
            await self.rpc.call("xs_watch", f"{backend_dir(self.domid)}/state", "be")

    async def _state(self, value: str) -> None:
        await self.rpc.call("xs_write", 0, f"{frontend_dir(self.domid)}/state", value.encode())

    async def _backend(self) -> None:
        if self.mute or self.rpc.closed:
            return
        try:
            be = bytes(await self.rpc.call("xs_read", 0, f"{backend_dir(self.domid)}/state")).decode()
            fe = bytes(await self.rpc.call("xs_read", 0, f"{frontend_dir(self.domid)}/state")).decode()
            new = {("4", "3"): "4", ("7", "4"): "7", ("8", "7"): "4"}.get((be, fe))
            if new:
                await self._state(new)
        except RpcError:
            return


def assignment(bdf: str) -> AssignmentSpec:
    return AssignmentSpec(bdf, GuestDriverSpec("aerprobe"))


def make_guest(name: str = "guest1", devices: tuple[str, ...] = (CARD,), **options: Any) -> GuestSpec:
    return GuestSpec(name, devices=[assignment(bdf) for bdf in devices], **options)


def make_host(*guests: GuestSpec, **options: Any) -> HostSpec:
    port = FunctionSpec("0000:00:02.0", "root_port", secondary=3, subordinate=3)
    functions = [port, *(FunctionSpec(bdf, "endpoint", parent=port.bdf) for bdf in (CARD, CARD_1, SPARE))]
    options.setdefault("timing", TimingSpec())
    return HostSpec("test", functions, list(guests or (make_guest(),)), **options)
