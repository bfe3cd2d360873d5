"""A campaign that has been read: its form, its host, its axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from protocol.topology import HostSpec
from xenaer.campaign.axes import Axis, fill, mentioned
from xenaer.campaign.form import POINT, CampaignForm, ExploreBase, VariantForm
from xenaer.campaign.steps.script import Script
from xenaer.campaign.steps.steps_form import StepForm
from xenaer.campaign.variant import apply_variant


@dataclass(slots=True)
class Campaign:
    """A checked campaign. ``axes`` in the order of the file; ``texts`` of the aer-inject files that it names.

    ``mutant`` is a defect that every host gets although nobody has named it: it is judged as if it were not there.
    """

    form: CampaignForm
    host: HostSpec
    path: Path
    axes: dict[str, Axis] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    mutant: str = ""

    @property
    def explored(self) -> ExploreBase | None:
        """The form of its exploration; None for a script."""
        explore = self.form.explore
        return None if explore is None else getattr(explore, explore.kind)

    @property
    def waits_for_points(self) -> bool:
        """Are there faults that strike at ``$point``."""
        return POINT in mentioned(self.form.faults, self.axes)

    @property
    def uniform(self) -> bool:
        """Have all cases the same host."""
        form = self.form
        return not mentioned([form.profile, form.defects, form.drivers, form.without])

    @property
    def common_host(self) -> HostSpec:
        """The host of all cases; that of the file if they have several."""
        return self.variant({}) if self.uniform else self.host

    def script(self, steps: list[StepForm], host: HostSpec | None = None) -> Script:
        """Some of its steps, ready to be played."""
        return Script(self.form.name, steps, host or self.host, self.path, self.texts, self.form.about)

    def variant(self, values: Mapping[str, Any]) -> HostSpec:
        """The host with these values of the axes. Raises ValueError."""
        form = VariantForm.model_validate(self.filled_variant(values))
        host = apply_variant(self.host, form, self.path.parent)
        return replace(host, defects=[*host.defects, self.mutant]) if self.mutant else host

    def filled_variant(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What of the host differs from its file, with these values."""
        given = {name: getattr(self.form, name) for name in ("profile", "defects", "drivers", "without")}
        return {name: fill(value, values) for name, value in given.items() if value}
