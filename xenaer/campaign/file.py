"""Campaign files: read, checked against their host, ready to be played; every mistake with file, line and column."""

from __future__ import annotations

from pathlib import Path

from xenaer.campaign.campaign import Campaign
from xenaer.campaign.check import check_campaign
from xenaer.campaign.form import CampaignForm
from xenaer.campaign.host_source import host_of
from xenaer.campaign.steps.script import Script, ScriptError
from xenaer.user_code import search_beside
from xenaer.yaml_lines import InputError, load, validate


def load_campaign(path: str | Path, host: str | Path | None = None) -> Campaign:
    """Read and check a campaign file (``host`` instead of the one it names).

    Raises ScriptError or HostError with everything that is wrong.
    """
    search_beside(Path(path))
    try:
        document = load(Path(path))
        form, problems = validate(document, CampaignForm)
    except InputError as error:
        raise ScriptError(error.problems) from error
    spec = host_of(document, form, Path(path), host, problems) if form is not None else None
    if form is not None and spec is not None:
        campaign = Campaign(form, spec, Path(path))
        problems += check_campaign(document, campaign)
        if not problems:
            return campaign
    raise ScriptError(problems)


def load_script(path: str | Path, host: str | Path | None = None) -> Script:
    """``load_campaign`` for a file that has steps. Raises ScriptError, HostError."""
    campaign = load_campaign(path, host)
    if campaign.form.steps is None:
        raise ScriptError([f"{path}: has no steps; play its cases with: xenaer campaign run {path}"])
    return campaign.script(campaign.form.steps)
