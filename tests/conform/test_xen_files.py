"""Files of recorded Xen cases that are wrong, and ``xenaer conform`` with them, as a person sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protocol.ids import Sbdf
from tests.conform.commands import copy, run
from xenaer.conform.xen_commands import Inject, SetPci, XlCommand, parse_monitor, parse_shell
from xenaer.conform.xen_registers import parse_counters, parse_registers
from xenaer.conform.xen_words import parse_driver, parse_guest, parse_node

CASES = Path(__file__).parents[1] / "recorded" / "xen"
FATAL = CASES / "fatal-reset-none.json"
CARD = Sbdf(0, 1, 0, 0)


def changed(tmp_path: Path, **changes: Any) -> Path:
    return copy(FATAL, tmp_path, **changes)


# -- the command ---------------------------------------------------------------------------------
def test_cases_of_both_kinds_in_one_call(capsys: pytest.CaptureFixture[str]) -> None:
    linux = CASES.parent / "linux" / "B_cor_BadTLP.json"
    status, lines, _ = run(capsys, FATAL, linux)
    assert (status, lines) == (0, ["fatal-reset-none: identical", "B_cor_BadTLP: identical", "2 of 2 identical"])


def test_a_difference_is_readable(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recorded = json.loads(FATAL.read_text(encoding="utf-8"))["summary"]
    path = changed(tmp_path, summary=recorded | {"verdict": ["failed"]})
    status, lines, _ = run(capsys, path)
    assert (status, lines[:2]) == (1, ["fatal-reset-none: different", "  summary.verdict:"])
    assert lines[3:5] == ["    -failed", "    +successful"]
    assert run(capsys, "--fields", "summary.callbacks,after.regs", path)[0] == 0


def test_inputs_alone_are_performed_and_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recorded = json.loads(FATAL.read_text(encoding="utf-8"))
    path = changed(tmp_path, summary=None, after=None, dom0_dmesg=None, domU_console=None)
    assert run(capsys, path)[0] == 2
    status, lines, _ = run(capsys, "--emit", tmp_path / "out", path)
    assert (status, lines) == (0, ["1 of 1 written"])
    written = json.loads((tmp_path / "out" / "case.json").read_text(encoding="utf-8"))
    assert {key: written["summary"][key] for key in written["summary"]} == {
        key: recorded["summary"][key] for key in written["summary"]
    }
    assert written["after"] == recorded["after"]
    assert written["before"] == recorded["before"]
    again = tmp_path / "out" / "case.json"
    assert run(capsys, again)[:2] == (0, ["fatal-reset-none: identical", "1 of 1 identical"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"guest_driver": "aerprobe edd=2"}, "guest_driver: unknown option 'edd' (did you mean 'ed'?)"),
        ({"guest_driver": "aerprobe ed=two"}, "guest_driver: parameter 'ed=two': 'two' is no number"),
        ({"guest_driver": "xnic"}, "guest_driver: driver 'xnic'; allowed: aerprobe, none, (no guest)"),
        ({"guest_config": ['type="pvh"', 'name="g"']}, "guest_config: type 'pvh'; allowed: pv, hvm"),
        ({"guest_config": ['type="pv"']}, "guest_config: the guest has no name"),
        ({"guest_config": ['name="g"', 'pci=["nonsense"]']}, "guest_config: pci: malformed 'nonsense'"),
        ({"inject": {"monitor": "device_del nic1"}}, "inject.monitor: monitor command 'device_del nic1'; expected"),
        ({"inject": {"monitor": "pcie_aer_inject_error nic1 MALF"}}, "inject.monitor: error 'MALF'; allowed: "),
        ({"actions": [{"at_s": 1, "kind": "shell", "cmd": ""}]}, "actions[0].kind: unknown; "),
        ({"actions": [{"kind": "monitor"}]}, "actions[0]: needs at_s, kind and cmd"),
        ({"actions": 7}, "actions: must be a list, is 7"),
        ({"before": {"regs": ["01:00.0 cmd=xyz"]}}, "before.regs: 'cmd=xyz' is no register value"),
        ({"before": {"regs": []}}, "before.regs: is missing: its first line names the port"),
        ({"before": {"xenstore": 3}}, "before.xenstore: must be a list of text"),
        ({"before": None}, "before: is missing"),
        ({"watched_s": 1e308}, "watched_s: must be from 0 to 86400 seconds, is 1e+308"),
        ({"actions": [{"at_s": -1, "kind": "dom0 shell", "cmd": ""}]}, "actions[0].at_s: must be from 0 to 86400"),
        ({"domid": "first"}, "domid: must be a number above 0, is 'first'"),
    ],
)  # fmt: skip
def test_mistakes_name_file_key_and_what_is_allowed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    path = changed(tmp_path, **changes)
    status, _, errors = run(capsys, path)
    assert status == 2
    assert any(f"{path}: {text}" in line for line in errors), errors


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"inject": {}}, "nothing is injected"),
        (
            {"before": {"regs": ["00:04.0 lnksta=2011"], "xenstore": ['/local//x = ""   (n0)']}},
            "before.xenstore: /local//x: EINVAL: path '/local//x'",
        ),
        ({"before": {"regs": ["00:1c.0 cmd=0507"]}}, "the machine has no function 0000:00:1c.0"),
        ({"before": {"regs": ["00:04.0 cmdd=0507"]}}, "before.regs: no register 'cmdd'"),
        (
            {"guest_config": ['name="g"', 'pci=["09:00.0"]']},
            "the guest has no 0000:09:00.0: the machine has no such function",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_unsupported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    status, lines, _ = run(capsys, changed(tmp_path, **changes))
    assert (status, lines[0]) == (1, f"fatal-reset-none: unsupported: {text}")


def test_a_recording_without_an_injection_is_unsupported_and_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, errors = run(capsys, CASES / "hvm-create.json")
    assert (status, lines[0], errors) == (1, "hvm-create: unsupported: nothing is injected", [])


# -- the texts inside a case -----------------------------------------------------------------------
def test_guest_configuration() -> None:
    lines = [
        'name="g"',
        'type="hvm"',
        "memory=128",
        "vcpus=2",
        'extra="lab.front=no"',
        'pci=["01:00.0,permissive=1", "02:00.0"]',
    ]
    plan = parse_guest(lines)
    assert plan == ("g", True, 128, 2, (("0000:01:00.0", True), ("0000:02:00.0", False)), False)


def test_driver() -> None:
    assert parse_driver("aerprobe ed=2,no_mm=1,ed_ms=0x10") == ("aerprobe", {"ed": 2, "no_mm": 1, "ed_ms": 16})
    assert parse_driver("aerprobe ") == ("aerprobe", {})
    assert parse_driver("none ") == parse_driver("(no guest)") == parse_driver("") == ("", {})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pcie_aer_inject_error nic1 COMP_ABORT", Inject("nic1", 0, 1 << 15, False)),
        ("pcie_aer_inject_error -a nic1 COMP_ABORT", Inject("nic1", 0, 1 << 15, True)),
        ("pcie_aer_inject_error nic2 BAD_TLP", Inject("nic2", 1 << 6, 0, False)),
        ("pcie_aer_inject_error -c nic2 0x40", Inject("nic2", 0x40, 0, False)),
        ("pcie_aer_inject_error nic2 0x40000", Inject("nic2", 0, 0x40000, False)),
    ],
)
def test_monitor(text: str, found: Inject) -> None:
    assert parse_monitor(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("xl pci-detach g 01:00.0; sleep 3; regs 01:00.0", [XlCommand(("pci-detach", "g", "01:00.0"))]),
        ("xl pause $G", [XlCommand(("pause", "g"))]),
        ("xl -v destroy g", [XlCommand(("destroy", "g"))]),
        ("xl list; cat /proc/1/stack; echo w > /proc/sysrq-trigger", []),
        ("(setpci -s 01:00.0 0.l > /tmp/x 2>&1; echo done >> /tmp/x) & sleep 8", []),
        ("setpci -s 01:00.0 ECAP_AER+14.l=0000c000", [SetPci(CARD, "aer_cor_mask", 0xC000)]),
    ],
)
def test_shell(text: str, found: list[Any]) -> None:
    assert parse_shell(text, "g") == found


def test_a_register_that_has_no_name_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"register 'CAP_EXP\+ff\.w'; allowed: 4, 3e"):
        parse_shell("setpci -s 01:00.0 CAP_EXP+ff.w=1", "g")


def test_listings() -> None:
    assert parse_node('/a/b = "x "y""   (n0,r7)') == ("/a/b", 'x "y"', ("n0", "r7"))
    assert parse_node("xenstore-ls: xs_directory (/a): No such file or directory") is None
    assert parse_registers("01:00.0 cmd=0107 hdr=0,1,a,ff") == (CARD, {"cmd": (0x107,), "hdr": (0, 1, 10, 255)})
    assert parse_counters("0000:01:00.0 aer_dev_fatal: DLP 2 TOTAL_ERR_FATAL 3 ") == (
        CARD, "aer_dev_fatal", {"DLP": 2, "TOTAL_ERR_FATAL": 3},
    )  # fmt: skip
    assert parse_counters("0000:01:00.0 aer_rootport_total_err_cor: 4 ") == (CARD, "aer_rootport_total_err_cor", 4)
