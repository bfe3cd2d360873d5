"""I1 to I34 and X1 to X48 of xen-pci.md 7.5 and 10 in both profiles: every scenario has its expected outcome."""

from __future__ import annotations

import pytest

from tests.tidy.sources import ROOT
from xenaer.scenarios.documents import scenarios_text
from xenaer.scenarios.expected import PROFILES, expected
from xenaer.scenarios.hosts import letter
from xenaer.scenarios.library import PLAYED, SCENARIOS
from xenaer.scenarios.scenario import play
from xenaer.scenarios.stage import Stage
from xenaer.scenarios.words import play_steps


def test_every_number_of_the_specification_is_there() -> None:
    wanted = {f"I{n}" for n in range(1, 35)} | {f"X{n}" for n in range(1, 49)}
    assert wanted <= SCENARIOS.keys()
    assert {name for name in wanted if SCENARIOS[name].why_not} == {"X38", "X40"}
    assert expected().keys() == {scenario.name for scenario in PLAYED}


@pytest.mark.parametrize("name", [scenario.name for scenario in PLAYED])
def test_outcome(name: str) -> None:
    for profile in PROFILES:
        assert play(SCENARIOS[name], profile)._asdict() == expected()[name][profile]._asdict(), profile


def test_the_document_is_current() -> None:
    assert (ROOT / "docs" / "SCENARIOS.md").read_text(encoding="utf-8") == scenarios_text()


# -- what the table must say, whatever it says -------------------------------------------------------
@pytest.mark.parametrize("name", [scenario.name for scenario in PLAYED])
def test_hardened_is_trustworthy(name: str) -> None:
    """No oops, and a failed recovery is a reported or a dead guest, never one that lives on with its device."""
    row = expected()[name]["hardened"]
    assert not [note for note in row.notes if "oops" in note or "crash" in note]
    assert not [device for device in row.devices if " - dirty" in device and "hidden" not in device]


@pytest.mark.parametrize(
    ("name", "linux", "hardened"),
    [
        ("I8", "g1", ""),  # a mute guest lives in linux
        ("I13", "", "g1"),  # D22
        ("I14", "", "g1"),  # D20
        ("I19", "", "g1"),  # D21
        ("I11", "", ""),
        ("I17", "g1 g2", "g2"),
        ("X17", "h1", ""),
        ("X24", "", ""),
        ("X23", "", "h1"),
    ],
)
def test_who_lives(name: str, linux: str, hardened: str) -> None:
    rows = expected()[name]
    assert (" ".join(rows["linux"].alive), " ".join(rows["hardened"].alive)) == (linux, hardened)


@pytest.mark.parametrize(
    ("name", "profile", "order"),
    [
        ("S6", "hardened", ["begin A", "end A", "end B", "reset A"]),
        ("S6", "linux", ["begin A", "reset A", "end A"]),
        ("S8", "hardened", ["reset A", "begin B"]),
        ("S8", "linux", ["begin B", "reset A", "end B"]),
    ],
)
def test_a_reset_by_sysfs_and_a_recovery_are_apart_in_hardened(name: str, profile: str, order: list[str]) -> None:
    scenario = SCENARIOS[name]
    stage = Stage(scenario.spec(profile))
    stage.boot()
    play_steps(stage, scenario.steps)
    words = {"recovery.begin": "begin", "recovery.end": "end", "pci.reset": "reset"}
    seen = [
        f"{words[e['label']]} {letter(str(e['subject']))}"
        for e in stage.system.records(stage.mark)[0]
        if e["label"] in words
    ]
    assert seen[: len(order)] == order


def test_hardened_reports_once() -> None:
    """H23; the scenario with two incidents of a guest that is let alone has two reports."""
    twice = {name for name, rows in expected().items() if rows["hardened"].aerfail > 1}
    assert twice == {"I9"}
