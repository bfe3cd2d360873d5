"""The form of a program point: when a step strikes that is armed instead of being done at its turn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from protocol.ers import Phase
from xenaer.form import Form, exactly_one, require_one

Nth = Annotated[int, Field(ge=1, le=1_000_000)]
AfterMs = Annotated[float, Field(ge=0, le=3_600_000)]
PhaseName = Literal["error_detected", "mmio_enabled", "slot_reset", "resume"]
assert set(PhaseName.__args__) == set(Phase)  # type: ignore[attr-defined]


class MatchForm(Form):
    """Which journal records are meant; what is left out may be anything."""

    label: str = Field(description="label of the record, * and ? allowed")
    subject: str | None = Field(None, description="subject: an address, or the name of a device or guest")
    party: str | None = None
    task: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


class LockPointForm(Form):
    """A lock of one party; only the simulation can see it."""

    lock: str = Field(alias="name", description="its name, * and ? allowed, or its kind, e.g. device_lock")
    party: str | None = Field(None, description="whose lock; default: whoever has one of this name")
    when: Literal["waiting", "taken", "released"] = "taken"


POINTS = ("ms", "phase", "record", "lock")


class PointForm(Form):
    """A program point. The simulation stops there, before anything else happens; processes are seen to have passed."""

    model_config = ConfigDict(json_schema_extra=exactly_one(POINTS))

    ms: float | None = Field(None, ge=0, le=3_600_000, description="so long after the case began")
    phase: PhaseName | None = None
    device: str | None = Field(None, description="with phase: this device; default: any")
    when: Literal["asked", "called", "answered"] = Field(
        "asked", description="with phase: pciback asks, the guest's handler begins, pciback has its answer"
    )
    record: MatchForm | None = Field(None, description="any journal record: any row of a table leaves one")
    lock: LockPointForm | None = None
    nth: Nth = Field(1, description="the first one, or a later one, since the step was armed")
    after_ms: AfterMs = Field(0.0, description="strike so long after the point")

    @model_validator(mode="after")
    def _one(self) -> PointForm:
        if self.phase is None and (self.device is not None or self.when != "asked"):
            raise ValueError("device and when belong to phase")
        if self.ms is not None and (self.nth != 1 or self.after_ms):
            raise ValueError("nth and after_ms do not go with ms")
        return require_one(self, POINTS)
