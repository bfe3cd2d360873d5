"""hypervisor_stub.identity: the role that a peer claims against what the transport knows of it."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor_stub.grants import MAX_PAGES
from hypervisor_stub.hypervisor import REFUSAL_OF, ROLE_OPS
from hypervisor_stub.identity import check_guest, check_party
from kernel_stub.kernel import Kernel
from kernel_stub.rpc import Rpc, RpcError
from protocol.codec import Decoder
from protocol.messages import TO_CONTROL, TO_HYPERVISOR
from protocol.transport_gate import PROCESS
from tests.hypervisor_stub.fakes import FakeLink, World


def stranger(world: World, identity: str) -> Rpc:
    """A connection of which the transport knows ``identity``."""
    mine, theirs = FakeLink(world.wire, Decoder(TO_CONTROL)), FakeLink(world.wire, Decoder(TO_HYPERVISOR))
    mine.peer, theirs.peer = theirs, mine
    world.hypervisor.accept(theirs, identity)
    return Rpc(world.kernel, mine, "stub")


def said(world: World, identity: str, role: str, token: str) -> str:
    """The answer to a hello: "welcome", or why not."""
    try:
        world.run(stranger(world, identity).call("hello", role, token))
    except RpcError as error:
        return str(error)
    return "welcome"


@pytest.mark.parametrize(
    ("identity", "role", "token", "answer"),
    [
        ("control-1-abc", "control", "", "welcome"),
        ("d1", "control", "", "d1 is not control"),
        ("d1", "dom0", "", "d1 is not dom0"),
        ("d1", "supervisor", "guest1", "d1 is not supervisor"),
        ("dom0", "control", "", "dom0 is not control"),
        ("supervisor-guest2", "supervisor", "guest1", "supervisor-guest2 is not supervisor"),
        ("supervisor-guest1", "supervisor", "guest1", "the supervisor of guest1 is already connected"),
        ("control-1-abc", "dom0", "", "control-1-abc is not dom0"),
        ("", "control", "", "welcome"),
    ],
)
def test_over_tcp_a_peer_is_the_party_whose_key_it_has(identity: str, role: str, token: str, answer: str) -> None:
    world = World().booted()
    assert said(world, identity, role, token) == answer
    assert bool(world.hypervisor.machine.refusals.counts["identity"]) == ("is not" in answer)


def test_a_token_is_good_for_its_own_domain_only() -> None:
    world = World().booted()
    domain = world.hypervisor.machine.domains.by_name("guest1")
    assert domain is not None
    domain.rpc = None
    assert said(world, "d99", "domu", domain.token) == "d99 is not guest1"
    assert said(world, "dom0", "domu", domain.token) == "dom0 is not guest1"
    assert said(world, "d1", "domu", "") == "no domain has this token"
    assert said(world, "d1", "domu", "guess") == "no domain has this token"
    assert said(world, f"d{domain.domid}", "domu", domain.token) == "welcome"


def test_over_ipc_a_process_of_a_guest_is_nobody_else() -> None:
    world = World().booted()
    domains = world.hypervisor.machine.domains
    domain = domains.by_name("guest1")
    assert domain is not None
    guest, other = f"{PROCESS}77 {domain.pid}", f"{PROCESS}78 4711"
    for role, token in (("control", ""), ("dom0", ""), ("supervisor", "guest1")):
        with pytest.raises(RpcError, match=f"a process of guest1 is not {role}"):
            check_party(guest, role, token, domains)
        check_party(other, role, token, domains)
    check_guest(guest, domain, domains)
    check_guest(other, domain, domains)


def test_over_ipc_a_guest_with_the_token_of_another_is_refused() -> None:
    world = World().booted()
    domains = world.hypervisor.machine.domains
    mine = domains.by_name("guest1")
    assert mine is not None
    other = domains.add(mine.spec, "other")
    with pytest.raises(RpcError, match="a process of guest1 is not guest1"):
        check_guest(f"{PROCESS}77 {mine.pid}", other, domains)


def test_a_newcomer_may_say_hello_and_nothing_else() -> None:
    world = World().booted()
    link = stranger(world, "d1")
    for op, args in (("xs_read", (0, "/")), ("ctl", ("hypervisor", "stop", [])), ("grant_map", (1, 8))):
        with pytest.raises(RpcError, match="say hello first"):
            world.run(link.call(op, *args))


def test_a_guest_is_told_apart_by_what_it_was_refused() -> None:
    world = World().booted()
    guest: Any = world.guest()
    for op, args in (
        ("grant_map", (0, 8)), ("evtchn_close", (4000,)), ("xs_write", (0, "/tool/x", b"")),
        ("ctl", ("hypervisor", "stop", [])), ("xs_read", (0, "not/there")),
    ):  # fmt: skip
        with pytest.raises(RpcError):
            world.run(guest.rpc.call(op, *args))
    assert world.ctl("refusals") == {"grant": 1, "event-channel": 1, "xenstore": 1, "role": 1}
    assert set(REFUSAL_OF) == {"xs_", "evtchn_", "grant"}
    assert "ctl" not in ROLE_OPS["domu"]


def test_ports_and_grants_change_at_a_limited_rate() -> None:
    """Each change is a line of the host's journal, which must not fill up (protocol.limits.GUEST_TABLES)."""
    world = World().booted()
    guest: Any = world.guest()
    answers = []
    for _ in range(300):
        try:
            answers.append(world.run(guest.rpc.call("evtchn_alloc", 0)))
        except RpcError as error:
            answers.append(str(error))
    assert answers.count("EAGAIN") == world.hypervisor.machine.refusals.counts["flood"] > 50
    world.clock.time += 1_000_000_000
    assert isinstance(world.run(guest.rpc.call("evtchn_alloc", 0)), int)
    assert isinstance(world.kernel, Kernel)


def test_pages_that_a_guest_grants_are_bounded() -> None:
    world = World().booted()
    grants = world.hypervisor.machine.grants
    world.guest()
    while len(grants._tables[1]) < MAX_PAGES:
        grants.grant(1, 0, False, bytes(4096))
    with pytest.raises(RpcError, match="ENOSPC"):
        grants.grant(1, 0, False, bytes(4096))
