"""The devices of one guest's backend: exported, published, taken back (xen-pci.md 4.3, 4.4; rows B3 to B7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.pciback.profile import Defect
from dom0_pciback.pciback.stub import PcistubDevice
from dom0_pciback.pciback.vpci import EFAULT, NO_BRIDGES, NO_SPACE
from kernel_stub.kernel import DEBUG, INFO
from protocol.ids import Sbdf
from protocol.xenbus import XenbusState, parse_state, parse_vdev, vdev_text

if TYPE_CHECKING:
    from dom0_pciback.pciback.backend import XenPcibkDevice

S = XenbusState
EINVAL = 22


class FatalError(Exception):
    """A step failed for good (B14): errno and text of ``xenbus_dev_fatal``."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno
        self.text = text


class Exports(dict[Sbdf, PcistubDevice]):
    """What a guest has, by machine address."""

    def __init__(self, pdev: XenPcibkDevice) -> None:
        super().__init__()
        self.pdev = pdev
        self._roots: list[tuple[int, int]] = []  # published so far

    async def add(self, number: int) -> None:
        """``xen_pcibk_export_device``: entry ``dev-N`` becomes a device of the guest (4.3)."""
        text = await self.pdev.node(f"dev-{number}")
        try:
            sbdf = Sbdf.parse(text or "")
        except ValueError:
            raise FatalError(EINVAL, "Error parsing pci device configuration") from None
        psdev = self.pdev.pciback.slots.get(sbdf)
        if psdev is None or psdev.pdev is not None:
            raise FatalError(EINVAL, f"Couldn't locate PCI device ({sbdf})! perhaps already in-use?")
        devfn = self.pdev.vbus.add(sbdf, is_bridge=psdev.dev.is_bridge)
        if devfn < 0:
            if self.pdev.pciback.profile.has(Defect.D12):  # nobody gives it back before the guest goes
                psdev.pdev, self[sbdf] = self.pdev, psdev
            raise FatalError(-devfn, NO_BRIDGES if devfn == -EFAULT else NO_SPACE)
        psdev.pdev, psdev.detaching, psdev.clean = self.pdev, False, False
        psdev.young_since, self.pdev.introduced = self.pdev.kernel.now(), False
        # Only a guest without pcifront has its gsi looked up.
        psdev.leaked |= self.pdev.pciback.profile.has(Defect.D13) and not self.pdev.pciback.may_connect(self.pdev.domid)
        self[sbdf] = psdev
        where = f"dom {sbdf.segment:x} bus {sbdf.bus:x} slot {sbdf.device:x} func {sbdf.function:x}"
        self.pdev.printk(DEBUG, f"exporting {where}")
        self.pdev.kernel.printk(INFO, f"{psdev.dev.prefix}registering for {self.pdev.domid}")
        segment, bus, devfn = self.pdev.vbus.guest_address(sbdf) or (0, 0, devfn)
        guest = Sbdf(segment, bus, devfn >> 3, devfn & 7)
        await self.pdev.write(f"vdev-{number}", vdev_text(guest))
        await self.pdev.write(f"state-{number}", int(S.INITIALISED))
        self.pdev.kernel.trace("pciback.export", str(sbdf), guest.number)

    async def take_back(self, sbdf: Sbdf, *, stub_resets: bool = False) -> None:
        """Take a device from the guest: off the virtual bus, then put back."""
        self.pdev.vbus.remove(sbdf)
        psdev = self.pop(sbdf)
        self.pdev.kernel.printk(INFO, f"{psdev.dev.prefix}unregistering for {self.pdev.domid}")
        await self.pdev.pciback.put_back(psdev, stub_resets=stub_resets)
        self.pdev.kernel.trace("pciback.unexport", str(sbdf))

    async def publish_roots(self) -> None:
        """Roots are append-only, each published once (BUS-15)."""
        self.pdev.printk(DEBUG, "Publishing pci roots")
        for root in self.pdev.vbus.roots():
            if root not in self._roots:
                text = f"{root[0]:04x}:{root[1]:02x}"
                self.pdev.printk(DEBUG, f"writing root {len(self._roots)} at {text}")
                await self.pdev.write(f"root-{len(self._roots)}", text)
                self._roots.append(root)
                await self.pdev.write("root_num", len(self._roots))

    async def remove(self, number: int) -> bool:
        """``xen_pcibk_remove_device``; False if the guest has no such device."""
        sbdf = await self.departing(number)
        if sbdf is None:
            self.pdev.printk(DEBUG, f"Couldn't locate PCI device of dev-{number}! not owned by this domain")
            return False
        self._say_removing(sbdf)
        # In hardened the toolstack resets next, when the guest's DMA is blocked too (errata 9.2 no. 13).
        await self.take_back(sbdf, stub_resets=self.pdev.pciback.profile.hardened)
        return True

    def _say_removing(self, sbdf: Sbdf) -> None:
        """The address that the guest has for the device."""
        address = self.pdev.vbus.guest_address(sbdf)
        if address is not None:
            domain, bus, devfn = address
            self.pdev.printk(DEBUG, f"removing dom {domain:x} bus {bus:x} slot {devfn >> 3:x} func {devfn & 7:x}")

    async def departing(self, number: int) -> Sbdf | None:
        """Machine address of the device that ``vdev-N`` names, if it is one of ours."""
        try:
            vdev = parse_vdev(await self.pdev.node(f"vdev-{number}") or "")
        except ValueError:
            return None
        sbdf = self.pdev.vbus.lookup(vdev.segment, vdev.bus, vdev.devfn)
        return sbdf if sbdf in self else None

    async def mark_departing(self) -> None:
        """H11: a device that is being detached is marked before anybody waits for the guest.

        Nothing happens if the directory has gone meanwhile (B6).
        """
        count = await self.pdev.node("num_devs")
        for number in range(int(count or 0) if is_u32(count) else 0):
            if parse_state(await self.pdev.node(f"state-{number}")) == S.CLOSING:
                sbdf = await self.departing(number)
                if sbdf is not None:
                    self.pdev.pciback.mark_detaching(sbdf)


def is_u32(text: str | None) -> bool:
    """A decimal number that fits in 32 bits (X28); only ASCII, other scripts have digits that ``int`` refuses."""
    return text is not None and text.isascii() and text.isdigit() and int(text) < 1 << 32
