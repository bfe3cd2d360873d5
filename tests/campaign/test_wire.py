"""wire: messages arrive whole, however they are cut, and one end never waits."""

from __future__ import annotations

import socket
import threading

import pytest

from xenaer.campaign.run.wire import Channel, framed, unframed, wait_message


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 12, 13, 20, 21])
def test_only_complete_messages_count(cut: int) -> None:
    data = framed(b"first") + framed(b"") + framed(b"x" * 100)
    assert unframed(data[:cut])[0] == [b"first", b""][: (cut >= 13) + (cut >= 21)]
    found, used = unframed(data)
    assert found == [b"first", b"", b"x" * 100]
    assert used == len(data)


def test_a_message_that_does_not_fit_is_sent_as_there_is_room() -> None:
    ours, theirs = socket.socketpair()
    big, got = b"y" * 5_000_000, []
    channel = Channel(ours)
    channel.send(big)
    assert channel.unsent
    thread = threading.Thread(target=lambda: got.append(wait_message(theirs)))
    thread.start()
    while channel.unsent:
        channel.flush()
    thread.join()
    assert got == [big]
    theirs.close()
    channel.close()


def test_half_a_message_makes_nobody_wait() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.send(framed(b"message")[:10])
    assert channel.receive() == []
    assert not channel.ended
    theirs.send(framed(b"message")[10:])
    assert channel.receive() == [b"message"]
    theirs.send(b"\x09")
    theirs.close()
    assert channel.receive() == []
    assert channel.receive() == []
    assert channel.ended
    channel.send(b"nobody is there")
    channel.send(b"and nothing happens")
    assert not channel.unsent
    channel.close()


def test_an_ended_peer_is_told() -> None:
    ours, theirs = socket.socketpair()
    ours.send(framed(b"m")[:-1])
    ours.close()
    assert wait_message(theirs) is None
    assert wait_message(theirs) is None
    theirs.close()
