"""The AER driver as one object: root ports, their interrupt threads, and the recovery that is in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dom0_pciback.aer.generation import REPORTING
from dom0_pciback.aer.ghes import Ghes
from dom0_pciback.aer.irq import AerRpc, aer_irq
from dom0_pciback.aer.isr import aer_isr
from dom0_pciback.aer.probe import aer_probe
from dom0_pciback.aer.recovery import GENERATIONS, pcie_do_recovery
from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES, device_file, root_file
from dom0_pciback.aer.unheard import look_at_others
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.ownership import has_aer_service
from protocol.ers import ChannelState
from protocol.ids import Sbdf
from protocol.topology import COLLECTORS

FIRST_IRQ = 24  # number of the first MSI vector of a root, counted up from there

Recover = Callable[[PciDev, ChannelState], Awaitable[int]]


class AerCore:
    """Binds the AER service to every root port and event collector with the capability, serves their interrupts.

    ``generation`` names a row of ``recovery.GENERATIONS`` and of ``generation.REPORTING``: ``linux-7.2``,
    ``linux-6.1``, ``linux-2.6.27`` (ValueError otherwise). ``recover`` replaces the whole recovery: it gets
    the detecting device and the channel state NORMAL or FROZEN, runs in the interrupt thread, and its result
    is ignored as Linux does.
    Bind ``pcieport`` to the ports first, so that their lines carry its name.
    """

    def __init__(self, core: PciCore, generation: str = "linux-7.2", recover: Recover | None = None) -> None:
        if generation not in GENERATIONS:
            raise ValueError(f"{generation!r} is no recovery table; known: {', '.join(GENERATIONS)}")
        self.core = core
        self.generation = GENERATIONS[generation]
        self.reporting = REPORTING[generation]
        self.recover = recover or self.do_recovery
        self.roots: dict[Sbdf, AerRpc] = {}
        self.ghes = Ghes(core, self.recover, self.reporting)
        if core.owns_aer:  # else the interrupts are the firmware's
            core.hierarchy.interrupt = self.interrupt
        for dev in core.devices.values():
            if has_aer_service(core, dev):
                self._probe(dev)

    def _probe(self, root: PciDev) -> None:
        irq = FIRST_IRQ + len(self.roots)
        rpc = self.roots[root.sbdf] = AerRpc(self.core, root, irq, self.reporting)
        aer_probe(self.core, root, irq)
        self.core.kernel.spawn(aer_isr(rpc, self.recover), f"irq/{irq}-aerdrv", realtime=True)

    def interrupt(self, function: Any) -> None:
        """The hardware raised the interrupt of this root port or event collector."""
        rpc = self.roots.get(function.sbdf)
        if rpc is not None:
            aer_irq(rpc)

    def root_of(self, dev: PciDev) -> PciDev | None:
        """The root port above ``dev``, or its event collector (9.1), whether or not that has the service."""
        return dev.root if dev.root.kind == "root_port" else dev.rcec

    def look_again(self, reset: tuple[PciDev, ...], bridge: PciDev, source: PciDev) -> None:
        """Below ``bridge`` all was ``reset`` for ``source``: messages of others may have been swallowed (T26)."""
        rpc = self.roots.get(bridge.root.sbdf)
        if rpc is not None:
            look_at_others(rpc, reset, source)

    async def do_recovery(self, dev: PciDev, state: ChannelState) -> int:
        """``pcie_do_recovery`` with the table of this generation; the final status (T14)."""
        return await pcie_do_recovery(self.core, self.generation, dev, state)

    def stats_text(self, dev: PciDev, file: str) -> str:
        """Text of ``aer_dev_correctable``/``_nonfatal``/``_fatal`` or ``aer_rootport_total_err_*`` (7.2, 7.3).

        Raises KeyError for a file that this function does not have.
        """
        if dev.aer_info is None or (file in ROOT_FILES and dev.kind not in COLLECTORS):
            raise KeyError(f"{dev.name} has no {file}")
        if file not in DEVICE_FILES and file not in ROOT_FILES:
            raise KeyError(f"{file} is no AER file; known: {', '.join((*DEVICE_FILES, *ROOT_FILES))}")
        stats = dev.aer_info.stats
        return root_file(stats, file) if file in ROOT_FILES else device_file(stats, file, self.reporting.words)
