"""Campaign files: what is wrong with one is told with file, line, column and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xenaer.boot import data_dir
from xenaer.campaign.file import load_campaign, load_script
from xenaer.campaign.steps.script import ScriptError
from xenaer.yaml_lines import InputError

HOST = f"host: {data_dir('hosts') / 'pair.yaml'}\n"
HEAD = "name: x\n" + HOST
INJECT = "faults:\n  - inject: {device: nic0, errors: [$error]}\n"
MATRIX = "explore:\n  matrix:\n    axes:\n"

# case, text after name and host, line and column, words of the message
MISTAKES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("steps and faults", "steps: [{sleep: {ms: 1}}]\n" + INJECT + MATRIX + "      error: [RxErr]\n", "1:1", ("steps",)),
    ("nothing to do", "about: x\n", "1:1", ("needs either steps, or faults and explore",)),
    ("two explorations", INJECT + "explore: {matrix: {}, random: {cases: 1}}\n", "5:1", ("exactly one of",)),
    ("unknown axis", INJECT + MATRIX + "      eror: [RxErr]\n", "4:37", ("no axis 'error'", "did you mean 'eror'")),
    ("unused axis", INJECT + MATRIX + "      error: [RxErr]\n      other: [1]\n", "9:7", ("nothing uses this axis",)),
    ("wrong value", INJECT + MATRIX + "      error: [RxErr, Nonsense]\n", "4:28", ("Nonsense", "error=Nonsense")),
    ("unknown device", "faults:\n  - inject: {device: nic9, errors: [RxErr]}\nexplore: {matrix: {}}\n", "4:14",
     ("no device 'nic9'", "allowed: nic0, nic1")),
    ("drawn in a matrix", INJECT + MATRIX + "      error: {draw: [0.0, 1.0]}\n", "8:7", ("only random and guided",)),
    ("unknown sort of values", INJECT + MATRIX + "      error: {erors: all}\n", "8:15", ("erors", "did you mean")),
    ("empty axis", INJECT + MATRIX + "      error: []\n", "8:7", ("at least one value",)),
    ("circle", INJECT + MATRIX + "      error: [$error]\n", "8:7", ("mention the axis itself",)),
    ("unknown stratum", INJECT + MATRIX + "      error: [RxErr]\n    strata: [eror]\n", "9:14", ("no axis 'eror'",)),
    ("random without an end", INJECT + "explore: {random: {axes: {error: [RxErr]}}}\n", "5:11", ("needs a limit",)),
    ("unknown outcome", INJECT + MATRIX + "      error: [RxErr]\nexpect: [{outcomes: [fine]}]\n", "9:22",
     ("'fine' is not allowed", "recovered")),
    ("unknown guest", INJECT + MATRIX + "      error: [RxErr]\nexpect: [{verified: [nobody]}]\n", "9:11",
     ("no guest 'nobody'", "allowed: left, right")),
    ("where without axis", INJECT + MATRIX + "      error: [RxErr]\nexpect: [{where: {a: 1}}]\n", "9:19",
     ("no axis 'a'",)),
    ("unknown defect", "defects: [D99]\n" + INJECT + MATRIX + "      error: [RxErr]\n", "3:11", ("no defect 'D99'",)),
    ("nobody to leave out", "without: [left, nic7]\n" + INJECT + MATRIX + "      error: [RxErr]\n", "3:17",
     ("no guest and no device 'nic7'",)),
    ("unknown driver", "drivers: [{guest: left, device: nic0, driver: nothing}]\n" + INJECT + MATRIX
     + "      error: [RxErr]\n", "3:11", ("no guest driver 'nothing'", "allowed: xnic")),
    ("unknown scenario", "explore: {scenarios: {rows: [Y*]}}\n", "3:23", ("no scenario",)),
    ("bad seed", "seed: many\n" + INJECT + MATRIX + "      error: [RxErr]\n", "3:1", ("a whole number",)),
    ("bad name", "workload: -1\n" + INJECT + MATRIX + "      error: [RxErr]\n", "3:1", ("workload",)),
)  # fmt: skip


@pytest.mark.parametrize(("text", "place", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistake_is_named(tmp_path: Path, text: str, place: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(InputError) as caught:
        load_campaign(path)
    begin = re.compile(rf"{re.escape(str(path))}:{place}: ")
    found = caught.value.problems
    assert any(begin.match(item) and all(word in item for word in words) for item in found), found
    assert not any("\n" in item for item in found)


def test_a_host_may_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "campaign.yaml"
    inline = 'host:\n  name: h\n  hierarchy:\n    - root_port: "00:1c.0"\n      devices: [{nic: "01:00.0", name: n}]\n'
    text = inline + "  guests: [{name: g, devices: [{device: n}]}]\nfaults: [{inject: {device: n, errors: [RxErr]}}]\n"
    path.write_text("name: x\n" + text + "explore: {matrix: {}}\n")
    assert [guest.name for guest in load_campaign(path).host.guests] == ["g"]
    path.write_text("name: x\n" + text.replace("nic:", "nick:") + "explore: {matrix: {}}\n")
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}:6:\d+: hierarchy\[0\]\.devices\[0\]"):
        load_campaign(path)


def test_a_host_may_come_from_a_dump(tmp_path: Path) -> None:
    dump = sorted((Path(__file__).parents[1] / "xenaer" / "data").glob("*.txt"))[0]
    path = tmp_path / "campaign.yaml"
    path.write_text(f"name: x\nhost: {{lspci: {dump}, guests: {{}}}}\nsteps: [{{sleep: {{ms: 1}}}}]\n")
    assert load_campaign(path).host.functions
    path.write_text("name: x\nhost: {lspci: nowhere.txt, guests: {}}\nsteps: [{sleep: {ms: 1}}]\n")
    with pytest.raises(InputError, match=r"campaign\.yaml:2:8: host\.lspci: cannot read .*nowhere\.txt"):
        load_campaign(path)


def test_variants_of_a_host(tmp_path: Path) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(
        HEAD + "profile: $profile\ndrivers: [{guest: left, device: nic0, driver: $driver}]\nwithout: [right, nic1]\n"
        "faults: [{inject: {device: nic0, errors: [RxErr]}}]\n"
        "explore: {matrix: {axes: {profile: [linux, hardened], driver: [silent, xnic]}}}\n"
    )
    campaign = load_campaign(path)
    host = campaign.variant({"profile": "linux", "driver": "silent"})
    assert (host.profile, [guest.name for guest in host.guests]) == ("linux", ["left"])
    assert host.guests[0].devices[0].driver.driver == "silent"
    assert not [function for function in host.functions if function.name == "nic1"]
    assert campaign.host.profile == "hardened"


def test_a_script_is_a_campaign_with_steps(tmp_path: Path) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(HEAD + INJECT + MATRIX + "      error: [RxErr]\n")
    with pytest.raises(ScriptError, match="xenaer campaign run"):
        load_script(path)
    assert len(load_script(data_dir("campaigns") / "2008-letter.yaml").steps) == 26
