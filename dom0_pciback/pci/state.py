"""Saving and restoring configuration space: ``pci_save_state`` and ``pci_restore_state`` (linux-aer.md 4.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dom0_pciback.aer.status import pci_aer_clear_status
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import DEBUG
from protocol.layout_aer import AER
from protocol.layout_msi import MSI, MSI_FLAGS_ENABLE
from protocol.layout_pcie import EXP, EXP_FLAGS_VERSION_MASK
from protocol.registers import Reg

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore


class HeaderRange(NamedTuple):
    """Header dwords ``last`` down to ``first`` restored together; ``force`` writes even equal values."""

    last: int
    first: int
    force: bool


EXP_SAVED = (EXP.DEVCTL, EXP.LNKCTL, EXP.SLTCTL, EXP.RTCTL, EXP.DEVCTL2, EXP.LNKCTL2, EXP.SLTCTL2)
AER_SAVED = (AER.UNCOR_MASK, AER.UNCOR_SEVER, AER.COR_MASK, AER.CAP, AER.ROOT_COMMAND)
MSI_SAVED = (MSI.ADDRESS_LO, MSI.ADDRESS_HI, MSI.DATA, MSI.MASK, MSI.FLAGS)  # the enable bit comes last
HEADER_ORDER = {  # by header type
    0: (HeaderRange(15, 10, False), HeaderRange(9, 4, False), HeaderRange(3, 0, False)),
    1: (HeaderRange(15, 12, False), HeaderRange(11, 9, True), HeaderRange(8, 0, False)),
}

Values = tuple[tuple[int, int, int], ...]  # (offset in configuration space, size, value)


class SavedState(NamedTuple):
    """An image of a function's configuration: 16 header dwords and the registers of three capabilities."""

    header: tuple[int, ...]
    exp: Values
    aer: Values
    msi: Values


def save_state(core: PciCore, dev: PciDev) -> SavedState:
    """``pci_save_state``: read the image, keep it in ``dev.saved_state``, return it."""
    header = tuple(core.read(dev, 4 * index, 4) for index in range(16))
    exp, aer = _read(core, dev, dev.exp, _exp_saved(core, dev)), _read(core, dev, dev.aer, AER_SAVED)
    state = dev.saved_state = SavedState(header, exp, aer, _read_msi(core, dev))
    core.kernel.trace("pci.save", dev.name)
    return state


def restore_state(core: PciCore, dev: PciDev, state: SavedState | None = None) -> None:
    """``pci_restore_state``: write ``state``, or the image saved last, back in the kernel's order.

    PCI Express control registers, then all AER status cleared, AER masks and severities, header, MSI.
    Nothing happens if no image exists.
    """
    state = state or dev.saved_state
    if state is None:
        return
    core.kernel.trace("pci.restore", dev.name)
    _write(core, dev, state.exp)
    pci_aer_clear_status(core, dev)
    _write(core, dev, state.aer)
    for part in HEADER_ORDER[dev.header_type]:
        for index in range(part.last, part.first - 1, -1):
            _restore_dword(core, dev, 4 * index, state.header[index], part.force)
    _write(core, dev, state.msi)


def _read(core: PciCore, dev: PciDev, base: int, registers: tuple[Reg, ...]) -> Values:
    if not base:
        return ()
    return tuple(
        (base + reg, reg.width, core.read(dev, base + reg, reg.width)) for reg in registers if reg.exists_in(dev.kind)
    )


def _exp_saved(core: PciCore, dev: PciDev) -> tuple[Reg, ...]:
    """``pcie_cap_has_devctl2`` and its like: version 1 of the capability ends before the second half."""
    first = not dev.exp or core.read(dev, dev.exp + EXP.FLAGS, 2) & EXP_FLAGS_VERSION_MASK == 1
    return tuple(reg for reg in EXP_SAVED if reg < EXP.DEVCAP2) if first else EXP_SAVED


def _write(core: PciCore, dev: PciDev, values: Values) -> None:
    for offset, size, value in values:
        core.write(dev, offset, size, value)


def _read_msi(core: PciCore, dev: PciDev) -> Values:
    """Nothing while MSI is off: ``pci_restore_msi_state`` then has nothing to restore."""
    enabled = dev.msi and core.read(dev, dev.msi + MSI.FLAGS, 2) & MSI_FLAGS_ENABLE
    return _read(core, dev, dev.msi, MSI_SAVED) if enabled else ()


def _restore_dword(core: PciCore, dev: PciDev, offset: int, saved: int, force: bool) -> None:
    """``pci_restore_config_dword``; writes only what differs, unless forced."""
    value = core.read(dev, offset, 4)
    if value == saved and not force:
        return
    if value != saved:
        core.printk(DEBUG, dev, f"restore config {offset:#04x}: {value:#010x} -> {saved:#010x}")
    core.write(dev, offset, 4, saved)
