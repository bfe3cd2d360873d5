"""Ours against the unmodified xenstored of Debian (runtime.md 4.3): chance, limits, differences that are meant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from tests.hypervisor_stub.xenstore.real import daemon, drawn
from tests.hypervisor_stub.xenstore.real.pair import Answer, Conversation, OurSide, RealSide, Request, differences
from tests.hypervisor_stub.xenstore.real.scenarios import DIFFERENCES, SAME, Difference
from xenaer.boot import ROOT

needed = pytest.mark.skipif(bool(daemon.why_not()), reason=daemon.why_not())


@pytest.fixture(scope="module", name="real")
def _real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSide]:
    with daemon.running(tmp_path_factory.mktemp("xs")) as folder:
        real = RealSide(folder)
        yield real
        for client in real.clients.values():
            client.close()


@needed
@pytest.mark.processes
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(conversation=drawn.conversations)
def test_any_conversation_of_dom0_and_a_guest(real: RealSide, conversation: list[Request]) -> None:
    """Replies and events, their order, and who gets them."""
    found = differences(real, conversation)
    assert not found, "\n".join(found)


@needed
@pytest.mark.processes
@pytest.mark.parametrize("label", SAME)
def test_limits_and_orders(real: RealSide, label: str) -> None:
    found = differences(real, SAME[label])
    assert not found, "\n".join(found)


def word(answer: Answer, request: Request) -> str:
    """Type of the reply, or the name of the error; events are left out."""
    (reply,) = [found for found in answer[request.who] if found[0] != "WATCH_EVENT"]
    return reply[1].rstrip(b"\0").decode() if reply[0] == "ERROR" else reply[0]


@needed
@pytest.mark.processes
@pytest.mark.parametrize("row", DIFFERENCES, ids=[row.subject for row in DIFFERENCES])
def test_differences_that_are_meant(real: RealSide, row: Difference) -> None:
    """Each is still there; one that has gone is to be taken off the list."""
    real.reset()
    theirs, ours = Conversation(real), Conversation(OurSide())
    for request in row.requests[:-1]:
        assert word(theirs.ask(request), request) == word(ours.ask(request), request)
    last = row.requests[-1]
    found = word(theirs.ask(last), last)
    assert found == row.real or (not row.real and found.startswith("E"))
    assert word(ours.ask(last), last) == row.ours


def test_differences_are_documented() -> None:
    text = (ROOT / "docs" / "DIFFERENCES.md").read_text(encoding="utf-8")
    assert [row.subject for row in DIFFERENCES if f"| {row.subject} |" not in text] == []
