"""The kernel's software injector, ``/dev/aer_inject`` (linux-aer.md 9.1, errata 7.5 to 7.7).

It writes no hardware: from the first injection on, eight registers of the target and of its root port are
served from a simulation, so that real errors of both are invisible (T40).
"""

from __future__ import annotations

import struct
from errno import EINVAL, ENODEV, EPROTONOSUPPORT

from dom0_pciback.aer.core import AerCore
from dom0_pciback.aer.irq import aer_irq
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import ERR, INFO, WARNING
from protocol.ids import Sbdf
from protocol.layout_aer import (
    AER,
    AER_ROOT_COR_RCV,
    AER_ROOT_FATAL_RCV,
    AER_ROOT_FIRST_FATAL,
    AER_ROOT_MULTI_COR_RCV,
    AER_ROOT_MULTI_UNCOR_RCV,
    AER_ROOT_NONFATAL_RCV,
    AER_ROOT_UNCOR_RCV,
)

RECORD = struct.Struct("<3Bx7I")  # bus, device, function; uncorrectable, correctable, header, domain
SHORTEST = 28  # without the domain
HEADER_LOG = tuple(int(AER.HEADER_LOG) + 4 * index for index in range(4))
SIMULATED = (*map(int, (AER.UNCOR_STATUS, AER.COR_STATUS, AER.ROOT_STATUS, AER.ROOT_ERR_SRC)), *HEADER_LOG)
STATUS = frozenset(map(int, (AER.UNCOR_STATUS, AER.COR_STATUS, AER.ROOT_STATUS)))

Header = tuple[int, int, int, int]


class AerInject:
    """The module. ``registers`` has, per function ever injected, the simulated registers by their offsets.

    ``mask_override`` is its parameter ``aer_mask_override``: masked errors are accepted, but the mask is back
    before the AER core looks (T42).
    """

    def __init__(self, core: PciCore, aer: AerCore, *, mask_override: bool = False) -> None:
        self.core = core
        self.aer = aer
        self.mask_override = mask_override
        self.registers: dict[Sbdf, dict[int, int]] = {}
        self._below = (core.hierarchy.read, core.hierarchy.write)  # the bus operations that are replaced

    def write(self, data: bytes) -> int:
        """``aer_inject_write``: one record; its size, or a negative errno."""
        if not SHORTEST <= len(data) <= RECORD.size:
            return -EINVAL
        bus, device, function, uncor, cor, *header, domain = RECORD.unpack(data.ljust(RECORD.size, b"\0"))
        sbdf = Sbdf(domain, bus, device & 0x1F, function & 7)
        return self.inject(sbdf, cor, uncor, tuple(header)) or len(data)

    def inject(self, sbdf: Sbdf, cor: int, uncor: int, header: Header) -> int:
        """``aer_inject``: 0 or a negative errno, with the checks and their lines in the kernel's order."""
        dev = self.core.devices.get(sbdf)
        if dev is None:
            return -ENODEV
        root = self.aer.root_of(dev)
        if root is None:
            return self._refuse(ERR, dev, "Neither Root Port nor RCEC found", ENODEV)
        if not dev.aer:
            return self._refuse(ERR, dev, "Device doesn't support AER", EPROTONOSUPPORT)
        if not root.aer:
            return self._refuse(ERR, dev, "Root port doesn't support AER", EPROTONOSUPPORT)
        fatal = self._set_device(dev, cor, uncor, header)
        for bits, mask, kind in ((cor, AER.COR_MASK, "correctable"), (uncor, AER.UNCOR_MASK, "uncorrectable")):
            masked = bits and not bits & ~self.core.read(dev, dev.aer + mask, 4)
            if masked and not self.mask_override:
                return self._refuse(WARNING, dev, f"The {kind} error(s) is masked by device", EINVAL)
        self._set_root(root, dev, cor, uncor, fatal)
        rpc = self.aer.roots.get(root.sbdf)
        if rpc is None:
            return self._refuse(ERR, root, "AER device not found", ENODEV)
        text = f"aer_inject: Injecting errors {cor:08x}/{uncor:08x} into device {dev.name}"
        self.core.printk(INFO, root, text)
        aer_irq(rpc)
        return 0

    def _refuse(self, level: int, dev: PciDev, text: str, errno: int) -> int:
        self.core.printk(level, dev, f"aer_inject: {text}")
        return -errno

    # -- the simulated registers ---------------------------------------------------------------
    def adopt(self, dev: PciDev) -> dict[int, int]:
        """Begin to simulate the registers of ``dev``, with the values that they show now."""
        found = self.registers.get(dev.sbdf)
        if found is None:
            shown = {offset: self.core.read(dev, dev.aer + offset, 4) for offset in SIMULATED}
            found = self.registers[dev.sbdf] = shown
            self.core.replace_operations(self._read, self._write)
        return found

    def _simulated(self, dev: PciDev) -> dict[int, int]:
        """As ``adopt``, for a function that was never injected: everything is zero."""
        if dev.sbdf not in self.registers:
            self.adopt(dev).update(dict.fromkeys(SIMULATED, 0))
        return self.registers[dev.sbdf]

    def _set_device(self, dev: PciDev, cor: int, uncor: int, header: Header) -> bool:
        """Target: OR the bits in, overwrite the header; True if one of the bits has fatal severity."""
        simulated = self._simulated(dev)
        simulated[int(AER.COR_STATUS)] |= cor
        simulated[int(AER.UNCOR_STATUS)] |= uncor
        simulated.update(zip(HEADER_LOG, header, strict=True))
        return bool(uncor & self.core.read(dev, dev.aer + AER.UNCOR_SEVER, 4))

    def _set_root(self, root: PciDev, dev: PciDev, cor: int, uncor: int, fatal: bool) -> None:
        """Root port: status as hardware sets it, but the source ID is that of the latest error."""
        simulated = self._simulated(root)
        status, source = simulated[int(AER.ROOT_STATUS)], simulated[int(AER.ROOT_ERR_SRC)]
        if cor:
            status |= AER_ROOT_MULTI_COR_RCV if status & AER_ROOT_COR_RCV else AER_ROOT_COR_RCV
            source = source & 0xFFFF0000 | dev.rid
        if uncor:
            first = not status & AER_ROOT_UNCOR_RCV
            status |= 0 if first else AER_ROOT_MULTI_UNCOR_RCV
            if fatal:
                status |= AER_ROOT_FATAL_RCV | (AER_ROOT_FIRST_FATAL if first else 0)
            else:
                status |= AER_ROOT_NONFATAL_RCV
            status |= AER_ROOT_UNCOR_RCV
            source = source & 0xFFFF | dev.rid << 16
        simulated[int(AER.ROOT_STATUS)], simulated[int(AER.ROOT_ERR_SRC)] = status, source

    # -- bus operations ------------------------------------------------------------------------
    def _read(self, sbdf: Sbdf, offset: int, size: int) -> int:
        simulated = self._find(sbdf, offset, size)
        return self._below[0](sbdf, offset, size) if simulated is None else simulated[0][simulated[1]]

    def _write(self, sbdf: Sbdf, offset: int, size: int, value: int) -> None:
        """A write to a status register toggles its bits (T43)."""
        simulated = self._find(sbdf, offset, size)
        if simulated is None:
            self._below[1](sbdf, offset, size, value)
        elif simulated[1] in STATUS:
            simulated[0][simulated[1]] ^= value

    def _find(self, sbdf: Sbdf, offset: int, size: int) -> tuple[dict[int, int], int] | None:
        registers = self.registers.get(sbdf)
        if registers is None or size != 4:
            return None
        dev = self.core.devices.get(sbdf)
        register = offset - dev.aer if dev is not None else -1
        return (registers, register) if register in registers else None

    def unload(self) -> None:
        """``rmmod``: the hardware's registers are visible again."""
        self.registers.clear()
        self.core.replace_operations(*self._below)
