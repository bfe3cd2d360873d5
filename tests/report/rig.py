"""Runs to be shown, and a real browser to show them in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from xenaer.boot import data_dir
from xenaer.campaign.case import CaseResult, Outcome, Recipe
from xenaer.campaign.run.rows import Row, to_row
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.run_options import RunOptions
from xenaer.campaign.running import Request, run
from xenaer.report.gather import Data

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER_S = 100
EVIL = "</script><script>document.title='broken'</script><!-- <script> \u2028 \udc80 & \" '"

CAMPAIGN = """\
name: shown
about: The recovery of the real code, with drivers at their worst.
host: {host}
profile: linux
faults:
  - driver: {{guest: left, device: nic0, phase: $phase, does: $does}}
  - inject: {{device: $source, errors: [$error]}}
explore:
  matrix:
    axes:
      source: [nic0, nic1, switch0]
      error: [CmpltTO, MalfTLP]
      phase: [error_detected, slot_reset]
      does: [hang, panic, invalid]
    strata: [does]
expect:
  - never: [hang]
"""


def campaign_file(folder: Path, text: str = CAMPAIGN, host: str = "shared.yaml") -> Path:
    """A campaign in ``folder``, on a shipped host."""
    path = folder / "shown.yaml"
    path.write_text(text.format(host=data_dir("hosts") / host), encoding="utf-8")
    return path


def played(folder: Path, text: str = CAMPAIGN, host: str = "shared.yaml") -> Path:
    """The directory of a run of such a campaign."""
    return run(Request(campaign_file(folder, text, host), jobs=1, runs=folder / "runs")).path


def made_up(folder: Path, rows: list[Row], text: str = CAMPAIGN, host: str = "shared.yaml") -> Path:
    """The directory of a run whose runner was killed after these cases."""
    file = campaign_file(folder, text, host)
    options = RunOptions(name="shown", seed=1, campaign=file.read_text(encoding="utf-8"), campaign_path=str(file))
    with RunFolder.create(options, folder / "runs") as opened:
        if rows:
            opened.add(rows)
        return opened.path


def row(number: int, outcome: Outcome = Outcome.RECOVERED, recipe: Recipe | None = None, **given: Any) -> Row:
    """A case that nobody played."""
    recipe = {"values": {"source": 0, "error": 0, "phase": 0, "does": 0}} if recipe is None else recipe
    given = {"stratum": "all", "good": outcome is Outcome.RECOVERED, "text": "made up", **given}
    return to_row(CaseResult(number, f"{number:06d}-made", outcome=outcome, **given), recipe, twice=False)


class _Data(HTMLParser):
    """Finds the data as a browser would: up to what ends the element."""

    def __init__(self) -> None:
        super().__init__()
        self.found = ""
        self.scripts = 0
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self._inside = ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        self.found += data if self._inside else ""


def data_of(text: str) -> Data:
    """The data in a page; it must have no script but its own."""
    parser = _Data()
    parser.feed(text)
    assert parser.scripts == 2
    found: Data = json.loads(parser.found)
    return found


def browser() -> str:
    """A browser; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("needs Chromium (Debian package chromium)")
    return found


def opened(page: Path, script: str = "", width: int = 1280) -> str:
    """What a browser makes of a page, as HTML, after ``script`` ran in it. Nothing may be on the console."""
    copy = page.with_name("opened.html")
    text = page.read_text(encoding="utf-8")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
        "--virtual-time-budget=5000", f"--user-data-dir={page.parent / 'browser'}", f"--window-size={width},900",
        copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=BROWSER_S, check=True)
    complaints = re.findall(r".*:CONSOLE.*", done.stderr)
    assert not complaints, complaints
    assert 'data-drawn="yes"' in done.stdout
    return done.stdout
