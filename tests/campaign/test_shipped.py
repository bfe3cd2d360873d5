"""Every shipped campaign holds what it promises: at its small size, or whole if it has none, in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tidy.sources import ROOT
from xenaer.campaign.file import load_campaign
from xenaer.cli import main

pytestmark = pytest.mark.processes

CAMPAIGNS = sorted((ROOT / "campaigns").glob("*.yaml"))
SMALL = "small"


@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.stem)
def test_it_passes(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--size", SMALL] if SMALL in load_campaign(path).form.sizes else []
    words = ["campaign", "run", str(path), *size, "--world", "simulated", "--jobs", "1", "--runs", str(tmp_path)]
    assert main(words) == 0, capsys.readouterr().out
