"""The guest's AER service: ``pcifront_do_aer()`` and ``pcifront_common_process()`` (xen-pci.md 3.4, 3.5).

A request lies in the ``aer_op`` slot while ``_XEN_PCIB_active`` is set. The work item below reads it, calls
the handler of the guest's driver, stores the answer, clears the flag and notifies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import PciDriver, call_handler
from domu_pcifront.driver_faults import DriverFaults
from kernel_stub.kernel import ERR, INFO, Kernel
from kernel_stub.sync import Work
from protocol.channel import Channel
from protocol.ers import ChannelState, ErsResult, Phase
from protocol.sharedinfo import PCIB_ACTIVE, AerOp, PciOp

PREFIX = "pcifront pci-0:"
LINES_KEPT = 256  # of the log: the same requests come again and again

PHASE_OF_OP: dict[int, Phase] = {
    PciOp.AER_DETECTED: Phase.ERROR_DETECTED,
    PciOp.AER_MMIO: Phase.MMIO_ENABLED,
    PciOp.AER_SLOTRESET: Phase.SLOT_RESET,
    PciOp.AER_RESUME: Phase.RESUME,
}

# What a missing callback answers (H12): the equivalent of the native core skipping it.
SKIPPED: dict[Phase, ErsResult] = {
    Phase.ERROR_DETECTED: ErsResult.NONE,  # counts as "no handlers": FE-20
    Phase.MMIO_ENABLED: ErsResult.RECOVERED,
    Phase.SLOT_RESET: ErsResult.RECOVERED,
    Phase.RESUME: ErsResult.NONE,
}

_ERROR_DETECTED, _RESUME = Phase.ERROR_DETECTED, Phase.RESUME  # quicker than looked up in their class

DriverOf = Callable[[int], PciDriver | None]


@lru_cache(LINES_KEPT)
def _request_lines(cmd: int, bus: int, devfn: int) -> tuple[str, str]:
    return (
        f"{PREFIX} pcifront service aer bus {bus:x} devfn {devfn:x}",
        f"{PREFIX} pcifront AER process: cmd {cmd:x} (bus:{bus:x}, devfn{devfn:x})",
    )


class AerService:
    """Serves the ``aer_op`` slot of one guest. ``driver_of(number)`` finds the driver of a device
    by its address (``Sbdf.number``).

    ``call_missing`` (defect D14) calls a handler that is not there, which kills the worker for good; ``leaked``
    are the devices on which it has kept a reference, so that they are never freed (FE-23). ``answer_late``
    (D10) answers whatever request stands in the page by then, or none. ``faults`` are those of a campaign.
    """

    def __init__(
        self,
        kernel: Kernel,
        channel: Channel,
        driver_of: DriverOf,
        *,
        call_missing: bool = False,
        answer_late: bool = False,
        faults: DriverFaults | None = None,
    ) -> None:
        self.kernel = kernel
        self.channel = channel
        self.driver_of = driver_of
        self.call_missing = call_missing
        self.answer_late = answer_late
        self.faults = DriverFaults() if faults is None else faults
        self.faults.again = self._answer_again
        self.served = 0
        self.leaked: list[GuestPciDev] = []
        self._op_active = False  # _PDEVB_op_active
        self._work = Work(kernel, "pcifront_do_aer", self._do_aer)

    def schedule(self) -> None:
        """``schedule_pcifront_aer_op``: queue the work if a request is there and none is being served."""
        if self.channel.page.data[0] & 1 << PCIB_ACTIVE and not self._op_active and not self.channel.closed:
            self._op_active = True
            self.kernel.printk(INFO, f"{PREFIX} schedule aer frontend job")
            self._work.queue()

    async def _do_aer(self) -> None:
        page = self.channel.page
        request = page.aer_op()
        # The request names its device before the handler runs, not after (FE-12, X22).
        result = await self._common_process(request)
        if self.answer_late or (page.data[0] & 1 << PCIB_ACTIVE and page.aer_op() == request):  # else it was given up
            page.write_aer_err(result)
            page.clear_bit(PCIB_ACTIVE)
            self.channel.notify()
        self.served += 1
        self._op_active = False
        self.schedule()  # closes the window between the answer and the line above (I7)

    def _answer_again(self, answer: int, ns: int) -> None:
        """A fault: the same answer once more, ``ns`` nanoseconds later, whatever stands in the page by then."""

        def again() -> None:
            if not self.channel.closed:
                self.channel.page.write_aer_err(answer)
                self.channel.page.clear_bit(PCIB_ACTIVE)
                self.channel.notify()

        self.kernel.call_at(self.kernel.now() + ns, again)

    async def _common_process(self, op: AerOp) -> int:
        printk = self.kernel.printk
        for line in _request_lines(op.cmd, op.bus, op.devfn):
            printk(INFO, line)
        number = op.domain << 16 | op.bus << 8 | op.devfn
        driver = self.driver_of(number) if op.bus < 0x100 and op.devfn < 0x100 else None
        if driver is None:
            printk(ERR, f"{PREFIX} device or AER driver is NULL")
            return ErsResult.NONE
        if driver.handler(_ERROR_DETECTED) is None:  # FE-20: without it no handler is called at all
            return ErsResult.NONE
        phase = PHASE_OF_OP.get(op.cmd)
        if phase is None:
            printk(ERR, f"{PREFIX} bad request in aer recovery operation!")
            return ErsResult.NONE
        return await self._call(driver, phase, op.err)

    async def _call(self, driver: PciDriver, phase: Phase, state: int) -> int:
        if driver.handler(phase) is None and not self.call_missing:
            return SKIPPED[phase]
        if self.call_missing and driver.dev not in self.leaked:
            self.leaked.append(driver.dev)
        self.kernel.printk(INFO, f"{driver.name} {driver.dev.name}: trying to call AER service")
        args = (ChannelState(state),) if phase is _ERROR_DETECTED else ()
        self.kernel.journal.flush()  # what follows is the guest's own code: it may never come back
        call = self.faults.call if self.faults.armed else call_handler
        answer = await call(driver, phase, *args)
        return ErsResult.NONE if phase is _RESUME else int(answer)
