"""``struct pci_dev``: one function as dom0's kernel knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dom0_pciback.pci.hardware import FunctionLike
from kernel_stub.kernel import Kernel
from kernel_stub.sync import StealableMutex
from protocol.ers import ChannelState
from protocol.ids import Sbdf

if TYPE_CHECKING:
    from dom0_pciback.aer.info import AerInfo
    from dom0_pciback.pci.driver import PciDriver
    from dom0_pciback.pci.rcec import RcecEa
    from dom0_pciback.pci.slot import Slot
    from dom0_pciback.pci.state import SavedState

_NORMAL, _FROZEN, _PERM = ChannelState.NORMAL, ChannelState.FROZEN, ChannelState.PERM_FAILURE

# pci_dev_set_io_state(), linux-aer.md 4.6. Row: current state; column: requested; None: refused.
IO_STATE: dict[ChannelState, dict[ChannelState, ChannelState | None]] = {
    #         requested:  normal         frozen          perm_failure
    _NORMAL: {_NORMAL: _NORMAL, _FROZEN: _FROZEN, _PERM: _PERM},
    _FROZEN: {_NORMAL: _NORMAL, _FROZEN: _FROZEN, _PERM: _PERM},
    _PERM: {_NORMAL: None, _FROZEN: None, _PERM: _PERM},
}


class PciDev:
    """One function: its place, its capabilities, its driver and its channel state.

    ``bridge`` is the port above (None on a root bus), ``root`` the port on the root bus, ``subordinate`` the
    devices on the secondary bus, ``below`` everything below in the order of ``pci_walk_bus``. ``exp``, ``aer``,
    ``msi`` and ``pm`` are capability offsets, 0 if absent. ``prefix`` is what ``dev_printk`` puts before a
    line (5.1). ``devpath`` is the place in sysfs, ``slot`` the hotplug slot below a port, ``enable_cnt``
    how often drivers have enabled the function, ``reset_methods`` what sysfs allows (None: all that it offers).
    ``rrs_visible`` matters in root ports: CRS software visibility is on.
    ``dpc`` is one more offset; ``dpc_rp_extensions`` and ``dpc_rp_log_size`` (dwords) are what
    ``pci_dpc_init`` found in it.
    """

    __slots__ = (
        "aer",
        "aer_info",
        "below",
        "bridge",
        "class_code",
        "devcap",
        "device",
        "device_lock",
        "devpath",
        "dpc",
        "dpc_rp_extensions",
        "dpc_rp_log_size",
        "driver",
        "eetlp_prefix_max",
        "enable_cnt",
        "error_state",
        "exp",
        "header_type",
        "imm_ready",
        "kernel",
        "kind",
        "msi",
        "name",
        "no_bus_reset",
        "pm",
        "prefix",
        "rcec",
        "rcec_ea",
        "reset_methods",
        "rid",
        "root",
        "rrs_visible",
        "saved_state",
        "sbdf",
        "slot",
        "subordinate",
        "vendor",
    )

    def __init__(self, kernel: Kernel, function: FunctionLike, bridge: PciDev | None) -> None:
        self.kernel = kernel
        self.sbdf: Sbdf = function.sbdf
        self.name = str(function.sbdf)
        self.rid = function.sbdf.rid
        self.kind = function.kind
        self.bridge = bridge
        self.root: PciDev = self if bridge is None else bridge.root
        self.subordinate: list[PciDev] = []
        self.below: tuple[PciDev, ...] = ()
        self.header_type = 0
        self.vendor = self.device = self.class_code = 0
        above = bridge.devpath if bridge is not None else f"/devices/pci{self.sbdf.segment:04x}:{self.sbdf.bus:02x}"
        self.reset_methods: tuple[str, ...] | None = None
        self.devpath: str = f"{above}/{self.name}"
        self.enable_cnt = 0
        self.slot: Slot | None = None
        self.exp = self.aer = self.msi = self.pm = 0
        self.devcap = 0  # Device Capabilities, as they were read once (set_pcie_port_type)
        self.imm_ready = False  # ready at once after a reset (pci_pm_init)
        self.eetlp_prefix_max = 0  # End-End TLP prefixes that its log may hold
        self.dpc = self.dpc_rp_log_size = 0
        self.dpc_rp_extensions = False
        self.rrs_visible = False
        self.no_bus_reset = False  # PCI_DEV_FLAGS_NO_BUS_RESET
        self.driver: PciDriver | None = None
        self.prefix = f"pci {self.name}: "
        self.error_state = ChannelState.NORMAL
        self.device_lock = StealableMutex(kernel, f"device_lock of {self.name}")
        self.saved_state: SavedState | None = None
        self.aer_info: AerInfo | None = None
        self.rcec: PciDev | None = None  # integrated endpoint: its event collector
        self.rcec_ea: RcecEa | None = None  # event collector: who reports to it

    def __repr__(self) -> str:
        return f"<{self.prefix[:-2]}>"

    @property
    def is_bridge(self) -> bool:
        """Header type 1."""
        return self.header_type == 1

    @property
    def disconnected(self) -> bool:
        """``pci_dev_is_disconnected``: gone for good; configuration reads give all ones."""
        return self.error_state is _PERM

    def set_driver(self, driver: PciDriver | None) -> None:
        """Store who is bound and the log prefix that follows from it (``dev_driver_string``)."""
        self.driver = driver
        self.prefix = f"{driver.name if driver else 'pci'} {self.name}: "


def pci_dev_set_io_state(dev: PciDev, requested: ChannelState) -> bool:
    """Change the channel state as table ``IO_STATE`` allows; False if it refuses (4.6)."""
    new = IO_STATE[dev.error_state][requested]
    if new is None:
        return False
    if new is not dev.error_state:
        dev.error_state = new
        dev.kernel.trace("pci.state", dev.name, new.name)
    return True


def pci_dev_set_disconnected(dev: PciDev) -> None:
    """Surprise removal of ``dev`` and of everything below it: permanent failure (4.6, 4.10)."""
    for each in (dev, *dev.below):
        pci_dev_set_io_state(each, ChannelState.PERM_FAILURE)
