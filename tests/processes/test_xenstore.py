"""Real clients on the sockets of a running system: xenstore-utils, pyxs, and clients that mean no good (8.5, 8.6)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor_stub.xenstore.budget import BURST, RATE
from hypervisor_stub.xenstore.session import OUTPUT_MAX
from hypervisor_stub.xenstore.wire import HEADER, Message, Op
from hypervisor_stub.xenstore_sockets import CLIENTS_MAX
from protocol.topology import AssignmentSpec, FunctionSpec, GuestDriverSpec, HostSpec
from tests.processes.hosts import READY_MS, guest, nic, root_port, timing
from tests.processes.running import PATIENCE_S, Running, running
from xenaer.boot import ROOT

pytestmark = pytest.mark.processes
tools = pytest.mark.skipif(not shutil.which("xenstore-ls"), reason="xenstore-utils is not installed")

LISTED_DOMID = 7
CARD = [f"0000:03:00.{function}" for function in (0, 1)]
OK = b"OK\0"
# xen-pci.md 2.8; event-channel as errata 8 has it
LISTING = """\
/local/domain/0/backend/pci = ""   (n0)
/local/domain/0/backend/pci/7 = ""   (n0)
/local/domain/0/backend/pci/7/0 = ""   (n0,r7)
/local/domain/0/backend/pci/7/0/frontend = "/local/domain/7/device/pci/0"   (n0,r7)
/local/domain/0/backend/pci/7/0/frontend-id = "7"   (n0,r7)
/local/domain/0/backend/pci/7/0/online = "1"   (n0,r7)
/local/domain/0/backend/pci/7/0/state = "4"   (n0,r7)
/local/domain/0/backend/pci/7/0/domain = "guest1"   (n0,r7)
/local/domain/0/backend/pci/7/0/key-0 = "0000:03:00.0"   (n0,r7)
/local/domain/0/backend/pci/7/0/dev-0 = "0000:03:00.0"   (n0,r7)
/local/domain/0/backend/pci/7/0/opts-0 = "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict"   (n0,r7)
/local/domain/0/backend/pci/7/0/state-0 = "3"   (n0,r7)
/local/domain/0/backend/pci/7/0/num_devs = "2"   (n0,r7)
/local/domain/0/backend/pci/7/0/vdev-0 = "0000:00:00.00"   (n0,r7)
/local/domain/0/backend/pci/7/0/root-0 = "0000:00"   (n0,r7)
/local/domain/0/backend/pci/7/0/root_num = "1"   (n0,r7)
/local/domain/0/backend/pci/7/0/key-1 = "0000:03:00.1"   (n0,r7)
/local/domain/0/backend/pci/7/0/dev-1 = "0000:03:00.1"   (n0,r7)
/local/domain/0/backend/pci/7/0/opts-1 = "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict"   (n0,r7)
/local/domain/0/backend/pci/7/0/state-1 = "3"   (n0,r7)
/local/domain/0/backend/pci/7/0/vdev-1 = "0000:00:00.01"   (n0,r7)
/local/domain/7/device/pci = ""   (n0,r7)
/local/domain/7/device/pci/0 = ""   (n7,r0)
/local/domain/7/device/pci/0/backend = "/local/domain/0/backend/pci/7/0"   (n7,r0)
/local/domain/7/device/pci/0/backend-id = "0"   (n7,r0)
/local/domain/7/device/pci/0/state = "4"   (n7,r0)
/local/domain/7/device/pci/0/pci-op-ref = "8"   (n7,r0)
/local/domain/7/device/pci/0/event-channel = "8"   (n7,r0)
/local/domain/7/device/pci/0/magic = "7"   (n7,r0)
/libxl/pci/0000-03-00-0/domid = "7"   (n0)
/libxl/pci/0000-03-00-1/domid = "7"   (n0)
"""
LISTED = ("/local/domain/0/backend/pci", f"/local/domain/{LISTED_DOMID}/device/pci", "/libxl/pci/0000-03-00-")


def host() -> HostSpec:
    """One card of two functions for ``guest1``, one card for ``other``, and a guest that only uses up domain ids."""
    port = FunctionSpec("0000:00:03.0", "root_port", secondary=3, subordinate=3)
    second = FunctionSpec(root_port(0), "root_port", secondary=1, subordinate=1)
    for each in (port, second):
        each.vendor, each.device, each.dom0_driver = 0x1B36, 0x000C, "pcieport"
    cards = [FunctionSpec(bdf, "endpoint", parent=port.bdf, model="nic", role_based=False) for bdf in CARD]
    cards.append(FunctionSpec(nic(0), "endpoint", parent=second.bdf, model="nic", role_based=False))
    for function in (port, second, *cards):
        function.ready_ms = READY_MS
    listed = guest("guest1", autostart=False)
    listed.devices = [AssignmentSpec(bdf, GuestDriverSpec("xnic", {})) for bdf in CARD]
    guests = [guest("filler", autostart=False), listed, guest("other", nic(0), autostart=False)]
    return HostSpec("two-functions", [second, port, *cards], guests, timing=timing())


@pytest.fixture(scope="module", name="view")
def _view() -> Iterator[Running]:
    """A system whose seventh domain is ``guest1``."""
    with running(host()) as view:
        for _ in range(LISTED_DOMID - 1):
            view.xl_good("create", "filler")
            view.xl_good("destroy", "filler")
        view.xl_good("create", "guest1")
        view.wait_up("guest1")
        yield view


def socket_of(view: Running, name: str = "") -> Path:
    """Dom0's socket, or a guest's."""
    return view.run / "xenstored" / (f"guest-{name}" if name else "") / "socket"


def command(view: Running, *words: str, guest: str = "") -> tuple[int, str, str]:
    """Exit status, output and complaint of a real client; a guest's by its run directory, dom0's by its path."""
    where = {"XENSTORED_RUNDIR": str(socket_of(view, guest).parent)} if guest else {}
    where = where or {"XENSTORED_PATH": str(socket_of(view))}
    found = subprocess.run(
        words, env=os.environ | where, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    return found.returncode, found.stdout, found.stderr


@contextlib.contextmanager
def watching(view: Running, *words: str) -> Iterator[subprocess.Popen[str]]:
    """``xenstore-watch`` of dom0, once it has printed the synthetic event of its one path."""
    env = os.environ | {"XENSTORED_PATH": str(socket_of(view))}
    with subprocess.Popen(["xenstore-watch", *words], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{words[-1]}\n"
        yield process
        process.kill()


def rest_of(process: subprocess.Popen[str]) -> str:
    """What it prints until it ends by itself."""
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    return rest


def exchange(client: socket.socket, op: int, payload: bytes) -> bytes:
    """The payload of the reply to one request; events before it are dropped."""
    client.sendall(Message(op, 1, 0, payload).encode())
    while True:
        found, _, _, length = HEADER.unpack(client.recv(HEADER.size, socket.MSG_WAITALL))
        data = client.recv(length, socket.MSG_WAITALL) if length else b""
        if found != Op.WATCH_EVENT:
            return data


@contextlib.contextmanager
def client_of(path: Path) -> Iterator[socket.socket]:
    """A raw client."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        yield client


# -- xenstore-utils ------------------------------------------------------------------------------
@tools
def test_2_8_listing_of_31_lines(view: Running) -> None:
    """Whether pciback has published the first function when the second is added is chance, as on a real machine."""
    code, out, err = command(view, "xenstore-ls", "-fp")
    lines = [line for line in out.splitlines() if line.startswith(LISTED) and not line.endswith(' = ""   (n0)')]
    parents = [line for line in out.splitlines() if line.startswith(LISTED[0]) and line.endswith(' = ""   (n0)')]
    assert (code, err) == (0, "")
    assert sorted([*parents, *lines]) == sorted(LISTING.splitlines())
    assert len(LISTING.splitlines()) == 31
    assert view.system.ctl("hypervisor", "xenstore-ls", ["/"]) == out


# label, words for dom0, exit status, output, complaint; one after the other
DOM0_COMMANDS = (
    ("write", "xenstore-write /t/a one /t/b/c two", 0, "", ""),
    ("read", "xenstore-read /t/a /t/b/c", 0, "one\ntwo\n", ""),
    ("read with paths", "xenstore-read -p /t/a", 0, "/t/a: one\n", ""),
    ("read of nothing", "xenstore-read /t/none", 1, "", "xenstore-read: couldn't read path /t/none\n"),
    ("list", "xenstore-list /t", 0, "a\nb\n", ""),
    ("list of nothing", "xenstore-list /none", 1, "", "xenstore-list: could not list path /none\n"),
    ("chmod", "xenstore-chmod -r /t n0 r7", 0, "", ""),
    ("ls", "xenstore-ls -fp /t", 0, '/t/a = "one"   (n0,r7)\n/t/b = ""   (n0,r7)\n/t/b/c = "two"   (n0,r7)\n', ""),
    ("exists", "xenstore-exists /t/b", 0, "", ""),
    ("rm", "xenstore-rm -t /t/b/c", 0, "", ""),
    ("emptied parents went too", "xenstore-exists /t/b", 1, "", ""),
    ("rm of the rest", "xenstore-rm /t", 0, "", ""),
    ("exists no more", "xenstore-exists /t", 1, "", ""),
    ("ls of nothing", "xenstore-ls /t", 1, "", "xenstore-ls: xs_directory (/t): No such file or directory\n"),
)


@tools
def test_xenstore_utils_for_dom0(view: Running) -> None:
    for label, words, *expected in DOM0_COMMANDS:
        assert list(command(view, *words.split())) == expected, label


@tools
def test_a_guest_sees_its_own_and_what_it_may(view: Running) -> None:
    assert command(view, "xenstore-read", "name", guest="guest1") == (0, "guest1\n", "")
    assert command(view, "xenstore-write", "data/x", "mine", guest="guest1")[0] == 0
    assert command(view, "xenstore-read", "/local/domain/7/data/x") == (0, "mine\n", "")
    assert command(view, "xenstore-write", "name", "me", guest="guest1")[0] == 1
    assert command(view, "xenstore-read", "/local/domain/0/name", guest="guest1")[0] == 1
    assert "Permission denied" in command(view, "xenstore-ls", guest="guest1")[2]
    assert (
        'device/pci/0/state = "4"   (n7,r0)' in command(view, "xenstore-ls", "-fp", "device/pci/0", guest="guest1")[1]
    )
    assert command(view, "xenstore-rm", "data/x", guest="guest1")[0] == 0


@tools
def test_a_directory_of_500_children(view: Running) -> None:
    names = [f"number-{number}" for number in range(500)]
    words = [word for name in names for word in (f"/many/{name}", "")]
    assert command(view, "xenstore-write", *words)[0] == 0
    assert command(view, "xenstore-list", "/many")[1].split() == names
    assert command(view, "xenstore-rm", "/many")[0] == 0


@tools
def test_watch(view: Running) -> None:
    """The synthetic first event counts as one of ``-n``."""
    with watching(view, "-n", "2", "/watched") as process:
        command(view, "xenstore-write", "/watched/x", "1")
        assert rest_of(process) == "/watched/x\n"
    assert command(view, "xenstore-rm", "/watched")[0] == 0


@tools
def test_a_guests_socket_lives_as_long_as_its_domain(view: Running) -> None:
    """And both ways between real clients and kernels: one asks the guest's to go, and hears what its frontend does."""
    assert not socket_of(view, "other").exists()
    view.xl_good("create", "other")
    domid = view.wait_up("other")
    path, home = socket_of(view, "other"), f"/local/domain/{domid}"
    with client_of(path) as old, watching(view, "-n", "2", f"{home}/device/pci/0/state") as process:
        assert exchange(old, Op.READ, b"domid\0") == str(domid).encode()
        assert command(view, "xenstore-write", f"{home}/control/shutdown", "poweroff")[0] == 0
        assert rest_of(process) == f"{home}/device/pci/0/state\n"
        assert old.recv(1) == b""
    view.wait_gone("other")
    assert not path.exists()
    assert "No such file" in command(view, "xenstore-read", "name", guest="other")[2]


def test_pyxs(view: Running) -> None:
    pyxs = pytest.importorskip("pyxs", reason="pyxs is not installed")
    path = str(socket_of(view))
    with pyxs.Client(unix_socket_path=path) as client, pyxs.Client(unix_socket_path=path) as other:
        client[b"/py/a"] = b"1"
        assert (client[b"/py/a"], client.list(b"/py"), client.exists(b"/py/b")) == (b"1", [b"a"], False)
        client.set_perms(b"/py", [b"n0", b"r7"])
        assert client.get_perms(b"/py") == [b"n0", b"r7"]
        assert client.get_domain_path(7) == b"/local/domain/7"
        assert client.is_domain_introduced(7)
        with client.monitor() as monitor:
            monitor.watch(b"/py", b"token")
            events = monitor.wait()
            assert tuple(next(events)) == (b"/py", b"token")
            other.write(b"/py/b", b"2")
            assert tuple(next(events)) == (b"/py/b", b"token")
        client.transaction()
        assert client.read(b"/py/a") == b"1"
        other.write(b"/py/a", b"changed")
        assert not client.commit()
        client.transaction()
        client.write(b"/py/a", b"rolled back")
        client.rollback()
        assert client.read(b"/py/a") == b"changed"
        client.delete(b"/py")


def test_status_says_where_the_sockets_are(view: Running) -> None:
    words = [sys.executable, "-m", "xenaer", "status", "--run", str(view.run)]
    found = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    for name in ("", "guest1"):
        assert f"export XENSTORED_PATH={socket_of(view, name)}" in found.stdout


# -- clients that mean no good -------------------------------------------------------------------
@pytest.fixture(name="honest")
def _honest(view: Running) -> Iterator[socket.socket]:
    """A client of dom0 that must be served, whatever the others do; and the system serves its guest."""
    with client_of(socket_of(view)) as client:
        yield client
        assert exchange(client, Op.WRITE, b"/honest\0v") == OK
        assert exchange(client, Op.RM, b"/honest\0") == OK
    view.use("guest1")


def test_sockets_are_for_their_owner_only(view: Running) -> None:
    for path in (socket_of(view), socket_of(view, "guest1")):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600


def test_too_long_a_message_costs_its_sender_the_connection(view: Running, honest: socket.socket) -> None:
    with client_of(socket_of(view, "guest1")) as bad:
        bad.sendall(HEADER.pack(Op.READ, 0, 0, 4097) + b"x" * 4097)
        with contextlib.suppress(ConnectionResetError):
            assert bad.recv(1) == b""


def test_half_a_request_and_gone(view: Running, honest: socket.socket) -> None:
    request = Message(Op.WRITE, 0, 0, b"/half\0v").encode()
    for size in (0, 1, 15, 16, len(request) - 1):
        with client_of(socket_of(view)) as bad:
            bad.sendall(request[:size])
    with client_of(socket_of(view)) as half_open:
        half_open.sendall(request)
        half_open.shutdown(socket.SHUT_WR)
        assert half_open.recv(HEADER.size + len(OK), socket.MSG_WAITALL)[HEADER.size :] == OK
        assert half_open.recv(1) == b""
    assert exchange(honest, Op.RM, b"/half\0") == OK


def test_a_flood_of_requests_slows_nobody_down(view: Running, honest: socket.socket) -> None:
    """Requests as fast as they go, and nobody who reads the answers."""
    flood = Message(Op.READ, 0, 0, b"name\0").encode() * 4000
    with client_of(socket_of(view, "guest1")) as bad:
        bad.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                bad.send(flood)
        begin = time.monotonic()
        for _ in range(50):
            assert exchange(honest, Op.READ, b"/local/domain/0/name\0") == b"Domain-0"
        assert time.monotonic() - begin < PATIENCE_S / 4


def test_a_guests_changes_are_rationed(view: Running, honest: socket.socket) -> None:
    """So that kernels which watch what it writes can keep up; what it reads is not."""
    with client_of(socket_of(view, "guest1")) as bad, client_of(socket_of(view, "guest1")) as other:
        begin = time.monotonic()
        for _ in range(BURST + RATE // 2):
            assert exchange(bad, Op.WRITE, b"device/pci/0/state\0004") == OK
        assert time.monotonic() - begin > 0.4
        bad.sendall(Message(Op.WRITE, 0, 0, b"data\0").encode() * 10)
        assert exchange(other, Op.READ, b"name\0") == b"guest1"
        assert exchange(honest, Op.READ, b"/local/domain/0/name\0") == b"Domain-0"


def test_a_deaf_watcher_is_cut_off(view: Running, honest: socket.socket) -> None:
    with client_of(socket_of(view)) as deaf:
        deaf.sendall(Message(Op.WATCH, 0, 0, b"/deaf\0" + b"t" * 3900 + b"\0").encode())
        for number in range(2 * OUTPUT_MAX // 3900):
            assert exchange(honest, Op.WRITE, f"/deaf/{number}\0".encode()) == OK
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while data := deaf.recv(1 << 16):
                received += len(data)
        assert received < OUTPUT_MAX
    assert exchange(honest, Op.RM, b"/deaf\0") == OK


def test_clients_are_counted_per_socket(view: Running, honest: socket.socket) -> None:
    """The guest's own places are taken; dom0 does not notice."""
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(client_of(socket_of(view, "guest1"))) for _ in range(CLIENTS_MAX[False])]
        assert all(exchange(client, Op.READ, b"name\0") == b"guest1" for client in many)
        with contextlib.suppress(ConnectionResetError):
            assert stack.enter_context(client_of(socket_of(view, "guest1"))).recv(1) == b""
        assert exchange(honest, Op.READ, b"/local/domain/0/name\0") == b"Domain-0"
    with client_of(socket_of(view, "guest1")) as next_one:
        assert exchange(next_one, Op.READ, b"name\0") == b"guest1"
