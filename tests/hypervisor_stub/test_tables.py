"""Event channels (xen-pci.md 8.1), grants (8.3), life cycle and state letters (9.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hypervisor_stub.domains import LIFE_CYCLE, Domains, Life, Shutdown, Step, state_letters
from hypervisor_stub.event_channels import FIRST_PORT, MAX_PORTS, EventChannels, PortState
from hypervisor_stub.grants import FIRST_REF, GrantTables
from kernel_stub.kernel import Kernel
from kernel_stub.rpc import RpcError
from tests.hypervisor_stub.fakes import make_guest
from tests.kernel_stub.world import ListJournal, ManualClock

PAGE = bytes(4096)


@pytest.fixture
def posted() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def channels(posted: list[tuple[Any, ...]]) -> EventChannels:
    return EventChannels(lambda *message: posted.append(message))


def test_bind_tells_the_other_end(channels: EventChannels, posted: list[tuple[Any, ...]]) -> None:
    port = channels.alloc_unbound(7, 0)
    assert port == FIRST_PORT
    assert channels.status(7, port) is PortState.UNBOUND
    mine = channels.bind_interdomain(0, 7, port, "ipc://x")
    assert posted == [(7, "evtchn_open", port, "ipc://x")]
    assert channels.status(7, port) is channels.status(0, mine) is PortState.INTERDOMAIN


def test_close_makes_the_other_end_unbound(channels: EventChannels, posted: list[tuple[Any, ...]]) -> None:
    port = channels.alloc_unbound(7, 0)
    mine = channels.bind_interdomain(0, 7, port, "a")
    channels.close(7, port)
    assert posted[1:] == [(0, "evtchn_closed", mine)]
    assert channels.status(7, port) is PortState.CLOSED
    assert channels.status(0, mine) is PortState.UNBOUND


def test_death_closes_all_ports(channels: EventChannels, posted: list[tuple[Any, ...]]) -> None:
    ports = [channels.alloc_unbound(7, 0) for _ in range(2)]
    mine = [channels.bind_interdomain(0, 7, port, "a") for port in ports]
    channels.close_all(7)
    assert posted[2:] == [(0, "evtchn_closed", port) for port in mine]


@pytest.mark.parametrize(
    ("domid", "remote", "port"),
    [(0, 7, 99), (0, 8, FIRST_PORT), (3, 7, FIRST_PORT), (0, 7, 0)],
    ids=["closed port", "other domain's port", "reserved for another domain", "port 0"],
)
def test_bind_errors_einval(channels: EventChannels, domid: int, remote: int, port: int) -> None:
    channels.alloc_unbound(7, 0)
    with pytest.raises(RpcError, match=r"^EINVAL$"):
        channels.bind_interdomain(domid, remote, port, "a")


def test_bind_twice_einval(channels: EventChannels) -> None:
    port = channels.alloc_unbound(7, 0)
    channels.bind_interdomain(0, 7, port, "a")
    with pytest.raises(RpcError, match=r"^EINVAL$"):
        channels.bind_interdomain(0, 7, port, "a")
    with pytest.raises(RpcError, match=r"^EINVAL$"):
        channels.close(7, 4000)


def test_no_free_port_enospc(channels: EventChannels) -> None:
    for _ in range(FIRST_PORT, MAX_PORTS):
        channels.alloc_unbound(7, 0)
    with pytest.raises(RpcError, match=r"^ENOSPC$"):
        channels.alloc_unbound(7, 0)


@pytest.fixture
def grants() -> GrantTables:
    tables = GrantTables()
    tables.introduce(7)
    return tables


def test_grant_map_end(grants: GrantTables) -> None:
    ref = grants.grant(7, 0, False, b"page")
    assert ref == FIRST_REF
    assert grants.map(0, 7, ref) == b"page"
    with pytest.raises(RpcError, match=r"^EBUSY$"):
        grants.end(7, ref)
    grants.unmap(0, 7, ref)
    grants.end(7, ref)
    assert grants.grant(7, 0, False, PAGE) == ref


@pytest.mark.parametrize(
    ("status", "attempt"),
    [
        ("bad_domain", lambda g: g.map(0, 9, 8)),
        ("bad_gntref", lambda g: g.map(0, 7, 77)),
        ("permission_denied", lambda g: g.map(0, 7, g.grant(7, 0, True, PAGE))),
        ("permission_denied", lambda g: g.map(3, 7, g.grant(7, 0, False, PAGE))),
        ("bad_handle", lambda g: g.unmap(0, 7, g.grant(7, 0, False, PAGE))),
        ("EINVAL", lambda g: g.end(7, 8)),
    ],
    ids=["unknown domain", "unknown reference", "read-only", "granted to another", "not mapped", "end of nothing"],
)
def test_grant_errors(grants: GrantTables, status: str, attempt: Callable[[GrantTables], Any]) -> None:
    with pytest.raises(RpcError, match=f"^{status}$"):
        attempt(grants)


def test_dead_domain_keeps_mapped_pages_until_unmapped(grants: GrantTables) -> None:
    ref, other = grants.grant(7, 0, False, PAGE), grants.grant(7, 0, False, PAGE)
    grants.map(0, 7, ref)
    grants.release(7)
    assert grants.is_zombie(7)
    with pytest.raises(RpcError, match=r"^bad_domain$"):
        grants.map(0, 7, other)
    grants.unmap(0, 7, ref)
    assert not grants.is_zombie(7)


@pytest.mark.parametrize(
    ("life", "reason", "letters"),
    [
        (Life.RUNNING, None, "-b----"),
        (Life.BUILDING, None, "--p---"),
        (Life.PAUSED, None, "--p---"),
        (Life.SHUTDOWN, Shutdown.POWEROFF, "---s--"),
        (Life.SHUTDOWN, Shutdown.REBOOT, "---sr-"),
        (Life.SHUTDOWN, Shutdown.SUSPEND, "---ss-"),
        (Life.SHUTDOWN, Shutdown.CRASH, "---sc-"),
        (Life.SHUTDOWN, Shutdown.WATCHDOG, "---sw-"),
        (Life.SHUTDOWN, Shutdown.SOFT_RESET, "---sS-"),
        (Life.DYING, Shutdown.CRASH, "---scd"),
        (Life.DYING, None, "-----d"),
    ],
)
def test_state_letters(life: Life, reason: Shutdown | None, letters: str) -> None:
    assert state_letters(life, reason) == letters


def test_every_life_ends() -> None:
    for life in Life:
        if life not in (Life.DYING, Life.GONE):
            assert LIFE_CYCLE[life, Step.DESTROY] is Life.DYING
    assert LIFE_CYCLE[Life.DYING, Step.RELEASE] is Life.GONE


def test_domain_ids_count_up_and_incarnations_differ() -> None:
    domains = Domains(Kernel("test", ManualClock(), ListJournal()))
    first = domains.add(make_guest(), "a")
    domains.remove(first)
    second = domains.add(make_guest(), "b")
    assert (first.domid, second.domid) == (1, 2)
    assert first.key != second.key
    assert not first.advance(Step.UNPAUSE)
    assert domains.find("2") is domains.find("guest1") is second
    assert domains.find("1") is None
