"""What the page is told: counts of all cases, origins of errors, and a sentence for what it cannot show."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.report.rig import EVIL, campaign_file, data_of, made_up, played, row
from xenaer.campaign.build import Builder
from xenaer.campaign.case import Outcome
from xenaer.campaign.file import load_campaign
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.verdict.percentiles import Spread
from xenaer.cli import main
from xenaer.report.columns import VALUES_MAX, Column
from xenaer.report.gather import Data
from xenaer.report.origin import Origins
from xenaer.report.page import FOLDER, as_script, render
from xenaer.report.write import report


@pytest.fixture(name="run", scope="module")
def fixture_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    return played(tmp_path_factory.mktemp("reported"))


def shown(run: Path) -> Data:
    """What the page of a run is told."""
    return data_of(report(run).read_text(encoding="utf-8"))


def summed(cells: list[list[int]]) -> int:
    return sum(cell[3] for cell in cells)


def test_counts_are_those_of_the_results(run: Path) -> None:
    data = shown(run)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    strata = {entry["name"]: {name: sum(pair) for name, pair in entry["outcomes"].items()} for entry in data["strata"]}
    assert strata == results["strata"]
    assert data["about"]["failing"] == results["failing"] == len(data["failing"])
    assert data["about"]["cases"] == results["cases"] == 36
    assert {entry["name"]: entry["reached"] for entry in data["coverage"]["sections"]} == {
        entry["name"]: entry["reached"] for entry in results["coverage"]
    }
    assert data["about"]["profile"] == "linux"
    assert data["empty"] == {}


def test_percentiles_are_those_of_the_results(run: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    found = {phase["phase"]: phase for phase in shown(run)["times"][0]["phases"]}
    assert {
        name: {key: found[name][key] for key in times} for name, times in results["figures"][0]["times"].items()
    } == (results["figures"][0]["times"])
    assert all(sum(count for _, count in phase["bins"]) == phase["n"] for phase in found.values())


def test_every_pair_of_axes_has_every_case(run: Path) -> None:
    matrix = shown(run)["matrix"]
    assert [axis["name"] for axis in matrix["axes"]] == ["source", "error", "phase", "does"]
    assert len(matrix["pairs"]) == 6
    assert {summed(cells) for cells in matrix["pairs"].values()} == {36}
    assert matrix["axes"][0]["labels"] == ["nic0", "nic1", "switch0"]


def test_axes_with_too_many_cells_are_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenaer.report.gather.CELLS_MAX", 30)
    matrix = shown(run)["matrix"]
    assert 0 < len(matrix["pairs"]) < 6
    monkeypatch.undo()
    report(run)


def test_a_cell_counts_its_cases(run: Path) -> None:
    data = shown(run)
    with RunFolder.read(run) as folder:
        wanted = Counter(
            (json.loads(found.recipe_json)["values"]["source"], found.outcome) for found in folder.store.rows()
        )
    counted: Counter[tuple[int, str]] = Counter()
    for source, _, code, count in data["matrix"]["pairs"]["0,1"]:
        counted[source, data["outcomes"][code >> 1]] += count
    assert counted == wanted


def test_the_blast_radius_has_sources_errors_and_guests(run: Path) -> None:
    data = shown(run)
    assert {entry["source"] for entry in data["blast"]} == {"0000:03:00.0", "0000:05:00.0", "0000:01:00.0"}
    assert {entry["error"] for entry in data["blast"]} == {"CmpltTO", "MalfTLP"}
    assert sum(entry["cases"] for entry in data["blast"]) == 36
    assert all(sum(outcomes.values()) == 6 for entry in data["blast"] for outcomes in entry["guests"].values())
    nodes = {node["bdf"]: node for node in data["host"]["nodes"]}
    assert nodes["0000:03:00.0"] == {
        "bdf": "0000:03:00.0", "parent": "0000:02:00.0", "name": "nic0", "kind": "network device", "guest": "left",
        "aer": True,
    }  # fmt: skip


def test_diagrams_have_lanes_for_who_takes_part(run: Path) -> None:
    data = shown(run)
    case = next(case for case in data["cases"] if case["values"]["source"] == "nic0")
    assert case["lanes"][:5] == ["hardware", "AER core", "pciback", "pcifront left", "driver left"]
    assert case["lanes"][-1] == "stub"
    kinds = {data["kinds"][line[3]] for line in case["rows"]}
    assert kinds >= {"ask", "error", "log", "fault"}
    asked = [line for line in case["rows"] if data["kinds"][line[3]] == "ask" and line[1] == 2]
    assert {line[2] for line in asked} == {3}
    assert [name for kind, name, *_ in case["ranges"] if kind == "recovery"] == ["recovery 0000:03:00.0"]


# -- origins and columns -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("steps", "source", "error"),
    [
        ("inject: {device: nic0, errors: [CmpltTO, RxErr]}", "0000:03:00.0", "CmpltTO + RxErr"),
        ("inject: {devices: [nic0, nic1], uncorrectable: 16}", "0000:03:00.0 + 0000:05:00.0", "DLP"),
        ("storm: {device: nic1, mix: {RxErr: 1}, count: 2, rate_per_s: 9}", "0000:05:00.0", "RxErr"),
        ("touch: {device: nic0, function: 1}", "0000:03:00.0", "read of a missing function"),
        ("gone: {device: nic0, how: dead}", "0000:03:00.0", "gone: dead"),
        ("slow-start: {guest: left, ms: 5}", "", ""),
    ],
)
def test_where_an_error_arises(tmp_path: Path, steps: str, source: str, error: str) -> None:
    path = campaign_file(
        tmp_path, f"name: x\nhost: {{host}}\nsteps:\n  - {steps.replace('{', '{{').replace('}', '}}')}\n"
    )
    assert Origins(load_campaign(path)).of({}) == (source, error)


def test_an_axis_may_be_a_whole_step(tmp_path: Path) -> None:
    text = """\
name: x
host: {host}
faults: [$what]
explore:
  matrix:
    axes:
      what: [{{inject: {{device: $device, errors: [CmpltTO]}}}}, {{touch: {{device: nic1, function: 1}}}}]
      device: [nic0, disk0]
"""
    campaign = load_campaign(campaign_file(tmp_path, text))
    builder, origins = Builder(campaign), Origins(campaign)
    values = [builder.values({"values": {"what": what, "device": device}}) for what in (0, 1) for device in (0, 1)]
    assert [origins.of(each)[0] for each in values] == ["0000:03:00.0", "0000:04:00.0", "0000:05:00.0", "0000:05:00.0"]
    assert origins.several == (True, True)


def test_when_a_step_strikes_does_not_decide_where_its_error_arises(tmp_path: Path) -> None:
    """A moment that is drawn is in no way a device that is."""
    text = """\
name: x
host: {host}
faults: [$what]
explore:
  random:
    axes:
      what: [null, {{at: $moment, inject: {{device: nic0, errors: [DLP]}}}}]
      moment: [{{ms: $soon}}, {{phase: resume}}]
      soon: {{draw: [0.0, 1.0]}}
    cases: 4
"""
    origins = Origins(load_campaign(campaign_file(tmp_path, text)))
    assert origins.axes == ["what"]
    step = {"at": "$moment", "inject": {"device": "nic0", "errors": ["DLP"]}}
    assert [origins.of({"what": what}) for what in (None, step)] == [("", ""), ("0000:03:00.0", "DLP")]


def test_a_column_has_an_end() -> None:
    column = Column("x")
    numbers = [column.number(str(index)) for index in range(3 * VALUES_MAX)]
    assert len(column.labels) == VALUES_MAX + 1
    assert column.labels[-1] == "others"
    assert numbers[-1] == VALUES_MAX
    assert column.number("0") == 0


def test_many_times_at_once_are_the_same_as_one_by_one() -> None:
    values = [0.1 * number - 1 for number in range(3000)]
    one, many = Spread(), Spread()
    for ms in values:
        one.add(ms)
    for begin in range(0, 3000, 700):
        many.extend(values[begin : begin + 700])
    assert one.plain() == many.plain()


# -- what cannot be shown ------------------------------------------------------------------------------
def test_an_empty_run_says_so(tmp_path: Path) -> None:
    data = shown(made_up(tmp_path, []))
    assert data["empty"].keys() == {"strata", "matrix", "blast", "times", "coverage", "failing", "cases"}
    assert all("No case of this run is finished" in text for text in data["empty"].values())
    assert not data["about"]["complete"]


def test_half_a_run_is_shown_as_far_as_it_got(tmp_path: Path) -> None:
    data = shown(made_up(tmp_path, [row(0), row(1, Outcome.HANG)]))
    assert not data["about"]["complete"]
    assert (data["about"]["cases"], data["about"]["failing"]) == (2, 1)
    assert "no times" in data["empty"]["times"]
    assert "No journal of this run was kept" in data["empty"]["cases"]


def test_a_run_that_went_on_is_not_complete(run: Path, tmp_path: Path) -> None:
    """results.json is of the sitting before."""
    copy = shutil.copytree(run, tmp_path / "copy")
    with closing(sqlite3.connect(copy / "results.sqlite", isolation_level=None)) as db:
        db.execute("DELETE FROM cases WHERE number = 3")
    assert shown(run)["about"]["complete"]
    assert not shown(copy)["about"]["complete"]


def test_without_failing_case(tmp_path: Path) -> None:
    data = shown(made_up(tmp_path, [row(0), row(1)]))
    assert data["empty"]["failing"].startswith("No case failed")


def test_a_campaign_that_has_changed(tmp_path: Path) -> None:
    path = made_up(tmp_path, [row(0, recipe={"values": {"source": 1}}), row(1, Outcome.HANG)])
    (tmp_path / "shown.yaml").write_text("name: other\n")
    data = shown(path)
    assert "cannot be read any more" in data["empty"]["matrix"]
    assert data["about"]["reason"]
    assert data["host"] is None
    assert data["failing"][0]["values"]["source"] == "value 0"


def test_scenarios_have_a_host_each(tmp_path: Path) -> None:
    text = "name: x\nexplore: {{scenarios: {{rows: [I1, I2]}}}}\n"
    data = shown(made_up(tmp_path, [row(0, recipe={"values": {"scenario": 0}})], text))
    assert "a host of its own" in data["empty"]["blast"]
    assert data["host"] is None


def test_a_script_has_no_axes(tmp_path: Path) -> None:
    text = "name: x\nhost: {host}\nsteps:\n  - inject: {{device: nic0, errors: [CmpltTO]}}\n"
    data = shown(made_up(tmp_path, [row(0, recipe={}, guests={"left": "recovered"})], text))
    assert "fewer than two axes" in data["empty"]["matrix"]
    assert data["blast"][0]["source"] == "0000:03:00.0"


def test_nothing_arises_anywhere(tmp_path: Path) -> None:
    text = "name: x\nhost: {host}\nsteps:\n  - sleep: {{ms: 1}}\n"
    assert "no source to choose" in shown(made_up(tmp_path, [row(0, recipe={})], text))["empty"]["blast"]


HOST = """\
name: x
host:
  name: bare
  hierarchy: [{hierarchy}]
  guests: [{guests}]
steps: [{{sleep: {{ms: 1}}}}]
"""
INTEGRATED = '{rciep: "00:02.0", name: gfx, aer: false}'


@pytest.mark.parametrize(
    ("hierarchy", "guests", "sentences"),
    [
        (INTEGRATED, "{name: one, devices: [{device: gfx, driver: xnic}]}", ["no bridges", "Without AER", "gfx"]),
        ('{root_port: "00:1c.0", devices: []}', "", ["no guests"]),
        ('{root_port: "00:1c.0", devices: []}', "{name: one, devices: []}", ["No guest of this host has a device"]),
    ],
)
def test_hosts_that_show_little(tmp_path: Path, hierarchy: str, guests: str, sentences: list[str]) -> None:
    text = HOST.format(hierarchy=hierarchy, guests=guests).replace("{", "{{").replace("}", "}}")
    remarks = " ".join(shown(made_up(tmp_path, [row(0, recipe={})], text))["remarks"])
    assert all(sentence in remarks for sentence in sentences), remarks


# -- the file ----------------------------------------------------------------------------------------------
def test_what_stands_in_a_script_cannot_end_it() -> None:
    text = as_script({"text": EVIL})
    assert not set(text) & set("<>&")
    assert text.isascii()
    assert json.loads(text) == {"text": EVIL}


def test_what_looks_like_a_part_of_the_template_stays(run: Path) -> None:
    data = shown(run)
    data["about"]["name"] = "@@script@@ <b>"
    text = render(data)
    assert "<title>@@script@@ &lt;b&gt;: xenaer</title>" in text
    assert data_of(text) == data


def test_the_page_needs_nothing_else(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    own = "".join(file.read_text(encoding="utf-8") for file in FOLDER.iterdir())
    assert not [word for word in ("https://", "import(", "fetch(", "innerHTML") if word in own]
    assert own.count("http://") == 1  # the name of SVG
    assert "default-src 'none'" in text
    assert "src=" not in own
    assert len(text) < 1_000_000


# -- commands ---------------------------------------------------------------------------------------------------
def test_report_elsewhere(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "elsewhere.html"
    assert main(["campaign", "report", "--from", str(run), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output} is written; open it in a browser\n"
    assert output.read_bytes() == (run / "report.html").read_bytes()


def test_report_where_nobody_can_write(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "report", "--from", str(run), "--output", str(tmp_path / "no" / "x.html")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", [["report"], ["trace", "000000", "--output", "x"]])
def test_a_run_of_another_format(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    options: dict[str, Any] = json.loads((copy / "options.json").read_text())
    (copy / "options.json").write_text(json.dumps(options | {"format": 99}))
    assert main(["campaign", *command, "--from", str(copy)]) == 2
    assert capsys.readouterr().err == f"xenaer: {copy}: a run of format 99; this xenaer reads and writes format 1\n"


def test_there_is_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "report", "--from", str(tmp_path / "nowhere")]) == 2
    assert "there is no such run directory" in capsys.readouterr().err


def test_the_wheel_has_the_page(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=100)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {f"xenaer/report/page/{file.name}" for file in FOLDER.iterdir()} <= names
