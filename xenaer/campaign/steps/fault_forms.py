"""The forms of faults: what may break in hardware, guests, processes and on the way between them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from protocol.bits import COR_ALL, UNCOR_ALL
from protocol.ers import ErsResult
from xenaer.campaign.steps.point_form import PhaseName
from xenaer.form import Form, exactly_one, require_one
from xenaer.yaml_lines import closest

U32 = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
Header = Annotated[list[U32], Field(min_length=4, max_length=4)]
Devices = Annotated[list[str], Field(min_length=1, max_length=256)]
Names = Annotated[list[str], Field(min_length=1)]
Milliseconds = Annotated[float, Field(ge=0, le=3_600_000)]
Id = Annotated[int, Field(ge=0, le=0xFFFE)]
WHICH = ("device", "devices")
STORM_S = 20.0  # a storm that is waited for must be over before a control request is given up
STORM_MAX = 10_000


def check_bits(kind: str, bits: int | None, allowed: int) -> None:
    """Raises ValueError if ``bits`` has reserved ones, or none."""
    if bits is not None and (not bits or bits & ~allowed):
        raise ValueError(f"{kind}: {bits:#x} is none or has reserved bits; allowed: bits of {allowed:#x}")


class InjectForm(Form):
    """Hardware errors in one instant: sets the bits in AER registers and sends the error messages."""

    model_config = ConfigDict(json_schema_extra=exactly_one(WHICH))

    device: str | None = None
    devices: Devices | None = Field(None, description="all of them, before the processor sees any interrupt")
    errors: Names | None = Field(None, description="error names as in the kernel log, e.g. CmpltTO")
    correctable: U32 | None = Field(None, description="bits of Correctable Error Status")
    uncorrectable: U32 | None = Field(None, description="bits of Uncorrectable Error Status")
    header: Header = Field(default_factory=lambda: [0, 0, 0, 0], description="the TLP header that is logged")
    masked: bool = Field(False, description="the mask bits of these errors are set in the device first")

    @model_validator(mode="after")
    def _whole(self) -> InjectForm:
        check_bits("correctable", self.correctable, COR_ALL)
        check_bits("uncorrectable", self.uncorrectable, UNCOR_ALL)
        if self.errors is None and self.correctable is None and self.uncorrectable is None:
            raise ValueError("needs at least one of: errors, correctable, uncorrectable; has none")
        return require_one(self, WHICH)


class StormForm(Form):
    """One error after the other, at a rate. ``seed`` decides which device has which error of the mix."""

    model_config = ConfigDict(json_schema_extra=exactly_one(WHICH))

    device: str | None = None
    devices: Devices | None = Field(None, description="each error hits one of them")
    errors: Names | None = Field(None, description="error names, each as likely as the others")
    mix: dict[str, Annotated[int, Field(ge=1, le=1_000_000)]] | None = Field(
        None, min_length=1, description="error names and how often each occurs, relative to the others"
    )
    count: int = Field(ge=1, le=STORM_MAX)
    rate_per_s: float = Field(gt=0, le=1_000_000)
    seed: int = Field(1, ge=0, lt=1 << 48)

    @model_validator(mode="after")
    def _whole(self) -> StormForm:
        require_one(self, ("errors", "mix"))
        return require_one(self, WHICH)

    @property
    def lasts_s(self) -> float:
        """How long it takes."""
        return self.count / self.rate_per_s


class GoneForm(Form):
    """The device is really gone: it reads all ones, does no DMA, sends no interrupt and no message."""

    device: str
    how: Literal["dead", "link-down", "removed"] = Field(
        description="dead: this function, whatever is reset. link-down: the link above, with all below; the port "
        "reports Surprise Down. removed: the card is pulled out; a hotplug slot notices, a port without one reports "
        "Surprise Down"
    )


class DeviceForm(Form):
    """An action on a device."""

    device: str


class ResetFaultForm(Form):
    """What goes wrong with every reset of a device from now on."""

    device: str
    how: Literal["slow", "fails", "other-device", "none"] = Field(
        description="slow: it answers after ready_ms. fails: it never answers again. other-device: another one "
        "answers, with blank registers. none: its resets work"
    )
    ready_ms: int | None = Field(None, ge=1, le=3_600_000, description="with slow; default: 10000")
    vendor: Id = Field(0x8086, description="with other-device: its vendor id")
    id: Id = Field(0x10D3, description="with other-device: its device id")

    @model_validator(mode="after")
    def _fits(self) -> ResetFaultForm:
        if self.ready_ms is not None and self.how != "slow":
            raise ValueError("ready_ms belongs to how: slow")
        if self.how != "other-device" and {"vendor", "id"} & self.model_fields_set:
            raise ValueError("vendor and id belong to how: other-device")
        return self


Misbehaviour = Literal["vote", "invalid", "late", "twice", "hang", "spin", "raise", "exit", "panic"]
TIMED = ("late", "twice")


class DriverFaultForm(Form):
    """A guest's driver misbehaves in one phase, once, whichever driver it is; it must have a handler for the phase."""

    guest: str
    device: str | None = Field(None, description="when this device is asked; default: whichever is asked first")
    phase: PhaseName
    does: Misbehaviour = Field(
        description="vote: answers `vote` instead. invalid: answers 99, or the number `vote`. late: answers after ms. "
        "twice: answers, and ms later the same again, whatever is asked by then. hang: never answers. spin: burns the "
        "processor. raise: an exception. exit: the process ends. panic: the guest's kernel gives up"
    )
    vote: str | int | None = Field(None, description="with vote: a name of enum pci_ers_result; with invalid: a number")
    ms: Milliseconds | None = Field(None, description="with late and twice; default: 100")
    times: int = Field(1, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _fits(self) -> DriverFaultForm:
        names = list(ErsResult.__members__)
        if self.does == "vote" and self.vote not in names:
            raise ValueError(f"vote: {self.vote!r} is no answer; {closest(str(self.vote), names)}")
        if self.does == "invalid" and (isinstance(self.vote, str) or self.vote in list(ErsResult)):
            raise ValueError(f"vote: {self.vote!r} is not invalid; allowed: numbers that are not 1 to {len(names)}")
        if self.vote is not None and self.does not in ("vote", "invalid"):
            raise ValueError("vote belongs to does: vote and invalid")
        if self.ms is not None and self.does not in TIMED:
            raise ValueError(f"ms belongs to does: {' and '.join(TIMED)}")
        return self


class ProcessForm(Form):
    """A signal for a process of the host: SIGKILL, or SIGSTOP (with SIGCONT later)."""

    target: str = Field(description="guest, dom0 or hypervisor; without the last two the host is lost")
    does: Literal["kill", "stop"]
    for_ms: float | None = Field(None, gt=0, le=3_600_000, description="with stop: goes on then; default: never")

    @model_validator(mode="after")
    def _fits(self) -> ProcessForm:
        if self.for_ms is not None and self.does != "stop":
            raise ValueError("for_ms belongs to does: stop")
        return self


class SlowStartForm(Form):
    """The next process of a guest begins later than it would (create, restart, reboot)."""

    guest: str
    ms: int = Field(ge=1, le=600_000)


class ChannelFaultForm(Form):
    """The next messages of a guest's link to dom0 are struck. There is one link of each kind per incarnation."""

    guest: str
    which: Literal["channel", "devbus"] = Field(
        "channel", description="channel: shared page and event channel. devbus: registers, DMA, interrupts"
    )
    does: Literal["delay", "drop", "duplicate", "reorder", "torn"] = Field(
        description="delay: ms later, with all that follow. drop: lost; nothing is ever sent again, and as messages "
        "are numbered the next one ends the channel. duplicate: again ms later. reorder: after the next, or after ms. "
        "torn: cut in two at an operation of the page, the second half with the doorbell ms later; both ends agree"
    )
    ms: Milliseconds = 10.0
    count: int = Field(1, ge=1, le=100_000, description="so many messages, of each direction")
    direction: Literal["in", "out", "both"] = Field("in", description="seen from dom0: in is what the guest says")

    @model_validator(mode="after")
    def _fits(self) -> ChannelFaultForm:
        if self.does == "torn" and self.which == "devbus":
            raise ValueError("torn belongs to which: channel; a message of the device bus is one operation")
        return self


class HotplugForm(Form):
    """A hotplug slot: an orderly removal is asked for, or a card that was taken out is put in again."""

    device: str
    does: Literal["eject", "insert"]
