"""What the toolstack asks of dom0's hardware for one device, step by step.

Source: xen-pci.md 5.3, 5.4 (KILL-4, KILL-5); xen-pci-errata.md 9.1 (H19).

A device that a reset or a check finds broken is *faulty*: ``/libxl/pci/<bdf>/domid`` stays, so libxl's own
list hides it, and ``/libxl/pci/<bdf>/fault`` says why. XenStore is the owner of both facts.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor_stub.console import LibxlLog
from hypervisor_stub.machine import Machine
from kernel_stub.kernel import ERR
from kernel_stub.rpc import RpcError
from protocol.xenbus import bookkeeping

SYSFS = "/sys/bus/pci/devices"


class Hardware:
    """Resets, assignment and the fault mark. Every method returns the word that the journal gets."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def block_dma(self, bdf: str) -> str:
        """KILL-4.3: the IOMMU model drops everything that the device sends."""
        return await self._simple("hw_block_dma", bdf)

    async def reset(self, bdf: str, siblings: Sequence[str]) -> str:
        """KILL-4.5: the method used (``flr``, ``bus``, ...) or ``failed``; a failure makes the device faulty."""
        done, method, text = await self.try_reset(bdf, siblings)
        if not done and not self._machine.has_defect("D25"):
            self.mark_faulty(bdf, text or "reset failed")
        return method if done else "failed"

    async def try_reset(self, bdf: str, siblings: Sequence[str]) -> tuple[bool, str, str]:
        """One reset: (done, method, text). ``siblings`` are all functions of the same owner."""
        try:
            done, method, text = await self._machine.ask_dom0("hw_reset", bdf, list(siblings))
        except RpcError as error:
            return False, "", str(error)
        return bool(done), str(method), str(text)

    async def reset_by_sysfs(self, bdf: str, siblings: Sequence[str], log: LibxlLog) -> None:
        """libxl's reset before an attach or detach: a failure is logged and otherwise ignored."""
        done, method, text = await self.try_reset(bdf, siblings)
        if done:
            return
        if method:
            log.say("reset_failed", path=f"{SYSFS}/{bdf}/reset", reason=text)
        else:
            log.say("no_sysfs_reset", bdf=bdf)

    async def restore(self, bdf: str) -> str:
        """KILL-4.6: configuration space as it was when pciback seized the device."""
        return "skipped" if self.fault(bdf) else await self._simple("hw_restore", bdf)

    async def check(self, bdf: str) -> str:
        """H19: ``ok``, or ``bad``, which makes the device faulty."""
        if self.fault(bdf):
            return "bad"
        try:
            clean, text = await self._machine.ask_dom0("hw_check", bdf)
        except RpcError as error:
            clean, text = False, str(error)
        if not clean and not self._machine.has_defect("D25"):
            self.mark_faulty(bdf, str(text) or "check failed")
        return "ok" if clean else "bad"

    async def assign(self, bdf: str, domid: int) -> str:
        """Give the device to a domain: the address of the domain's device bus. Raises RpcError."""
        return str(await self._machine.ask_dom0("hw_assign", bdf, domid))

    async def deassign(self, bdf: str, log: LibxlLog | None = None) -> str:
        """KILL-4.7: to quarantine; afterwards a device without fault may be given away again."""
        result = await self.release(bdf, log)
        self.forget_owner(bdf)
        return result

    async def release(self, bdf: str, log: LibxlLog | None = None) -> str:
        """Take the device from its domain in the IOMMU model, to quarantine."""
        result = await self._simple("hw_deassign", bdf)
        if result != "ok" and log is not None:
            log.say("deassign_failed", reason=result)
        return result

    def owner_mark(self, bdf: str) -> str | None:
        """The domain id in the node that hides the device from the assignable list, None if there is none."""
        return self._machine.xs.read(f"{bookkeeping(bdf)}/domid")

    def forget_owner(self, bdf: str) -> None:
        """Remove the node that hides the device from the assignable list, unless it is faulty (KILL-5)."""
        if not self.fault(bdf):
            self._machine.xs.remove(f"{bookkeeping(bdf)}/domid")

    def fault(self, bdf: str) -> str:
        """Why the device is faulty; "" if it is not."""
        return self._machine.xs.read(f"{bookkeeping(bdf)}/fault") or ""

    def mark_faulty(self, bdf: str, reason: str) -> None:
        """KILL-5: from now on the device is not assignable."""
        self._machine.xs.write(f"{bookkeeping(bdf)}/fault", reason)
        self._machine.kernel.trace("pci.faulty", bdf, reason)
        self._machine.console.printk(ERR, f"PCI device {bdf} is faulty: {reason}")

    async def clear_fault(self, bdf: str) -> bool:
        """A manual reset (KILL-5): reset, restore, check; if all is well both marks go. True if they went."""
        done, _, text = await self.try_reset(bdf, [bdf])
        if not done:
            self.mark_faulty(bdf, text or "reset failed")
            return False
        self._machine.xs.remove(f"{bookkeeping(bdf)}/fault")
        await self.restore(bdf)
        if await self.check(bdf) != "ok":
            return False
        self._machine.xs.remove(f"{bookkeeping(bdf)}/domid")
        self._machine.kernel.trace("pci.clean", bdf)
        return True

    async def _simple(self, op: str, bdf: str) -> str:
        try:
            await self._machine.ask_dom0(op, bdf)
        except RpcError as error:
            self._machine.console.printk(ERR, f"{op} {bdf}: {error}")
            return str(error)
        return "ok"
