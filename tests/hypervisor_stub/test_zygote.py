"""hypervisor_stub.zygote: guests are forked in milliseconds, die with their zygote, and are reaped."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hypervisor_stub.zygote import Zygote

pytestmark = pytest.mark.processes


def guest_main(config: dict[str, Any]) -> None:
    """What a guest does here: leave a note, then end as it was told."""
    Path(config["note"]).write_text(f"{os.getpid()} {os.getpgid(0)} {os.getppid()}")
    how = config["how"]
    if how == "sleep":
        time.sleep(60)
    elif how == "raise":
        raise RuntimeError("a guest's own fault")
    elif how == "exit":
        sys.exit(config["status"])
    elif how == "text":
        sys.exit("a text is status 1")


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    found = Zygote(guest_main)
    yield found
    found.close()


def config(tmp_path: Path, how: str, **more: Any) -> dict[str, Any]:
    return {"name": "guest1", "note": str(tmp_path / "note"), "how": how, **more}


def wait_for(path: Path) -> str:
    end = time.monotonic() + 10
    while not path.exists() or not path.read_text():
        assert time.monotonic() < end
        time.sleep(0.002)
    return path.read_text()


def alive(pid: int) -> bool:
    """The process runs: a zombie does not count."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def gone(pid: int) -> bool:
    end = time.monotonic() + 10
    while alive(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def test_a_guest_has_a_process_group_of_its_own(zygote: Zygote, tmp_path: Path) -> None:
    pid = zygote.fork(config(tmp_path, "end"))
    own, group, parent = map(int, wait_for(tmp_path / "note").split())
    assert own == group == pid
    assert parent == zygote.pid
    assert os.waitstatus_to_exitcode(zygote.reap(pid)) == 0


@pytest.mark.parametrize(("how", "more", "status"), [("exit", {"status": 3}, 3), ("raise", {}, 70), ("text", {}, 1)])
def test_a_guest_ends_with_its_own_status(
    zygote: Zygote, tmp_path: Path, how: str, more: dict[str, Any], status: int
) -> None:
    pid = zygote.fork(config(tmp_path, how, **more))
    assert os.waitstatus_to_exitcode(zygote.reap(pid)) == status


def test_kill_4_2_a_whole_group_is_killed_even_before_it_has_run(zygote: Zygote, tmp_path: Path) -> None:
    pid = zygote.fork(config(tmp_path, "sleep"))
    os.killpg(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(zygote.reap(pid)) == -signal.SIGKILL


def test_a_stopped_guest_can_be_killed(zygote: Zygote, tmp_path: Path) -> None:
    pid = zygote.fork(config(tmp_path, "sleep"))
    wait_for(tmp_path / "note")
    os.killpg(pid, signal.SIGSTOP)
    os.killpg(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(zygote.reap(pid)) == -signal.SIGKILL


def test_reaping_what_is_no_child_says_so(zygote: Zygote) -> None:
    assert zygote.reap(1) == -1


def test_many_guests_one_after_the_other(zygote: Zygote, tmp_path: Path) -> None:
    for _ in range(10):
        pid = zygote.fork(config(tmp_path, "end"))
        assert zygote.reap(pid) == 0


def test_guests_end_with_their_zygote(tmp_path: Path) -> None:
    zygote = Zygote(guest_main)
    pid = zygote.fork(config(tmp_path, "sleep"))
    wait_for(tmp_path / "note")
    zygote.close()
    assert gone(pid)
    assert not alive(zygote.pid)


def test_a_zygote_that_was_killed_is_an_error_and_no_hang(tmp_path: Path) -> None:
    zygote = Zygote(guest_main)
    pid = zygote.fork(config(tmp_path, "sleep"))
    os.kill(zygote.pid, signal.SIGKILL)
    assert gone(pid), "PR_SET_PDEATHSIG"
    assert gone(zygote.pid)
    with pytest.raises(OSError):
        zygote.fork(config(tmp_path, "end"))
    zygote.close()


def test_interrupts_at_the_terminal_do_not_end_the_zygote(zygote: Zygote, tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(zygote.pid, number)
    pid = zygote.fork(config(tmp_path, "end"))
    assert zygote.reap(pid) == 0
