"""What a campaign of mutants says that cannot be played, each mistake at its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT
from xenaer.campaign.file import load_campaign
from xenaer.campaign.form import MUTANT, MUTANT_KIND
from xenaer.campaign.mutants.catalogue import CONTROL
from xenaer.yaml_lines import InputError

CAMPAIGNS = ROOT / "campaigns"
BEGIN = "name: m\nexplore:\n  mutants:\n    campaigns: "
GOOD = f"[{{file: {CAMPAIGNS / 'smoke.yaml'}}}]\n"

MISTAKES = (
    ("no such file", "[{file: nowhere.yaml}]\n", "4:18: ", ("nowhere.yaml", "no such file")),
    ("itself", "[{file: m.yaml}]\n", "4:18: ", ("m.yaml plays mutants itself",)),
    ("no such size", f"[{{file: {CAMPAIGNS / 'votes.yaml'}, size: tiny}}]\n", "4:", ("no size 'tiny'", "small")),
    ("broken one", "[{file: broken.yaml}]\n", "4:18: ", ("broken.yaml:1:1",)),
    ("own profile", "[{file: linux.yaml}]\n", "4:18: ", ("linux.yaml has defects or a profile of its own",)),
    ("processes", "[{file: real.yaml}]\n", "4:18: ", ("played in the world processes", "simulated")),
    ("none", "[]\n", "4:5: ", ("at least 1",)),
    ("no mutant", GOOD + "    defects: [\"E*\"]\n    mutations: []\n", "6:5: ", ("no mutant is called like that",)),
    ("other expectation", GOOD + "expect: [{outcomes: [hang]}]\n", "5:11", ("only good_at_least",)),
    ("axis", GOOD + "    axes: {a: [1]}\n", "5:12: ", ("nothing uses this axis",)),
    ("faults", GOOD + "faults: [{sleep: {ms: 1}}]\n", "1:1", ("scenarios or mutants, which bring their own",)),
)  # fmt: skip


@pytest.mark.parametrize(("text", "place", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistake_is_named(tmp_path: Path, text: str, place: str, words: tuple[str, ...]) -> None:
    host = f"host: {ROOT / 'hosts' / 'pair.yaml'}\nsteps: [{{sleep: {{ms: 1}}}}]\n"
    (tmp_path / "broken.yaml").write_text("nonsense: 1\n")
    (tmp_path / "linux.yaml").write_text(f"name: l\nprofile: linux\n{host}")
    (tmp_path / "real.yaml").write_text(f"name: r\nworld: processes\n{host}")
    path = tmp_path / "m.yaml"
    path.write_text(BEGIN + text)
    with pytest.raises(InputError) as caught:
        load_campaign(path)
    begin = re.compile(rf"{re.escape(str(path))}:{place}")
    found = caught.value.problems
    assert any(begin.match(item) and all(word in item for word in words) for item in found), found


def test_a_good_one_has_two_axes_and_the_control_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(BEGIN + GOOD + '    defects: ["D1*"]\n    mutations: ["xs-*"]\n    strata: [kind]\n')
    axes = load_campaign(path).axes
    labels = axes[MUTANT].values
    assert labels[-4:-1] == ("D17", "D18", "D19")
    assert labels[-1] == CONTROL
    assert axes[MUTANT_KIND].values == ("mutation", "defect", "control")
