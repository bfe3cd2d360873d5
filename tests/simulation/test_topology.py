"""Errors at every kind of function of a switch host: who is told, what is reset, what works afterwards (H17 to H22).

00:1c.0 root > 01:00.0 upstream > 02:00.0, 02:01.0, 02:02.0 downstream > 03:00.0 (nic), 04:00.0 (block), 05:00.0 (nic).
"""

from __future__ import annotations

from typing import Any

import pytest

from protocol.topology import GuestSpec, HostSpec
from tests.simulation.kit import COMP_ABORT, DLP, MALF_TLP, Rig, endpoint, good, guest, host, root_port, switch

ROOT, UPSTREAM, DOWN = "00:1c.0", "01:00.0", ("02:00.0", "02:01.0", "02:02.0")
NIC0, DISK, NIC1 = "03:00.0", "04:00.0", "05:00.0"
ENDPOINTS = (NIC0, DISK, NIC1)
PORTS = (ROOT, UPSTREAM, *DOWN)
WORKERS = (guest("net", NIC0, driver="xnic"), guest("store", DISK, driver="xblk"), guest("third", NIC1, driver="xnic"))


def switch_host(*guests: GuestSpec, **options: Any) -> HostSpec:
    """The host of the page's first lines."""
    nics = {NIC0: "nic", DISK: "block", NIC1: "nic"}
    down = dict(zip(DOWN, (3, 4, 5), strict=True))
    functions = [root_port(ROOT, 1, last=5), *switch(UPSTREAM, ROOT, 2, down)]
    functions += [endpoint(bdf, port, model=model) for (bdf, model), port in zip(nics.items(), DOWN, strict=True)]
    return host(functions, guests, **options)


def works(rig: Rig) -> bool:
    """Every guest moves data through its device."""
    return all(set(rig.workload(name).values()) == {4} for name in ("net", "store", "third"))


# where the fatal error is -> the port whose secondary bus is reset, and who is told
FATAL = {
    NIC0: (DOWN[0], {"net"}),
    DISK: (DOWN[1], {"store"}),
    DOWN[2]: (DOWN[2], {"third"}),
    UPSTREAM: (ROOT, {"net", "store", "third"}),
    ROOT: (ROOT, {"net", "store", "third"}),
}


@pytest.mark.parametrize("where", FATAL)
def test_fatal_error_resets_below_the_nearest_port_above(where: str) -> None:
    port, told = FATAL[where]
    rig = Rig(switch_host(*WORKERS))
    ports = {bdf: rig.registers(bdf) for bdf in PORTS}
    assert works(rig)
    rig.inject(where, DLP).settle()
    assert rig.resets() == ["bus"]
    assert rig.resets_of(port) == ["bus"]
    for name in ("net", "store", "third"):
        assert rig.callbacks(name) == (["ED(2) 3", "SR 5", "RS"] if name in told else [])
    assert set(rig.verdicts()) == {"successful"}
    assert not rig.aerfail
    assert good(rig, ENDPOINTS)
    assert {bdf: rig.registers(bdf) for bdf in PORTS} == ports
    assert works(rig)
    rig.check()


@pytest.mark.parametrize("where", [*ENDPOINTS, DOWN[0], UPSTREAM, ROOT])
def test_nonfatal_error_resets_nothing(where: str) -> None:
    told = {NIC0: {"net"}, DISK: {"store"}, NIC1: {"third"}, DOWN[0]: {"net"}}.get(where, {"net", "store", "third"})
    rig = Rig(switch_host(*WORKERS)).inject(where, COMP_ABORT).settle()
    heard = {name for name in ("net", "store", "third") if rig.callbacks(name)}
    assert heard == told
    assert not rig.aerfail
    assert set(rig.verdicts()) == {"successful"}
    assert good(rig, ENDPOINTS)
    assert works(rig)
    rig.check()


def test_error_again_after_recovery_is_reported() -> None:
    """No port forgets to report after it was reset and restored (H18, H24)."""
    rig = Rig(switch_host(*WORKERS)).inject(UPSTREAM, DLP).settle()
    for bdf in ENDPOINTS:
        before = len(rig.verdicts())
        rig.inject(bdf, COMP_ABORT).settle()
        assert len(rig.verdicts()) == before + 1
    rig.check()


@pytest.mark.parametrize("where", [UPSTREAM, ROOT])
def test_one_guest_fails_and_the_others_recover(where: str) -> None:
    guests = (WORKERS[0], guest("bad", DISK, ed_frozen=4), WORKERS[2])
    rig = Rig(switch_host(*guests)).inject(where, DLP).settle()
    assert {bdf: rig.outcome(bdf) for bdf in ENDPOINTS} == {NIC0: "recovered", DISK: "killed", NIC1: "recovered"}
    assert not rig.alive("bad")
    assert rig.clean(DISK)
    assert len(rig.aerfail) == 1
    assert rig.workload("net").values()
    assert rig.workload("third").values()
    rig.check()


def test_an_hvm_guest_below_the_switch_dies_and_the_others_go_on() -> None:
    guests = (WORKERS[0], guest("win", DISK, driver="xblk", spec={"type": "hvm"}), WORKERS[2])
    rig = Rig(switch_host(*guests)).inject(ROOT, MALF_TLP).settle()
    assert rig.outcome(DISK) == "killed"
    assert not rig.alive("win")
    assert rig.clean(DISK)
    assert rig.outcome(NIC0) == rig.outcome(NIC1) == "recovered"
    rig.check()


def test_h20_an_hvm_bystander_lives() -> None:
    guests = (WORKERS[0], guest("win", DISK, driver="xblk", spec={"type": "hvm"}))
    rig = Rig(switch_host(*guests)).inject(UPSTREAM, COMP_ABORT).settle()
    assert rig.outcome(DISK) == "untouched"
    assert rig.alive("win")
    assert not rig.aerfail
    rig.check()


def test_the_killed_guest_comes_back_with_its_device() -> None:
    """KILL-9: on_crash = restart, and the device is clean enough to be attached again."""
    guests = (guest("net", NIC0, spec={"on_crash": "restart"}, ed=4), WORKERS[1], WORKERS[2])
    rig = Rig(switch_host(*guests)).inject(NIC0, COMP_ABORT).settle()
    assert rig.alive("net")
    assert rig.records("domain.restart")
    assert rig.same(NIC0)
    rig.check()


def test_a_workload_survives_a_reset_in_its_middle() -> None:
    """Requests that the reset loses are sent again; what comes back is what was sent."""
    rig = Rig(switch_host(*WORKERS))
    control = rig.system.hypervisor.control
    task = rig.system.kernel.spawn(control.ctl("store", "workload", [-1, 200]), "traffic")
    rig.settle(2).inject(DISK, DLP).settle(60_000)
    assert task.done
    assert set(task.result.values()) == {200}
    rig.check()
