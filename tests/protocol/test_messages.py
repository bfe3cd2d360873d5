"""protocol.messages: the tables themselves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from protocol import messages

TABLES = ("TO_HYPERVISOR", "TO_DOM0", "TO_DOMU", "TO_SUPERVISOR", "TO_CONTROL", "DEVBUS")


@pytest.mark.parametrize("name", TABLES)
def test_every_shape_compiles(name: str) -> None:
    for op, shape in getattr(messages, name).items():
        assert op.isidentifier()
        whole: Any = tuple.__class_getitem__((str, *shape))
        TypeAdapter(whole)


def test_answers_are_not_operations() -> None:
    for name in TABLES:
        table: dict[str, Any] = getattr(messages, name)
        assert not {"ok", "error"} & table.keys()


def test_a_guest_is_never_asked_for_what_only_dom0_can_do() -> None:
    assert not [op for op in messages.TO_DOMU if op.startswith(("hw_", "pci_"))]
    assert messages.TO_CONTROL == {}
