"""The form of a host file. What the values mean together is decided in ``xenaer.host``."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model, field_validator, model_validator

from protocol.config_image import read
from protocol.register_names import REGISTERS
from protocol.topology import TimingSpec
from xenaer.form import DAY_MS, Bdf, Form, Id16, Milliseconds, Name, exactly_one, given_one
from xenaer.yaml_lines import closest

MODELS = ("nic", "block", "plain")
BELOW_A_PORT = (*MODELS, "switch", "bridge")
AT_THE_ROOT = ("root_port", "rciep", "event_collector", "plain")
Word = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
Action = Literal["destroy", "restart", "preserve"]


class FunctionForm(Form):
    """What can be said of every function, ports included."""

    name: Name | None = Field(None, description="name by which guests and scripts may call it")
    vendor: Id16 | None = Field(None, description="vendor ID")
    device: Id16 | None = Field(None, description="device ID")
    flr: bool = Field(True, description="has function level reset")
    role_based: bool = Field(True, description="role-based error reporting; false is a PCIe 1.0a device")
    aer: bool = Field(True, description="has the AER capability")
    ready_ms: int = Field(100, ge=-1, le=DAY_MS, description="time until it answers after a reset; -1 is never")
    link_dead_after_reset: bool = Field(False, description="its link stays down after a reset")
    pm: bool = Field(True, description="has the power management capability, hence a delay after resets")
    pm_reset: bool = Field(False, description="going from D3hot to D0 resets it")
    class_code: int | None = Field(None, ge=0, le=0xFFFFFF, description="class, e.g. 0x020000; default by model")
    subsystem: list[Id16] | None = Field(None, min_length=2, max_length=2, description="subsystem vendor, device")
    revision: int = Field(0, ge=0, le=0xFF)
    link_speed: int = Field(1, ge=0, le=7, description="LNKCAP speed code: 1 is 2.5 GT/s, 2 is 5 GT/s, 0 is not told")
    link_width: int = Field(1, ge=0, le=32)
    link_reporting: bool = Field(True, description="a port shows Data Link Layer Link Active")
    slot: int = Field(0, ge=0, le=0x1FFF, description="number of a port's physical slot")
    error_enables: bool = Field(True, description="Device Control 3:0 can be set")
    dpc: bool = Field(False, description="a port has Downstream Port Containment")
    ecrc: bool = Field(True, description="can generate and check ECRC")
    registers: dict[str, Word] = Field(
        default_factory=dict,
        description="register values after boot that differ from the usual ones",
        json_schema_extra={"propertyNames": {"enum": list(REGISTERS)}},
    )
    config: str = Field(
        "",
        pattern=r"^[0-9a-fA-F\s]*$",
        description="a whole configuration space in hex, zeros at its end left out; other keys may not contradict it",
    )

    @field_validator("registers")
    @classmethod
    def _known_registers(cls, registers: dict[str, int]) -> dict[str, int]:
        for name, value in registers.items():
            if name not in REGISTERS:
                raise ValueError(f"no register {name!r}; {closest(name, REGISTERS)}")
            if value >> 8 * REGISTERS[name].size:
                raise ValueError(f"{name}: {value:#x} has more than {8 * REGISTERS[name].size} bits")
        return registers

    @field_validator("config")
    @classmethod
    def _whole_space(cls, config: str) -> str:
        if config.strip():
            read(config)
        return config.strip()


class DeviceForm(FunctionForm):
    """A function below a port: an endpoint (``nic``, ``block``, ``plain``), a ``switch`` with ``ports``, or a
    ``bridge`` to a conventional bus with ``devices``."""

    model_config = ConfigDict(json_schema_extra=exactly_one(BELOW_A_PORT))

    nic: Bdf | None = Field(None, description="network device at this address")
    block: Bdf | None = Field(None, description="block device at this address")
    plain: Bdf | None = Field(None, description="device without a data path at this address")
    switch: Bdf | None = Field(None, description="upstream port of a switch at this address")
    ports: list[PortForm] = Field(default_factory=list, description="downstream ports of a switch")
    bridge: Bdf | None = Field(None, description="PCI Express to PCI bridge at this address")
    devices: list[DeviceForm] = Field(default_factory=list, description="devices on the bus of a bridge")
    pcie: bool = Field(True, description="false: a conventional PCI device")
    dom0_driver: str | None = Field(
        None, pattern=r"^[a-z0-9_-]*$", description="driver that dom0 binds; '' for none [pciback; a bridge: none]"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> DeviceForm:
        given = given_one(self, BELOW_A_PORT)
        if self.ports and self.switch is None:
            raise ValueError(f"a {given} has no ports; allowed for: switch")
        if self.devices and self.bridge is None:
            raise ValueError(f"a {given} has no devices; allowed for: bridge")
        return self


class PortForm(FunctionForm):
    """A downstream port of a switch and the devices below it."""

    port: Bdf = Field(description="address of the downstream port")
    devices: list[DeviceForm] = Field(default_factory=list)


class RootForm(FunctionForm):
    """A function on a root bus: a root port with ``devices``, an integrated endpoint (``rciep``), a collector of
    such endpoints' errors (``event_collector``), or a conventional device of the chipset (``plain``)."""

    model_config = ConfigDict(json_schema_extra=exactly_one(AT_THE_ROOT))

    root_port: Bdf | None = Field(None, description="address of the root port")
    rciep: Bdf | None = Field(None, description="root complex integrated endpoint at this address")
    event_collector: Bdf | None = Field(None, description="root complex event collector at this address")
    plain: Bdf | None = Field(None, description="conventional device at this address")
    devices: list[DeviceForm] = Field(default_factory=list, description="devices below a root port")
    rciep_devices: list[int] = Field(
        default_factory=list, description="device numbers on its own bus whose errors an event collector receives"
    )
    rciep_buses: list[int] | None = Field(
        None, min_length=2, max_length=2, description="first and last bus of more endpoints of an event collector"
    )
    dom0_driver: str | None = Field(
        None, pattern=r"^[a-z0-9_-]*$", description="driver that dom0 binds; '' for none [an endpoint: pciback]"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> RootForm:
        given = given_one(self, AT_THE_ROOT)
        if self.devices and given != "root_port":
            raise ValueError(f"a {given} has no devices; allowed for: root_port")
        if (self.rciep_devices or self.rciep_buses) and given != "event_collector":
            raise ValueError(f"a {given} has no rciep_devices or rciep_buses; allowed for: event_collector")
        if any(not 0 <= number <= 31 for number in self.rciep_devices):
            raise ValueError("rciep_devices: allowed: device numbers 0 to 31")
        return self


class AssignmentForm(Form):
    """A device of a guest."""

    device: str = Field(description="address or name of a device of the hierarchy")
    driver: str | None = Field(
        None, description="shipped one, module:Class, or program:COMMAND [by device: xnic, xblk]"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of that driver")
    permissive: bool = Field(False, description="pciback's permissive mode")


class GuestForm(Form):
    """A domain to create."""

    name: Name
    type: Literal["pv", "hvm"] = "pv"
    memory_mb: int = Field(64, ge=1, le=1 << 24)
    vcpus: int = Field(1, ge=1, le=4096)
    devices: list[AssignmentForm] = Field(default_factory=list)
    policy: Literal["destroy", "poweroff", "ignore", "preserve"] = Field(
        "destroy", description="what happens to it when a recovery of one of its devices fails"
    )
    on_poweroff: Action = "destroy"
    on_reboot: Action = "restart"
    on_crash: Action = "destroy"
    front: bool = Field(True, description="false: a PV guest without pcifront")
    autostart: bool = True


def _timing_form() -> type[Form]:
    defaults: dict[str, Any] = {
        f.name: (Milliseconds, f.default) for f in fields(TimingSpec) if f.default is not MISSING
    }
    return create_model("TimingForm", __base__=Form, __doc__="Waiting times, in milliseconds.", **defaults)


TimingForm = _timing_form()


class BootForm(Form):
    """What firmware and the kernel's command line decide about error handling."""

    aer: bool = Field(True, description="false: pci=noaer")
    msi: bool = Field(True, description="false: pci=nomsi")
    pcie_ports: Literal["auto", "native", "compat", "dpc-native"] = Field("auto", description="pcie_ports=")
    osc_aer: bool = Field(True, description="_OSC granted AER to the kernel")
    hotplug: Literal["none", "acpi", "native"] = Field(
        "none", description="who serves the slots: nobody, the firmware (ACPI), or pciehp because _OSC granted it"
    )
    osc_dpc: bool = Field(False, description="_OSC granted DPC")
    firmware_first: bool = Field(False, description="the firmware handles errors and reports them (GHES)")
    edr: bool = Field(False, description="the kernel is built with CONFIG_PCIE_EDR")
    ecrc: Literal["bios", "off", "on"] = Field("bios", description="ecrc= of a kernel with CONFIG_PCIE_ECRC")
    processors: int = Field(1, ge=1, le=4096, description="more than one: a lock's waiter may run at once")


class HostForm(Form):
    """A host file."""

    name: Name
    about: str = Field("", description="what this host is for")
    profile: Literal["hardened", "linux"] = "hardened"
    kernel: Literal["linux-7.2", "linux-6.1", "linux-2.6.27"] = Field("linux-7.2", description="whose recovery order")
    defects: list[Annotated[str, Field(pattern=r"^D([1-9]|1[0-9]|2[0-6])$")]] = Field(
        default_factory=list, description="defects of the real code to have besides those of the profile"
    )
    passthrough: bool = Field(False, description="guests see their devices at the machine's own addresses")
    seed: int = Field(1, ge=0, le=2**63 - 1)
    hardware: Literal["spec", "qemu-11.1", "qemu-7.2"] = Field("spec", description="whose hardware model")
    boot: BootForm = Field(default_factory=lambda: BootForm.model_validate({}))
    hierarchy: list[RootForm]
    guests: list[GuestForm] = Field(default_factory=list)
    timing: TimingForm = Field(default_factory=TimingForm)  # type: ignore[valid-type]


HostForm.model_rebuild()
