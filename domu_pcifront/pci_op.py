"""Configuration and MSI operations of the guest: ``do_pci_op()`` and its callers (xen-pci.md 3.2, 3.3)."""

from __future__ import annotations

from collections.abc import Callable

from domu_pcifront.event_channel import EventChannel
from kernel_stub.kernel import ERR, INFO, MS, Kernel
from kernel_stub.sync import Mutex
from protocol.channel import Channel
from protocol.sharedinfo import PCIB_ACTIVE, PCIF_ACTIVE, SH_INFO_MAX_VEC, PciErr, PciOp
from protocol.topology import TimingSpec

PREFIX = "pcifront pci-0:"
EINVAL = 22
INT_MAX = 0x7FFFFFFF
_ACTIVE = 1 << PCIF_ACTIVE
_AER_ACTIVE = 1 << PCIB_ACTIVE
_CONF_READ, _CONF_WRITE = int(PciOp.CONF_READ), int(PciOp.CONF_WRITE)  # quicker than looked up in their class


class PciOps:
    """The ``op`` slot of one guest. All operations of all its devices pass here, one at a time.

    ``schedule_aer`` is called when an operation ends while the backend has an AER request in the page.
    ``recheck_on_timeout`` is hardened rule H7; without it a request whose event was swallowed by a poll
    that timed out waits for the next event (D7, FE-1). ``log_polls``: a line each time that an operation finds an AER
    request, which handlers that read their device find all the time (golden/xen finding 12).
    """

    def __init__(
        self,
        kernel: Kernel,
        channel: Channel,
        events: EventChannel,
        timing: TimingSpec,
        schedule_aer: Callable[[], None],
        *,
        recheck_on_timeout: bool = True,
    ) -> None:
        self.kernel = kernel
        self.channel = channel
        self.page = channel.page
        self.events = events
        self.schedule_aer = schedule_aer
        self.recheck_on_timeout = recheck_on_timeout
        self.log_polls = False
        self.lock = Mutex(kernel, "sh_info_lock")
        self._timeout = timing.config_timeout_ms * MS
        self._poll = timing.config_poll_ms * MS

    async def do_pci_op(self, cmd: int, devfn: int, offset: int = 0, size: int = 0, value: int = 0) -> tuple[int, int]:
        """Post one request and wait for its answer: (``op.err``, ``op.value``).

        ``devfn`` here and below is the whole address as one number (``Sbdf.number``).
        The backend has two seconds; after that the answer is dev_not_found and the value 0 (FE-2).
        """
        lock, page = self.lock, self.page
        if lock.owner is None and self.kernel.locks is None:
            lock.owner = self.kernel.current
        else:
            await lock.acquire()
        try:
            page.write_op((cmd, 0, devfn >> 16, devfn >> 8 & 0xFF, devfn & 0xFF, offset, size, value, 0))
            page.set_bit(PCIF_ACTIVE)
            self.channel.notify()
            deadline = self.kernel.now() + self._timeout
            while page.data[0] & _ACTIVE:
                await self.events.poll(self.kernel.now() + self._poll)
                if page.data[0] & _ACTIVE and (self.channel.closed or self.kernel.now() > deadline):
                    self._give_up()
                    return PciErr.DEV_NOT_FOUND, 0
            if page.data[0] & _AER_ACTIVE:
                if self.log_polls:
                    self.kernel.printk(INFO, f"{PREFIX} schedule aer pcifront service")
                self.schedule_aer()
            return page.op_result()
        finally:
            lock.release()

    def _give_up(self) -> None:
        """No answer in time: take the request back; H7 looks for an AER request all the same."""
        self.kernel.printk(ERR, f"{PREFIX} pciback not responding!!!")
        self.page.clear_bit(PCIF_ACTIVE)
        self.channel.flush()
        if self.recheck_on_timeout:
            self.schedule_aer()

    # -- callers -------------------------------------------------------------------------------
    async def read(self, devfn: int, offset: int, size: int) -> int:
        """``pcifront_bus_read``: the register, or all ones if there is no such device (any error)."""
        err, value = await self.do_pci_op(_CONF_READ, devfn, offset, size)
        return value if err == 0 else (1 << 8 * size) - 1

    async def write(self, devfn: int, offset: int, size: int, value: int) -> None:
        """``pcifront_bus_write``; errors are the backend's to log."""
        await self.do_pci_op(_CONF_WRITE, devfn, offset, size, value)

    async def enable_msi(self, devfn: int) -> int:
        """``pci_frontend_enable_msi``: the vector, or -EINVAL."""
        err, value = await self.do_pci_op(PciOp.ENABLE_MSI, devfn)
        if err:
            where = f"{devfn >> 8 & 0xFF:x}:{devfn & 0xFF:x}"
            self.kernel.printk(ERR, f"{PREFIX} pci frontend enable msi failed for dev {where}")
        elif 0 < value <= INT_MAX:
            return value
        else:
            self.kernel.printk(ERR, f"{PREFIX} MSI entry is invalid: {value}!")
        return -EINVAL

    async def disable_msi(self, devfn: int) -> None:
        """``pci_frontend_disable_msi``."""
        err, _ = await self.do_pci_op(PciOp.DISABLE_MSI, devfn)
        if err:
            no_answer = err == PciErr.DEV_NOT_FOUND
            what = "no response from backend for disable MSI" if no_answer else "fake response from backend"
            self.kernel.printk(INFO, f"{PREFIX} get {what}")

    async def enable_msix(self, devfn: int, entries: list[int]) -> list[int] | int:
        """``pci_frontend_enable_msix``: the vectors, or a negative errno, or the backend's status."""
        if len(entries) > SH_INFO_MAX_VEC:
            text = f"too many vectors (0x{len(entries):x}) for PCI frontend: Increase SH_INFO_MAX_VEC"
            self.kernel.printk(ERR, f"{PREFIX} {text}")
            return -EINVAL
        self.page.write_msix(tuple((0xFFFF, entry) for entry in entries))
        err, value = await self.do_pci_op(PciOp.ENABLE_MSIX, devfn, value=len(entries))
        if err:
            self.kernel.printk(ERR, f"{PREFIX} enable msix get err {err:x}")
            return err
        return value or self._msix_vectors(len(entries))

    def _msix_vectors(self, count: int) -> list[int] | int:
        """The vectors of the answer; -EINVAL if one is none, after all have been looked at."""
        vectors = [vector for vector, _ in self.page.msix_entries(count)]
        bad = [(number, vector) for number, vector in enumerate(vectors) if vector <= 0]
        for number, vector in bad:
            self.kernel.printk(ERR, f"{PREFIX} MSI-X entry {number} is invalid: {vector}!")
        return -EINVAL if bad else vectors
