"""Framing, and what hostile bytes can do: nothing (xen-pci.md 8.5)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor_stub.xenstore import PAYLOAD_MAX, XenStore
from hypervisor_stub.xenstore.session import OUTPUT_MAX
from hypervisor_stub.xenstore.wire import HEADER, Framer, FramingError, Message, Op
from tests.hypervisor_stub.xenstore.wire_client import REQ_ID, WireClient

WORD = st.integers(0, 0xFFFFFFFF)
messages = st.builds(Message, WORD, WORD, WORD, st.binary(max_size=64))
# requests whose types exist and whose payloads look like paths, tokens and numbers, more or less
plausible = st.builds(
    Message,
    st.integers(0, 27),
    WORD,
    st.sampled_from((0, 0, 1, 2)),
    st.lists(st.sampled_from((b"/", b"/a", b"/a/b", b"data", b"@releaseDomain", b"1", b"T", b"", b"n7", b"\xff")))
    .map(b"\0".join)
    .flatmap(lambda body: st.sampled_from((body, body + b"\0"))),
)


def fed(framer: Framer, data: bytes, sizes: list[int]) -> list[Message]:
    """Messages out of ``data``, which comes in pieces of at most these sizes, again and again."""
    found = []
    turn = 0
    while data:
        size = min(framer.wanted, sizes[turn % len(sizes)])
        turn += 1
        message = framer.feed(data[:size])
        data = data[size:]
        if message is not None:
            found.append(message)
    return found


def test_header_is_four_words_in_little_endian() -> None:
    assert Message(Op.WRITE, 2, 3, b"/a\0v").encode() == bytes.fromhex("0b000000 02000000 03000000 04000000") + b"/a\0v"


@given(st.lists(messages, max_size=6), st.lists(st.integers(1, 80), min_size=1))
def test_messages_come_in_any_fragmentation(sent: list[Message], sizes: list[int]) -> None:
    assert fed(Framer(), b"".join(message.encode() for message in sent), sizes) == sent


def test_the_longest_message_and_one_byte_more() -> None:
    framer = Framer()
    assert framer.feed(HEADER.pack(Op.READ, 0, 0, PAYLOAD_MAX)) is None
    assert framer.wanted == PAYLOAD_MAX
    with pytest.raises(FramingError, match="4097"):
        Framer().feed(HEADER.pack(Op.READ, 0, 0, PAYLOAD_MAX + 1))


def test_too_long_a_message_ends_the_session_and_nothing_else() -> None:
    store = XenStore()
    bad, good = WireClient(store, 7, privileged=False), WireClient(store, 0, privileged=True)
    bad.send(Op.WATCH, "data", "t")
    bad.put(HEADER.pack(Op.READ, 0, 0, 0xFFFFFFFF))
    assert bad.ended == ["message of 4294967295 bytes; at most 4096 are allowed"]
    assert (bad.session.wanted, bad.session.output()) == (0, b"")
    assert good.ask(Op.WRITE, "/local/domain/7/data", value=b"v") == ("WRITE", b"OK\0")


@settings(max_examples=150)
@given(st.binary(max_size=600))
def test_hostile_bytes_bring_replies_or_the_end(data: bytes) -> None:
    client = WireClient(XenStore(), 7, privileged=False)
    client.put(data)
    for message in client.taken():
        assert message.op in (*Op, Op.WATCH_EVENT)
    assert client.session.wanted or client.ended


@settings(max_examples=150)
@given(st.lists(plausible, max_size=20), st.booleans())
def test_hostile_requests_bring_one_reply_each_in_order(sent: list[Message], privileged: bool) -> None:
    """XS-1, and a tree that is whole afterwards: every child that is listed can be read."""
    store = XenStore()
    client = WireClient(store, 0 if privileged else 7, privileged=privileged)
    for request in sent:
        assert client.put(request.encode()) == 16 + len(request.payload)
        replies = [message for message in client.taken() if message.op != Op.WATCH_EVENT]
        assert [message[1:3] for message in replies] == [request[1:3]]
        assert replies[0].op in (request.op, Op.ERROR)
    observer = store.connect(0, lambda path, token: None, privileged=True)
    for path in (path for path in store.tree.nodes if path[0] == "/"):
        for name in observer.directory(0, path):
            observer.read(0, f"{path.rstrip('/')}/{name}")


def test_a_session_is_bounded_whatever_others_do() -> None:
    """Who does not read is cut off, and the store forgets its watches."""
    store = XenStore()
    deaf, busy = WireClient(store, 0, privileged=True), WireClient(store, 0, privileged=True)
    deaf.send(Op.WATCH, "/", "t" * 3000)
    size = 0
    for number in range(OUTPUT_MAX // 3000 + 2):
        assert busy.ask(Op.WRITE, f"/n/{number}")[0] == "WRITE"
        size = max(size, len(deaf.session.output()))
    assert deaf.ended == [f"more than {OUTPUT_MAX} bytes wait for the client"]
    assert (deaf.session.output(), deaf.session.wanted, size < PAYLOAD_MAX) == (b"", 0, True)
    deaf.session.close()
    assert busy.ask(Op.WRITE, "/n/last") == ("WRITE", b"OK\0")


def test_a_client_that_only_asks_is_heard_no_more() -> None:
    client = WireClient(XenStore(), 0, privileged=True)
    client.ask(Op.WRITE, "/a", value=b"v" * 4000)
    read = Message(Op.READ, REQ_ID, 0, b"/a\0").encode()
    assert client.put(read * 100) < 100 * len(read)
    assert (client.session.wanted, client.ended) == (0, [])
    assert len(client.taken()) > 10
    assert client.session.wanted
