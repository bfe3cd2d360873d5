"""protocol.topology: a host crosses process borders as JSON and stays the same; defects are switched by name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from protocol.topology import (
    DEFECTS,
    GUEST,
    HOST,
    TIMING,
    AssignmentSpec,
    FunctionSpec,
    GuestDriverSpec,
    GuestSpec,
    HostSpec,
    TimingSpec,
    defects_in_force,
)


def host() -> HostSpec:
    port = FunctionSpec("0000:00:01.0", "root_port", secondary=1, subordinate=1)
    card = FunctionSpec("0000:01:00.0", "endpoint", port.bdf, model="nic")
    driver = GuestDriverSpec("scripted", {"ed": "NEED_RESET", "fail": {"resume": "exit"}})
    guest = GuestSpec("guest1", devices=[AssignmentSpec(card.bdf, driver, permissive=True)])
    return HostSpec("test", [port, card], [guest], defects=["D7"], timing=TimingSpec(aer_budget_ms=5))


def test_a_host_survives_the_way_to_another_process() -> None:
    assert HOST.validate_json(HOST.dump_json(host())) == host()
    assert GUEST.validate_json(GUEST.dump_json(host().guests[0])) == host().guests[0]
    assert TIMING.validate_json(TIMING.dump_json(host().timing)) == host().timing


def test_functions_and_guests_are_found_by_name() -> None:
    found = host()
    assert found.function("0000:01:00.0") is found.functions[1]
    assert found.guest("guest1") is found.guests[0]
    assert found.function("0000:02:00.0") is None
    assert found.guest("nobody") is None


@pytest.mark.parametrize(
    ("field", "value"), [("profile", "harder"), ("functions", 7), ("seed", "x"), ("timing", {"aer_budget_ms": "soon"})]
)
def test_a_wrong_host_is_refused(field: str, value: object) -> None:
    data = HOST.dump_python(host()) | {field: value}
    with pytest.raises(ValidationError):
        HOST.validate_python(data)


def test_0_3_profiles_and_single_defects() -> None:
    assert len(DEFECTS) == 26
    assert defects_in_force("linux", []) == DEFECTS
    assert defects_in_force("hardened", []) == frozenset()
    assert defects_in_force("hardened", ["D7", "D14"]) == {"D7", "D14"}
    assert defects_in_force("linux", ["D7"]) == DEFECTS - {"D7"}


def test_0_4_times_are_those_of_the_real_code() -> None:
    timing = TimingSpec()
    assert (timing.config_timeout_ms, timing.config_poll_ms) == (2_000, 3_000)
    assert (timing.aer_budget_ms, timing.backend_wait_ms) == (300_000, 10_000)
