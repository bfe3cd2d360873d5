"""Transactions: XS-11, XS-12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hypervisor_stub.xenstore import Connection, XenStoreError
from tests.hypervisor_stub.xenstore.support import Client, NewClient, refused


def listing(xs: Connection, path: str = "/") -> dict[str, Any]:
    """The whole tree as a dict, to compare before and after."""
    found: dict[str, Any] = {path: (xs.read(0, path), xs.get_perms(0, path), xs.directory(0, path))}
    for name in xs.directory(0, path):
        found |= listing(xs, path.rstrip("/") + "/" + name)
    return found


def test_xs11_ids(dom0: Client, guest: Client) -> None:
    assert [dom0.xs.transaction_start() for _ in range(3)] == [1, 2, 3]
    assert guest.xs.transaction_start() == 1
    assert refused(dom0.xs.transaction_start, 1) == "EBUSY"
    assert refused(dom0.xs.transaction_start, 99) == "ENOENT"
    assert refused(guest.xs.read, 2, "data") == "ENOENT"
    assert refused(dom0.xs.transaction_end, 0, True) == "ENOENT"
    dom0.xs.transaction_end(2, False)
    assert refused(dom0.xs.transaction_end, 2, True) == "ENOENT"
    assert dom0.xs.transaction_start() == 4


def test_xs11_id_wraps_around_zero_and_over_open_ones(dom0: Client) -> None:
    first = dom0.xs.transaction_start()
    dom0.xs._next_transaction = 0xFFFFFFFF
    assert [dom0.xs.transaction_start() for _ in range(2)] == [0xFFFFFFFF, first + 1]


def test_xs11_own_changes_inside_nothing_outside_until_commit(dom0: Client, client: NewClient) -> None:
    other = client(0, True)
    other.xs.watch("/", "w")
    other.taken()
    tx = dom0.xs.transaction_start()
    dom0.xs.write(tx, "/t/x", b"1")
    dom0.xs.set_perms(tx, "/t/x", ["r0"])
    assert dom0.xs.read(tx, "/t/x") == b"1"
    assert dom0.xs.directory(tx, "/t") == ["x"]
    assert refused(other.xs.read, 0, "/t/x") == "ENOENT"
    assert refused(dom0.xs.read, 0, "/t/x") == "ENOENT"
    assert other.taken() == []
    dom0.xs.transaction_end(tx, True)
    assert other.xs.read(0, "/t/x") == b"1"
    assert other.xs.get_perms(0, "/t/x") == ["r0"]
    assert other.taken() == [("/t/x", "w")]


def test_xs11_snapshot_node_by_node_at_first_access(dom0: Client) -> None:
    dom0.xs.write(0, "/a", b"1")
    dom0.xs.write(0, "/b", b"1")
    tx = dom0.xs.transaction_start()
    assert dom0.xs.read(tx, "/a") == b"1"
    dom0.xs.write(0, "/a", b"2")
    dom0.xs.write(0, "/b", b"2")
    assert (dom0.xs.read(tx, "/a"), dom0.xs.read(tx, "/b")) == (b"1", b"2")


Inside = Callable[[Connection, int], Any]
Outside = Callable[[Connection], Any]

# what a transaction does, what another client does meanwhile, whether that is a conflict
CONFLICTS: dict[str, tuple[Inside, Outside, bool]] = {
    "value of a node read": (lambda xs, tx: xs.read(tx, "/d/a"), lambda xs: xs.write(0, "/d/a", b"n"), True),
    "equal value": (lambda xs, tx: xs.read(tx, "/d/a"), lambda xs: xs.write(0, "/d/a", b"a"), True),
    "permissions": (lambda xs, tx: xs.read(tx, "/d/a"), lambda xs: xs.set_perms(0, "/d/a", ["r0"]), True),
    "child list": (lambda xs, tx: xs.directory(tx, "/d"), lambda xs: xs.mkdir(0, "/d/new"), True),
    "value of a child": (lambda xs, tx: xs.read(tx, "/d"), lambda xs: xs.write(0, "/d/a", b"n"), False),
    "missing node appears": (lambda xs, tx: xs.rm(tx, "/d/none"), lambda xs: xs.mkdir(0, "/d/none"), True),
    "node read disappears": (lambda xs, tx: xs.read(tx, "/d/a"), lambda xs: xs.rm(0, "/d/a"), True),
    "two siblings created": (lambda xs, tx: xs.mkdir(tx, "/d/x"), lambda xs: xs.mkdir(0, "/d/y"), True),
    "one node written": (lambda xs, tx: xs.write(tx, "/d/a", b"t"), lambda xs: xs.write(0, "/d/a", b"o"), True),
    "two nodes written": (lambda xs, tx: xs.write(tx, "/d/a", b"t"), lambda xs: xs.write(0, "/d/b", b"o"), False),
    "subtree removed, leaf added": (lambda xs, tx: xs.rm(tx, "/d"), lambda xs: xs.mkdir(0, "/d/a/leaf"), True),
    "unrelated": (lambda xs, tx: xs.write(tx, "/d/new", b""), lambda xs: xs.write(0, "/e", b""), False),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_xs11_conflicts(dom0: Client, client: NewClient, case: str) -> None:
    inside, outside, conflict = CONFLICTS[case]
    other = client(0, True)
    for name in ("/d/a", "/d/b", "/e"):
        dom0.xs.write(0, name, b"a")
    tx = dom0.xs.transaction_start()
    inside(dom0.xs, tx)
    outside(other.xs)
    before = listing(other.xs)
    if not conflict:
        dom0.xs.transaction_end(tx, True)
        return
    assert refused(dom0.xs.transaction_end, tx, True) == "EAGAIN"
    assert listing(other.xs) == before
    assert refused(dom0.xs.transaction_end, tx, True) == "ENOENT"  # gone after the failure


def test_xs11_abort_leaves_no_trace(dom0: Client, client: NewClient) -> None:
    other = client(0, True)
    dom0.xs.write(0, "/d/a", b"1")
    other.xs.watch("/", "w")
    other.taken()
    before, generation = listing(other.xs), other.xs.directory_part(0, "/d", 0)
    tx = dom0.xs.transaction_start()
    dom0.xs.write(tx, "/d/a", b"2")
    dom0.xs.set_perms(tx, "/d", ["b0", "w3"])
    dom0.xs.write(tx, "/d/new/deep", b"")
    dom0.xs.rm(tx, "/d/a")
    dom0.xs.transaction_end(tx, False)
    assert listing(other.xs) == before
    assert other.xs.directory_part(0, "/d", 0) == generation
    assert other.taken() == []


def test_xs11_events_at_commit_once_per_node(dom0: Client) -> None:
    dom0.xs.write(0, "/be/state-1", b"")
    dom0.xs.write(0, "/be/key-1", b"")
    dom0.xs.watch("/be", "w")
    dom0.taken()
    tx = dom0.xs.transaction_start()
    for name in ("state-1", "key-1", "vdevfn-1"):
        dom0.xs.rm(tx, f"/be/{name}")
    dom0.xs.write(tx, "/be/num_devs", b"2")
    dom0.xs.write(tx, "/be/num_devs", b"1")
    dom0.xs.mkdir(tx, "/be/passing")
    dom0.xs.rm(tx, "/be/passing")
    assert dom0.taken() == []
    dom0.xs.transaction_end(tx, True)
    assert dom0.taken() == [("/be/state-1", "w"), ("/be/key-1", "w"), ("/be/num_devs", "w")]


def test_xs11_removed_and_made_again_fires_as_subtree(dom0: Client) -> None:
    dom0.xs.write(0, "/be/a/b", b"")
    dom0.xs.watch("/be", "w")
    dom0.taken()
    tx = dom0.xs.transaction_start()
    dom0.xs.rm(tx, "/be/a")
    dom0.xs.write(tx, "/be/a/b", b"new")
    dom0.xs.transaction_end(tx, True)
    assert sorted(dom0.taken()) == [("/be/a", "w"), ("/be/a/b", "w")]
    assert dom0.xs.read(0, "/be/a/b") == b"new"


def test_xs11_written_and_then_removed_with_its_parent_fires_exactly(dom0: Client) -> None:
    dom0.xs.write(0, "/be/a/b", b"")
    dom0.xs.watch("/be", "w")
    dom0.xs.watch("/be/a/b", "b")
    dom0.taken()
    tx = dom0.xs.transaction_start()
    dom0.xs.write(tx, "/be/a/b", b"new")
    dom0.xs.rm(tx, "/be/a")
    dom0.xs.transaction_end(tx, True)
    assert sorted(dom0.taken()) == [("/be/a", "w"), ("/be/a/b", "b")]


def test_xs11_permissions_inside_a_transaction(guest: Client) -> None:
    tx = guest.xs.transaction_start()
    assert refused(guest.xs.write, tx, "/local/domain/7/name", b"") == "EACCES"
    assert refused(guest.xs.read, tx, "/local/domain/9") == "EACCES"
    guest.xs.write(tx, "device/pci/0/state", b"3")
    guest.xs.transaction_end(tx, True)
    assert guest.xs.get_perms(0, "device/pci/0/state") == ["n7", "r0"]


def test_xs11_a_tree_torn_apart_by_others_can_be_worked_on_and_conflicts(dom0: Client, client: NewClient) -> None:
    """The transaction knows /d/a but first looks at /d when somebody else has removed both."""
    other = client(0, True)
    dom0.xs.write(0, "/d/a", b"")
    tx = dom0.xs.transaction_start()
    dom0.xs.read(tx, "/d/a")
    other.xs.rm(0, "/d")
    dom0.xs.rm(tx, "/d/a")
    dom0.xs.write(tx, "/d/b", b"")
    assert refused(dom0.xs.transaction_end, tx, True) == "EAGAIN"


def test_xs12_single_requests_and_commits_are_totally_ordered(dom0: Client, client: NewClient) -> None:
    """A counter kept with transactions by two clients loses no increment."""
    other = client(0, True)
    dom0.xs.write(0, "/counter", b"0")
    pending = []
    for turn in range(20):
        xs = (dom0, other)[turn % 2].xs
        tx = xs.transaction_start()
        xs.write(tx, "/counter", str(int(xs.read(tx, "/counter")) + 1).encode())
        pending.append((xs, tx))
        if len(pending) == 2:
            results = []
            for xs_, tx_ in pending:
                try:
                    xs_.transaction_end(tx_, True)
                    results.append("OK")
                except XenStoreError as error:
                    results.append(error.name)
            assert results == ["OK", "EAGAIN"]
            pending.clear()
    assert dom0.xs.read(0, "/counter") == b"10"
