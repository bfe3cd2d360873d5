"""Every vote of a guest's driver in every phase, non-fatal and fatal: outcome, phases, and what is left.

Source: merge_result of linux-aer.md 4.4 under H3, H8, H15 and H17: a group whose status is not RECOVERED after
its last phase has failed, and the guest of a failed group is killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from protocol.topology import HostSpec
from tests.processes.hosts import flat, guest, nic, root_port
from tests.processes.running import Running, running

pytestmark = pytest.mark.processes

NONFATAL, FATAL = 1 << 15, 1 << 18  # Completer Abort, Malformed TLP
BIT = {"nonfatal": NONFATAL, "fatal": FATAL}
VOTES = ("CAN_RECOVER", "NEED_RESET", "DISCONNECT", "NONE")
ED, MMIO, RESET, RESUME = "error_detected", "mmio_enabled", "slot_reset", "resume"
AFTER_RESET = {"ed": "NEED_RESET", "ed_frozen": "NEED_RESET"}


class Case(NamedTuple):
    """Options of the driver, and what follows from them."""

    severity: str
    options: dict[str, str]
    outcome: str
    phases: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the guest."""
        return "-".join((self.severity, *(f"{key}-{value}" for key, value in self.options.items()))).replace("_", "-")


CASES = [
    # error_detected, non-fatal: only CAN_RECOVER needs no reset
    Case("nonfatal", {"ed": "CAN_RECOVER"}, "recovered", (ED, MMIO, RESUME)),
    Case("nonfatal", {"ed": "NEED_RESET"}, "recovered", (ED, RESET, RESUME)),
    Case("nonfatal", {"ed": "DISCONNECT"}, "killed", (ED,)),
    Case("nonfatal", {"ed": "NONE"}, "killed", (ED,)),
    # error_detected, fatal: the link is reset whatever the vote
    Case("fatal", {"ed_frozen": "CAN_RECOVER"}, "recovered", (ED, RESET, RESUME)),
    Case("fatal", {"ed_frozen": "NEED_RESET"}, "recovered", (ED, RESET, RESUME)),
    Case("fatal", {"ed_frozen": "DISCONNECT"}, "killed", (ED,)),
    Case("fatal", {"ed_frozen": "NONE"}, "killed", (ED,)),
    # mmio_enabled: a driver that only can recover has not recovered
    Case("nonfatal", {"mmio": "CAN_RECOVER"}, "killed", (ED, MMIO)),
    Case("nonfatal", {"mmio": "NEED_RESET"}, "recovered", (ED, MMIO, RESET, RESUME)),
    Case("nonfatal", {"mmio": "DISCONNECT"}, "killed", (ED, MMIO)),
    Case("nonfatal", {"mmio": "NONE"}, "killed", (ED, MMIO)),
    # slot_reset: only RECOVERED is enough
    *(Case(severity, {**AFTER_RESET, "slot_reset": vote}, "killed", (ED, RESET)) for severity in BIT for vote in VOTES),
]
OVER_TCP = {0, 1, 2, 4, 6, 9, 12, 19}


def host() -> HostSpec:
    """One guest per case; they are created when their turn comes."""
    return flat(
        [
            guest(case.name, nic(number), "scripted", options=case.options, autostart=False)
            for number, case in enumerate(CASES)
        ]
    )


@pytest.fixture(scope="module")
def ipc() -> Iterator[Running]:
    with running(host()) as view:
        yield view


@pytest.fixture(scope="module")
def tcp() -> Iterator[Running]:
    with running(host(), "tcp") as view:
        yield view


def play(view: Running, number: int) -> None:
    """One error of the case's device, and everything that is to follow: the device is as good as at seizure."""
    case, bdf = CASES[number], nic(number)
    seized = view.config(bdf)
    view.xl_good("create", case.name)
    view.wait_up(case.name)
    mark = view.mark()
    view.dom0("inject", bdf, 0, BIT[case.severity])
    assert view.outcome(mark, bdf) == case.outcome
    assert view.asked(mark, bdf) == list(case.phases)
    word = {"recovered": "successful", "killed": "failed"}[case.outcome]
    assert view.verdicts(mark) == [f"pcieport {root_port(number)}: AER: device recovery {word}"]
    if case.outcome == "killed":
        assert view.steps(mark, case.name, bdf) == KILLED
        assert view.config(bdf) == seized
    else:
        assert view.callbacks(mark, case.name, len(case.phases)) == list(case.phases)
        assert view.find(mark, "pciback.kill") == []
        assert driver_bound(view, case.name)


KILLED = {"block_dma": "ok", "reset": "flr", "restore": "ok", "check": "ok", "deassign": "ok"}


def driver_bound(view: Running, name: str) -> Any:
    """The guest still has its device with its driver."""
    return view.system.ctl(name, "status", []) == {"0000:00:00.0": "scripted"}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_outcome_of_every_vote_over_ipc(ipc: Running, number: int) -> None:
    play(ipc, number)


@pytest.mark.parametrize("number", sorted(OVER_TCP), ids=[CASES[number].name for number in sorted(OVER_TCP)])
def test_outcome_of_every_vote_over_tcp(tcp: Running, number: int) -> None:
    play(tcp, number)
