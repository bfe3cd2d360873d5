"""pciback and one pcifront on one page, without xenbus, toolstack and hardware: small enough to try every order.

The code is the real one: ``ask`` and the configuration worker on one side, ``do_pci_op`` and the AER service on the
other. Only the device is made up. ``PROGRAMS`` are interleavings of xen-pci.md 7.5 that concern the page alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

from dom0_pciback.pciback.ask import Budget, ask
from dom0_pciback.pciback.backend import XenPcibkDevice
from dom0_pciback.pciback.ops import OpWorker
from dom0_pciback.pciback.profile import Defect, Profile
from dom0_pciback.pciback.vpci import Vpci
from domu_pcifront.aer_service import AerService
from domu_pcifront.driver import PciDriver
from domu_pcifront.event_channel import EventChannel
from domu_pcifront.pci_op import PciOps
from kernel_stub.kernel import MS
from kernel_stub.refusals import Refusals
from kernel_stub.sync import WaitQueue
from protocol.channel import Channel
from protocol.ers import ChannelState, ErsResult, Phase
from protocol.ids import Sbdf
from protocol.sharedinfo import PCIB_ACTIVE, PCIB_AERHANDLER, PCIF_ACTIVE, SharedPage
from protocol.topology import TimingSpec
from xenaer.simulation.arena import Arena, EndlessError
from xenaer.simulation.explore import Pick, Redundant

CARDS = (Sbdf(0, 1, 0, 0), Sbdf(0, 1, 0, 1))
GUEST = 1
GRACE = 30_000 * MS
TIMING = TimingSpec()
VALUE = 0x5A000000  # a register says its own offset, so that no answer passes for another's
ANSWERS = {Phase.ERROR_DETECTED: 2, Phase.MMIO_ENABLED: 5, Phase.SLOT_RESET: 5, Phase.RESUME: 1}


class Registers:
    """Configuration space in which each register holds its offset."""

    def read(self, offset: int, size: int) -> tuple[int, int]:
        """As ``ConfSpace.read``."""
        return 0, VALUE | offset


CONF = Registers()
VBUS = Vpci()
for _sbdf in CARDS:
    VBUS.add(_sbdf)
DEVS = tuple(
    SimpleNamespace(sbdf=sbdf, name=str(sbdf), prefix=f"pciback {sbdf}: ", disconnected=False) for sbdf in CARDS
)
NOBODY = SimpleNamespace(name="0000:00:00.0", printk=lambda *args: None, trace=lambda *args: None)


class Handlers(PciDriver):
    """The guest's driver: answers what it should, and remembers that it was asked."""

    def __init__(self, duo: Duo) -> None:
        self.duo = duo
        self.dev = cast(Any, NOBODY)
        self.no_err_handler = False

    async def _answer(self, phase: Phase) -> int:
        duo = self.duo
        duo.called.append(phase)
        if duo.inside:
            await duo.read(duo.inside)
        if duo.slow_ns:
            await duo.guest.sleep(duo.slow_ns)
        return ANSWERS[phase]

    async def error_detected(self, state: ChannelState) -> int:
        """CAN_RECOVER."""
        return await self._answer(Phase.ERROR_DETECTED)

    async def mmio_enabled(self) -> int:
        """RECOVERED."""
        return await self._answer(Phase.MMIO_ENABLED)

    async def resume(self) -> None:
        """The last phase."""
        await self._answer(Phase.RESUME)


class Duo:
    """Both ends, connected; a program spawns tasks on ``dom0`` and ``guest``."""

    def __init__(self, profile: Profile, *, racing: frozenset[str], timing: TimingSpec = TIMING) -> None:
        self.profile = profile
        self.arena = Arena(racing=racing)
        self.dom0, self.guest = self.arena.kernel("dom0"), self.arena.kernel("guest")
        here, there = self.arena.pair("dom0", "guest")
        page, copy = SharedPage(), SharedPage()
        page.data[0] = copy.data[0] = 1 << PCIB_AERHANDLER
        self._make_back(Channel(here, page, crossing=profile.has(Defect.D10)))
        self._make_front(Channel(there, copy, crossing=profile.has(Defect.D6)), timing)
        self.called: list[Phase] = []  # handlers that ran
        self.answers: list[tuple[Phase, str, int]] = []  # what pciback took for answers
        self.replies: list[tuple[int, int, int]] = []  # offset, error, value of configuration reads
        self.inside = 0  # offset that each handler reads
        self.slow_ns = 0  # how long each handler sleeps

    def _make_back(self, channel: Channel) -> None:
        kernel = self.dom0
        outside = SimpleNamespace(
            kernel=kernel, xenbus=None, profile=self.profile, progress=WaitQueue(kernel, "progress"),
            may_connect=lambda domid: True, guest_name=lambda domid: "guest", refusals=Refusals(kernel),
            superseded=lambda dev: False,
        )  # fmt: skip
        pdev = self.pdev = XenPcibkDevice(cast(Any, outside), GUEST, VBUS)
        self.psdevs = {
            dev.sbdf: SimpleNamespace(dev=dev, conf=CONF, detaching=False, young_since=None, pdev=pdev) for dev in DEVS
        }
        pdev.channel = self.back = channel
        pdev.worker = OpWorker(kernel, channel, self._lookup, "guest", serve_abandoned=self.profile.has(Defect.D6))
        pdev.aer_handler = True

    def _lookup(self, domain: int, bus: int, devfn: int) -> Any:
        sbdf = VBUS.lookup(domain, bus, devfn)
        return None if sbdf is None else self.psdevs[sbdf]

    def _make_front(self, channel: Channel, timing: TimingSpec) -> None:
        kernel, driver = self.guest, Handlers(self)
        self.front = channel
        events = EventChannel(kernel, channel, lambda: None)
        late = self.profile.has(Defect.D10)
        self.service = AerService(kernel, channel, lambda number: driver, answer_late=late)
        events.handler = self.service.schedule
        recheck = not self.profile.has(Defect.D7)
        self.ops = PciOps(kernel, channel, events, timing, self.service.schedule, recheck_on_timeout=recheck)

    # -- what programs are made of ---------------------------------------------------------------
    async def read(self, *offsets: int) -> None:
        """The guest reads registers, one after the other."""
        for offset in offsets:
            err, value = await self.ops.do_pci_op(0, 0, offset, 4)
            self.replies.append((offset, err, value))

    async def ask(self, card: int, *phases: Phase, budget_ns: int = 300_000 * MS) -> None:
        """pciback puts phases to the guest, each with a time of its own."""
        psdev = cast(Any, self.psdevs[CARDS[card]])
        for phase in phases:
            situation, answer = await ask(psdev, phase, ChannelState.NORMAL, Budget(budget_ns), GRACE)
            self.answers.append((phase, situation, answer))

    def back_task(self, coro: Awaitable[None], name: str) -> None:
        """A task of dom0."""
        self.dom0.spawn(cast(Any, coro), name)

    def front_task(self, coro: Awaitable[None], name: str) -> None:
        """A task of the guest."""
        self.guest.spawn(cast(Any, coro), name)

    # -- what must hold ----------------------------------------------------------------------------
    def violations(self) -> Iterable[str]:
        """What is wrong now that nothing happens any more."""
        for kernel in (self.dom0, self.guest):
            for task in kernel.tasks:
                yield f"lost wake-up: {kernel.name}'s {task.name} waits for {task.waiting_on}"
        if self.front.page.data[0] & (1 << PCIB_ACTIVE | 1 << PCIF_ACTIVE):
            yield "a flag stays set"
        yield from self._answers_of_other_phases()
        for offset, err, value in self.replies:
            if err == 0 and value != VALUE | offset:
                yield "a config operation has the answer of another one"

    def _answers_of_other_phases(self) -> Iterable[str]:
        """Each answer that was taken belongs to a call of that phase's handler (D10)."""
        called = list(self.called)
        for phase, situation, answer in self.answers:
            if situation == "timeout" and "dom0" not in self.arena.racing:
                yield "lost wake-up: a request of pciback is never served"
            if not situation.startswith("answer-"):
                continue
            if phase not in called or answer not in (ANSWERS[phase], ErsResult.NONE):
                yield "answer taken for the wrong phase"
            else:
                called.remove(phase)


Program = Callable[[Duo], None]
ED, MM, RS = Phase.ERROR_DETECTED, Phase.MMIO_ENABLED, Phase.RESUME


def play(program: Program, profile: Profile, pick: Pick, **options: Any) -> list[str]:
    """One order of a program: what is wrong at its end."""
    duo = Duo(profile, **options)
    program(duo)
    try:
        duo.arena.run(pick)
    except EndlessError:
        return ["endless: the parties keep one another busy for ever"]
    except Redundant:
        duo.arena.close()
        raise
    return list(dict.fromkeys(duo.violations()))
