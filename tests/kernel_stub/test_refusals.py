"""kernel_stub.refusals: counted by kind, logged at a limited rate; and what Rpc does with a peer not trusted."""

from __future__ import annotations

from typing import Any

from kernel_stub.kernel import Kernel
from kernel_stub.refusals import BURST, KINDS, PEERS_MAX, Refusals
from kernel_stub.rpc import Rpc
from protocol.limits import Bucket
from protocol.ports import Message
from tests.kernel_stub.world import ListJournal, ManualClock

SECOND = 1_000_000_000


class Rig:
    def __init__(self) -> None:
        self.clock, self.journal = ManualClock(), ListJournal()
        self.kernel = Kernel("party", self.clock, self.journal)
        self.refusals = Refusals(self.kernel)

    @property
    def log(self) -> list[str]:
        return [record[5] for record in self.journal.records if record[2] == "printk"]


def test_every_refusal_is_counted_and_few_are_logged() -> None:
    rig = Rig()
    for _ in range(1000):
        rig.refusals.refuse("grant", "bad", "grant_map: bad_gntref")
    assert rig.refusals.statistics() == {"grant": 1000}
    assert rig.log == ["refused grant: bad: grant_map: bad_gntref"] * BURST


def test_what_was_left_out_is_said_with_the_next_line() -> None:
    rig = Rig()
    for _ in range(100):
        rig.refusals.refuse("grant", "bad", "x")
    rig.clock.time += SECOND
    rig.refusals.refuse("role", "bad", "y")
    assert rig.log[-1] == f"refused role: bad: y ({100 - BURST} more since the last line)"


def test_one_peer_does_not_use_up_the_lines_of_another() -> None:
    rig = Rig()
    for _ in range(100):
        rig.refusals.refuse("grant", "bad", "x")
    rig.refusals.refuse("grant", "net2", "x")
    assert rig.log[-1] == "refused grant: net2: x"


def test_peers_without_number_and_texts_without_end_are_bounded() -> None:
    rig = Rig()
    for number in range(3 * PEERS_MAX):
        rig.refusals.refuse("unknown-key", str(number), "x" * 10_000)
    assert len(rig.refusals._peers) <= PEERS_MAX
    assert max(map(len, rig.log)) < 300


def test_every_kind_says_what_it_is() -> None:
    assert all(text and text[0].islower() for text in KINDS.values())


# -- a peer that is not trusted (kernel_stub.rpc) -----------------------------------------------------
class Link:
    def __init__(self) -> None:
        self.on_message: Any = None
        self.on_close: Any = None
        self.sent: list[Message] = []
        self.pauses: list[int] = []

    def send(self, message: Message) -> bool:
        self.sent.append(message)
        return True

    def pause(self, ns: int) -> None:
        self.pauses.append(ns)

    def close(self) -> None: ...


def served(rig: Rig) -> tuple[Link, Rpc, list[tuple[str, str]]]:
    link, refused = Link(), []
    rpc = Rpc(rig.kernel, link, "peer")
    rpc.refuse = lambda what, text: refused.append((what, text))

    async def add(number: int) -> int:
        return number + 1

    rpc.handlers["add"] = add
    return link, rpc, refused


def test_x37_a_peer_that_sends_more_than_its_share_is_not_read_for_a_while() -> None:
    rig = Rig()
    link, rpc, refused = served(rig)
    rpc.share = Bucket(100, 10)
    for serial in range(1, 13):
        link.on_message(("add", serial, 1))
    rig.kernel.run()
    assert link.pauses == [SECOND // 100] * 2
    assert refused == [("flood", "add")] * 2
    assert len(link.sent) == 12, "what has come in is served"


def test_a_revoked_peer_has_no_effect_and_gets_no_answer() -> None:
    rig = Rig()
    link, rpc, refused = served(rig)
    rpc.revoked = True
    link.on_message(("add", 1, 1))
    link.on_message(("add", 0, 1))
    rig.kernel.run()
    assert (link.sent, refused) == ([], [("dying", "add"), ("dying", "add")])


def test_an_answer_to_an_old_serial_is_ignored() -> None:
    """Replays: the request was answered, or given up, or never made."""
    rig = Rig()
    link, rpc, _ = served(rig)
    got: list[int] = []

    async def ask() -> None:
        got.append(await rpc.call("add", 1))

    rig.kernel.spawn(ask(), "asks")
    rig.kernel.run()
    for serial, value in ((99, 5), (1, 2), (1, 7), (0, 3)):
        link.on_message(("ok", serial, value))
    rig.kernel.run()
    assert got == [2]


def test_the_same_request_twice_is_two_requests_and_no_more() -> None:
    rig = Rig()
    link, _, _ = served(rig)
    link.on_message(("add", 5, 1))
    link.on_message(("add", 5, 1))
    rig.kernel.run()
    assert link.sent == [("ok", 5, 2)] * 2
