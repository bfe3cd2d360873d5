"""The hard interrupt handler of a root port (``aer_irq``, linux-aer.md 3.3)."""

from __future__ import annotations

from collections import deque

from dom0_pciback.aer.generation import Reporting
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.regs import AER_ROOT_RECEIVED
from kernel_stub.sync import WaitQueue
from protocol.layout_aer import AER

AER_ERROR_SOURCES_MAX = 128


class AerRpc:
    """``struct aer_rpc``: what the service keeps per root port.

    ``fifo`` holds (Root Error Status, Error Source Identification) of interrupts not yet handled, ``unheard``
    functions whose messages a reset may have swallowed, once for correctable errors and once (False) for others.
    """

    __slots__ = ("core", "fifo", "irq", "queue", "reporting", "root", "unheard")

    def __init__(self, core: PciCore, root: PciDev, irq: int, reporting: Reporting) -> None:
        self.core = core
        self.root = root
        self.irq = irq
        self.reporting = reporting
        self.fifo: deque[tuple[int, int]] = deque()
        self.unheard: deque[tuple[PciDev, bool]] = deque()
        self.queue = WaitQueue(core.kernel, f"errors of {root.name}")


def aer_irq(rpc: AerRpc) -> bool:
    """Take over what the root port recorded; False if it was not its interrupt (``IRQ_NONE``).

    Exactly the status that was read is cleared. With 128 entries waiting, the event is lost without a
    message and without waking the thread (T28).
    """
    core, root = rpc.core, rpc.root
    base = root.aer
    status = core.read(root, base + AER.ROOT_STATUS, 4)
    if not status & AER_ROOT_RECEIVED:
        return False
    source = core.read(root, base + AER.ROOT_ERR_SRC, 4)
    core.write(root, base + AER.ROOT_STATUS, 4, status)
    if len(rpc.fifo) >= AER_ERROR_SOURCES_MAX:
        core.kernel.trace("aer.lost", root.name, status, source)
        return True
    core.kernel.trace("aer.irq", root.name, status, source)
    rpc.fifo.append((status, source))
    rpc.queue.wake_all()
    return True
