"""Bytes that xenstore-utils and the daemon of Xen 4.20 exchanged (tests/recorded/xenstore), exchanged with ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hypervisor_stub.xenstore import XenStore
from hypervisor_stub.xenstore.wire import Op
from tests.hypervisor_stub.xenstore.wire_client import WireClient

FILE = Path(__file__).parents[2] / "recorded" / "xenstore" / "wire.json"
CASES: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
NODE = re.compile(r'(?P<path>\S+) = "(?P<value>.*)"   \((?P<perms>.*)\)')


@pytest.fixture(name="recorded", scope="module")
def _recorded() -> XenStore:
    """The tree that was listed; the cases are played on it one after the other, as they were recorded."""
    store = XenStore()
    xs = store.connect(0, lambda path, token: None, privileged=True)
    for line in CASES["ls-backend-fp"]["output"]:
        found = NODE.fullmatch(line)
        assert found, line
        xs.write(0, found["path"], found["value"].encode())
        xs.set_perms(0, found["path"], found["perms"].split(","))
    return store


def joined(case: dict[str, Any], direction: str) -> bytes:
    """All bytes of one direction: where writes began and ended means nothing on a stream."""
    return b"".join(bytes.fromhex(data) for way, data in case["traffic"] if way == direction)


@pytest.mark.parametrize("name", CASES)
def test_recorded_bytes(recorded: XenStore, name: str) -> None:
    case, client = CASES[name], WireClient(recorded, 0, privileged=True)
    request, expected = joined(case, "to_store"), joined(case, "from_store")
    assert client.put(request) == len(request)
    messages = client.taken()
    if name.startswith("watch"):  # somebody else wrote the node meanwhile
        path = case["command"].split()[-1]
        assert WireClient(recorded, 0, privileged=True).ask(Op.WRITE, path)[0] == "WRITE"
        messages += client.taken()
    assert b"".join(message.encode() for message in messages) == expected
