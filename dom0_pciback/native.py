"""dom0's devices and the drivers that its own kernel has for them: what every dom0 has, with or without Xen."""

from __future__ import annotations

from dom0_pciback.aer.core import AerCore
from dom0_pciback.aer.inject import AerInject
from dom0_pciback.drivers.aerlab import Answers, aerlab_drivers
from dom0_pciback.drivers.real import real_drivers
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.osc import osc_lines
from dom0_pciback.pci.ownership import pcie_ports_disabled
from dom0_pciback.pci.portdrv import PORT_DRIVER, PORT_KINDS, port_driver
from dom0_pciback.pci.slot import create_slots
from dom0_pciback.pci.state import save_state
from dom0_pciback.pcie.firmware import Firmware
from dom0_pciback.pcie.hierarchy import Hierarchy
from kernel_stub.kernel import INFO, Kernel
from protocol.ids import Sbdf
from protocol.ports import Clock
from protocol.topology import NATIVE_DRIVERS, HostSpec


async def bind_ports(core: PciCore) -> None:
    """Bind the port driver, if there is one (3.1)."""
    if pcie_ports_disabled(core.boot):
        return
    driver = port_driver(core)
    core.register_driver(driver)
    for dev in list(core.devices.values()):
        if dev.kind in PORT_KINDS:
            await core.bind(dev, driver)


def save_ports(core: PciCore) -> None:
    """Save every port again, so that a restore brings back what was switched on since (H18).

    Ports have become bus masters with those below (C2); an event collector, which may be reset itself, has
    its interrupts enabled.
    """
    for dev in core.devices.values():
        if dev.driver is not None and dev.driver.name == PORT_DRIVER:
            save_state(core, dev)


async def bind_native(core: PciCore, host: HostSpec, answers: dict[Sbdf, Answers]) -> None:
    """Register dom0's own drivers and bind them to the functions for which the host names them."""
    for driver in (*aerlab_drivers(core, answers), *real_drivers(core)):
        core.register_driver(driver)
    core.wanted.update((Sbdf.parse(spec.bdf), spec.dom0_driver) for spec in host.functions)
    for sbdf, name in core.wanted.items():
        if name in NATIVE_DRIVERS:
            await core.bind(core.devices[sbdf], core.drivers[name])


class NativeDom0:
    """A Linux without Xen on a host: hardware, PCI core, AER, the drivers named in the host file.

    ``answers`` says what the recording driver answers per function. ``start`` must run as a task.
    """

    def __init__(self, kernel: Kernel, clock: Clock, host: HostSpec) -> None:
        self.kernel = kernel
        self.host = host
        self.answers: dict[Sbdf, Answers] = {}
        self.hierarchy = Hierarchy(host, clock)
        self.firmware = Firmware(self.hierarchy) if host.boot.firmware_first else None
        self.core = PciCore(kernel, self.hierarchy, host.timing, host.boot)

    async def start(self) -> None:
        """Boot: ports, AER, drivers."""
        for line in osc_lines(self.host.boot):
            self.kernel.printk(INFO, line)
        create_slots(self.core)
        await bind_ports(self.core)
        self.aer = AerCore(self.core, self.host.kernel)
        if self.firmware is not None:
            self.firmware.notify = self.aer.ghes.notify
        self.injector = AerInject(self.core, self.aer)
        await bind_native(self.core, self.host, self.answers)
