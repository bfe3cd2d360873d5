"""The rules as a client of the wire sees them: XS-1 to XS-16 (xen-pci.md 8.5)."""

from __future__ import annotations

import pytest

from hypervisor_stub.xenstore import FEATURES, XenStore
from hypervisor_stub.xenstore.wire import Message, Op
from tests.hypervisor_stub.xenstore.support import Client
from tests.hypervisor_stub.xenstore.wire_client import REQ_ID, WireClient

OK = b"OK\0"


@pytest.fixture(name="root")
def _root(store: XenStore, guest: Client) -> WireClient:
    """Dom0's rights, in a store where guest 7 has its directory."""
    return WireClient(store, 0, privileged=True)


@pytest.fixture(name="domu")
def _domu(store: XenStore, root: WireClient) -> WireClient:
    """Guest 7."""
    return WireClient(store, 7, privileged=False)


def error(name: str) -> tuple[str, bytes]:
    return "ERROR", f"{name}\0".encode()


# label, type, payload, reply to dom0 (a type and a payload, or the name of an error), the same for guest 7
REPLIES = (
    ("write", Op.WRITE, b"/a\0v", OK, "EACCES"),
    ("write without value", Op.WRITE, b"/a\0", OK, "EACCES"),
    ("write without end of path", Op.WRITE, b"/a", "EINVAL", "EINVAL"),
    ("read", Op.READ, b"/local/domain/7/data\0", b"", b""),
    ("read without end of path", Op.READ, b"/local/domain/7/data", "EINVAL", "EINVAL"),
    ("read of nothing", Op.READ, b"", "EINVAL", "EINVAL"),
    ("read of two", Op.READ, b"/a\0/b\0", "EINVAL", "EINVAL"),
    ("relative path", Op.READ, b"data\0", "ENOENT", b""),
    ("bytes that are no path", Op.READ, b"/\xc3\xa4\0", "EINVAL", "EINVAL"),
    ("directory", Op.DIRECTORY, b"/local\0", b"domain\0", "EACCES"),
    ("directory without children", Op.DIRECTORY, b"/local/domain/7/data\0", b"", b""),
    ("mkdir", Op.MKDIR, b"/local/domain/7/data/d\0", OK, OK),
    ("rm of the root", Op.RM, b"/\0", "EINVAL", "EACCES"),
    ("rm of nothing", Op.RM, b"/local/domain/7/data/none\0", OK, OK),
    ("permissions", Op.GET_PERMS, b"/local/domain/7\0", b"n0\0r7\0", b"n0\0r7\0"),
    ("new permissions", Op.SET_PERMS, b"/local/domain/7/data\0n7\0r0\0", OK, OK),
    ("no permissions", Op.SET_PERMS, b"/local/domain/7/data\0", "EINVAL", "EINVAL"),
    ("no path", Op.SET_PERMS, b"", "EINVAL", "EINVAL"),
    ("wrong permissions", Op.SET_PERMS, b"/local/domain/7/data\0x7\0", "EINVAL", "EINVAL"),
    ("another owner", Op.SET_PERMS, b"/local/domain/7/data\0n0\0", OK, "EPERM"),
    ("watch without token", Op.WATCH, b"/a\0", "EINVAL", "EINVAL"),
    ("unwatch of nothing", Op.UNWATCH, b"/a\0t\0", "ENOENT", "ENOENT"),
    ("end of nothing", Op.TRANSACTION_END, b"T\0", "ENOENT", "ENOENT"),
    ("end with a wrong word", Op.TRANSACTION_END, b"X\0", "EINVAL", "EINVAL"),
    ("path of a domain", Op.GET_DOMAIN_PATH, b"7\0", b"/local/domain/7\0", b"/local/domain/7\0"),
    ("path of what is no number", Op.GET_DOMAIN_PATH, b"x\0", b"/local/domain/0\0", b"/local/domain/0\0"),
    ("introduced", Op.IS_DOMAIN_INTRODUCED, b"9\0", b"F\0", "EACCES"),
    ("dom0 is introduced", Op.IS_DOMAIN_INTRODUCED, b"0\0", b"T\0", "EACCES"),
    ("introduce", Op.INTRODUCE, b"9\x000\x005\0", OK, "EACCES"),
    ("introduce without port", Op.INTRODUCE, b"9\x000\x000\0", "EINVAL", "EACCES"),
    ("introduce with too little", Op.INTRODUCE, b"9\x000\0", "EINVAL", "EACCES"),
    ("introduce what is not there", Op.INTRODUCE, b"77\x000\x005\0", "EINVAL", "EACCES"),
    ("release what is unknown", Op.RELEASE, b"77\0", "ENOENT", "EACCES"),
    ("release dom0", Op.RELEASE, b"0\0", "EINVAL", "EACCES"),
    ("resume what is unknown", Op.RESUME, b"77\0", "ENOENT", "EACCES"),
    ("target of unknown ones", Op.SET_TARGET, b"77\x0078\0", "ENOENT", "EACCES"),
    ("target of one", Op.SET_TARGET, b"77\0", "EINVAL", "EACCES"),
    ("reset", Op.RESET_WATCHES, b"\0", OK, OK),
    ("control", Op.CONTROL, b"check\0", OK, "EACCES"),
    ("unknown control", Op.CONTROL, b"live-update\0", "EINVAL", "EACCES"),
    ("control without command", Op.CONTROL, b"", "EINVAL", "EACCES"),
    ("own features", Op.GET_FEATURE, b"", b"15\0", b"15\0"),
    ("another's features", Op.GET_FEATURE, b"7\0", b"15\0", "EACCES"),
    ("restrict", 20, b"7\0", "ENOSYS", "ENOSYS"),
    ("an event from a client", Op.WATCH_EVENT, b"/a\0t\0", "ENOSYS", "ENOSYS"),
    ("an error from a client", Op.ERROR, b"EIO\0", "ENOSYS", "ENOSYS"),
    ("invalid type", 0xFFFF, b"", "ENOSYS", "ENOSYS"),
)


@pytest.mark.parametrize(("op", "payload", "reply"), [row[1:4] for row in REPLIES], ids=[row[0] for row in REPLIES])
def test_xs1_replies_to_dom0(root: WireClient, op: int, payload: bytes, reply: bytes | str) -> None:
    expected = error(reply) if isinstance(reply, str) else (Op(op).name, reply)
    assert root.ask(op, value=payload) == expected


@pytest.mark.parametrize(
    ("op", "payload", "reply"), [(*row[1:3], row[4]) for row in REPLIES], ids=[row[0] for row in REPLIES]
)
def test_xs1_replies_to_a_guest(domu: WireClient, op: int, payload: bytes, reply: bytes | str) -> None:
    expected = error(reply) if isinstance(reply, str) else (Op(op).name, reply)
    assert domu.ask(op, value=payload) == expected


def test_xs1_replies_in_request_order_with_their_ids(root: WireClient) -> None:
    requests = [Message(op, number, 0, b"/tool\0") for number, op in enumerate((Op.MKDIR, Op.READ, 99, Op.DIRECTORY))]
    root.put(b"".join(request.encode() for request in requests))
    assert [(message.op, message.req_id) for message in root.taken()] == [(12, 0), (2, 1), (16, 2), (1, 3)]


def test_xs3_special_paths_have_permissions_on_the_wire(root: WireClient, domu: WireClient) -> None:
    assert root.ask(Op.GET_PERMS, "@releaseDomain") == ("GET_PERMS", b"n0\0")
    assert domu.ask(Op.GET_PERMS, "@releaseDomain") == error("EACCES")
    assert root.ask(Op.SET_PERMS, "@releaseDomain", "n0", "r7") == ("SET_PERMS", OK)
    assert domu.ask(Op.GET_PERMS, "@releaseDomain") == ("GET_PERMS", b"n0\0r7\0")
    assert root.ask(Op.READ, "@releaseDomain") == error("EINVAL")


def test_xs8_reply_of_a_watch_comes_before_its_event(domu: WireClient) -> None:
    domu.send(Op.WATCH, "data", "t")
    reply, event = domu.taken()
    assert reply == (Op.WATCH, REQ_ID, 0, OK)
    assert event == (Op.WATCH_EVENT, 0, 0, b"data\0t\0")


@pytest.mark.parametrize(("depth", "seen"), [("0", 1), ("1", 2)])
def test_xs8_depth_is_a_third_string(root: WireClient, depth: str, seen: int) -> None:
    root.send(Op.WATCH, "/n", "t", depth)
    root.taken()
    for path in ("/n", "/n/x", "/n/x/y"):
        root.send(Op.WRITE, path)
    assert sum(message.op == Op.WATCH_EVENT for message in root.taken()) == seen


@pytest.mark.parametrize("depth", ["", "x", "-1", "999999"])
def test_xs8_wrong_depth_is_einval(root: WireClient, depth: str) -> None:
    assert root.ask(Op.WATCH, "/n", "t", depth) == error("EINVAL")


def test_xs8_transaction_id_of_watch_and_unwatch_means_nothing(root: WireClient) -> None:
    root.send(Op.WATCH, "/n", "t", tx=99)
    assert [(message.op, message.tx_id) for message in root.taken()] == [(Op.WATCH, 99), (Op.WATCH_EVENT, 0)]
    assert root.ask(Op.UNWATCH, "/n", "t", tx=99) == ("UNWATCH", OK)


def test_xs8_readable_parent_is_enough(root: WireClient, domu: WireClient) -> None:
    root.ask(Op.WRITE, "/shared/secret")
    root.ask(Op.SET_PERMS, "/shared", "r0")
    domu.send(Op.WATCH, "/shared", "t")
    domu.taken()
    root.ask(Op.WRITE, "/shared/secret", value=b"v")
    root.ask(Op.WRITE, "/shared/secret/below", value=b"v")
    assert domu.plain() == [("WATCH_EVENT", b"/shared/secret\0t\0")]


def test_s17_events_come_before_the_reply_of_what_caused_them(root: WireClient, domu: WireClient) -> None:
    for client, path in ((root, "/local/domain/7/data"), (domu, "data")):
        client.send(Op.WATCH, path, "t")
        client.taken()
    root.send(Op.WRITE, "/local/domain/7/data/x", value=b"v")
    assert root.plain() == [("WATCH_EVENT", b"/local/domain/7/data/x\0t\0"), ("WRITE", OK)]
    assert domu.plain() == [("WATCH_EVENT", b"data/x\0t\0")]


def test_s17_release_replies_before_its_event(store: XenStore, root: WireClient) -> None:
    store.introduce_domain(9)
    root.send(Op.WATCH, "@releaseDomain", "t")
    root.taken()
    root.send(Op.RELEASE, "9")
    assert root.plain() == [("RELEASE", OK), ("WATCH_EVENT", b"@releaseDomain\0t\0")]


def test_xs9_a_removed_subtree_fires_in_the_order_of_the_daemon(root: WireClient) -> None:
    root.ask(Op.WRITE, "/d/b/c")
    for path in ("/d/b/c", "/"):
        root.send(Op.WATCH, path, "t")
    root.taken()
    root.send(Op.RM, "/d")
    assert root.plain() == [("WATCH_EVENT", b"/d/b/c\0t\0"), ("WATCH_EVENT", b"/d\0t\0"), ("RM", OK)]


def test_xs10_an_event_that_waits_is_not_queued_twice(store: XenStore, root: WireClient, domu: WireClient) -> None:
    root.ask(Op.SET_PERMS, "@introduceDomain", "r0")
    for path in ("data", "@introduceDomain"):
        domu.send(Op.WATCH, path, "t")
    domu.taken()
    for _ in range(3):
        root.ask(Op.WRITE, "/local/domain/7/data/x")
    root.ask(Op.WRITE, "/local/domain/7/data/y")
    for domid in (7, 9):
        store.introduce_domain(domid)
    special = ("WATCH_EVENT", b"@introduceDomain\0t\0")
    assert domu.plain() == [("WATCH_EVENT", b"data/x\0t\0"), ("WATCH_EVENT", b"data/y\0t\0"), special, special]
    root.ask(Op.WRITE, "/local/domain/7/data/x")
    assert domu.plain() == [("WATCH_EVENT", b"data/x\0t\0")]


def test_xs10_an_event_that_has_begun_to_leave_counts_no_more(root: WireClient, domu: WireClient) -> None:
    domu.send(Op.WATCH, "data", "t")
    domu.taken()
    root.ask(Op.WRITE, "/local/domain/7/data")
    half = domu.session.output()[:20]
    domu.session.sent(len(half))
    root.ask(Op.WRITE, "/local/domain/7/data")
    rest = domu.session.output()
    domu.session.sent(len(rest))
    assert half + rest == domu.session.output()


def test_xs11_conflict_rollback_and_commit(root: WireClient, domu: WireClient) -> None:
    tx = root.start()
    assert root.ask(Op.READ, "/local/domain/7/data", tx=tx) == ("READ", b"")
    assert root.ask(Op.WRITE, "/t/x", value=b"1", tx=tx) == ("WRITE", OK)
    assert root.ask(Op.READ, "/t/x") == error("ENOENT")
    domu.ask(Op.WRITE, "data", value=b"changed")
    assert root.ask(Op.TRANSACTION_END, "T", tx=tx) == error("EAGAIN")
    assert root.ask(Op.TRANSACTION_END, "T", tx=tx) == error("ENOENT")
    for word, found in (("F", error("ENOENT")), ("T", ("READ", b"1"))):
        tx = root.start()
        root.ask(Op.WRITE, "/t/x", value=b"1", tx=tx)
        assert root.ask(Op.TRANSACTION_END, word, tx=tx) == ("TRANSACTION_END", OK)
        assert root.ask(Op.READ, "/t/x") == found


def test_xs11_unknown_and_nested_transactions(root: WireClient, domu: WireClient) -> None:
    tx = root.start()
    assert domu.ask(Op.READ, "data", tx=tx) == error("ENOENT")
    assert root.ask(Op.TRANSACTION_START, "", tx=tx) == error("EBUSY")
    assert root.ask(Op.CONTROL, "check", tx=99) == error("ENOENT")
    assert root.ask(Op.RESET_WATCHES, "") == ("RESET_WATCHES", OK)
    assert root.ask(Op.TRANSACTION_END, "T", tx=tx) == error("ENOENT")


def test_xs12_kernel_and_wire_watchers_hear_of_changes_in_one_order(
    guest: Client, root: WireClient, domu: WireClient
) -> None:
    """The party's own xenbus connection and a real client of the same guest."""
    guest.xs.watch("data", "kernel")
    domu.send(Op.WATCH, "data", "wire")
    guest.taken(), domu.taken()
    for client, path in ((root, "/local/domain/7/data/x"), (domu, "data/y"), (root, "/local/domain/7/data")):
        client.ask(Op.WRITE, path) if client is root else client.send(Op.WRITE, path)
    guest.xs.write(0, "data/z", b"")
    heard = [payload.split(b"\0")[0].decode() for name, payload in domu.plain() if name == "WATCH_EVENT"]
    assert heard == [path for path, _ in guest.taken()] == ["data/x", "data/y", "data", "data/z"]


def test_xs13_a_guest_is_asked_for_nothing_while_twenty_messages_wait(root: WireClient, domu: WireClient) -> None:
    domu.send(Op.WATCH, "data", "t")
    domu.taken()
    for number in range(20):
        assert domu.session.wanted
        root.ask(Op.WRITE, f"/local/domain/7/data/{number}")
    assert domu.session.wanted == 0
    assert len(domu.taken()) == 20
    assert domu.session.wanted


def test_xs13_path_quota_is_einval_the_others_enospc(domu: WireClient) -> None:
    assert domu.ask(Op.WRITE, "/" + "x" * 2048) == error("EINVAL")
    assert domu.ask(Op.WRITE, "data", value=b"v" * 2016) == error("ENOSPC")
    assert domu.ask(Op.WRITE, "data", value=b"v" * 2015) == ("WRITE", OK)


def test_xs13_quotas_can_be_asked_for(root: WireClient) -> None:
    name, text = root.ask(Op.CONTROL, "quota")
    assert (name, text.splitlines()[:2]) == (
        "CONTROL",
        [b"Quota settings:", b"nodes            :     1000 Nodes per domain"],
    )
    assert root.ask(Op.CONTROL, "help")[1] == b"check\t\nquota\t\nhelp\t\n\0"
    assert root.ask(Op.CONTROL, "check", "twice") == error("EINVAL")


def test_xs14_a_released_guest_is_served_no_more(store: XenStore, root: WireClient, domu: WireClient) -> None:
    store.introduce_domain(7)
    assert root.ask(Op.RESUME, "7") == ("RESUME", OK)
    assert root.ask(Op.RELEASE, "7") == ("RELEASE", OK)
    assert domu.session.wanted == 0
    assert root.ask(Op.IS_DOMAIN_INTRODUCED, "7") == ("IS_DOMAIN_INTRODUCED", b"F\0")


def test_xs15_features(domu: WireClient) -> None:
    assert domu.ask(Op.GET_FEATURE) == ("GET_FEATURE", f"{int(FEATURES)}\0".encode())


def listing(client: WireClient, path: str, disturb: int = -1) -> list[str]:
    """A directory as libxenstore reads it in parts; a new child appears before part ``disturb``."""
    names, first, part = b"", b"", 0
    while not names.endswith(b"\0\0"):
        if part == disturb:
            client.ask(Op.MKDIR, f"{path}/late")
        part += 1
        generation, _, chunk = client.ask(Op.DIRECTORY_PART, path, str(len(names)))[1].partition(b"\0")
        if names and generation != first:
            names = b""
            continue
        first, names = generation, names + chunk
    return names.decode().split("\0")[:-2]


def test_xs16_a_long_directory_comes_in_parts(root: WireClient) -> None:
    names = [f"child-{number}" for number in range(500)]
    for name in names:
        root.ask(Op.MKDIR, f"/d/{name}")
    assert root.ask(Op.DIRECTORY, "/d") == error("E2BIG")
    assert listing(root, "/d") == names
    assert listing(root, "/d", disturb=1) == [*names, "late"]


def test_xs16_beyond_the_end_and_of_nothing(root: WireClient) -> None:
    root.ask(Op.MKDIR, "/d/x")
    assert root.ask(Op.DIRECTORY_PART, "/d", "99")[1].split(b"\0", 1)[1] == b"\0"
    assert root.ask(Op.DIRECTORY_PART, "/d", "x")[1].split(b"\0", 1)[1] == b"x\0\0"
    assert root.ask(Op.DIRECTORY_PART, "/d") == error("EINVAL")
