"""The forms of steps: each has one action; every action has a form here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from xenaer.campaign.steps.fault_forms import (
    STORM_S,
    ChannelFaultForm,
    DeviceForm,
    DriverFaultForm,
    GoneForm,
    HotplugForm,
    InjectForm,
    ProcessForm,
    ResetFaultForm,
    SlowStartForm,
    StormForm,
)
from xenaer.campaign.steps.point_form import MatchForm, PointForm
from xenaer.form import Form, exactly_one, require_one

Seconds = Annotated[float, Field(gt=0, le=3600)]


class TouchForm(Form):
    """A configuration read of a function; one that is missing answers Unsupported Request."""

    device: str = Field(description="address, or name of a device")
    function: int | None = Field(None, ge=0, le=7, description="function number instead of the device's own")


class AerInjectForm(Form):
    """Records in the input language of the aer-inject tool."""

    model_config = ConfigDict(json_schema_extra=exactly_one(("file", "text")))

    file: str | None = Field(None, description="path, relative to the script")
    text: str | None = None

    @model_validator(mode="after")
    def _one(self) -> AerInjectForm:
        return require_one(self, ("file", "text"))


class GuestForm(Form):
    """An action on a guest."""

    guest: str


class GuestDeviceForm(Form):
    """An action on a guest and a device."""

    guest: str
    device: str


class WorkloadForm(Form):
    """Traffic through a guest's devices; every unit is verified."""

    guest: str
    count: int = Field(8, ge=1, le=1_000_000)
    device: str | None = Field(None, description="only this device of the guest")


class WaitForm(Form):
    """Let time pass until something is true."""

    model_config = ConfigDict(json_schema_extra=exactly_one(("for", "connected", "gone")))

    for_: MatchForm | None = Field(None, alias="for", description="a record since the last action")
    connected: str | None = Field(None, description="guest whose devices are all connected")
    gone: str | None = Field(None, description="guest that does not exist any more")
    within_s: Seconds = 30.0

    @model_validator(mode="after")
    def _one(self) -> WaitForm:
        return require_one(self, ("for_", "connected", "gone"))


class LogForm(Form):
    """A line of a domain's kernel log."""

    party: str = "dom0"
    line: str = Field(description="regular expression, found anywhere in the line")


class GuestStateForm(Form):
    """State of a guest."""

    guest: str
    state: Literal["running", "paused", "shutdown", "absent"]


class DeviceStateForm(Form):
    """State of a device: no error bit set, some set, or not answering."""

    device: str
    state: Literal["clean", "dirty", "absent"]


class VerdictForm(Form):
    """How the last recovery of a device since the last action ended; ``none``: there was none."""

    device: str
    outcome: Literal["recovered", "killed", "failed", "faulty", "detached", "unassigned-ok", "untouched", "none"]


EXPECTATIONS = ("record", "absent", "log", "guest", "device", "verdict")


class ExpectForm(Form):
    """Something that must be true; it may take ``within_s`` to become so."""

    model_config = ConfigDict(json_schema_extra=exactly_one(EXPECTATIONS))

    record: MatchForm | None = None
    absent: MatchForm | None = Field(None, description="no such record, checked at once")
    log: LogForm | None = None
    guest: GuestStateForm | None = None
    device: DeviceStateForm | None = None
    verdict: VerdictForm | None = None
    count: int | None = Field(None, ge=1, description="exactly so many records or log lines; default: at least one")
    since: Literal["action", "start"] = Field("action", description="since the last action, or all records")
    within_s: Seconds = 5.0

    @model_validator(mode="after")
    def _one(self) -> ExpectForm:
        return require_one(self, EXPECTATIONS)


class SleepForm(Form):
    """Let time pass."""

    ms: int = Field(ge=1, le=3_600_000)


FAULTS = (
    "storm", "gone", "back", "reset_fault", "driver", "process", "slow_start", "channel", "hotplug", "sysfs_reset",
)  # fmt: skip
PASSIVE = ("wait", "expect", "sleep")  # they change nothing, and end when they end
ACTIONS = (
    "inject", "touch", "aer_inject", "attach", "detach", "create", "destroy", "kill", "shutdown", "reboot",
    "pause", "unpause", "stop", "wait", "expect", "workload", "sleep", *FAULTS,
)  # fmt: skip


class StepForm(Form):
    """One step: an action, when it is done, and a name that reports show."""

    model_config = ConfigDict(json_schema_extra=exactly_one(tuple(name.replace("_", "-") for name in ACTIONS)))

    name: str | None = None
    at: PointForm | None = Field(
        None, description="strike at this point: the step is armed at its turn, and the next one follows at once"
    )
    background: bool = Field(False, description="begin, and let the next step follow at once")
    may_fail: bool = Field(
        False, alias="may-fail", description="refused, failed, never reached: all of this is good, and is only told"
    )
    inject: InjectForm | None = None
    touch: TouchForm | None = None
    aer_inject: AerInjectForm | None = Field(None, alias="aer-inject")
    attach: GuestDeviceForm | None = None
    detach: GuestDeviceForm | None = None
    create: GuestForm | None = None
    destroy: GuestForm | None = None
    kill: GuestForm | None = Field(None, description="destroy without waiting for anything (xl destroy -f)")
    shutdown: GuestForm | None = None
    reboot: GuestForm | None = None
    pause: GuestForm | None = None
    unpause: GuestForm | None = None
    stop: GuestForm | None = None
    wait: WaitForm | None = None
    expect: ExpectForm | None = None
    workload: WorkloadForm | None = None
    sleep: SleepForm | None = None
    storm: StormForm | None = None
    gone: GoneForm | None = None
    back: DeviceForm | None = Field(None, description="a device that was gone is there again, as after power on")
    reset_fault: ResetFaultForm | None = Field(None, alias="reset-fault")
    driver: DriverFaultForm | None = None
    process: ProcessForm | None = None
    slow_start: SlowStartForm | None = Field(None, alias="slow-start")
    channel: ChannelFaultForm | None = None
    hotplug: HotplugForm | None = None
    sysfs_reset: DeviceForm | None = Field(None, alias="sysfs-reset", description="echo 1 > reset, in dom0")

    @model_validator(mode="after")
    def _one(self) -> StepForm:
        require_one(self, ACTIONS)
        if self.action in PASSIVE and (self.at is not None or self.background):
            raise ValueError(f"{self.action} takes its turn; allowed with at and background: what does something")
        if self.storm is not None and self.storm.lasts_s > STORM_S and self.at is None and not self.background:
            raise ValueError(
                f"storm: it lasts {self.storm.lasts_s:g} s, at most {STORM_S:g} s are waited for; "
                "let it go on with background: true"
            )
        return self

    @property
    def action(self) -> str:
        """Name of the one action that is set."""
        return next(name for name in ACTIONS if getattr(self, name) is not None)
