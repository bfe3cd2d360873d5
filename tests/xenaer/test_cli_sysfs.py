"""The sysfs commands: what they ask dom0, what they print, exit statuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.xenaer.fakes import FakeStub
from xenaer.cli import main
from xenaer.control import ControlError

TREE = [
    ("devices/a/vendor", 0o100444, b"0x1af4\n"),
    ("devices/a/config", 0o100644, b"\x86\x80"),
    ("bus/pci/devices/a", 0o120777, b"../../../devices/a"),
]
RESULTS: dict[str, dict[str, bytes | int]] = {
    "sysfs-read": {"a": b"text\n", "b": -2},
    "sysfs-write": {"a": 1, "b": -22, "c": -25},
}


def answer(target: str, verb: str, args: list[Any]) -> Any:
    if verb == "sysfs":
        return [args[0] + 2 if args[0] == 0 else 0, TREE[args[0] : args[0] + 2]]
    if verb == "sysfs-mount":
        if args[0].endswith("full"):
            raise ControlError(f"{args[0]} is not empty")
        if args[0].endswith("seen"):
            (Path(args[0]) / "bus" / "pci").mkdir(parents=True)
        return 3
    return RESULTS[verb][args[0]]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStub]:
    fake = FakeStub(f"ipc://{tmp_path}/c", answer)
    system = {"address": fake.address, "pid": 1, "host": "one-nic", "journals": []}
    (tmp_path / "system.json").write_text(json.dumps(system))
    monkeypatch.setenv("XENAER_RUN", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield fake
    fake.close()


def test_dom0_is_asked_for_an_absolute_path(stub: FakeStub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sysfs", "seen"]) == 0
    assert stub.asked == [("dom0", "sysfs-mount", [f"{tmp_path}/seen"])]
    assert capsys.readouterr().out == f"{tmp_path}/seen: 3 files and links, kept current until the system ends\n"


def test_without_a_directory_it_is_in_the_run_directory(stub: FakeStub, tmp_path: Path) -> None:
    main(["sysfs"])
    assert stub.asked == [("dom0", "sysfs-mount", [f"{tmp_path}/sysfs"])]


@pytest.mark.parametrize(("name", "text", "status"), [("elsewhere", "cannot be seen", 2), ("full", "is not empty", 1)])
def test_directories_that_do_not_work(
    stub: FakeStub, capsys: pytest.CaptureFixture[str], name: str, text: str, status: int
) -> None:
    assert main(["sysfs", name]) == status
    shown = capsys.readouterr()
    assert text in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_once_fetches_all_pages_and_writes_here(
    stub: FakeStub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sysfs", "here", "--once"]) == 0
    assert [args for _, verb, args in stub.asked if verb == "sysfs"] == [[0], [2]]
    assert (tmp_path / "here" / "bus" / "pci" / "devices" / "a" / "config").read_bytes() == b"\x86\x80"
    assert capsys.readouterr().out == f"{tmp_path}/here: 3 files and links\n"


@pytest.mark.parametrize(
    ("argv", "status", "out", "err"),
    [
        (["sysfs-read", "a"], 0, "text\n", ""),
        (["sysfs-read", "b"], 1, "", "xenaer: b: no such file or directory\n"),
        (["sysfs-write", "a", "1"], 0, "", ""),
        (
            ["sysfs-write", "a", "\udcff"],
            2,
            "",
            "xenaer: '\\udcff': not a text (UTF-8); write binary data into a file below xenaer sysfs DIR\n",
        ),
        (["sysfs-write", "b", "x"], 1, "", "xenaer: b: write error: invalid argument (EINVAL)\n"),
        (["sysfs-write", "c", "1"], 1, "", "xenaer: c: write error: inappropriate ioctl for device (ENOTTY)\n"),
    ],
)
def test_read_and_write(
    stub: FakeStub, capfd: pytest.CaptureFixture[str], argv: list[str], status: int, out: str, err: str
) -> None:
    assert main(argv) == status
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == (out, err)


def test_a_host_file_that_is_wrong_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sysfs", str(tmp_path / "s"), "--host", "no-such-host"]) == 2
    assert "one-nic" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
