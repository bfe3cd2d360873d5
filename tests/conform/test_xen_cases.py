"""Every case recorded on a real Xen, performed again under the linux profile, one test per case and group of keys."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from xenaer.conform.case import read_json
from xenaer.conform.run import Outcome
from xenaer.conform.xen_case import XenCase, read_xen_case
from xenaer.conform.xen_compare import differing, explained, recorded_keys
from xenaer.conform.xen_keys import OUTPUTS
from xenaer.conform.xen_perform import perform
from xenaer.conform.xen_run import XenConformity, is_racy

CASES = Path(__file__).parents[1] / "recorded" / "xen"
NOT_PERFORMED = {"hvm-create": "nothing is injected"}  # errata R15
NAMES = sorted(path.stem for path in CASES.glob("*.json") if path.stem not in NOT_PERFORMED)

GROUPS: dict[str, tuple[str, ...]] = {
    "callbacks": ("summary.callbacks",),
    "steps": ("summary.pciback_steps",),
    "verdict": (
        "summary.verdict", "summary.aerState", "summary.guest_in_xl_list_after", "summary.guest_state_after",
    ),
    "dom0": ("dom0_dmesg",),
    "guest": ("domU_console",),
    "xenstore": ("after.xenstore",),
    "registers": ("after.regs", "after.aer_stats"),
}  # fmt: skip


@cache
def case(name: str) -> XenCase:
    path = CASES / f"{name}.json"
    return read_xen_case(path, read_json(path))


@cache
def outcome(name: str) -> Outcome:
    return XenConformity().run(case(name))


def given(name: str, group: str) -> list[str]:
    """Keys of the group that the recording has: none of an HVM guest's has a summary, for instance (R15)."""
    return recorded_keys(case(name).recorded, GROUPS[group])


PAIRS = [(name, group) for name in NAMES for group in GROUPS if given(name, group)]


def test_all_cases_are_there_and_every_key_is_in_a_group() -> None:
    assert len(NAMES) == 33
    assert sorted(key for keys in GROUPS.values() for key in keys) == sorted(OUTPUTS)
    assert len(PAIRS) == 31 * 3 + 33 * 3 + 29


@pytest.mark.parametrize(("name", "group"), PAIRS)
def test_case_is_reproduced(name: str, group: str) -> None:
    emitted, recorded = outcome(name).emitted, case(name).recorded
    keys = differing(emitted, recorded, GROUPS[group])
    assert not keys, "\n".join(line for key in keys for line in explained(key, emitted, recorded))


@pytest.mark.parametrize("name", NOT_PERFORMED)
def test_what_is_no_case_is_said_to_be_none(name: str) -> None:
    found = outcome(name)
    assert (found.verdict, found.text) == ("unsupported", [NOT_PERFORMED[name]])


def test_the_recorded_order_is_the_first_that_is_tried() -> None:
    """So a file without answers is written as the recorded machine would most likely do it."""
    assert {name: outcome(name).interleavings for name in NAMES} == dict.fromkeys(NAMES, 1)


def test_racy_cases_are_those_in_which_something_else_goes_on() -> None:
    """golden/xen/README.md names two-devices-both, detach-*, destroy-* and second-error-*."""
    named = ("two-devices-both", "detach-", "destroy-", "second-error-")
    assert {name for name in NAMES if name.startswith(named)} <= {name for name in NAMES if is_racy(case(name))}


# -- what a reproduction may know ----------------------------------------------------------------
@pytest.mark.parametrize("name", ["fatal-reset-none", "two-devices-both", "hvm-fatal", "unassigned"])
def test_only_the_input_keys_are_read(name: str) -> None:
    inputs = {key: value for key, value in case(name).recorded.items() if key not in ("summary", "after")}
    bare = read_xen_case(CASES / f"{name}.json", json.loads(json.dumps(inputs)))
    emitted = XenConformity().run(bare).emitted
    assert emitted == outcome(name).emitted


def test_the_same_seed_gives_the_same_and_another_seed_only_other_times() -> None:
    found = [perform(case("repeat-twice"), seed) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0].records != found[2].records
    assert found[0][2:] == found[2][2:]


# -- the findings, as the recordings tell them -------------------------------------------------------
def regs(name: str, line: int) -> dict[str, str]:
    return dict(item.split("=") for item in outcome(name).emitted["after"]["regs"][line].split()[1:])


def steps(name: str) -> list[str]:
    found: list[str] = outcome(name).emitted["summary"]["pciback_steps"]
    return found


def summary(name: str, key: str) -> Any:
    return outcome(name).emitted["summary"][key]


def test_finding_1_nothing_kills_the_guest() -> None:
    assert steps("fatal-ed-disconnect").count("kill_domain") == 1
    assert summary("fatal-ed-disconnect", "guest_in_xl_list_after")


def test_finding_2_aerstate_and_verdict_are_independent() -> None:
    assert (summary("no-driver", "verdict"), len(summary("no-driver", "aerState"))) == (["successful"], 1)
    assert (summary("nonfatal-ed-noaer", "verdict"), summary("nonfatal-ed-noaer", "aerState")) == (["failed"], [])


def test_finding_5_a_recovered_device_is_dead() -> None:
    found = regs("fatal-ed-recovered", 1)
    assert (found["cmd"], found["bars"]) == ("0000", "00000000,00000000,00000000,00000000,0000000c,00000000")
    assert summary("fatal-ed-recovered", "verdict") == ["successful"]


def test_finding_6_and_7_silence_counts_as_yes() -> None:
    assert steps("hang-error-detected")[3:5] == ["aer_op_ret ret=2", "bk_error_detected_ret ret=2"]
    assert steps("no-slot-reset")[9:11] == ["aer_op_ret ret=5", "bk_slot_reset_ret ret=5"]


def test_finding_13_a_detach_comes_in_between_two_phases() -> None:
    lines = [line[15:] for line in outcome("detach-during-recovery").emitted["dom0_dmesg"]]
    order = [
        next(i for i, line in enumerate(lines) if text in line)
        for text in ("mmio_enabled(", "resetting", "error_resume(")
    ]
    assert order == sorted(order)


def test_finding_18_destroy_hangs_behind_a_mute_guest() -> None:
    assert summary("destroy-during-hang", "guest_in_xl_list_after")
    assert steps("destroy-during-hang")[-1] == "aer_op state=1 cmd=6 dflt=2"
