"""The form of a host file. What the values mean together is decided in ``xenaer.host``."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model, model_validator

from protocol.topology import TimingSpec
from xenaer.form import DAY_MS, Bdf, Form, Id16, Milliseconds, Name, exactly_one

MODELS = ("nic", "block", "plain")
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


class DeviceForm(FunctionForm):
    """A function below a port: an endpoint (``nic``, ``block``, ``plain``) or a ``switch`` with ``ports``."""

    model_config = ConfigDict(json_schema_extra=exactly_one((*MODELS, "switch")))

    nic: Bdf | None = Field(None, description="network device at this address")
    block: Bdf | None = Field(None, description="block device at this address")
    plain: Bdf | None = Field(None, description="device without a data path at this address")
    switch: Bdf | None = Field(None, description="upstream port of a switch at this address")
    ports: list[PortForm] = Field(default_factory=list, description="downstream ports of a switch")
    dom0_driver: str = Field("pciback", pattern=r"^[a-z0-9_-]*$", description="driver that dom0 binds; '' for none")

    @model_validator(mode="after")
    def _one_kind(self) -> DeviceForm:
        given = [kind for kind in (*MODELS, "switch") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(MODELS)}, switch; has {', '.join(given) or 'none'}")
        if self.ports and self.switch is None:
            raise ValueError(f"a {given[0]} has no ports; allowed for: switch")
        return self


class PortForm(FunctionForm):
    """A downstream port of a switch and the devices below it."""

    port: Bdf = Field(description="address of the downstream port")
    devices: list[DeviceForm] = Field(default_factory=list)


class RootPortForm(FunctionForm):
    """A root port and the devices below it."""

    root_port: Bdf = Field(description="address of the root port")
    devices: list[DeviceForm] = Field(default_factory=list)


class AssignmentForm(Form):
    """A device of a guest."""

    device: str = Field(description="address or name of a device of the hierarchy")
    driver: str | None = Field(None, description="the guest's driver for it; default by device: xnic, xblk")
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


class HostForm(Form):
    """A host file."""

    name: Name
    about: str = Field("", description="what this host is for")
    profile: Literal["hardened", "linux"] = "hardened"
    kernel: Literal["linux-7.2", "linux-6.1", "linux-2.6.27"] = Field("linux-7.2", description="whose recovery order")
    defects: list[Annotated[str, Field(pattern=r"^D([1-9]|1[0-9]|2[0-6])$")]] = Field(
        default_factory=list, description="defects of the real code to have besides those of the profile"
    )
    seed: int = Field(1, ge=0, le=2**63 - 1)
    hierarchy: list[RootPortForm]
    guests: list[GuestForm] = Field(default_factory=list)
    timing: TimingForm = Field(default_factory=TimingForm)  # type: ignore[valid-type]


HostForm.model_rebuild()
