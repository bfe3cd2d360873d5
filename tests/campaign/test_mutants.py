"""Mutants are hunted in processes of their own: found, survived, killed when they hang, told when they cannot start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign.files import host
from tests.tidy.sources import ROOT
from xenaer.campaign.alone import play_alone
from xenaer.campaign.case import CaseResult, Outcome, Task
from xenaer.campaign.explorations import make_exploration
from xenaer.campaign.file import load_campaign
from xenaer.campaign.mutants.catalogue import CONTROL, MUTATIONS, kind_of
from xenaer.campaign.mutants.hook import install
from xenaer.campaign.mutants.mutation import MutationError
from xenaer.campaign.mutants.player import FOUND_BY
from xenaer.campaign.running import NO_SIZE

pytestmark = pytest.mark.processes

SMOKE = ROOT / "campaigns" / "smoke.yaml"
COLD = "aer-fatal-not-frozen"  # a fatal error is recovered without a reset
HARMLESS = "xs-reader-writes"  # no error of a device writes what it may not


def mutants_file(folder: Path, more: str, *campaigns: Path, control: bool = False) -> Path:
    """A campaign of mutants."""
    files = ", ".join(f"{{file: {path}}}" for path in campaigns or (SMOKE,))
    path = folder / "mutants.yaml"
    text = f"name: m\nexplore: {{mutants: {{campaigns: [{files}], control: {str(control).lower()}, {more}}}}}\n"
    path.write_text(text)
    return path


def played(path: Path) -> list[CaseResult]:
    """All its mutants, in order."""
    campaign = load_campaign(path)
    (recipes,) = make_exploration(campaign, NO_SIZE).rounds()
    return [play_alone(campaign, "simulated", Task(number, recipe)) for number, recipe in enumerate(recipes)]


def one(folder: Path, label: str, *campaigns: Path) -> CaseResult:
    """What comes of one mutant."""
    if label == CONTROL:  # there is none without another mutant
        return played(mutants_file(folder, "defects: [], mutations: [xs-reader-writes]", *campaigns, control=True))[1]
    kinds = f"defects: [{label}], mutations: []" if kind_of(label) == "defect" else f"defects: [], mutations: [{label}]"
    (result,) = played(mutants_file(folder, kinds, *campaigns))
    return result


# -- the hook ----------------------------------------------------------------------------------------
def test_the_hook_changes_one_module_of_one_process_and_no_file() -> None:
    row = MUTATIONS[COLD]
    path = ROOT / f"{row.module.replace('.', '/')}.py"
    before = path.read_bytes()
    look = f"import {row.module} as m; print(list(m.RECOVER_AS.values())[1].name, m.__file__)"
    mutated = (
        "from xenaer.campaign.mutants.catalogue import MUTATIONS; "
        f"from xenaer.campaign.mutants.hook import install; install(MUTATIONS[{COLD!r}]); {look}"
    )
    said = [
        subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for text in (look, mutated, look)
    ]
    assert [text.split() for text in said] == [["FROZEN", str(path)], ["NORMAL", str(path)], ["FROZEN", str(path)]]
    assert path.read_bytes() == before


def test_a_module_that_is_there_already_cannot_be_mutated() -> None:
    import dom0_pciback.aer.handle  # noqa: F401, PLC0415

    with pytest.raises(MutationError, match="is imported already"):
        install(MUTATIONS[COLD])


# -- found, survived ---------------------------------------------------------------------------------
def test_a_mutation_is_found_with_the_case_that_found_it(tmp_path: Path) -> None:
    result = one(tmp_path, COLD)
    assert result.good
    assert result.text.startswith(f"{COLD}: found by smoke, case 00000")
    assert result.feedback[FOUND_BY]["campaign"] == "smoke"
    assert result.feedback[FOUND_BY]["outcome"] == result.outcome


def test_it_is_found_again_by_the_same_case_with_the_same_journal(tmp_path: Path) -> None:
    first, second = one(tmp_path, COLD), one(tmp_path, COLD)
    assert first.digest
    assert (first.text, first.digest) == (second.text, second.digest)


def test_a_survivor_is_not_good_and_says_what_was_played(tmp_path: Path) -> None:
    result = one(tmp_path, HARMLESS)
    assert (result.outcome, result.good) == (Outcome.NO_EFFECT, False)
    assert result.text == f"{HARMLESS}: no campaign found anything; cases played: smoke 8"


def test_a_defect_is_judged_as_if_nobody_had_named_it(tmp_path: Path) -> None:
    """D8, as part of the campaign, is a question about the defect; as a mutant it must be noticed."""
    path = tmp_path / "scenario.yaml"
    path.write_text("name: s\nexplore: {scenarios: {rows: [D8]}}\n")
    result = one(tmp_path, "D8", path)
    assert result.good
    assert "found by s, case 000000" in result.text


def test_nothing_is_found_in_the_cores_as_they_are(tmp_path: Path) -> None:
    """The first campaigns of the shipped plan, played as each mutant has them played."""
    shipped = load_campaign(ROOT / "campaigns" / "mutants.yaml").form.explore
    assert shipped is not None
    assert shipped.mutants is not None
    files = [ROOT / "campaigns" / each.file for each in shipped.mutants.campaigns[:3]]
    result = one(tmp_path, CONTROL, *files)
    assert (result.outcome, result.good) == (Outcome.NO_EFFECT, True), result.text
    assert result.text.count(",") == 2, "all three have been played"


# -- what does not come back, what does not start -------------------------------------------------------
def test_a_case_that_never_comes_back_is_killed_and_found(tmp_path: Path) -> None:
    module = tmp_path / "endless.py"
    module.write_text(
        "import os, pathlib, time\nfrom domu_pcifront.driver import PciDriver\n\n\n"
        "class Endless(PciDriver):\n    name = 'endless'\n\n"
        "    def error_detected(self, state):\n"
        "        (pathlib.Path(__file__).parent / 'pid').write_text(str(os.getpid()))\n"
        "        while True:\n            time.sleep(0.01)\n"
    )
    path = tmp_path / "endless.yaml"
    path.write_text(
        "name: e\n" + host("pair") + "drivers: [{guest: left, device: nic0, driver: 'endless:Endless'}]\n"
        "faults: [{inject: {device: nic0, errors: [DLP]}}]\nexplore: {matrix: {}}\ncase_limit_s: 1\n"
    )
    result = one(tmp_path, HARMLESS, path)
    assert (result.outcome, result.good) == (Outcome.HANG, True)
    assert result.text == f"{HARMLESS}: found by e, case 000000: no result within 1 s of real time"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_process_that_dies_in_a_case_is_the_harness_error_of_that_case(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(
        "import os\nfrom domu_pcifront.driver import PciDriver\n\n\n"
        "class Leaving(PciDriver):\n    name = 'leaving'\n\n    def error_detected(self, state):\n        os._exit(7)\n"
    )
    path = tmp_path / "leaving.yaml"
    path.write_text(
        "name: e\n" + host("pair") + "drivers: [{guest: left, device: nic0, driver: 'leaving:Leaving'}]\n"
        "faults: [{inject: {device: nic0, errors: [DLP]}}]\nexplore: {matrix: {}}\n"
    )
    result = one(tmp_path, HARMLESS, path)
    assert (result.outcome, result.good) == (Outcome.HARNESS_ERROR, True)
    assert "found by e, case 000000: the worker ended with exit status 7" in result.text


def test_a_system_that_does_not_start_is_found_as_such(tmp_path: Path) -> None:
    path = tmp_path / "unset.yaml"
    path.write_text(
        "name: u\n" + host("pair") + "setup: [{wait: {gone: left, within_s: 1}}]\n"
        "faults: [{inject: {device: nic0, errors: [RxErr]}}]\nexplore: {matrix: {}}\n"
    )
    result = one(tmp_path, HARMLESS, path)
    assert (result.outcome, result.good) == (Outcome.HARNESS_ERROR, True)
    assert "found by u, could not start: setup, step 1" in result.text


def test_a_process_that_ends_without_a_word_of_a_case_finds_nothing(tmp_path: Path) -> None:
    """A campaign that is gone when its turn comes: no run of it would have said so of the mutant."""
    path = tmp_path / "gone.yaml"
    path.write_text(SMOKE.read_text().replace("../hosts", str(ROOT / "hosts")))
    campaign = load_campaign(mutants_file(tmp_path, f"defects: [], mutations: [{HARMLESS}]", path))
    path.unlink()
    (recipes,) = make_exploration(campaign, NO_SIZE).rounds()
    result = play_alone(campaign, "simulated", Task(0, recipes[0]))
    assert (result.outcome, result.good) == (Outcome.HARNESS_ERROR, False)
    assert "it ended with exit status 1" in result.text
