"""What a host consists of, resolved and checked: the form in which every process receives it.

A host file (YAML, ``xenaer.host``) is read once by the operator's side and turned into these values;
the processes get them by message, so that only one of them needs the file. Each class is plain data;
``HOST`` is the compiled check at the border.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

Kind = Literal[
    "root_port", "upstream_port", "downstream_port", "endpoint", "pcie_pci_bridge", "rciep", "event_collector"
]
BRIDGES = frozenset({"root_port", "upstream_port", "downstream_port", "pcie_pci_bridge"})  # header type 1
COLLECTORS = frozenset({"root_port", "event_collector"})  # receive error messages and interrupt
NATIVE_DRIVERS = (  # dom0's own drivers (``dom0_pciback.drivers``)
    *("e1000e", "igb", "nvme", "virtio-pci", "shpchp"),
    *("aerlab", "aerlab_noerr", "aerlab_empty", "aerlab_nodet", "aerlab_nommio"),
    *("aerlab_noslot", "aerlab_noresume", "aerlab_nocor", "aerlab_detonly"),
)
DOM0_DRIVERS = ("pciback", "", *NATIVE_DRIVERS)  # what a host file may bind to an endpoint
DeviceModel = Literal["nic", "block", "plain"]
Hardware = Literal["spec", "qemu-11.1", "qemu-7.2"]


@dataclass(slots=True)
class FunctionSpec:
    """One PCI function of the hierarchy.

    ``bdf`` is its machine address, ``parent`` the address of the port above ("" for a root port).
    ``kind`` is its PCI Express type; ``model`` says what an endpoint does. ``ready_ms`` is the
    time a reset takes until the function answers again (-1: never). ``flr`` is FLR capability,
    ``role_based`` Device Capabilities bit 15: a device without it (PCIe 1.0a, like those of 2008) sends
    ERR_NONFATAL for an Unsupported Request that others report as advisory.

    An endpoint without ``pcie`` is a conventional one. ``link_speed`` is the LNKCAP code (1: 2.5 GT/s,
    0: not told), ``link_reporting`` whether the port shows Data Link Layer Link Active. ``error_enables``:
    Device Control 3:0 can be set. ``dpc``, ``ecrc`` are capabilities. ``registers`` are values (by the names
    of ``protocol.register_names``) that differ after boot; ``config`` is a whole configuration space in hex,
    as a dump of a real machine shows it, from which everything else that it tells is taken.
    """

    bdf: str
    kind: Kind
    parent: str = ""
    secondary: int = 0  # ports: bus number below, and the last one below
    subordinate: int = 0
    model: DeviceModel = "plain"
    name: str = ""
    vendor: int = 0x1AF4
    device: int = 0x1041
    flr: bool = True
    role_based: bool = True
    aer: bool = True
    ready_ms: int = 100
    link_dead_after_reset: bool = False
    dom0_driver: str = "pciback"  # one of DOM0_DRIVERS, or pcieport
    pcie: bool = True
    pm: bool = True
    pm_reset: bool = False  # D3hot to D0 resets it (No_Soft_Reset is clear)
    class_code: int | None = None  # base class, sub class, interface; None: that of the model
    subsystem: tuple[int, int] | None = None  # vendor, device
    revision: int = 0
    link_speed: int = 1
    link_width: int = 1
    link_reporting: bool = True
    slot: int = 0  # number of the physical slot of a port
    error_enables: bool = True
    dpc: bool = False
    ecrc: bool = True
    rciep_devices: int = 0  # event collector: bitmap of device numbers on its bus
    rciep_buses: tuple[int, int] | None = None  # event collector: first and last bus of more of them
    registers: dict[str, int] = field(default_factory=dict)
    config: str = ""


@dataclass(slots=True)
class GuestDriverSpec:
    """Driver that a guest binds to one of its devices, and the options of that driver.

    ``folder``: where an external program is found and started; that of the file which names it.
    """

    driver: str
    options: dict[str, Any] = field(default_factory=dict)
    folder: str = ""


@dataclass(slots=True)
class AssignmentSpec:
    """One function given to a guest: machine address, permissive mode, and the guest's driver for it."""

    bdf: str
    driver: GuestDriverSpec
    permissive: bool = False


@dataclass(slots=True)
class GuestSpec:
    """A domain to create. ``policy`` is what the stub does on ``aerfail`` (KILL-7)."""

    name: str
    type: Literal["pv", "hvm"] = "pv"
    memory_mb: int = 64
    vcpus: int = 1
    devices: list[AssignmentSpec] = field(default_factory=list)
    policy: Literal["destroy", "poweroff", "ignore", "preserve"] = "destroy"
    on_poweroff: Literal["destroy", "restart", "preserve"] = "destroy"
    on_reboot: Literal["destroy", "restart", "preserve"] = "restart"
    on_crash: Literal["destroy", "restart", "preserve"] = "destroy"
    front: bool = True  # False: a PV guest without pcifront
    autostart: bool = True


@dataclass(slots=True)
class TimingSpec:
    """Every waiting time of xen-pci.md 0.4 and linux-aer.md 11 that a test may want to shorten, in ms."""

    aer_budget_ms: int = 300_000  # per guest and incident (H25)
    config_timeout_ms: int = 2_000  # pcifront gives up on a config op
    config_poll_ms: int = 3_000  # one hypervisor poll of do_pci_op
    connect_grace_ms: int = 30_000  # H13: a booting guest is not killed
    backend_wait_ms: int = 10_000  # libxl__wait_for_backend
    poweroff_grace_ms: int = 10_000  # policy poweroff: then destroy
    reset_ready_ms: int = 60_000  # PCIE_RESET_READY_POLL_MS
    reset_settle_ms: int = 100  # delay after FLR and after a bus reset
    restart_pause_ms: int = 2_000  # xl waits after "Done. Rebooting now"
    kill_deadline_ms: int = 1_000  # supervisor must report the death within


@dataclass(slots=True)
class BootSpec:
    """What firmware and the kernel's command line decide about error handling (linux-aer.md 3.1).

    ``aer`` is false with ``pci=noaer``, ``msi`` with ``pci=nomsi``; ``osc_*`` is what ``_OSC`` granted;
    ``firmware_first``: errors are reported by the firmware (GHES). ``processors`` above 1 lets a waiter
    of a lock run while its releaser goes on.
    """

    aer: bool = True
    msi: bool = True
    pcie_ports: Literal["auto", "native", "compat", "dpc-native"] = "auto"
    osc_aer: bool = True
    hotplug: Literal["none", "acpi", "native"] = "none"  # who serves the slots: nobody, the firmware, pciehp
    osc_dpc: bool = False
    firmware_first: bool = False
    edr: bool = False  # CONFIG_PCIE_EDR
    ecrc: Literal["bios", "off", "on"] = "bios"  # ecrc=, with CONFIG_PCIE_ECRC
    processors: int = 1


@dataclass(slots=True)
class HostSpec:
    """A complete host: hierarchy, guests, and how everything behaves."""

    name: str
    functions: list[FunctionSpec]
    guests: list[GuestSpec]
    profile: Literal["hardened", "linux"] = "hardened"
    kernel: str = "linux-7.2"
    defects: list[str] = field(default_factory=list)
    passthrough: bool = False
    timing: TimingSpec = field(default_factory=TimingSpec)
    seed: int = 1
    hardware: Hardware = "spec"
    boot: BootSpec = field(default_factory=BootSpec)

    def turned_over(self) -> list[str]:
        """Defects to turn over: those that were named, and those of ``linux`` that its kernel has mended."""
        mended = MENDED.get(self.kernel, frozenset()) if self.profile == "linux" else frozenset()
        return sorted(frozenset(self.defects) ^ mended)

    def defects_in_force(self) -> frozenset[str]:
        """Defects of the real code that this host shows."""
        return defects_in_force(self.profile, self.turned_over())

    def function(self, bdf: str) -> FunctionSpec | None:
        """The function at ``bdf``, or None."""
        return next((f for f in self.functions if f.bdf == bdf), None)

    def guest(self, name: str) -> GuestSpec | None:
        """The guest called ``name``, or None."""
        return next((g for g in self.guests if g.name == name), None)


DEFECTS = frozenset(f"D{number}" for number in range(1, 27))  # xen-pci.md 7.3
# Kernel generation -> defects that it does not have any more (xen-pci.md 7.6); naming one brings it back.
MENDED: dict[str, frozenset[str]] = {"linux-7.2": frozenset({"D16", "D17"}), "linux-6.1": frozenset({"D16", "D17"})}


def defects_in_force(profile: str, switched: Iterable[str]) -> frozenset[str]:
    """Defects of the real code that are on: all in ``linux``, none in ``hardened``; ``switched`` are turned over."""
    return (DEFECTS if profile == "linux" else frozenset()) ^ frozenset(switched)


HOST: TypeAdapter[HostSpec] = TypeAdapter(HostSpec)
GUEST: TypeAdapter[GuestSpec] = TypeAdapter(GuestSpec)
TIMING: TypeAdapter[TimingSpec] = TypeAdapter(TimingSpec)
