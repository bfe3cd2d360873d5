"""Both ends of the split driver on one page: pcifront's parts against pciback's, each on its own kernel.

The device is a real function of emulated hardware, seized by a real ``PcistubDevice``; the messages between
the two ends are the bytes of the real codec. Xenbus is left out: the connection stands from the beginning.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pciback.ask import Answer, Budget, ask
from dom0_pciback.pciback.backend import XenPcibkDevice
from dom0_pciback.pciback.ops import OpWorker
from dom0_pciback.pciback.profile import make_profile
from dom0_pciback.pciback.stub import PcistubDevice
from dom0_pciback.pciback.vpci import Vpci
from dom0_pciback.pcie.hierarchy import Hierarchy
from domu_pcifront.aer_service import AerService
from domu_pcifront.driver import PciDriver
from domu_pcifront.event_channel import EventChannel
from domu_pcifront.pci_op import PciOps
from kernel_stub.kernel import MS
from kernel_stub.refusals import Refusals
from kernel_stub.sync import WaitQueue
from protocol.channel import Channel
from protocol.codec import decode_channel
from protocol.ers import ChannelState, ErsResult, Phase
from protocol.ids import Sbdf
from protocol.sharedinfo import PCIB_AERHANDLER, SharedPage
from protocol.topology import FunctionSpec, HostSpec, TimingSpec
from tests.kernel_stub.world import World

CARD, CARD_1 = Sbdf(0, 1, 0, 0), Sbdf(0, 1, 0, 1)
DEVFN = 0x00  # of CARD in the guest
GUEST = 7
ID = 0x10411AF4
GRACE = 30_000 * MS


def functions() -> list[FunctionSpec]:
    port = FunctionSpec("0000:00:01.0", "root_port", secondary=1, subordinate=1)
    return [port, *(FunctionSpec(str(sbdf), "endpoint", port.bdf) for sbdf in (CARD, CARD_1))]


class Answering(PciDriver):
    """Answers as ``votes`` says and writes down what it is asked; ``sleep_ms`` before each answer."""

    name = "answering"

    def __init__(self, votes: dict[Phase, Any] | None = None) -> None:
        self.votes = {Phase.ERROR_DETECTED: 2, Phase.MMIO_ENABLED: 5, Phase.SLOT_RESET: 5} | (votes or {})
        self.calls: list[str] = []
        self.sleep_ms = 0.0
        self.missing: set[Phase] = set()
        self.inside: Any = None  # what else to do in each handler
        self.no_err_handler = False
        self.dev = cast(Any, None)

    def handler(self, phase: Phase) -> Any:
        return None if phase in self.missing else super().handler(phase)

    async def _answer(self, phase: Phase, *args: Any) -> Any:
        self.calls.append(f"{phase}({', '.join(str(int(arg)) for arg in args)})")
        if self.sleep_ms:
            await self.dev.kernel.sleep(int(self.sleep_ms * MS))
        if self.inside is not None:
            await self.inside()
        vote = self.votes.get(phase)
        if isinstance(vote, Exception):
            raise vote
        return vote

    async def error_detected(self, state: ChannelState) -> Any:
        return await self._answer(Phase.ERROR_DETECTED, state)

    async def mmio_enabled(self) -> Any:
        return await self._answer(Phase.MMIO_ENABLED)

    async def slot_reset(self) -> Any:
        return await self._answer(Phase.SLOT_RESET)

    async def resume(self) -> None:
        await self._answer(Phase.RESUME)


class Frontend:
    """pcifront without xenbus: channel, poll, configuration operations, AER service."""

    def __init__(self, pair: Pair, link: Any, page: SharedPage, timing: TimingSpec, **options: bool) -> None:
        self.kernel = pair.world.kernel("guest1", panic_on_oops=False)
        self.link = link
        self.page = page
        self.drivers: dict[int, PciDriver] = {}
        self.channel = Channel(link, page)
        self.events = EventChannel(self.kernel, self.channel, lambda: None)
        call_missing = options.pop("call_missing", False)
        self.service = AerService(self.kernel, self.channel, self.drivers.get, call_missing=call_missing)
        self.events.handler = self.service.schedule
        self.ops = PciOps(self.kernel, self.channel, self.events, timing, self.service.schedule, **options)
        self.channel.on_close = lambda reason: self.events.wake()

    def bind(self, devfn: int, driver: Answering) -> Answering:
        prefix = f"0000:00:{devfn >> 3:02x}.{devfn & 7}"
        notes = SimpleNamespace(
            name=prefix, kernel=self.kernel, printk=self.kernel.printk,
            trace=lambda label, *fields: self.kernel.trace(label, prefix, *fields),
        )  # fmt: skip
        driver.dev = cast(Any, notes)
        self.drivers[devfn] = driver
        return driver


class Pair:
    """World, hardware, backend end, frontend end. ``profile`` and defects are the backend's."""

    def __init__(
        self, *defects: str, profile: str = "hardened", timing: TimingSpec | None = None, **front: bool
    ) -> None:
        self.world = World()
        timing = timing or TimingSpec()
        self.hierarchy = Hierarchy(HostSpec("test", functions(), []), self.world.clock)
        self.dom0 = self.world.kernel("dom0")
        self.core = PciCore(self.dom0, self.hierarchy, timing)
        page = SharedPage()
        page.set_bit(PCIB_AERHANDLER)
        page.pending.clear()
        left, right = self.world.pair(decode_channel)
        self.link = right
        self.front = Frontend(self, left, page, timing, **front)
        self.slots = {sbdf: self._seize(sbdf, number) for number, sbdf in enumerate((CARD, CARD_1))}
        self.pdev = self._make_pdev(make_profile(profile, defects))
        self.connect(right, SharedPage(bytes(page.data)))

    def _seize(self, sbdf: Sbdf, number: int) -> PcistubDevice:
        return PcistubDevice(self.core, self.core.devices[sbdf], number, hardened=True)

    def _make_pdev(self, profile: Any) -> XenPcibkDevice:
        pciback = SimpleNamespace(
            kernel=self.dom0, xenbus=None, profile=profile, may_connect=lambda domid: True, slots=self.slots,
            progress=WaitQueue(self.dom0, "progress"), guest_name=lambda domid: "guest1",
            refusals=Refusals(self.dom0), owns=lambda sbdf, domid: True, superseded=lambda dev: False,
        )  # fmt: skip
        pdev = XenPcibkDevice(cast(Any, pciback), GUEST, Vpci())
        for sbdf, psdev in self.slots.items():
            pdev.vbus.add(sbdf)
            pdev.exported[sbdf] = psdev
            psdev.pdev = pdev
        return pdev

    def connect(self, link: Any, page: SharedPage) -> None:
        """What B4 does with the page, without xenbus."""
        pdev = self.pdev
        self.channel = pdev.channel = Channel(link, page)
        pdev.aer_handler = page.test_bit(PCIB_AERHANDLER)
        self.worker = pdev.worker = OpWorker(self.dom0, self.channel, pdev._lookup, pdev.name)
        self.events = self.worker.events
        self.events.on_spurious = lambda: pdev.share.spurious(self.channel)
        self.channel.on_close = pdev._channel_lost

    @property
    def psdev(self) -> PcistubDevice:
        return self.slots[CARD]

    # -- what tests do -------------------------------------------------------------------------
    def budget(self, ms: int = 300_000) -> Budget:
        return Budget(ms * MS)

    def asking(
        self, phase: Phase = Phase.ERROR_DETECTED, state: ChannelState = ChannelState.NORMAL,
        *, sbdf: Sbdf = CARD, budget: Budget | None = None, grace: int = GRACE,
    ) -> Any:  # fmt: skip
        """Start a question; the task's result is ``(situation, answer)``."""
        psdev = self.slots[sbdf]
        return self.dom0.spawn(ask(psdev, phase, state, budget or self.budget(), grace), f"ask {phase}")

    def ask(
        self, phase: Phase = Phase.ERROR_DETECTED, state: ChannelState = ChannelState.NORMAL, **more: Any
    ) -> Answer:
        """Ask, and let time pass until there is an answer."""
        task = self.asking(phase, state, **more)
        answer: Answer = self.world.run(self.dom0.join(task), self.dom0)
        return answer

    def recover(self, *phases: Phase, state: ChannelState = ChannelState.NORMAL) -> list[int]:
        """The answers to several phases, the first with ``state``, the others with NORMAL (BE-13)."""
        states = [state, *[ChannelState.NORMAL] * (len(phases) - 1)]
        return [self.ask(phase, state)[1] for phase, state in zip(phases, states, strict=True)]

    def op(self, cmd: int, *args: int) -> tuple[int, int]:
        """One request of the guest through its own ``do_pci_op``."""
        result: tuple[int, int] = self.world.run(self.front.ops.do_pci_op(cast(Any, cmd), *args), self.front.kernel)
        return result

    def read(self, offset: int = 0, size: int = 4, devfn: int = DEVFN) -> int:
        value: int = self.world.run(self.front.ops.read(devfn, offset, size), self.front.kernel)
        return value

    def rest(self) -> None:
        """Nothing is on its way any more: both copies of the page say the same, and every event has its EOI."""
        self.world.settle(2_000)
        assert self.front.page.data == self.channel.page.data
        assert not self.events.eoi_pending
        assert not self.events.op_pending
        assert not self.events.op_active

    def drop(self) -> None:
        """Lose the messages that are on their way."""
        self.world.wire.clear()


class Hostile:
    """A frontend without manners: does to its copy of the page what it likes and rings when it likes."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.channel = pair.front.channel
        self.page = pair.front.page
        self.events = 0
        self.channel.on_event = self._event

    def _event(self) -> None:
        self.events += 1

    def request(self, *op: int, notify: bool = True) -> None:
        self.page.write_op(op)
        self.page.set_bit(0)
        if notify:
            self.channel.notify()
        else:
            self.channel.flush()

    def answer(self, value: int | None = None) -> None:
        """Clear the AER flag, with or without writing a result, and ring."""
        if value is not None:
            self.page.write_aer_err(value)
        self.page.clear_bit(2)
        self.channel.notify()

    def ring(self, count: int = 1) -> None:
        for _ in range(count):
            self.channel.notify()
            self.pair.world.settle()


NONE, VALID = int(ErsResult.NONE), (2, 3, 5)
