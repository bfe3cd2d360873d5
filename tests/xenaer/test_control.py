"""The control connection: run directory, requests and answers, and what is said when nothing is there."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.xenaer.fakes import FakeStub
from xenaer.control import Control, ControlError, NoSystemError, read_system, run_dir


def answer(target: str, verb: str, args: list[Any]) -> Any:
    if verb == "refuse":
        raise ControlError("no such verb")
    return [target, verb, args]


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[FakeStub]:
    fake = FakeStub(f"ipc://{tmp_path}/c", answer)
    yield fake
    fake.close()


def test_run_dir_option_variable_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XENAER_RUN", "from-variable")
    assert run_dir(Path("from-option")) == Path("from-option")
    assert run_dir() == Path("from-variable")
    monkeypatch.delenv("XENAER_RUN")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert run_dir() == tmp_path / f"xenaer-{os.getuid()}"


def test_requests_are_answered(stub: FakeStub) -> None:
    with Control(stub.address) as control:
        assert control.ctl("dom0", "touch", ["0000:01:00.0"]) == ("dom0", "touch", ("0000:01:00.0",))
        assert control.ctl("g", "workload", [-1, 3]) == ("g", "workload", (-1, 3))
    assert stub.asked == [("dom0", "touch", ["0000:01:00.0"]), ("g", "workload", [-1, 3])]


def test_refusals_are_errors(stub: FakeStub) -> None:
    with Control(stub.address) as control, pytest.raises(ControlError, match="no such verb"):
        control.ctl("dom0", "refuse", [])


def test_silence_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{tmp_path}/mute")
        mute.listen()
        with pytest.raises(ControlError, match=r"no answer from ipc://.* within 0.1 s"):
            Control(f"ipc://{tmp_path}/mute", timeout_s=0.1)


def test_nobody_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/left")
    for name in ("left", "never"):
        with pytest.raises(NoSystemError, match=f"{name} has ended; start one with: xenaer up"):
            Control(f"ipc://{tmp_path}/{name}")


@pytest.mark.parametrize("address", ["nonsense", "ipc://", "tcp://nowhere"])
def test_bad_addresses_are_errors(address: str) -> None:
    with pytest.raises(ControlError):
        Control(address, timeout_s=0.1)


def test_system_file(tmp_path: Path) -> None:
    with pytest.raises(NoSystemError, match="xenaer up"):
        read_system(tmp_path)
    file = tmp_path / "system.json"
    file.write_text(json.dumps({"address": "ipc://x", "pid": 7, "host": "one", "journals": ["a.mpk"]}))
    assert (read_system(tmp_path).address, read_system(tmp_path).journals) == ("ipc://x", ["a.mpk"])
    for text in ("", "[]", '{"address": 1}', "null"):
        file.write_text(text)
        with pytest.raises(ControlError, match="not a system description"):
            read_system(tmp_path)
