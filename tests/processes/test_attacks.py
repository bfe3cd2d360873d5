"""A guest is an attacker: whatever it sends, nothing but that guest is disturbed (xen-pci.md 10; docs/SECURITY.md)."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import zmq

from protocol.codec import encode
from protocol.limits import GUEST_MEMORY, HANDSHAKE_MS, KNOCKS, LINKS_PER_PEER, MIB
from protocol.transport_keys import KeyRing, make_pair, pair_of
from tests.processes import attacker
from tests.processes.attacker import ask, client, refused, undisturbed
from tests.processes.hosts import flat, guest, nic
from tests.processes.running import TRANSPORTS, Running, running
from xenaer.control import Control, ControlError

pytestmark = pytest.mark.processes

STORM = 150  # connections at a time to each socket
SECRETS = "secrets.json"


@pytest.fixture(scope="module", params=TRANSPORTS)
def view(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    told = tmp_path_factory.mktemp("told") / SECRETS
    bad = guest("bad", nic(0), "tests.processes.traitor:Traitor", options={"file": str(told)})
    with running(flat([bad, guest("net2", nic(1))]), request.param) as found:
        found.told = json.loads(told.read_text())  # type: ignore[attr-defined]
        yield found


@pytest.fixture
def keyed(view: Running) -> Running:
    if view.description["address"].startswith("ipc"):
        pytest.skip("over ipc there are no keys")
    return view


def attack(view: Running, number: int) -> int:
    """An attack of ``traitor.ATTACKS``, ordered over a connection of its own; how often it succeeded."""
    with Control(view.description["address"], run=view.run) as control:
        found: dict[str, int] = control.ctl("bad", "workload", [-1, number], timeout_s=60)
        return sum(found.values())


# -- from inside a guest ----------------------------------------------------------------------------
@pytest.mark.parametrize("number", [1, 2, 3])
def test_memory_per_guest_is_bounded(view: Running, number: int) -> None:
    before = [attacker.memory(view, name) for name in ("hypervisor", "dom0")]
    undisturbed(view, partial(attack, view, number))
    after = [attacker.memory(view, name) for name in ("hypervisor", "dom0")]
    grown = sum(after) - sum(before)
    assert grown < GUEST_MEMORY / 4, f"{grown / MIB:.1f} MiB"


@pytest.mark.parametrize(
    ("number", "party", "kind"),
    [
        pytest.param(5, "hypervisor", "grant", id="what belongs to others"),
        pytest.param(5, "hypervisor", "event-channel", id="ports of others"),
        pytest.param(5, "hypervisor", "xenstore", id="nodes of others"),
        pytest.param(5, "hypervisor", "role", id="requests of other roles"),
        pytest.param(1, "hypervisor", "flood", id="flood of hypercalls"),
        pytest.param(2, "dom0", "spurious", id="X13 flood of doorbells"),
        pytest.param(4, "dom0", "state", id="X30 flapping states"),
    ],
)
def test_attacks_by_a_guests_own_connections_are_refused_and_counted(
    view: Running, number: int, party: str, kind: str
) -> None:
    before = refused(view, party, kind)
    mark = view.mark()
    assert undisturbed(view, partial(attack, view, number)) == 0
    assert refused(view, party, kind) > before
    assert view.status("bad") is not None
    lines = [text for text in view.log(mark, party) if f"refused {kind}: bad" in text]
    assert len(lines) <= 5 + 2 * (view.mark() - mark), "the log has a limit of its own"


# -- raw bytes and connections --------------------------------------------------------------------------
def test_garbage_at_every_socket_disturbs_nobody(view: Running) -> None:
    def attack_all() -> None:
        for where in attacker.sockets(view):
            for raw in attacker.garbage():
                with attacker.connect(where) as stranger:
                    stranger.sendall(raw)
                    attacker.ended(stranger, 0.02)

    undisturbed(view, attack_all)
    assert view.status("bad") is not None, "the guest whose sockets they were lives on, too"
    if not view.description["address"].startswith("ipc"):
        assert refused(view, "hypervisor", "handshake") > 0
        assert refused(view, "dom0", "handshake") > 0


def test_a_storm_of_connections_that_say_nothing_ends_by_itself(view: Running) -> None:
    def storm() -> None:
        held = [attacker.connect(where) for where in attacker.sockets(view)[:4] for _ in range(STORM)]
        deadline = time.monotonic() + HANDSHAKE_MS / 1000 + 5
        assert all(attacker.ended(each, deadline - time.monotonic()) for each in held)
        for each in held:
            each.close()

    undisturbed(view, storm)
    with Control(view.description["address"], run=view.run) as control:
        assert control.ctl("hypervisor", "status", [])["dom0"]


# -- keys --------------------------------------------------------------------------------------------------
def gets_nothing(link: zmq.Socket[bytes]) -> None:
    with contextlib.suppress(zmq.Again):  # the connection has been refused already
        link.send(b"open")
    assert not link.poll(100)


def test_a_peer_without_a_key_gets_nothing(keyed: Running) -> None:
    for where in attacker.sockets(keyed):
        for kind in (zmq.DEALER, zmq.PAIR):
            with client(kind, f"tcp://127.0.0.1:{where}") as link:
                gets_nothing(link)
    undisturbed(keyed, lambda: None)


def test_a_peer_with_a_key_that_nobody_knows_gets_nothing(keyed: Running) -> None:
    before = refused(keyed, "hypervisor", "unknown-key"), refused(keyed, "dom0", "unknown-key")
    ring = KeyRing(keyed.run)
    for where in attacker.sockets(keyed):
        for server in (ring.read("hypervisor"), ring.read("dom0")):
            assert server is not None
            with client(zmq.DEALER, f"tcp://127.0.0.1:{where}", make_pair(), server) as link:
                gets_nothing(link)
    assert refused(keyed, "hypervisor", "unknown-key") > before[0]
    assert refused(keyed, "dom0", "unknown-key") > before[1]


def test_a_guests_key_opens_no_socket_of_another(keyed: Running) -> None:
    """Also not by being there first: whoever is refused never takes the place of the peer."""
    own, server = pair_of(keyed.told["token"]), KeyRing(keyed.run).read("dom0")  # type: ignore[attr-defined]
    assert server is not None
    before = refused(keyed, "dom0", "wrong-key")

    def knock_everywhere() -> None:
        for where in attacker.sockets(keyed):
            with client(zmq.PAIR, f"tcp://127.0.0.1:{where}", own, server) as link:
                with contextlib.suppress(zmq.Again):  # it has been turned away already
                    link.send(b"", zmq.NOBLOCK)
                    link.send(encode(("mmio_write", 0, 0, 0, 4, 4, 1)), zmq.NOBLOCK)
                assert not link.poll(100)

    undisturbed(keyed, knock_everywhere)
    assert refused(keyed, "dom0", "wrong-key") >= before + 2, "its neighbour's channel and device bus"


@pytest.mark.parametrize(
    ("role", "token"), [("dom0", ""), ("control", ""), ("supervisor", "net2"), ("supervisor", "bad"), ("domu", "")]
)
def test_a_guests_key_is_good_for_no_other_role(keyed: Running, role: str, token: str) -> None:
    own, stub = pair_of(keyed.told["token"]), KeyRing(keyed.run).read("hypervisor")  # type: ignore[attr-defined]
    assert stub is not None
    door = keyed.description["address"]
    with client(zmq.DEALER, door, own, stub) as link:
        answer = ask(link, "hello", 1, role, token)
        assert answer[0] == "error"
        assert "d1 is not" in answer[2] or role == "domu"
        assert ask(link, "ctl", 2, "hypervisor", "stop", [])[0] == "error"
    undisturbed(keyed, lambda: None)


def test_a_stolen_token_does_not_make_a_second_guest(view: Running) -> None:
    """Replay of a hello, from a process that is not the guest."""
    told = view.told  # type: ignore[attr-defined]
    own = pair_of(told["token"]) if told["stub"] else None
    with client(zmq.DEALER, view.description["address"], own, told["stub"].encode()) as link:
        assert ask(link, "hello", 1, "domu", told["token"])[2] == "bad is already connected"
        assert ask(link, "xs_read", 2, 0, "data/x")[2] == "xs_read: say hello first"


# -- the front door ----------------------------------------------------------------------------------------
def test_whoever_knocks_without_end_is_not_heard_and_leaves_nothing_behind(view: Running) -> None:
    told = view.told  # type: ignore[attr-defined]
    own = pair_of(told["token"]) if told["stub"] else None
    before, open_before = refused(view, "hypervisor", "flood"), descriptors(view)

    def knock() -> int:
        with client(zmq.DEALER, view.description["address"], own, told["stub"].encode()) as link:
            for _ in range(KNOCKS.burst + 200):
                link.send(b"open")
            answers = 0
            while link.poll(300):
                link.recv()
                answers += 1
            return answers

    assert KNOCKS.burst <= undisturbed(view, knock) < KNOCKS.burst + 150
    assert refused(view, "hypervisor", "flood") > before
    assert descriptors(view) <= open_before + 10 * LINKS_PER_PEER


def descriptors(view: Running) -> int:
    """File descriptors of the stub."""
    pid = next(pid for pid, name in view.description["children"].items() if name == "hypervisor")
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_frames_that_are_too_long_end_their_own_connection(view: Running) -> None:
    told = view.told  # type: ignore[attr-defined]
    own = pair_of(told["token"]) if told["stub"] else None
    with client(zmq.DEALER, view.description["address"], own, told["stub"].encode()) as link:
        link.send(bytes(3 * MIB))
        assert not link.poll(300)
    undisturbed(view, lambda: None)


# -- the run directory -------------------------------------------------------------------------------------
def test_nobody_else_may_look_into_the_run_directory(view: Running) -> None:
    for path in (view.run, *(each for each in view.run.iterdir() if each.is_dir())):
        assert path.stat().st_mode & 0o077 == 0, path
    for path in (view.run / "keys").glob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_users_process_cannot_connect(view: Running) -> None:
    paths = [where for where in attacker.sockets(view) if not where.isdigit()]
    pid = os.fork()
    if pid == 0:
        os.setgid(65534)
        os.setuid(65534)
        try:
            attacker.connect(paths[0] if paths else str(view.run / "keys"))
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


# -- revocation --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_guest_that_is_killed_while_it_sends_leaves_a_device_that_serves_the_next(transport: str) -> None:
    bad, fresh = guest("bad", nic(0), "tests.processes.traitor:Traitor"), guest("next", nic(0), autostart=False)

    def destroy() -> None:
        with Control(system.description["address"], run=system.run) as control:
            assert control.ctl("hypervisor", "xl", ["destroy", "bad"])[0] == 0

    with running(flat([bad, guest("net2", nic(1)), fresh], 2), transport) as system, ThreadPoolExecutor(1) as pool:
        attacking = pool.submit(attack, system, 6)
        time.sleep(0.5)
        mark = system.mark()
        undisturbed(system, destroy)
        system.wait(mark, "domain.destroy", "bad")
        assert system.steps(mark, "bad", nic(0))["check"] == "ok"
        with pytest.raises(ControlError):
            attacking.result(20)
        system.xl_good("create", "next")
        system.wait_up("next")
        system.use("next")
