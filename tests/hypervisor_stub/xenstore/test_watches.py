"""Watches and domains: XS-8, XS-9, XS-14, errata S17."""

from __future__ import annotations

import pytest

from hypervisor_stub.xenstore import XenStore
from tests.hypervisor_stub.xenstore.support import Client, NewClient, refused


def test_xs8_first_event_has_the_path_as_given(dom0: Client, guest: Client) -> None:
    dom0.xs.watch("/not/there", "t")
    guest.xs.watch("device/pci/0/state", "s")
    assert dom0.taken() == [("/not/there", "t")]
    assert guest.taken() == [("device/pci/0/state", "s")]


def test_xs8_relative_watch_gets_relative_paths_absolute_one_absolute(dom0: Client, guest: Client) -> None:
    guest.xs.watch("device", "rel")
    dom0.xs.watch("/local/domain/7/device", "abs")
    guest.taken(), dom0.taken()
    guest.xs.write(0, "device/pci/0/state", b"3")
    assert guest.taken() == [("device/pci/0/state", "rel")]
    assert dom0.taken() == [("/local/domain/7/device/pci/0/state", "abs")]


def test_xs8_duplicate_is_eexist_unknown_is_enoent(dom0: Client) -> None:
    dom0.xs.watch("/a", "t")
    dom0.xs.watch("/a", "u")
    assert refused(dom0.xs.watch, "/a", "t") == "EEXIST"
    dom0.xs.unwatch("/a", "t")
    assert refused(dom0.xs.unwatch, "/a", "t") == "ENOENT"
    dom0.taken()
    dom0.xs.write(0, "/a", b"")
    assert dom0.taken() == [("/a", "u")]


@pytest.mark.parametrize(("depth", "seen"), [(0, 1), (1, 2), (2, 3), (None, 4)])
def test_xs8_depth(dom0: Client, depth: int | None, seen: int) -> None:
    paths = ["/a", "/a/b", "/a/b/c", "/a/b/c/d"]
    dom0.xs.watch("/a", "t", depth)
    dom0.taken()
    for path in paths:
        dom0.xs.write(0, path, b"")
    assert dom0.taken() == [(path, "t") for path in paths[:seen]]


def test_xs8_negative_depth_is_einval(dom0: Client) -> None:
    assert refused(dom0.xs.watch, "/a", "t", -1) == "EINVAL"


def test_xs8_watch_on_root_sees_everything(dom0: Client) -> None:
    dom0.xs.watch("/", "t")
    dom0.taken()
    dom0.xs.write(0, "/a", b"")
    dom0.xs.write(0, "/b/c", b"")
    assert dom0.taken() == [("/a", "t"), ("/b/c", "t")]


def test_xs8_fires_only_for_who_may_read_now_or_could_before(dom0: Client, guest: Client) -> None:
    dom0.xs.write(0, "/n/x", b"")
    guest.xs.watch("/n", "t")
    guest.taken()
    dom0.xs.write(0, "/n/x", b"hidden")
    assert guest.taken() == []
    dom0.xs.set_perms(0, "/n/x", ["n0", "r7"])
    dom0.xs.write(0, "/n/x", b"seen")
    dom0.xs.set_perms(0, "/n/x", ["n0"])
    assert guest.taken() == [("/n/x", "t")] * 3
    dom0.xs.set_perms(0, "/n/x", ["r0"])
    guest.taken()
    dom0.xs.rm(0, "/n")
    assert guest.taken() == []  # /n itself, which the subtree watch is for, was never readable


def test_xs8_removal_is_seen_by_who_could_read(dom0: Client, guest: Client) -> None:
    dom0.xs.mkdir(0, "/n")
    dom0.xs.set_perms(0, "/n", ["n0", "r7"])
    guest.xs.watch("/n", "t")
    guest.taken()
    dom0.xs.rm(0, "/n")
    assert guest.taken() == [("/n", "t")]


def test_xs9_which_changes_fire(dom0: Client) -> None:
    xs = dom0.xs
    xs.watch("/", "all")
    dom0.taken()
    xs.write(0, "/p/q/r", b"v")
    assert dom0.taken() == [("/p/q/r", "all")]  # not the implicit parents
    xs.write(0, "/p/q/r", b"v")
    assert dom0.taken() == [("/p/q/r", "all")]  # an equal value too
    xs.mkdir(0, "/p/m")
    xs.mkdir(0, "/p/m")
    assert dom0.taken() == [("/p/m", "all")]
    xs.set_perms(0, "/p/m", ["r0"])
    assert dom0.taken() == [("/p/m", "all")]
    xs.rm(0, "/p/none")
    assert dom0.taken() == []


def test_xs9_rm_fires_root_as_subtree_and_descendants_exactly(dom0: Client) -> None:
    xs = dom0.xs
    xs.write(0, "/p/q/r/s", b"")
    for path in ("/p", "/p/q", "/p/q/r", "/p/q/r/s", "/p/q/r/s/t"):
        xs.watch(path, path)
    dom0.taken()
    xs.rm(0, "/p/q")
    assert dom0.taken() == [("/p/q/r/s", "/p/q/r/s"), ("/p/q/r", "/p/q/r"), ("/p/q", "/p"), ("/p/q", "/p/q")]


def test_s17_events_come_before_the_request_returns_in_order_of_registration(dom0: Client, client: NewClient) -> None:
    other = client(0, True)
    order: list[tuple[str, str]] = []
    for number, (who, path) in enumerate([(dom0, "/a/b"), (other, "/a"), (dom0, "/"), (other, "/a/b")]):
        who.xs.watch(path, str(number))
    dom0.events = other.events = order
    dom0.xs.write(0, "/a/b", b"")
    assert [token for _, token in order] == ["0", "1", "2", "3"]


def test_s17_two_watches_on_one_state_node(dom0: Client) -> None:
    """As the record: own driver's watch on ``backend`` first, then the device's own."""
    dom0.xs.watch("backend", "bus")
    dom0.xs.watch("backend/pci/1/0", "dev")
    dom0.taken()
    dom0.xs.write(0, "/local/domain/0/backend/pci/1/0/aerState", b"aerfail")
    assert dom0.taken() == [("backend/pci/1/0/aerState", "bus"), ("backend/pci/1/0/aerState", "dev")]


def test_xs12_requests_made_inside_an_event_do_not_reorder_events(store: XenStore, dom0: Client) -> None:
    def answer(path: str, token: str) -> None:
        if path == "/a":
            dom0.xs.write(0, "/b", b"")

    store.connect(0, answer, privileged=True).watch("/a", "t")
    dom0.xs.rm(0, "/b")
    dom0.xs.watch("/", "all")
    dom0.taken()
    dom0.xs.write(0, "/a", b"")
    assert dom0.taken() == [("/a", "all"), ("/b", "all")]


def test_xs14_special_watches(store: XenStore, dom0: Client, guest: Client) -> None:
    dom0.xs.watch("@introduceDomain", "i")
    dom0.xs.watch("@releaseDomain", "r")
    dom0.xs.watch("/", "root")
    guest.xs.watch("@releaseDomain", "no right")
    dom0.taken(), guest.taken()
    store.introduce_domain(9)
    store.introduce_domain(9)
    assert store.is_domain_introduced(9)
    assert dom0.taken() == [("@introduceDomain", "i")]
    store.domain_stopped(9)
    store.domain_stopped(12)
    assert dom0.taken() == [("@releaseDomain", "r")]
    store.release_domain(9)
    assert not store.is_domain_introduced(9)
    assert dom0.taken() == [("@releaseDomain", "r")]
    assert guest.taken() == []


def test_xs14_permissions_of_a_special_path_let_a_guest_watch_it_and_fire_nothing(
    store: XenStore, dom0: Client, guest: Client
) -> None:
    dom0.xs.watch("@releaseDomain", "r")
    guest.xs.watch("@releaseDomain", "r")
    dom0.taken(), guest.taken()
    dom0.xs.set_perms(0, "@releaseDomain", ["n0", "r7"])
    assert dom0.taken() == []
    store.release_domain(9)
    assert guest.taken() == [("@releaseDomain", "r")]


def test_xs14_nodes_of_a_dead_domain_stay_its_rights_do_not(
    store: XenStore, dom0: Client, guest: Client, client: NewClient
) -> None:
    guest.xs.write(0, "data/x", b"old secret")
    dom0.xs.write(0, "/be/state", b"4")
    dom0.xs.set_perms(0, "/be/state", ["n0", "r7"])
    store.release_domain(7)
    assert dom0.xs.read(0, "/local/domain/7/data/x") == b"old secret"
    assert dom0.xs.get_perms(0, "/be/state") == ["n0", "r7"]  # still listed, as in real listings
    successor = client(7, False)
    assert refused(successor.xs.read, 0, "data/x") == "EACCES"
    assert refused(successor.xs.write, 0, "data/x", b"") == "EACCES"
    assert refused(successor.xs.read, 0, "/be/state") == "EACCES"
    dom0.xs.set_perms(0, "/be/state", ["n0", "r7"])
    assert successor.xs.read(0, "/be/state") == b"4"


def test_xs14_rights_are_lost_inside_open_transactions_too(store: XenStore, dom0: Client, client: NewClient) -> None:
    tx = dom0.xs.transaction_start()
    dom0.xs.write(tx, "/n", b"v")
    dom0.xs.set_perms(tx, "/n", ["n0", "r7"])
    store.release_domain(7)
    dom0.xs.transaction_end(tx, True)
    assert refused(client(7, False).xs.read, 0, "/n") == "EACCES"


def test_xs14_watches_and_transactions_of_the_dead_vanish(store: XenStore, dom0: Client, guest: Client) -> None:
    guest.xs.watch("data", "t")
    tx = guest.xs.transaction_start()
    guest.xs.write(tx, "data/x", b"")
    guest.taken()
    store.release_domain(7)
    dom0.xs.write(0, "/local/domain/7/data", b"")
    assert guest.taken() == []
    assert refused(guest.xs.transaction_end, tx, True) == "EIO"
    assert refused(guest.xs.read, 0, "data") == "EIO"
    assert refused(guest.xs.watch, "data", "t") == "EIO"
    assert dom0.xs.directory(0, "/local/domain/7/data") == []


def test_close_is_idempotent_and_silences(dom0: Client, client: NewClient) -> None:
    other = client(0, True)
    other.xs.watch("/", "t")
    other.taken()
    other.xs.close()
    other.xs.close()
    dom0.xs.write(0, "/a", b"")
    assert other.taken() == []


def test_reset_watches_drops_watches_and_transactions(guest: Client) -> None:
    guest.xs.watch("data", "t")
    tx = guest.xs.transaction_start()
    guest.taken()
    guest.xs.reset_watches()
    guest.xs.write(0, "data", b"")
    assert guest.taken() == []
    assert refused(guest.xs.transaction_end, tx, True) == "ENOENT"
    guest.xs.watch("data", "t")
