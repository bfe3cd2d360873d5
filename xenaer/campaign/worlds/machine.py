"""A simulated system that is booted once and set back before each case, as long as nothing is left of the last one.

What a recovered fault leaves behind are registers, counters and limiters; they are put back (``simulation.image``).
Whatever leaves more (a guest that died, a node in XenStore, a task that still waits, a driver that was changed) ends
the machine, and the next case gets a fresh one. That this is enough is not believed: a share of all cases is played
again on a machine that was booted for it, and both journals must be equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from dom0_pciback.dom0 import Dom0
from dom0_pciback.pciback.backend import XenPcibkDevice
from domu_pcifront.bus import PROBE_FAILED
from kernel_stub.faulty_link import FaultyLink
from protocol.ports import Record
from protocol.topology import HostSpec
from xenaer.campaign.steps.later import owners_of
from xenaer.campaign.steps.play import Runner
from xenaer.campaign.steps.script import Script
from xenaer.campaign.steps.system import System
from xenaer.campaign.verdict.facts_read import state_after
from xenaer.campaign.verdict.ground import Ground
from xenaer.journal import Entry
from xenaer.simulation.image import (
    GuestImage,
    ObjectImage,
    device_image,
    function_image,
    restore_device,
    restore_function,
)
from xenaer.simulation.parties import SimGuest
from xenaer.simulation.system import SimSystem

REST_MS = 400_000.0  # after boot and set-up; the longest wait of all is that for a mute guest (H25)


class SetupError(Exception):
    """The guests did not connect, or a step before the faults failed; the text says which."""


def check_drivers(records: Iterable[tuple[str, Record]]) -> None:
    """A driver that does not start with its device is a mistake, and no fault to look at. Raises SetupError."""
    for party, record in records:
        if record[2] == "printk" and PROBE_FAILED in str(record[5]):
            raise SetupError(f"guest {party}: {record[5]}")


def prepare(system: System, setup: Script, on_records: Callable[[list[Entry]], None] | None = None) -> None:
    """Do the steps before the faults; ``on_records`` is given what they write. Raises SetupError."""
    runner = Runner(system, setup)
    runner.on_records = on_records
    if setup.steps and not runner.run():
        failed = next(result for result in runner.results if not result.good)
        raise SetupError(f"setup, step {failed.number} ({failed.name}): {failed.text}")


class SimMachine:
    """The system of ``setup.host``, booted, its guests connected, the steps of ``setup`` done."""

    def __init__(self, setup: Script) -> None:
        self.host: HostSpec = setup.host
        self.system = SimSystem(setup.host)
        self.used = False
        try:
            self._prepare(setup)
            self.system.advance(REST_MS)
        except BaseException:  # a driver that escapes, too
            self.close()
            raise
        dom0 = self.system.dom0
        assert dom0.hierarchy is not None
        self._functions = [function_image(function) for function in dom0.hierarchy.functions.values()]
        self._devices = [device_image(dev) for dev in dom0.core.devices.values()]
        seized = [each for psdev in dom0.pciback.slots.values() for each in (psdev, psdev.conf)]
        self._models = [ObjectImage(each) for each in (*dom0.bus.models.values(), *seized)]
        self._guests = [GuestImage(guest.domu) for guest in self.system.parts.guests.values() if not guest.ended]
        self.images = {str(image.function.sbdf): image.data for image in self._functions}
        self.ground = Ground(setup.host)
        self.owners = owners_of(self.system.ctl("hypervisor", "status", []))
        self.state = state_after(self.ground, self.system.raw_records())
        self._rest = self._state()
        self.begin_ns = 0

    def _prepare(self, setup: Script) -> None:
        found = self.system.ctl("hypervisor", "wait-ready", [])
        if not found:
            raise SetupError(f"the guests of host {self.host.name} do not connect")
        check_drivers(self.system.raw_records())
        prepare(self.system, setup)

    def begin(self, seed: int) -> None:
        """Begin a case: as after boot, with chance of its own, an empty journal."""
        if self.used:
            for function in self._functions:
                restore_function(function)
            for device in self._devices:
                restore_device(device, self.system.dom0.kernel)
            images: list[ObjectImage | GuestImage] = [*self._models, *self._guests]
            for image in images:
                image.restore()
        self.used = True
        world = self.system.world
        world.reseed(seed)
        world.pick, world.window = None, 0
        self.system.parts.records.clear()
        self.begin_ns = world.now()

    def close(self) -> None:
        """It is given up where it is; the tasks of its kernels end, and the programs of its guests."""
        self.system.give_up()

    @property
    def reusable(self) -> bool:
        """Nothing is left of the last case but what ``begin`` puts back, and nobody keeps what it cannot put back."""
        return not any(guest.opaque for guest in self._guests) and self._state() == self._rest

    def _state(self) -> Hashable:
        system = self.system
        machine, dom0 = system.hypervisor.machine, system.dom0
        kernels = system.parts.kernels
        assert dom0.hierarchy is not None
        return (
            machine.store.tree.generation,
            tuple((domain.domid, domain.life) for domain in machine.domains),
            tuple((kernel.name, frozenset(kernel.tasks)) for kernel in kernels),
            tuple((f.sbdf, f.accessible(), f.dead, f.reset_fault) for f in dom0.hierarchy.functions.values()),
            tuple((d.name, d.driver, d.error_state) for d in dom0.core.devices.values()),
            tuple((psdev.domid, psdev.faulty) for psdev in dom0.pciback.slots.values()),
            tuple((domid, _plain_links(dom0, pdev)) for domid, pdev in dom0.pciback.guests.items()),
            tuple((name, g.ended, g.halted, _armed(g)) for name, g in system.parts.guests.items()),
            tuple(supervisor.delay_ms for supervisor in system.supervisors),
            system.world.quiet,
        )


def _plain_links(dom0: Dom0, pdev: XenPcibkDevice) -> bool:
    """No message of this guest is tampered with."""
    bus = dom0.bus.link_of(pdev.domid)
    links = [each.link for each in (pdev.channel, bus) if each is not None]
    return not any(isinstance(link, FaultyLink) for link in links)


def _armed(guest: SimGuest) -> int:
    """How many times a driver of this guest is still to misbehave."""
    front = guest.domu.pcifront
    return 0 if front is None else len(front.faults.armed)
