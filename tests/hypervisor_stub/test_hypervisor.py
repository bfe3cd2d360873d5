"""Connections, roles, and the verbs of the control connection."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor_stub.hypervisor import ROLE_OPS, HostLostError
from kernel_stub.rpc import Rpc, RpcError
from protocol.labels_hypervisor import LABELS, VOLATILE
from protocol.messages import TO_HYPERVISOR
from protocol.topology import GUEST, HOST
from tests.hypervisor_stub.fakes import CARD, FakeDom0, World, make_guest, make_host


def client(world: World, role: str = "control") -> Rpc:
    return Rpc(world.kernel, world.link(role), "hypervisor")


def refused(world: World, rpc: Rpc, *call: Any) -> str:
    with pytest.raises(RpcError) as caught:
        world.run(rpc.call(*call))
    return str(caught.value)


def test_hello_dom0_gets_the_host() -> None:
    world = World()
    world.hypervisor.epoch = 5
    result = world.run(FakeDom0(world).start())
    assert HOST.validate_json(result["host"]) == world.host
    assert result["epoch"] == 5


def test_hello_supervisor_gets_its_guest_and_domu_its_domain() -> None:
    world = World(make_host(make_guest(), defects=["D4"])).booted()
    config = world.guest().config
    assert (config["domid"], config["name"], config["profile"]) == (1, "guest1", "hardened")
    assert list(config["defects"]) == ["D4"]
    assert GUEST.validate_json(config["guest"]) == world.host.guests[0]


@pytest.mark.parametrize(
    ("role", "token", "text"),
    [
        ("dom0", "", "dom0 is already connected"),
        ("supervisor", "guest1", "the supervisor of guest1 is already connected"),
        ("supervisor", "guest9", "no guest is called 'guest9'"),
        ("domu", "wrong", "no domain has this token"),
        ("domu", "", "no domain has this token"),
        ("domu", "token-1", "guest1 is already connected"),
        ("root", "", "unknown role 'root'; allowed: dom0, domu, supervisor, control"),
    ],
)
def test_hello_refused(role: str, token: str, text: str) -> None:
    world = World().booted()
    assert refused(world, client(world), "hello", role, token) == text


def test_nothing_before_hello() -> None:
    world = World()
    assert refused(world, client(world), "xs_read", 0, "/") == "xs_read: say hello first"
    assert refused(world, client(world), "ctl", "hypervisor", "status", []) == "ctl: say hello first"


def test_roles_may_only_use_their_operations() -> None:
    world = World().booted()
    assert refused(world, world.guest().rpc, "ctl", "hypervisor", "stop", []) == "ctl: not available to domu"
    assert refused(world, world.control, "xs_read", 0, "/") == "xs_read: not available to control"
    assert refused(world, world.dom0.rpc, "shutdown", 0) == "shutdown: not available to dom0"
    assert refused(world, world.guest().rpc, "hello", "dom0", "") == "hello: not available to domu"
    assert set().union(*ROLE_OPS.values()) <= TO_HYPERVISOR.keys()


def test_xenstore_errors_have_wire_names() -> None:
    world = World().booted()
    guest = world.guest().rpc
    assert refused(world, guest, "xs_write", 0, "/local/domain/0/name", b"x") == "EACCES"
    assert refused(world, world.dom0.rpc, "xs_read", 0, "/local/domain/9") == "ENOENT"


def test_transaction_of_a_guest() -> None:
    world = World().booted()
    guest, path = world.guest().rpc, "/local/domain/1/data/x"
    tx = world.run(guest.call("xs_start"))
    world.run(guest.call("xs_write", tx, path, b"1"))
    assert world.read(path) is None
    world.run(guest.call("xs_end", tx, True))
    assert world.read(path) == "1"
    world.run(guest.call("xs_set_perms", 0, path, ["n1", "r0"]))
    assert world.run(guest.call("xs_get_perms", 0, path)) == ("n1", "r0")


def test_shutdown_reason_out_of_range() -> None:
    world = World().booted()
    assert refused(world, world.guest().rpc, "shutdown", 9) == "shutdown: reason 9 is not one of 0..5"


def test_ctl_is_forwarded() -> None:
    world = World().booted()
    assert world.ctl("inject", CARD, target="dom0") == ("inject", (CARD,))
    assert world.ctl("drivers", target="guest1") == (1, "drivers")


@pytest.mark.parametrize(
    ("target", "verb", "args", "text"),
    [
        ("guest9", "x", [], "unknown target 'guest9'; allowed: hypervisor, dom0, guest1"),
        (
            "hypervisor",
            "x",
            [],
            "unknown verb 'x'; allowed: xl, status, xenstore-ls, boot, wait-ready, stop, stop-guest, slow-start, "
            "refusals",
        ),
        ("hypervisor", "stop-guest", [], "stop-guest: 0 arguments are too few"),
        ("hypervisor", "status", [1], "status: 1 arguments, at most 0 are allowed"),
    ],
)
def test_ctl_refused(target: str, verb: str, args: list[Any], text: str) -> None:
    world = World().booted()
    assert refused(world, world.control, "ctl", target, verb, args) == text


def test_ctl_for_a_guest_that_is_not_there() -> None:
    world = World().connect_all()
    assert refused(world, world.control, "ctl", "guest1", "x", []) == "guest1 is not running"


def test_status() -> None:
    world = World().booted()
    status = world.ctl("status")
    assert status["ready"] is True
    assert status["dom0"] is True
    (domain,) = status["domains"]
    assert (domain["name"], domain["state"], domain["pid"], domain["be"], domain["fe"]) == (
        "guest1",
        "-b----",
        1001,
        4,
        4,
    )
    assert domain["devices"][0]["bdf"] == CARD
    assert status["devices"][0] == {"bdf": CARD, "domain": "guest1", "fault": ""}


def test_boot_says_who_is_missing() -> None:
    world = World()
    world.run(world.control.call("hello", "control", ""))
    with pytest.raises(RpcError, match="not connected: dom0, supervisor of guest1"):
        world.ctl("boot")


def test_stop_destroys_all_and_tells_everybody() -> None:
    world = World(make_host(make_guest(on_crash="restart"))).booted()
    world.ctl("stop")
    world.pass_ms(5_000)
    assert world.hypervisor.stopped
    assert world.dom0.events[-1] == ("stop",)
    assert world.supervisors["guest1"].signals == ["kill", "stop"]
    assert world.ctl("status")["domains"] == ()
    world.dom0.rpc.link.close()
    world.settle()  # dom0 may go now


def test_dom0_lost_is_fatal() -> None:
    world = World().booted()
    world.dom0.rpc.link.close()
    with pytest.raises(HostLostError, match="dom0 is lost: peer closed"):
        world.settle()
    assert world.traces("party.lost") == [("dom0", "peer closed")]


def test_dom0_lost_calls_the_owner() -> None:
    world = World().booted()
    reasons: list[str] = []
    world.hypervisor.on_fatal = reasons.append
    world.dom0.rpc.link.close()
    world.settle()
    assert reasons == ["dom0 is lost: peer closed"]


def test_guest_connection_lost_is_not_death() -> None:
    world = World().booted()
    world.guest().rpc.link.close()
    world.settle()
    assert "-b----" in world.xl("list guest1")[1]


def test_death_reports_of_another_guest_are_ignored() -> None:
    world = World(make_host(make_guest(), make_guest("guest2", ()))).booted()
    world.supervisors["guest2"].rpc.post("died", 1, 1001, 0)
    world.settle()
    assert world.traces("domain.died") == []


def test_every_label_is_declared_and_used_with_its_fields() -> None:
    world = World().booted()
    world.run(world.dom0.aerfail(1))
    world.settle()
    known = {**LABELS, "printk": ("level", "text"), "party.lost": ("reason",)}
    for record in world.journal.records:
        assert len(record) == 4 + len(known[record[2]]), record
    assert all(field in LABELS[label] for label, field in VOLATILE)
