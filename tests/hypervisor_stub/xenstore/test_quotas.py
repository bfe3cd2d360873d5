"""Quotas and features: XS-13, XS-15."""

from __future__ import annotations

import pytest

from hypervisor_stub.xenstore import FEATURES, Quotas, XenStore
from hypervisor_stub.xenstore.budget import BURST, RATE, Budget
from tests.hypervisor_stub.xenstore.support import Client, NewClient, refused

SMALL = Quotas(
    nodes=5, watches=3, transactions=2, transaction_nodes=8, permissions=2, path=40, node_size=100, memory_hard=300
)


@pytest.fixture(name="store")
def _store() -> XenStore:
    return XenStore(SMALL)


def test_xs13_defaults() -> None:
    quotas = Quotas()
    assert (quotas.nodes, quotas.watches, quotas.outstanding, quotas.transactions) == (1000, 128, 20, 10)
    assert (quotas.transaction_nodes, quotas.permissions, quotas.path, quotas.node_size) == (1024, 5, 2048, 2048)
    assert (quotas.memory_soft, quotas.memory_hard) == (2097152, 2621440)


@pytest.mark.parametrize("inside", [False, True])
def test_xs13_nodes(store: XenStore, guest: Client, inside: bool) -> None:
    tx = guest.xs.transaction_start() if inside else 0
    assert store.usage(7).nodes == 2  # device/pci/0 and data, made by dom0 for it
    for name in ("a", "b", "c"):
        guest.xs.write(tx, f"data/{name}", b"")
    assert refused(guest.xs.write, tx, "data/d", b"") == "ENOSPC"
    assert guest.xs.directory(tx, "data") == ["a", "b", "c"]
    guest.xs.rm(tx, "data/a")
    guest.xs.write(tx, "data/d", b"")
    if inside:
        guest.xs.transaction_end(tx, True)
    assert store.usage(7).nodes == 5


def test_xs13_creation_of_several_nodes_is_all_or_nothing(store: XenStore, guest: Client) -> None:
    assert refused(guest.xs.write, 0, "data/a/b/c/d", b"") == "ENOSPC"
    assert guest.xs.directory(0, "data") == []
    assert store.usage(7).nodes == 2


def test_xs13_transactions_cannot_sum_up_over_the_quota(store: XenStore, guest: Client) -> None:
    first, second = guest.xs.transaction_start(), guest.xs.transaction_start()
    for name in ("a", "b"):
        guest.xs.write(first, f"data/{name}", b"")
        guest.xs.write(second, f"device/pci/0/{name}", b"")
    guest.xs.transaction_end(first, True)
    assert refused(guest.xs.transaction_end, second, True) == "ENOSPC"
    assert guest.xs.directory(0, "device/pci/0") == []
    assert store.usage(7).nodes == 4


def test_xs13_account_follows_owner_and_returns_to_zero(store: XenStore, dom0: Client, guest: Client) -> None:
    start = store.usage(7)
    guest.xs.write(0, "data/a", b"0123456789")
    grown = store.usage(7)
    assert (grown.nodes, grown.memory > start.memory + 10) == (start.nodes + 1, True)
    dom0.xs.set_perms(0, "/local/domain/7/data/a", ["n0"])
    assert store.usage(7) == start
    dom0.xs.rm(0, "/local/domain/7")
    assert store.usage(7)[:2] == (0, 0)


def test_xs13_a_dead_domains_nodes_do_not_count_for_its_successor(store: XenStore, dom0: Client, guest: Client) -> None:
    guest.xs.write(0, "data/a", b"")
    store.release_domain(7)
    assert store.usage(7)[:2] == (0, 0)
    dom0.xs.rm(0, "/local/domain/7")
    assert store.usage(7)[:2] == (0, 0)


def test_xs13_commits_after_the_death_do_not_count_for_the_successor(store: XenStore, dom0: Client) -> None:
    tx = dom0.xs.transaction_start()
    dom0.xs.mkdir(tx, "/n")
    dom0.xs.set_perms(tx, "/n", ["n7"])
    store.release_domain(7)
    dom0.xs.transaction_end(tx, True)
    assert store.usage(7)[:2] == (0, 0)


def test_xs13_removed_children_do_not_count_for_the_node_size(guest: Client) -> None:
    for _ in range(50):
        guest.xs.mkdir(0, "data/x")
        guest.xs.rm(0, "data/x")
    assert guest.xs.directory(0, "data") == []


def test_xs13_watches(guest: Client) -> None:
    for token in "abc":
        guest.xs.watch("data", token)
    assert refused(guest.xs.watch, "data", "d") == "ENOSPC"
    guest.xs.unwatch("data", "a")
    guest.xs.watch("data", "d")


def test_xs13_transactions(guest: Client) -> None:
    tx = guest.xs.transaction_start()
    guest.xs.transaction_start()
    assert refused(guest.xs.transaction_start) == "ENOSPC"
    guest.xs.transaction_end(tx, False)
    guest.xs.transaction_start()


def test_xs13_watches_and_transactions_are_counted_over_all_connections_of_a_domain(
    store: XenStore, guest: Client, client: NewClient
) -> None:
    """A guest that opens more sockets gets no more of them; what a connection leaves open is free again."""
    other = client(7, False)
    guest.xs.transaction_start()
    other.xs.transaction_start()
    guest.xs.watch("data", "1")
    other.xs.watch("data", "2")
    other.xs.watch("data", "3")
    for xs in (guest.xs, other.xs):
        assert refused(xs.transaction_start) == refused(xs.watch, "data", "4") == "ENOSPC"
    other.xs.close()
    guest.xs.transaction_start()
    guest.xs.watch("data", "2")
    store.release_domain(7)
    successor = client(7, False)
    for _ in range(2):
        successor.xs.transaction_start()


def test_xs13_nodes_per_transaction(guest: Client) -> None:
    tx = guest.xs.transaction_start()
    guest.xs.read(tx, "data")
    for number in range(7):
        assert refused(guest.xs.read, tx, f"data/{number}") == "ENOENT"
    assert refused(guest.xs.read, tx, "data/7") == "ENOSPC"
    assert guest.xs.read(tx, "data") == b""
    assert refused(guest.xs.transaction_end, tx, True) == "ENOMEM"


def test_xs13_permission_entries(guest: Client) -> None:
    guest.xs.set_perms(0, "data", ["n7", "r0"])
    assert refused(guest.xs.set_perms, 0, "data", ["n7", "r0", "r3"]) == "ENOSPC"


def test_xs13_path_without_the_domain_prefix(guest: Client) -> None:
    fits = "data/" + "x" * 35
    guest.xs.write(0, fits, b"")
    assert guest.xs.read(0, f"/local/domain/7/{fits}") == b""
    assert refused(guest.xs.write, 0, fits + "x", b"") == "EINVAL"
    assert refused(guest.xs.read, 0, "/" + "x" * 40) == "EINVAL"


def test_xs13_node_size_counts_value_and_children(guest: Client) -> None:
    metadata = 24 + 8
    guest.xs.write(0, "data", b"v" * (99 - metadata))
    assert refused(guest.xs.write, 0, "data", b"v" * (100 - metadata)) == "ENOSPC"  # the limit itself is too much
    assert refused(guest.xs.mkdir, 0, "data/x") == "ENOSPC"
    guest.xs.write(0, "data", b"v" * (97 - metadata))
    guest.xs.mkdir(0, "data/x")


def test_xs13_memory(store: XenStore, guest: Client) -> None:
    guest.xs.write(0, "data", b"v" * 66)
    guest.xs.write(0, "device/pci/0", b"v" * 58)
    used = store.usage(7).memory
    assert refused(guest.xs.write, 0, "data/x", b"v" * 60) == "ENOSPC"
    assert refused(guest.xs.watch, "data", "t" * 200) == "ENOSPC"
    assert store.usage(7).memory == used
    guest.xs.write(0, "data", b"")
    guest.xs.write(0, "data/x", b"v" * 40)


def test_xs13_soft_limit_is_reported_only() -> None:
    store = XenStore(Quotas(memory_soft=100))
    xs = store.connect(0, lambda path, token: None, privileged=True)
    xs.mkdir(0, "/n")
    xs.set_perms(0, "/n", ["n7"])
    assert not store.usage(7).over_soft
    store.connect(7, lambda path, token: None, privileged=False).write(0, "/n", b"v" * 100)
    assert store.usage(7).over_soft


def test_budget_lets_a_burst_through_and_then_its_rate() -> None:
    budget, second = Budget(0), 1_000_000_000
    assert budget.spend(0, BURST - 1) == 0
    assert budget.spend(0, 1) == second // RATE
    assert budget.spend(second, 0) == second
    assert budget.spend(second, 2 * RATE) == 2 * second + second // RATE  # one commit may overdraw it
    assert budget.spend(100 * second, BURST - 1) == 100 * second  # and it never saves more than a burst
    assert budget.spend(100 * second, 1) > 100 * second


def test_xs13_changes_are_counted_as_watchers_hear_of_them(guest: Client) -> None:
    before = guest.xs.changes
    tx = guest.xs.transaction_start()
    for name in ("a", "b"):
        guest.xs.write(tx, f"data/{name}", b"")
    assert guest.xs.changes == before
    guest.xs.transaction_end(tx, True)
    assert guest.xs.changes == before + 2
    guest.xs.rm(0, "data")
    assert guest.xs.changes == before + 5


def test_xs13_outstanding_events_throttle_unprivileged_clients(dom0: Client, guest: Client) -> None:
    assert not guest.xs.throttled
    dom0.xs.outstanding = guest.xs.outstanding = lambda: 20
    assert (guest.xs.throttled, dom0.xs.throttled) == (True, False)
    guest.xs.outstanding = lambda: 19
    assert not guest.xs.throttled


def test_xs13_privileged_connections_have_no_quota(dom0: Client) -> None:
    for number in range(50):
        dom0.xs.watch("/x", str(number))
        dom0.xs.write(dom0.xs.transaction_start(), f"/x/{number}", b"v" * 4000)
        dom0.xs.write(0, "/" + "y" * 60 + str(number), b"v" * 4000)
    dom0.xs.set_perms(0, "/" + "y" * 60 + "0", ["n0", "r1", "r2", "r3"])


def test_xs15_features() -> None:
    assert int(FEATURES) == 15
