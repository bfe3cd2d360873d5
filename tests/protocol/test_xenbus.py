"""protocol.xenbus: states and paths of xen-pci.md 2.1 and 2.2."""

from __future__ import annotations

import pytest

from protocol.xenbus import MAGIC, XenbusState, backend_dir, frontend_dir, parse_state


def test_states_are_numbered_as_in_xen() -> None:
    names = "UNKNOWN INITIALISING INIT_WAIT INITIALISED CONNECTED CLOSING CLOSED RECONFIGURING RECONFIGURED"
    assert [state.name for state in XenbusState] == names.split()
    assert [int(state) for state in XenbusState] == list(range(9))


def test_bus_5_only_device_0_exists() -> None:
    assert backend_dir(7) == "/local/domain/0/backend/pci/7/0"
    assert frontend_dir(7) == "/local/domain/7/device/pci/0"


@pytest.mark.parametrize(
    ("text", "state"),
    [("4", 4), ("0", 0), (None, 0), ("", 0), ("abc", 0), ("4x", 0), ("99", 99), ("-1", -1), ("\xb2", 0)],
)
def test_2_1_a_missing_or_unreadable_state_is_unknown(text: str | None, state: int) -> None:
    assert parse_state(text) == state


def test_1_2_magic() -> None:
    assert MAGIC == "7"
