"""The form of a campaign file: a host, what may break, which cases to play, what is expected of them.

A file has either ``steps``, which are played once in order (exploration ``script``), or ``faults`` with ``explore``.
In ``faults``, ``profile``, ``defects`` and ``drivers`` a text ``$name`` stands for the value of the axis ``name``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SkipValidation, model_validator

from xenaer.campaign.case import Outcome
from xenaer.campaign.steps.point_form import MatchForm
from xenaer.campaign.steps.steps_form import LogForm, StepForm
from xenaer.form import Bdf, Form, Name, exactly_one, require_one
from xenaer.host_form import HostForm

TEMPLATE: dict[str, Any] = {"x-template": True}  # ``xenaer.schema`` allows $name everywhere below
SCENARIO = "scenario"  # the axis of ``scenarios``
MUTANT, MUTANT_KIND = "mutant", "kind"  # the axes of ``mutants``
POINT = "point"  # the axis of ``exhaustive`` that holds program points
CASES_MAX = 100_000_000
Count = Annotated[int, Field(ge=1, le=CASES_MAX)]
OutcomeWord = Annotated[Outcome, Field(strict=False)]
World = Literal["simulated", "processes", "both"]


class LspciHostForm(Form):
    """A host made of a dump of a real machine (``lspci -xxxx``)."""

    lspci: str = Field(description="the dump, relative to this file")
    guests: dict[Name, list[Bdf]] = Field(description="which guest has which functions")


AXIS_KINDS = ("errors", "devices", "guests", "votes", "range", "draw", "draw_whole")


class AxisForm(Form):
    """Values of an axis that need not be written out."""

    model_config = ConfigDict(json_schema_extra=exactly_one(AXIS_KINDS))

    errors: Literal["all", "correctable", "uncorrectable"] | None = Field(None, description="names of AER errors")
    devices: Literal["assigned", "endpoints", "ports", "all"] | None = None
    guests: Literal["all"] | None = None
    votes: Literal["all"] | None = Field(None, description="every answer that a driver may give")
    range: list[int] | None = Field(None, min_length=2, max_length=3, description="first, last, and maybe step")
    draw: list[float] | None = Field(None, min_length=2, max_length=2, description="numbers from ... to ..., by chance")
    draw_whole: list[int] | None = Field(None, min_length=2, max_length=2, description="whole numbers by chance")

    @model_validator(mode="after")
    def _one(self) -> AxisForm:
        return require_one(self, AXIS_KINDS)


# Looked at by ``axes`` and ``file``, which know the place of a mistake better than a union does.
Axes = dict[Name, SkipValidation[list[Any] | AxisForm]]
Host = SkipValidation[str | LspciHostForm | HostForm | None]


class ExploreBase(Form):
    """What all explorations have."""

    axes: Axes = Field(default_factory=dict)
    strata: list[Name] = Field(default_factory=list, description="axes by whose values outcomes are counted")


class MatrixForm(ExploreBase):
    """The product of all axes."""

    seeds: Count = Field(1, description="how often each combination is played, each time in another order of events")
    limit: Count | None = Field(None, description="at most so many cases, spread evenly over the product")


class ExhaustiveForm(ExploreBase):
    """Every fault at every program point that a run without it passes, in every order of events up to a bound."""

    points: list[Literal["phase", "record", "lock"]] = Field(
        ["phase"], min_length=1, description="kinds of program points that $point stands for"
    )
    bound: int = Field(0, ge=0, le=8, description="deviations from the default order of events")
    orders: Count = Field(64, description="at most so many orders of each case")
    limit: Count | None = None


class UntilForm(Form):
    """Stop when the interval of an outcome's rate is narrow enough."""

    outcome: OutcomeWord
    margin: float = Field(gt=0, lt=0.5, description="half the width of its 95 % interval")


class RandomForm(ExploreBase):
    """Cases by chance; each axis gives a value. It ends with the first of the limits."""

    cases: Count | None = None
    seconds: float | None = Field(None, gt=0, le=86_400, description="wall-clock time")
    until: UntilForm | None = None
    round: Annotated[int, Field(ge=1, le=100_000)] = Field(500, description="limits are looked at after so many cases")

    @model_validator(mode="after")
    def _ends(self) -> RandomForm:
        if self.cases is None and self.seconds is None and self.until is None:
            raise ValueError("needs a limit; at least one of: cases, seconds, until")
        return self


class GuidedForm(RandomForm):
    """As random, but changes of cases that reached something new are preferred."""

    fresh: float = Field(0.2, ge=0, le=1, description="share of cases that are drawn anew")
    round: Annotated[int, Field(ge=1, le=100_000)] = Field(100, description="coverage is looked at after so many cases")


class ScenariosForm(ExploreBase):
    """Scenarios of the library, each on its own host, held against the table of what they come to."""

    rows: list[str] = Field(min_length=1, description="names of scenarios, * and ? allowed: X*, I7")
    seeds: Count = Field(1, description="how often each is played, each time in another order of events")
    limit: Count | None = None


class PlayedForm(Form):
    """A campaign that is played against mutants."""

    file: str = Field(min_length=1, description="campaign file, relative to this one")
    size: Name | None = Field(None, description="one of its sizes")
    cases: Count | None = Field(None, description="its limit instead; of a product an even spread")


class MutantsForm(ExploreBase):
    """Defects and seeded mistakes, one at a time; a case is good if a campaign finds its mutant."""

    campaigns: list[PlayedForm] = Field(min_length=1, description="in this order, until one finds the mutant")
    defects: list[str] = Field(["*"], description="labels of defects, * and ? allowed")
    mutations: list[str] = Field(["*"], description="labels of mutations, * and ? allowed")
    control: bool = Field(True, description="the cores as they are, too, where nothing may be found")
    limit: Count | None = None


KINDS = ("matrix", "exhaustive", "random", "guided", "scenarios", "mutants")


class ExploreForm(Form):
    """Which cases are played."""

    model_config = ConfigDict(json_schema_extra=exactly_one(KINDS))

    matrix: MatrixForm | None = None
    exhaustive: ExhaustiveForm | None = None
    random: RandomForm | None = None
    guided: GuidedForm | None = None
    scenarios: ScenariosForm | None = None
    mutants: MutantsForm | None = None

    @model_validator(mode="after")
    def _one(self) -> ExploreForm:
        return require_one(self, KINDS)

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def brings_all(self) -> bool:
        """Its cases bring hosts and faults of their own."""
        return self.scenarios is not None or self.mutants is not None


class CounterForm(Form):
    """A statistics counter of a device at the end of a case (sysfs ``aer_dev_*``, ``aer_rootport_*``)."""

    device: str
    name: str = Field(description="error name as in the file, or a file's total, e.g. TOTAL_ERR_COR")
    equals: int | None = Field(None, ge=0)
    at_least: int | None = Field(None, ge=0)


class RateForm(Form):
    """How often an outcome may occur; the bound of the 95 % interval that is worse for it is what counts."""

    outcome: OutcomeWord
    at_least: float | None = Field(None, ge=0, le=1)
    at_most: float | None = Field(None, ge=0, le=1)


class ExpectationForm(Form):
    """Something that must be true of every case that ``where`` selects (default: of all)."""

    where: dict[Name, Any] = Field(default_factory=dict, description="axis to value, or list of values")
    outcomes: list[OutcomeWord] | None = Field(None, min_length=1, description="the only outcomes allowed")
    never: list[OutcomeWord] | None = Field(None, min_length=1)
    guests: dict[Name, list[str]] = Field(default_factory=dict, description="outcomes allowed for each guest")
    within_ms: dict[str, float] = Field(default_factory=dict, description="time budget by phase; also total")
    log: list[LogForm] = Field(default_factory=list, description="lines that must appear")
    no_log: list[LogForm] = Field(default_factory=list, description="lines that must not")
    record: list[MatchForm] = Field(default_factory=list)
    absent: list[MatchForm] = Field(default_factory=list)
    counters: list[CounterForm] = Field(default_factory=list)
    verified: list[Name] = Field(default_factory=list, description="guests whose workload must run afterwards")
    good_at_least: float | None = Field(None, ge=0, le=1, description="share that must be good, instead of all")
    rates: list[RateForm] = Field(default_factory=list, description="of the whole campaign, or of these strata")


class SizeForm(Form):
    """Limits of an exploration under another name."""

    cases: Count | None = None
    seconds: float | None = Field(None, gt=0, le=86_400)


class ExactForm(Form):
    """An order of events as a case of another campaign had it; ``shrink`` writes it."""

    seed: int = Field(ge=0, lt=1 << 53)
    order: list[int] = Field(default_factory=list, description="which of the steps that could be next was taken")


class CampaignForm(Form):
    """A campaign file."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    about: str = ""
    host: Host = Field(None, description="host file, relative to this one; or inline")
    steps: list[StepForm] | None = Field(None, min_length=1, description="exploration 'script': these steps, once")
    world: World = "simulated"
    profile: Any = Field(None, description="hardened or linux, instead of the host's", json_schema_extra=TEMPLATE)
    defects: Any = Field(None, description="defects to turn over", json_schema_extra=TEMPLATE)
    drivers: list[Any] = Field(default_factory=list, description="other drivers", json_schema_extra=TEMPLATE)
    without: list[str] = Field(default_factory=list, description="guests and devices of the host to leave out")
    setup: list[StepForm] = Field(default_factory=list, description="steps before each case's faults")
    faults: list[Any] = Field(default_factory=list, description="steps with $axis", json_schema_extra=TEMPLATE)
    explore: ExploreForm | None = None
    expect: list[ExpectationForm] = Field(default_factory=list)
    workload: int = Field(1, ge=0, le=10_000, description="units of traffic through every device after the faults")
    settle_s: float = Field(400.0, gt=0, le=100_000, description="virtual time in which everything must come to rest")
    case_limit_s: float = Field(20.0, gt=0, le=3600, description="wall-clock time of a case; longer is a hang")
    seed: int = Field(1, ge=0, lt=1 << 53)
    exact: ExactForm | None = Field(None, description="the same order of events for every case")
    sizes: dict[Name, SizeForm] = Field(default_factory=dict, description="chosen with --size")

    @model_validator(mode="after")
    def _one_kind(self) -> CampaignForm:
        if self.steps is not None and (self.faults or self.explore is not None):
            raise ValueError("has steps, so it may have neither faults nor explore")
        if self.steps is None and self.explore is None:
            raise ValueError("needs either steps, or faults and explore")
        if self.explore is not None and bool(self.faults) == self.explore.brings_all:
            raise ValueError("needs faults, or explore: scenarios or mutants, which bring their own")
        return self


class DriverForm(Form):
    """Another driver for a device of a guest."""

    guest: str
    device: str
    driver: str | None = Field(None, description="shipped one, module:Class, or program:COMMAND")
    options: dict[str, Any] = Field(default_factory=dict)


class VariantForm(Form):
    """What of the host differs from case to case, after axes have been put in."""

    profile: Literal["hardened", "linux"] | None = None
    defects: list[str] | None = None
    drivers: list[DriverForm] = Field(default_factory=list)
    without: list[str] = Field(default_factory=list)
