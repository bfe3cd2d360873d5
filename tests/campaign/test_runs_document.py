"""docs/RUNS.md says what is in a run's directory: every file, table, column, key and bit."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.campaign.plays import play
from tests.campaign.rig import PAYLOAD, Listed, options
from xenaer.campaign.run import chunks, dispatch, journals, junit, rows, summary
from xenaer.campaign.run.dispatch import Crew
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.run_options import RunOptions
from xenaer.campaign.run.runner import CampaignRunner
from xenaer.report.write import write_report

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "RUNS.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a heading."""
    return re.split(rf"^#+ {re.escape(title)}$", TEXT, flags=re.MULTILINE)[1].partition("\n#")[0]


def first_column(text: str) -> list[str]:
    """Names in the first column of a table."""
    rows = re.findall(r"^\| (`[^|]*) \|", text, flags=re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def show(folder: RunFolder, summary: summary.Summary) -> None:
    """This run has no campaign, so its report shows what can be shown without."""
    write_report(folder, None, summary)


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with a journal."""
    with RunFolder.create(options(), tmp_path_factory.mktemp("runs")) as folder, ThreadPoolExecutor(1) as threads:
        exploration = Listed([{"do": "fail"}, {}])
        CampaignRunner(exploration, play, PAYLOAD, Crew(threads, 1), folder, report=show).run()
    return folder.path


def test_every_file_is_documented(run: Path) -> None:
    assert sorted(name.rstrip("/") for name in first_column(TEXT.partition("\n## ")[0])) == sorted(
        path.name for path in run.iterdir()
    )


def test_every_table_and_column_is_documented(run: Path) -> None:
    with RunFolder.read(run) as folder:
        tables = [str(name) for (name,) in folder.store.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [str(row[1]) for row in folder.store.query(f"PRAGMA table_info({table})")]
            assert first_column(section(table)) == columns
    assert re.findall(r"^### (\w+)$", TEXT, flags=re.MULTILINE) == tables


def test_the_examples_are_valid(run: Path) -> None:
    examples = re.findall(r"^ {4}SELECT.*?;$", section("results.sqlite"), flags=re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    with RunFolder.read(run) as folder:
        for example in examples:
            list(folder.store.query(example))


def test_every_key_is_documented(run: Path) -> None:
    data = json.loads((run / "results.json").read_text())
    assert sorted(first_column(section("results.json"))) == sorted(data)
    for name in data["failures"][0]:
        assert f"`{name}`" in section("results.json")
    assert set(re.findall(r"`(\w+)`", section("options.json"))) - {"null"} == RunOptions.model_fields.keys()


def test_numbers_are_those_of_the_program() -> None:
    assert rows.EFFECTS == ("injected", "device", "root_port", "core", "guest")
    assert (rows.PLAYED_TWICE, rows.HAS_JOURNAL) == (1, 2)
    assert f"at most {journals.FAILING_MAX:,} journals of failing".lower() in TEXT.lower()
    assert f"at most {journals.SAMPLE_MAX} of others" in TEXT
    assert f"the first {summary.FAILURES_MAX:,} failing" in TEXT
    assert f"Up to {junit.CASES_MAX:,} cases" in TEXT
    assert f"the first {junit.EXAMPLES} failing" in TEXT
    assert f"{chunks.TWICE_SHARE:.0%}".replace("%", " %") in TEXT
    assert chunks.SAMPLED_SHARE == 1 / 1000
    assert f"about {dispatch.CHUNK_S} s" in TEXT
    assert dispatch.DEATHS_MAX == 2
