"""``report.html`` of a run: written where the run is, or elsewhere."""

from __future__ import annotations

from pathlib import Path

from xenaer.campaign.campaign import Campaign
from xenaer.campaign.run.run_folder import RunFolder, explained
from xenaer.campaign.run.summary import Summary
from xenaer.report.gather import Subject, gather, subject_of
from xenaer.report.page import render

REPORT = "report.html"


def write_report(folder: RunFolder, campaign: Campaign | None, summary: Summary) -> None:
    """At the end of a sitting, by the runner. Raises RunFolderError."""
    subject = subject_of(folder) if campaign is None else Subject(folder, campaign, "", summary.complete)
    folder.write_text(REPORT, render(gather(subject)))


def report(path: Path, output: Path | None = None) -> Path:
    """The report of the run in ``path``, again; the file that was written. Raises RunFolderError, also for OSError."""
    with RunFolder.read(path) as folder:
        text = render(gather(subject_of(folder)))
        if output is None:
            folder.write_text(REPORT, text)
            return folder.path / REPORT
    with explained(output):
        output.write_text(text, encoding="utf-8")
    return output
