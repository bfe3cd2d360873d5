"""junit: what readers of JUnit files need, for every result and every text."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.campaign.rig import options
from xenaer.campaign.case import CaseResult, Outcome
from xenaer.campaign.run.junit import write_junit
from xenaer.campaign.run.rows import Row, to_row
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.summary import summarize

NASTY = "a\x00b\x1b[31m <\"&'> \uffff ü\n\t"


def row(number: int, stratum: str, outcome: Outcome, good: bool, text: str = "") -> Row:
    """A finished case."""
    result = CaseResult(number, f"{number:06}-x", stratum, outcome, good, text, [text, "more"], wall_s=0.25)
    return to_row(result, {}, False)


ROWS = [
    row(0, "", Outcome.RECOVERED, True),
    row(1, "votes", Outcome.LOST, False, "the <guest> & its \x00 device"),
    row(2, "votes", Outcome.HARNESS_ERROR, False, "its worker died"),
    row(3, "votes", Outcome.HANG, False, "a\x1b[31mb\uffff\t"),
    row(4, "reset", Outcome.HARNESS_ERROR, False, "again"),
    row(5, "reset", Outcome.RECOVERED, True),
]


def written(tmp_path: Path, cases_max: int) -> ElementTree.Element:
    """The root of the file."""
    with RunFolder.create(options(name="a campaign <1>"), tmp_path) as folder:
        folder.add(ROWS)
        write_junit(folder, summarize(folder, True), cases_max)
        assert not list(folder.path.glob(".*"))
    return ElementTree.parse(folder.path / "junit.xml").getroot()


def check_structure(root: ElementTree.Element) -> None:
    """What Jenkins, GitLab and junitparser rely on: names, counts that add up, times, where a problem stands."""
    assert root.tag == "testsuites"
    assert {suite.tag for suite in root} <= {"testsuite"}
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["errors"]) == len(suite.findall("testcase/error"))
        assert suite.attrib["skipped"] == "0"
        assert len(suite.attrib["timestamp"]) == len("2026-11-20T16:00:09")
        for case in cases:
            assert case.attrib.keys() == {"classname", "name", "time"}
            assert float(case.attrib["time"]) >= 0
            assert len(case) <= 1
            assert all(problem.attrib.keys() == {"message", "type"} for problem in case)
    for name in ("tests", "failures", "errors"):
        assert int(root.attrib[name]) == sum(int(suite.attrib[name]) for suite in root)


def test_one_test_case_per_case(tmp_path: Path) -> None:
    root = written(tmp_path, 6)
    check_structure(root)
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == ("6", "2", "2")
    assert root.attrib["name"] == "a campaign <1>"
    assert [suite.attrib["name"].rpartition(".")[2] for suite in root] == ["a campaign <1>", "reset", "votes"]
    lost = root.find("testsuite/testcase[@name='000001-x']/failure")
    assert lost is not None
    assert lost.attrib == {"message": "the <guest> & its \ufffd device", "type": "lost"}
    assert lost.text == "the <guest> & its \ufffd device\nmore"
    hang = root.find("testsuite/testcase[@name='000003-x']/failure")
    assert hang is not None
    assert hang.attrib["message"].startswith("a\ufffd[31mb\ufffd")


def test_one_test_case_per_stratum_when_they_are_many(tmp_path: Path) -> None:
    root = written(tmp_path, 5)
    check_structure(root)
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == ("3", "1", "1")
    votes = root.find("testsuite/testcase[@name='votes']/failure")
    assert votes is not None
    assert votes.attrib["message"] == "hang 1, harness-error 1, lost 1"
    assert votes.text is not None
    assert votes.text.splitlines()[1] == "000002-x harness-error: its worker died"
    assert root.find("testsuite/testcase[@name='reset']/error") is not None
    assert len(root.findall("testsuite/testcase[@name='all']/*")) == 0


def test_a_run_without_a_case(tmp_path: Path) -> None:
    with RunFolder.create(options(), tmp_path) as folder:
        write_junit(folder, summarize(folder, False))
    check_structure(ElementTree.parse(folder.path / "junit.xml").getroot())


@pytest.mark.parametrize("cases_max", [0, 1])
def test_no_text_breaks_the_file(cases_max: int, tmp_path: Path) -> None:
    with RunFolder.create(options(name=NASTY), tmp_path) as folder:
        folder.add([row(1, NASTY, Outcome.LOST, False, NASTY)])
        write_junit(folder, summarize(folder, True), cases_max)
    check_structure(ElementTree.parse(folder.path / "junit.xml").getroot())
