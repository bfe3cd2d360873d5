"""protocol.transport_gate and transport_keys: who may connect to what, over tcp by key, over ipc by user."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from protocol import transport_door
from protocol.codec import Decoder
from protocol.limits import DOOR_CONNECTIONS, LINKS_PER_PEER, Rate
from protocol.transport_door import FrontDoor
from protocol.transport_gate import DOOR, ONLY, Gate, Refused, Request, process_identity
from protocol.transport_keys import Identity, KeyPair, KeyRing, make_pair, pair_of, use_as_client
from protocol.transport_zmq import NetEndpoints, TransportError, connect_pair, identify, open_party_link
from tests.protocol.test_transport_zmq import DECODE, DECODERS, Net, Party

ME = f"localhost:{os.getuid()}:{os.getgid()}:{os.getpid()}"


class Keyed:
    """A listening party with a gate and keys, and a party that connects to it."""

    def __init__(self, run: Path) -> None:
        self.ring = KeyRing(run)
        self.ring.create()
        self.net = Net("tcp://127.0.0.1")
        here = self.net.here
        self.refused: list[tuple[str, str]] = []
        here.loop.refuse = lambda kind, who, text: self.refused.append((kind, who))
        self.gate, self.own = Gate(here.loop, self.ring), make_pair()
        self.ring.publish("hypervisor", self.own.public)
        here.endpoints = NetEndpoints(here.loop, "tcp://127.0.0.1", DECODERS, self.gate, self.own)

    def close(self) -> None:
        self.net.here.loop.close()
        self.net.there.loop.close()


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    found = Keyed(tmp_path)
    yield found
    found.close()


# -- keys ------------------------------------------------------------------------------------------
def test_a_ring_tells_whose_key_it_is(tmp_path: Path) -> None:
    ring, pair = KeyRing(tmp_path), make_pair()
    assert not ring.exists
    assert ring.name_of(pair.public) is None
    ring.create()
    ring.publish("dom0", pair.public)
    assert (ring.read("dom0"), ring.name_of(pair.public)) == (pair.public, "dom0")
    assert ring.name_of(make_pair().public) is None
    ring.withdraw("dom0")
    ring.withdraw("dom0")
    assert ring.read("dom0") is None


def test_the_secret_half_is_never_on_disk(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.create()
    ring.publish("hypervisor", make_pair().public)
    who = ring.introduce("dom0", 1)
    assert who is not None
    files = [path for path in ring.folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"hypervisor.pub", "dom0.pub"}
    assert all(who.own.secret not in path.read_bytes() for path in files)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert stat.S_IMODE(ring.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 41])
def test_a_file_that_is_no_key_is_none(tmp_path: Path, content: bytes) -> None:
    ring = KeyRing(tmp_path)
    ring.create()
    (ring.folder / "dom0.pub").write_bytes(content)
    assert ring.read("dom0") is None


def test_a_key_that_others_may_write_or_that_is_a_link_does_not_count(tmp_path: Path) -> None:
    ring, key = KeyRing(tmp_path), make_pair().public
    ring.create()
    ring.publish("dom0", key)
    (ring.folder / "dom0.pub").chmod(0o666)
    assert ring.read("dom0") is None
    (ring.folder / "other.pub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(key)
    assert ring.read("other") is None
    (ring.folder / "folder.pub").mkdir()
    assert ring.read("folder") is None


def test_a_party_waits_for_the_stubs_key_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identify(tmp_path, "dom0", "tcp://127.0.0.1:1") is None, "no keys in this system"
    KeyRing(tmp_path).create()
    assert identify(tmp_path, "dom0", "ipc:///x") is None, "not over ipc"
    monkeypatch.setattr("protocol.transport_zmq.KEY_TIMEOUT_S", 0.05)
    with pytest.raises(TransportError, match="has left no key"):
        identify(tmp_path, "dom0", "tcp://127.0.0.1:1")


def test_a_pair_follows_from_its_secret_half() -> None:
    pair = make_pair()
    assert pair_of(pair.secret.decode()) == pair


# -- decisions --------------------------------------------------------------------------------------
def test_whose_key_opens_which_socket(keyed: Keyed) -> None:
    guest, dom0, stranger = make_pair(), make_pair(), make_pair()
    keyed.gate.admit("d7", guest.public.decode())
    keyed.ring.publish("dom0", dom0.public)

    def ask(domain: str, key: bytes, mechanism: str = "CURVE") -> str:
        try:
            return keyed.gate.decide(Request(domain, "10.0.0.1", mechanism, key))
        except Refused as refused:
            return refused.kind

    assert ask(DOOR, guest.public) == "d7"
    assert ask(ONLY + "d7", guest.public) == "d7"
    assert ask(ONLY + "d8", guest.public) == "wrong-key"
    assert ask(ONLY + "dom0", guest.public) == "wrong-key"
    assert ask(ONLY + "d7", dom0.public) == "wrong-key"
    assert ask(DOOR, dom0.public) == "dom0"
    assert ask(DOOR, stranger.public) == "unknown-key"
    assert ask(DOOR, b"", "CURVE") == "no-key"
    assert ask(DOOR, b"", "NULL") == "no-key"
    keyed.gate.admit("d7", "")
    assert ask(DOOR, guest.public) == "unknown-key", "a domain that is gone"


def test_a_guest_connects_to_the_door_a_few_times_only(keyed: Keyed) -> None:
    guest, dom0 = make_pair(), make_pair()
    keyed.gate.admit("d7", guest.public.decode())
    keyed.ring.publish("control-1", dom0.public)
    for _ in range(DOOR_CONNECTIONS.burst):
        assert keyed.gate.decide(Request(DOOR, "", "CURVE", guest.public)) == "d7"
    with pytest.raises(Refused) as caught:
        keyed.gate.decide(Request(DOOR, "", "CURVE", guest.public))
    assert caught.value.kind == "flood"
    assert keyed.gate.decide(Request(ONLY + "d7", "", "CURVE", guest.public)) == "d7"
    for _ in range(3 * DOOR_CONNECTIONS.burst):
        assert keyed.gate.decide(Request(DOOR, "", "CURVE", dom0.public)) == "control-1"


def test_a_local_peer_is_its_process_and_another_users_is_refused() -> None:
    party = Party("ipc:///nowhere")
    gate = Gate(party.loop)
    assert gate.decide(Request(DOOR, ME, "NULL", b"")) == process_identity(os.getpid())
    assert gate.decide(Request(DOOR, "127.0.0.1", "NULL", b"")) == "", "plain tcp does not tell"
    assert gate.decide(Request(DOOR, f"localhost:{os.getuid()}:0:0", "NULL", b"")) == "", "another container"
    with pytest.raises(Refused) as caught:
        gate.decide(Request(DOOR, f"localhost:{os.getuid() + 1}:0:{os.getpid()}", "NULL", b""))
    assert caught.value.kind == "other-user"
    party.loop.close()


# -- connections -------------------------------------------------------------------------------------
def test_a_link_with_keys_carries_messages(keyed: Keyed) -> None:
    guest, net = make_pair(), keyed.net
    keyed.gate.admit("d7", guest.public.decode())
    address, left = net.here.endpoints.listen("party", "d7")
    net.here.take(left)
    right = net.there.take(connect_pair(net.there.loop, address, DECODE, guest))
    right.send(("note", 0, 5))
    net.until(lambda: net.here.got == [("note", 0, 5)])
    right.close()
    net.until(lambda: net.here.reasons == ["connection lost"])
    assert keyed.refused == []


@pytest.mark.parametrize("how", ["no key", "unknown key", "key of another", "plain", "garbage"])
def test_strangers_neither_take_the_peers_place_nor_end_its_link(keyed: Keyed, how: str) -> None:
    guest, other, net = make_pair(), make_pair(), keyed.net
    keyed.gate.admit("d7", guest.public.decode())
    keyed.gate.admit("d8", other.public.decode())
    address, left = net.here.endpoints.listen("party", "d7")
    net.here.take(left)
    stranger = _stranger(keyed, address, {"key of another": other, "unknown key": make_pair()}.get(how), how)
    net.until(lambda: bool(keyed.refused))
    right = net.there.take(connect_pair(net.there.loop, address, DECODE, guest))
    right.send(("note", 0, 5))
    net.until(lambda: net.here.got == [("note", 0, 5)])
    stranger.close()
    net.rest()
    assert net.here.reasons == []
    expected = {"key of another": ("wrong-key", "d8"), "unknown key": ("unknown-key", "127.0.0.1")}
    assert keyed.refused[0] == expected.get(how, ("handshake", ""))


def _stranger(keyed: Keyed, address: str, pair: KeyPair | None, how: str) -> zmq.Socket[bytes] | socket.socket:
    where = address.partition(" ")[0]
    if how == "garbage":
        raw = socket.create_connection(("127.0.0.1", int(where.rsplit(":", 1)[1])))
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 20)
        raw.close()
        return raw
    found: zmq.Socket[bytes] = keyed.net.there.loop.context.socket(zmq.PAIR)
    found.linger, found.reconnect_ivl = 0, -1
    use_as_client(found, pair, keyed.own.public if pair else b"")
    found.connect(where)
    found.send(b"")
    return found


def test_the_door_says_who_knocks(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_door, "KNOCKS", Rate(1, 4 * LINKS_PER_PEER))
    users: list[str] = []
    here = keyed.net.here
    with zmq.Context() as context, context.socket(zmq.PAIR) as probe:
        port = probe.bind_to_random_port("tcp://127.0.0.1")
    FrontDoor(here.loop, [f"tcp://127.0.0.1:{port}"], here.endpoints, lambda link, user: users.append(user))
    guest = make_pair()
    keyed.gate.admit("d7", guest.public.decode())
    with keyed.net.there.loop.context.socket(zmq.DEALER) as knock:
        knock.linger = 0
        knock.curve_serverkey = keyed.own.public
        knock.curve_publickey, knock.curve_secretkey = guest
        knock.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(3 * LINKS_PER_PEER):
            knock.send(b"open")
        keyed.net.until(lambda: len(users) == 3 * LINKS_PER_PEER)
        assert set(users) == {"d7"}
        assert len(here.loop._links) == LINKS_PER_PEER, "what was not used is given up for what comes later"
        for _ in range(3 * LINKS_PER_PEER):
            knock.send(b"open")
        keyed.net.until(lambda: ("flood", "d7") in keyed.refused)


def test_without_a_known_key_nobody_answers(keyed: Keyed) -> None:
    who = Identity(make_pair(), keyed.own.public)
    with pytest.raises(TransportError, match="does not know our key"):
        open_party_link(keyed.net.there.loop, "tcp://127.0.0.1:9", Decoder({}).decode, who, timeout_ms=50)


def test_no_descriptors_left_is_an_error_of_whoever_listens(keyed: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(kind: int) -> None:
        raise zmq.ZMQError(24)

    monkeypatch.setattr(keyed.net.here.loop.context, "socket", none_left)
    with pytest.raises(TransportError, match="Too many open files"):
        keyed.net.here.endpoints.listen("party", "d7")
