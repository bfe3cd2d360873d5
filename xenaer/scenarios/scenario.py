"""What a scenario is, and how one is played."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from protocol.topology import HostSpec
from xenaer.scenarios.hostile import Offer
from xenaer.scenarios.outcome import Condition, Outcome, outcome
from xenaer.scenarios.stage import Stage
from xenaer.scenarios.words import play_steps

MakeHost = Callable[[], HostSpec]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row: what happens on which host. ``steps`` are read by ``words.play_steps``.

    ``offers`` spoil what a hostile guest writes when it connects. ``why_not`` says why a scenario cannot be played
    here; it then has no steps.
    """

    name: str
    title: str
    host: MakeHost
    steps: str
    offers: dict[str, Offer] = field(default_factory=dict)
    why_not: str = ""

    def spec(self, profile: str, defects: Iterable[str] = ()) -> HostSpec:
        """The host under a profile with some defects switched over."""
        return replace(self.host(), profile=profile, defects=list(defects))  # type: ignore[arg-type]


def play(scenario: Scenario, profile: str, defects: Iterable[str] = (), seed: int = 1) -> Outcome:
    """Play a scenario from the boot of its host to the end of its steps."""
    stage = Stage(scenario.spec(profile, defects), seed, scenario.offers)
    condition = Condition(stage)
    stage.boot()
    condition.with_guests(stage)
    play_steps(stage, scenario.steps)
    return outcome(stage, condition)
