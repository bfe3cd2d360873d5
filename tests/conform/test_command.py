"""``xenaer conform`` as a person uses it: verdicts, differences, exit statuses, and files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conform.commands import copy, run
from xenaer.conform.case import INPUTS, OUTPUTS

CASES = Path(__file__).parents[1] / "recorded" / "linux"
FATAL = CASES / "A_epc_fatal.json"
RACY = CASES / "K_slot_qemu_del@smp2.json"


def changed(tmp_path: Path, **changes: Any) -> Path:
    return copy(FATAL, tmp_path, **changes)


def test_identical_cases_are_said_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, _ = run(capsys, FATAL, CASES / "B_cor_BadTLP.json")
    assert (status, lines) == (0, ["A_epc_fatal: identical", "B_cor_BadTLP: identical", "2 of 2 identical"])


def test_a_difference_is_readable(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recorded = json.loads(FATAL.read_text(encoding="utf-8"))
    text = [*recorded["dmesg_text"][:-1], "pcieport 0000:03:00.0: AER: device recovery failed"]
    status, lines, _ = run(capsys, changed(tmp_path, dmesg_text=text))
    assert status == 1
    assert lines[0] == "A_epc_fatal: different"
    assert lines[1] == "  dmesg_text:"
    assert "    -pcieport 0000:03:00.0: AER: device recovery failed" in lines
    assert "    +pcieport 0000:03:00.0: AER: device recovery successful" in lines
    assert lines[-1] == "0 of 1 identical"


def test_fields_limit_what_is_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = changed(tmp_path, final_line="something else")
    assert run(capsys, path)[0] == 1
    assert run(capsys, "--fields", "handlers,core_calls", path)[0] == 0
    status, _, errors = run(capsys, "--fields", "handler", path)
    assert status == 2
    assert "--fields: no key 'handler'; did you mean 'handlers'?" in errors[0]


def test_a_file_without_answers_is_performed_and_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recorded = json.loads(FATAL.read_text(encoding="utf-8"))
    inputs = {key: recorded[key] for key in INPUTS if key in recorded}
    for key in ("registers", "counters"):
        inputs[key] = {bdf: {"before": entry["before"]} for bdf, entry in recorded[key].items()}
    bare = tmp_path / FATAL.name
    bare.write_text(json.dumps(inputs), encoding="utf-8")
    assert run(capsys, bare)[2] == [f"xenaer: {bare}: has no answers to compare with; use --emit"]
    status, lines, _ = run(capsys, "--emit", tmp_path / "out", bare)
    assert (status, lines) == (0, ["1 of 1 written"])
    written = json.loads((tmp_path / "out" / FATAL.name).read_text(encoding="utf-8"))
    for key in OUTPUTS:
        if key != "dmesg":
            assert written[key] == recorded[key], key
    assert [line[1:] for line in written["dmesg"]] == [line[1:] for line in recorded["dmesg"]]
    assert {key: written[key] for key in INPUTS if key in recorded} == {
        key: recorded[key] for key in INPUTS if key in recorded
    }


def test_a_racy_case_needs_more_than_one_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--explore", 1, RACY)[0] == 1
    assert run(capsys, RACY)[0] == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preparation": ["modprobe something"]}, "preparation 'modprobe something'"),
        ({"preparation": ["setpci -s 01:00.0 60.l=1"]}, "register '60.l'"),
        ({"injected": [{"monitor": "system_reset"}]}, "monitor command 'system_reset'"),
        ({"injected": [{"guest": "reboot"}]}, "guest command 'reboot'"),
        ({"injected": [{"wait": 3}]}, "step {'wait': 3}"),
        ({"injected": [{"monitor": "pcie_aer_inject_error nobody 1"}]}, "has no device 'nobody'"),
        ({"injected": [{"monitor": "pcie_aer_inject_error epc 0x2"}]}, "reserved error bits"),
        ({"injected": [{"monitor": "device_del rp1"}]}, "device_del rp1: it is in no slot"),
    ],
)
def test_what_cannot_be_expressed_is_unsupported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    status, lines, errors = run(capsys, changed(tmp_path, **changes), FATAL)
    assert status == 1
    assert lines[0].startswith("A_epc_fatal: unsupported: ")
    assert reason in lines[0]
    assert lines[1:] == ["A_epc_fatal: identical", "1 of 2 identical, 1 unsupported"]
    assert not errors


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": 2}, "format: version 2 of a case file; this program reads version 1"),
        ({"machine": "mian"}, "machine: 'mian' is not described; did you mean 'main'?"),
        ({"injectd": []}, "injectd: unknown key; did you mean 'injected'?"),
        ({"injected": None}, "injected: is missing"),
        ({"injected": "x"}, "injected: must be a list, is text"),
        ({"injected": [3]}, "injected[0]: must be an object, is 3"),
        ({"preparation": [{}]}, "preparation[0]: must be text, is an object"),
        ({"devices": {"epc": {}}}, "devices.epc: needs a bdf"),
        ({"devices": {"epc": {"bdf": "4:0"}}}, "devices.epc: "),
        ({"devices": {"epc": {"bdf": "0000:04:00.0", "driver": "aerlap"}}}, "no recording driver 'aerlap'"),
        ({"devices": {"epc": {"bdf": "0000:04:00.0", "slop": 1}}}, "devices.epc.slop: unknown; did you mean 'slot'?"),
        ({"devices": {"epc": {"bdf": "0000:04:00.0", "slot": "x"}}}, "devices.epc.slot: must be a number, is text"),
        ({"registers": {"0000:04:00.0": {}}}, "registers.0000:04:00.0: needs an object 'before'"),
        ({"registers": {"0000:04:00.0": {"before": {"comand": "0x1"}}}}, "comand: no such register; did you mean"),
        ({"registers": {"0000:04:00.0": {"before": {"command": 3}}}}, "must be a hexadecimal number, is 3"),
        ({"start": {"0000:04:00.0": "gone"}}, "start.0000:04:00.0: must be an object or 'absent', is text"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = changed(tmp_path, **changes)
    status, lines, errors = run(capsys, path, FATAL)
    assert status == 2
    assert errors[0].startswith(f"xenaer: {path}: ")
    assert complaint in errors[0]
    assert "A_epc_fatal: identical" in lines  # a wrong file stops no other


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", ":1:1: not JSON: "),
        (FATAL.read_text(encoding="utf-8")[:2000], ":1:"),
        ("[]", ": a case is a JSON object, not a list"),
        ('{"case": ' + "[" * 100_000, ": not a case: nested too deeply"),
    ],
)
def test_a_file_that_is_no_case(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, complaint: str
) -> None:
    path = tmp_path / "case.json"
    path.write_text(content, encoding="utf-8")
    status, _, errors = run(capsys, path)
    assert status == 2
    assert f"{path}{complaint}" in errors[0]


def test_bytes_that_are_no_text_and_files_that_are_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "case.json"
    path.write_bytes(b"\xff\xfe")
    assert run(capsys, path)[2] == [f"xenaer: {path}: not UTF-8 text, at byte 0"]
    path.unlink()
    assert run(capsys, path)[2] == [f"xenaer: {path}: no such file or directory"]
    assert run(capsys, tmp_path)[2] == ["xenaer: no case files"]
