"""Configuration and MSI operations of guests: ``xen_pcibk_do_op()`` (xen-pci.md 4.4, 6; X1 to X15)."""

from __future__ import annotations

from collections.abc import Callable

from dom0_pciback.pciback.events import BackendEvents
from dom0_pciback.pciback.stub import PcistubDevice
from kernel_stub.kernel import WARNING, Kernel
from protocol.channel import Channel
from protocol.sharedinfo import PCIF_ACTIVE, SH_INFO_MAX_VEC, Op, PciErr, PciOp

FAIR_SHARE = 32  # operations of one guest per run of its worker (X14, X41)
EINVAL, EALREADY, ENXIO = 22, 114, 6

Lookup = Callable[[int, int, int], PcistubDevice | None]
Result = tuple[int, int]


class OpWorker:
    """Serves the ``op`` slot of one guest: one request at a time, from a private copy (XSA-155, X11).

    ``serve_abandoned`` (defect D6): the first request of a run is executed even if the frontend has taken it
    back meanwhile (BE-2); without it such a request is left alone (H6).
    """

    __slots__ = ("channel", "events", "kernel", "lookup", "serve_abandoned", "served")

    def __init__(
        self, kernel: Kernel, channel: Channel, lookup: Lookup, name: str, *, serve_abandoned: bool = False
    ) -> None:
        self.kernel = kernel
        self.channel = channel
        self.lookup = lookup
        self.serve_abandoned = serve_abandoned
        self.served = 0
        self.events = BackendEvents(kernel, channel, lambda: kernel.schedule(self._do_op), name)

    def _do_op(self) -> None:
        """Serve requests for as long as there are any, then end the event (BE-1, BE-3). It never waits."""
        events, data = self.events, self.channel.page.data
        for _ in range(FAIR_SHARE):
            self._do_one_op()
            events.op_active = False
            if not data[0] & 1 << PCIF_ACTIVE:
                break
            events.op_active = True
        else:
            self.kernel.schedule(self._do_op)  # others first, then this guest again
            return
        events.eoi()

    def _do_one_op(self) -> None:
        page = self.channel.page
        if not page.data[0] & 1 << PCIF_ACTIVE and not self.serve_abandoned:
            return  # the frontend has given it up meanwhile (H6)
        op = page.op()
        psdev = self.lookup(op.domain, op.bus, op.devfn)
        if psdev is None:
            err, value = int(PciErr.DEV_NOT_FOUND), op.value
        else:
            handler = _HANDLERS.get(op.cmd)
            err, value = handler(self, psdev, op) if handler else (int(PciErr.NOT_IMPLEMENTED), op.value)
        page.write_result(err, value)
        page.clear_bit(PCIF_ACTIVE)
        self.served += 1
        self.channel.notify()

    # -- one function for each operation (table at the end) --------------------------------------
    def _conf_read(self, psdev: PcistubDevice, op: Op) -> Result:
        return psdev.conf.read(op.offset, op.size)

    def _conf_write(self, psdev: PcistubDevice, op: Op) -> Result:
        return psdev.conf.write(op.offset, op.size, op.value), op.value

    def _enable_msi(self, psdev: PcistubDevice, op: Op) -> Result:
        # What counts is dom0's view, which does not follow a reset of the link: a guest disables first (BE-12).
        error = EALREADY if psdev.msi_enabled or psdev.msi_image else psdev.enable_msi()
        if error:
            self._warn(psdev, f"error enabling MSI for guest {psdev.domid}: err {-error}")
            return PciErr.OP_FAILED, 0
        return PciErr.SUCCESS, psdev.pirq

    def _disable_msi(self, psdev: PcistubDevice, op: Op) -> Result:
        psdev.disable_msi()
        return PciErr.SUCCESS, psdev.gsi

    def _enable_msix(self, psdev: PcistubDevice, op: Op) -> Result:
        """No device here has MSI-X: the refusals of xen-pci.md 4.4 in their order, then -EINVAL of the core."""
        if op.value > SH_INFO_MAX_VEC:
            return -EINVAL, op.value
        error = ENXIO if psdev.msi_enabled or not psdev.memory_enabled else EINVAL
        self._warn(psdev, f"error enabling MSI-X for guest {psdev.domid}: err {-error}!")
        return -error, op.value

    def _disable_msix(self, psdev: PcistubDevice, op: Op) -> Result:
        return PciErr.SUCCESS, psdev.gsi

    def _warn(self, psdev: PcistubDevice, text: str) -> None:
        """A warning that a guest can provoke is rate-limited (XSA-157)."""
        if psdev.may_warn():
            self.kernel.printk(WARNING, f"{psdev.dev.prefix}{text}")


_HANDLERS: dict[int, Callable[[OpWorker, PcistubDevice, Op], Result]] = {
    PciOp.CONF_READ: OpWorker._conf_read,
    PciOp.CONF_WRITE: OpWorker._conf_write,
    PciOp.ENABLE_MSI: OpWorker._enable_msi,
    PciOp.DISABLE_MSI: OpWorker._disable_msi,
    PciOp.ENABLE_MSIX: OpWorker._enable_msix,
    PciOp.DISABLE_MSIX: OpWorker._disable_msix,
}
