"""Enumeration: from the hierarchy to ``PciDev``, and what the core does to each new function (1.7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dom0_pciback.aer.dpc_init import pci_dpc_init
from dom0_pciback.aer.probe import pci_aer_init
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.eetlp import pci_configure_eetlp_prefix
from dom0_pciback.pci.hardware import FunctionLike
from dom0_pciback.pci.rcec import pci_rcec_init
from dom0_pciback.pci.regs import EXP_RTCTL_RRS_SVE, EXT_CAP_START, STATUS_IMM_READY
from dom0_pciback.pci.state import save_state
from protocol.layout_aer import AER
from protocol.layout_dpc import DPC
from protocol.layout_header import BRIDGE_CTL_SERR, HEADER, STATUS_CAP_LIST, TYPE1
from protocol.layout_msi import MSI, MSI_FLAGS_ENABLE, MSIX, MSIX_FLAGS_ENABLE
from protocol.layout_pcie import EXP
from protocol.layout_pm import PM
from protocol.layout_rcec import RCEC

if TYPE_CHECKING:
    from dom0_pciback.pci.core import PciCore


def enumerate_devices(core: PciCore) -> None:
    """Fill ``core.devices`` depth first, then prepare and save each function before any driver binds."""
    roots = [function for function in core.hierarchy.functions.values() if function.parent is None]
    _scan(core, roots, None)
    for dev in core.devices.values():
        prepare_device(core, dev)


def prepare_device(core: PciCore, dev: PciDev) -> None:
    """``pci_setup_device``, ``pci_init_capabilities`` and the first ``pci_save_state`` of a new function."""
    _setup(core, dev)
    pci_aer_init(core, dev)
    pci_dpc_init(core, dev)
    save_state(core, dev)


def walk_order(core: PciCore) -> None:
    """Put ``core.devices`` and what is below each bridge into the order of ``pci_walk_bus`` again."""

    def below(dev: PciDev) -> tuple[PciDev, ...]:
        dev.below = tuple(each for child in dev.subordinate for each in (child, *below(child)))
        return dev.below

    roots = sorted((dev for dev in core.devices.values() if dev.bridge is None), key=lambda dev: dev.sbdf)
    ordered = [each for root in roots for each in (root, *below(root))]
    core.devices.clear()
    core.devices.update((dev.sbdf, dev) for dev in ordered)


def _scan(core: PciCore, functions: Iterable[FunctionLike], bridge: PciDev | None) -> tuple[PciDev, ...]:
    found: list[PciDev] = []
    for function in sorted(functions, key=lambda each: each.sbdf):
        dev = core.devices[function.sbdf] = PciDev(core.kernel, function, bridge)
        dev.below = _scan(core, function.children, dev)
        if bridge is not None:
            bridge.subordinate.append(dev)
        found += (dev, *dev.below)
    return tuple(found)


def _setup(core: PciCore, dev: PciDev) -> None:
    """``pci_setup_device``, ``pci_init_capabilities`` and ``pci_configure_serr``, as far as errors need them."""
    ids = core.read(dev, HEADER.VENDOR_ID, 4)
    dev.vendor, dev.device = ids & 0xFFFF, ids >> 16
    dev.class_code = core.read(dev, HEADER.CLASS_DEVICE, 2) << 8 | core.read(dev, HEADER.CLASS_PROG, 1)
    dev.header_type = core.read(dev, HEADER.HEADER_TYPE, 1) & 0x7F
    capabilities = _capabilities(core, dev)
    dev.exp = capabilities.get(EXP.cap_id, 0)
    dev.devcap = core.read(dev, dev.exp + EXP.DEVCAP, 4) if dev.exp else 0
    dev.imm_ready = bool(core.read(dev, HEADER.STATUS, 2) & STATUS_IMM_READY)
    dev.msi = capabilities.get(MSI.cap_id, 0)
    dev.pm = capabilities.get(PM.cap_id, 0)
    _disable_msi(core, dev, capabilities.get(MSIX.cap_id, 0))
    dev.aer = _extended_capability(core, dev, AER.cap_id) if dev.exp else 0
    dev.dpc = _extended_capability(core, dev, DPC.cap_id) if dev.exp else 0
    pci_configure_eetlp_prefix(core, dev)
    if dev.is_bridge:
        core.update(dev, TYPE1.BRIDGE_CONTROL, 2, 0, BRIDGE_CTL_SERR)
    if dev.kind == "event_collector":
        pci_rcec_init(core, dev, _extended_capability(core, dev, RCEC.cap_id))
    if dev.kind == "root_port":
        dev.rrs_visible = bool(core.read(dev, dev.exp + EXP.RTCTL, 2) & EXP_RTCTL_RRS_SVE)


def _disable_msi(core: PciCore, dev: PciDev, msix: int) -> None:
    """``pci_msi_init`` and ``pci_msix_init``: no interrupts that a former kernel left switched on."""
    for offset, enable in ((dev.msi, MSI_FLAGS_ENABLE), (msix, MSIX_FLAGS_ENABLE)):
        if offset and core.read(dev, offset + MSI.FLAGS, 2) & enable:
            core.update(dev, offset + MSI.FLAGS, 2, enable, 0)


def _capabilities(core: PciCore, dev: PciDev) -> dict[int, int]:
    """The capability list: identifier -> offset. 48 entries is the most that fit, so a loop ends."""
    found: dict[int, int] = {}
    if not core.read(dev, HEADER.STATUS, 2) & STATUS_CAP_LIST:
        return found
    offset = core.read(dev, HEADER.CAPABILITY_LIST, 1)
    for _ in range(48):
        if offset < 0x40:
            break
        entry = core.read(dev, offset, 2)
        found.setdefault(entry & 0xFF, offset)
        offset = entry >> 8 & 0xFC
    return found


def _extended_capability(core: PciCore, dev: PciDev, wanted: int) -> int:
    """Offset of an extended capability, 0 if there is none (``pci_find_ext_capability``)."""
    offset = EXT_CAP_START
    for _ in range((4096 - 256) // 8):
        header = core.read(dev, offset, 4)
        if header in (0, 0xFFFFFFFF):
            return 0
        if header & 0xFFFF == wanted:
            return offset
        offset = header >> 20 & 0xFFC
        if offset < EXT_CAP_START:
            return 0
    return 0
