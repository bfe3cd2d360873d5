"""The DPC service of a port: where it exists, its interrupt and its thread (linux-aer.md 10.2, 10.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from dom0_pciback.aer.core import FIRST_IRQ, AerCore
from dom0_pciback.aer.dpc_error import dpc_process_error
from dom0_pciback.aer.dpc_reset import dpc_handle_surprise_removal
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.hardware import HierarchyLike
from dom0_pciback.pci.regs import ALL_ONES, EXP_SLTCAP_HPC
from kernel_stub.kernel import INFO
from kernel_stub.sync import WaitQueue
from protocol.bits import SURPRISE_DOWN
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_dpc import (
    DPC,
    DPC_CAP_DL_ACTIVE,
    DPC_CAP_IRQ,
    DPC_CAP_POISONED_TLP,
    DPC_CAP_RP_EXT,
    DPC_CAP_SW_TRIGGER,
    DPC_CTL_EN_FATAL,
    DPC_CTL_EN_MASK,
    DPC_CTL_INT_EN,
    DPC_STATUS_INTERRUPT,
    DPC_STATUS_TRIGGER,
)
from protocol.layout_pcie import EXP
from protocol.topology import COLLECTORS, HostSpec

RecoverPort = Callable[[PciDev], Awaitable[int]]  # a contained port, channel frozen; the final status


class Obstacle(NamedTuple):
    """A reason why a port has no DPC service."""

    label: str
    applies: Callable[[HostSpec, PciDev], bool]


def _no_aer_service(host: HostSpec, dev: PciDev) -> bool:
    native = host.boot.osc_aer or host.boot.pcie_ports == "native"
    return not (dev.kind in COLLECTORS and dev.aer and native)


# get_port_device_capability(); where it is passed, dpc_probe() has nothing to add. The last row is why a switch's
# downstream ports use DPC with dpc-native only (T48).
OBSTACLES = (
    Obstacle("no capability", lambda host, dev: not dev.dpc),
    Obstacle("kernel without DPC", lambda host, dev: host.kernel == "linux-2.6.27"),
    Obstacle("pcie_ports=compat", lambda host, dev: host.boot.pcie_ports == "compat"),
    Obstacle("AER is not available", lambda host, dev: not (host.boot.aer and host.boot.msi)),
    Obstacle(
        "no AER service on the port",
        lambda host, dev: host.boot.pcie_ports != "dpc-native" and _no_aer_service(host, dev),
    ),
)


def obstacle(host: HostSpec, dev: PciDev) -> str:
    """Label of the first row of ``OBSTACLES`` that applies; empty if the port gets the service."""
    return next((row.label for row in OBSTACLES if row.applies(host, dev)), "")


class DpcPort:
    """What the service keeps per port; ``woken`` is the flag of its interrupt thread."""

    __slots__ = ("core", "dev", "irq", "queue", "woken")

    def __init__(self, core: PciCore, dev: PciDev, irq: int) -> None:
        self.core = core
        self.dev = dev
        self.irq = irq
        self.woken = False
        self.queue = WaitQueue(core.kernel, f"errors of {dev.name}")


class Dpc:
    """Binds the service to every port that qualifies, and serves their interrupts.

    Make it after the AER core, whose interrupts it shares. ``recover`` is called in the port's interrupt thread.
    """

    def __init__(self, core: PciCore, host: HostSpec, aer: AerCore, recover: RecoverPort) -> None:
        self.core = core
        self.ports: dict[Sbdf, DpcPort] = {}
        own_irq = FIRST_IRQ + len(aer.roots)
        for dev in core.devices.values():
            if obstacle(host, dev):
                continue
            service = aer.roots.get(dev.sbdf)
            irq = service.irq if service is not None else own_irq
            own_irq += service is None
            port = self.ports[dev.sbdf] = DpcPort(core, dev, irq)
            dpc_probe(core, dev, irq)
            core.kernel.spawn(_thread(port, recover), f"irq/{irq}-pcie-dpc")
        if self.ports:
            share_interrupt(core.hierarchy, self.interrupt)

    def interrupt(self, function: Any) -> None:
        """The hardware raised an interrupt of this port."""
        port = self.ports.get(function.sbdf)
        if port is not None:
            dpc_irq(port)


def share_interrupt(hierarchy: HierarchyLike, handler: Callable[[Any], None]) -> None:
    """``IRQF_SHARED``: the handlers of all services of a port are called, each finds out whether it is meant."""
    others = hierarchy.interrupt

    def all_handlers(function: Any) -> None:
        others(function)
        handler(function)

    hierarchy.interrupt = all_handlers


def dpc_probe(core: PciCore, dev: PciDev, irq: int) -> None:
    """Enable containment of fatal errors, with interrupt, and say what the port can do."""
    dpc_enable(core, dev)
    cap = core.read(dev, dev.dpc + DPC.CAP, 2)
    core.printk(INFO, dev, f"DPC: enabled with IRQ {irq}")
    core.printk(
        INFO,
        dev,
        f"DPC: error containment capabilities: Int Msg #{cap & DPC_CAP_IRQ}, RPExt{_flag(cap, DPC_CAP_RP_EXT)} "
        f"PoisonedTLP{_flag(cap, DPC_CAP_POISONED_TLP)} SwTrigger{_flag(cap, DPC_CAP_SW_TRIGGER)} "
        f"RP PIO Log {dev.dpc_rp_log_size}, DL_ActiveErr{_flag(cap, DPC_CAP_DL_ACTIVE)}",
    )


def dpc_enable(core: PciCore, dev: PciDev) -> None:
    """An interrupt of an old event is forgotten first."""
    core.write(dev, dev.dpc + DPC.STATUS, 2, DPC_STATUS_INTERRUPT)
    core.update(dev, dev.dpc + DPC.CTL, 2, DPC_CTL_EN_MASK, DPC_CTL_EN_FATAL | DPC_CTL_INT_EN)


def _flag(cap: int, bit: int) -> str:
    return "+" if cap & bit else "-"


def dpc_irq(port: DpcPort) -> bool:
    """Clear the interrupt, wake the thread if the port is contained; False if it was not its interrupt."""
    core, dev = port.core, port.dev
    status = core.read(dev, dev.dpc + DPC.STATUS, 2)
    if not status & DPC_STATUS_INTERRUPT or status == ALL_ONES[2]:
        return False
    core.write(dev, dev.dpc + DPC.STATUS, 2, DPC_STATUS_INTERRUPT)
    core.kernel.trace("dpc.irq", dev.name, status)
    if status & DPC_STATUS_TRIGGER:
        port.woken = True
        port.queue.wake_all()
    return True


async def _thread(port: DpcPort, recover: RecoverPort) -> None:
    """The interrupt thread: events that come while it is busy are one more call of the handler."""
    while True:
        while port.woken:
            port.woken = False
            await dpc_handler(port.core, port.dev, recover)
        await port.queue.wait()


async def dpc_handler(core: PciCore, dev: PciDev, recover: RecoverPort) -> None:
    """One containment event: the removal of a device, or an error to tell of and to recover from."""
    if dpc_is_surprise_removal(core, dev):
        await dpc_handle_surprise_removal(core, dev)
        return
    dpc_process_error(core, dev)
    await recover(dev)


def dpc_is_surprise_removal(core: PciCore, dev: PciDev) -> bool:
    """Surprise Down below a hot-plug capable port. Without AER the kernel reads Command, where bit 5 is clear."""
    if not core.read(dev, dev.exp + EXP.SLTCAP, 4) & EXP_SLTCAP_HPC:
        return False
    return bool(core.read(dev, dev.aer + AER.UNCOR_STATUS, 2) >> SURPRISE_DOWN & 1)
