"""KILL-1 to KILL-10 (xen-pci.md 5.4), destroy (2.7, xen-pci-errata.md 9.2 rows 13, 18, 19) and domain ends (9.5)."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor_stub.domain_watcher import PROCEDURES
from hypervisor_stub.teardown import ORDERS
from kernel_stub.kernel import MS
from protocol.topology import TimingSpec
from tests.hypervisor_stub.fakes import CARD, CARD_1, World, make_guest, make_host

BE = "/local/domain/0/backend/pci/1/0"
RECLAIM = [f"{step} {CARD}" for step in ("reset", "restore", "check", "deassign")]
KILL = ["mark", "dying", "stop", f"block_dma {CARD}", "wake", *RECLAIM, "remove_nodes", "destroy"]


def fail(world: World, domid: int = 1) -> None:
    world.run(world.dom0.aerfail(domid))
    world.settle()


def names(world: World) -> list[str]:
    return [domain["name"] for domain in world.ctl("status")["domains"]]


def killed(**options: Any) -> World:
    world = World(make_host(make_guest(**options))).booted()
    world.dom0.calls.clear()
    fail(world)
    return world


def test_kill_4_order() -> None:
    world = killed()
    assert world.steps() == KILL
    assert world.dom0.calls == [
        ("hw_block_dma", CARD),
        ("hw_reset", CARD, (CARD,)),
        ("hw_restore", CARD),
        ("hw_check", CARD),
        ("hw_deassign", CARD),
    ]
    assert names(world) == []
    assert world.read("/local/domain/1") is None
    assert world.read("/local/domain/0/backend/pci") is None
    assert world.xl("pci-assignable-list")[1] == f"{CARD} \n{CARD_1} \n"


def test_kill_4_1_state_letters_while_dying() -> None:
    world = World().booted()
    world.supervisors["guest1"].deaf = True
    fail(world)
    assert "---scd" in world.xl("list guest1")[1]


def test_kill_4_4_dom0_hears_of_the_stop_only_after_the_death() -> None:
    world = World().booted()
    world.supervisors["guest1"].deaf = True
    fail(world)
    assert world.dom0.events == []
    world.supervisors["guest1"].die(1, 9)
    world.settle()
    assert world.dom0.events == [("domain_stopped", 1, "kill")]


def test_kill_4_2_a_supervisor_that_does_not_report_delays_by_its_deadline_only() -> None:
    world = World().booted()
    world.supervisors["guest1"].deaf = True
    fail(world)
    world.pass_ms(1_000)
    assert names(world) == []
    assert "(XEN) the process of guest1 was not seen to end" in world.console


def test_kill_4_linux_lets_the_wait_run() -> None:
    world = World(make_host(profile="linux")).booted()
    fail(world)
    assert "wake" not in world.steps()
    assert world.dom0.events == []


def test_kill_2_one_incident_for_several_reports() -> None:
    world = World().booted()
    world.supervisors["guest1"].deaf = True
    fail(world)
    fail(world)
    world.pass_ms(2_000)
    assert world.steps() == KILL
    assert len(world.traces("kill.incident")) == 1


def test_kill_2_next_incarnation_is_another_incident() -> None:
    world = killed()
    world.xl("create guest1")
    fail(world, 2)
    assert len(world.traces("kill.incident")) == 2


def test_kill_3_domain_0_is_never_killed() -> None:
    world = World().booted()
    fail(world, 0)
    assert "(XEN) aerfail for domain 0: it is never killed" in world.console
    assert names(world) == ["guest1"]
    assert world.traces("kill.incident") == []


def test_kill_1_other_values_and_places_do_nothing() -> None:
    world = World().booted()
    world.run(world.dom0.write(f"{BE}/aerState", "fine"))
    world.run(world.dom0.write(f"{BE}/aerstate", "aerfail"))
    world.settle()
    assert world.traces("kill.report") == []


def test_kill_5_failed_reset_quarantines() -> None:
    world = World().booted()
    world.dom0.broken_reset.add(CARD)
    fail(world)
    assert names(world) == []
    assert world.read("/libxl/pci/0000-03-00-0/domid") == "1"
    assert world.read("/libxl/pci/0000-03-00-0/fault") == "not ready 65535ms after FLR; giving up"
    assert world.xl("pci-assignable-list")[1] == f"{CARD_1} \n"
    world.xl("create guest1")
    assert world.console[-1].endswith("libxl__device_pci_add failed for PCI device 0:3:0.0 (rc -3)")
    assert any(line.endswith("PCI device 0:3:0.0 is not assignable") for line in world.console)


def test_kill_5_failed_check_quarantines() -> None:
    world = World().booted()
    world.dom0.bad_check.add(CARD)
    fail(world)
    assert world.read("/libxl/pci/0000-03-00-0/fault") == "BARs read back as zero"
    status = {device["bdf"]: device["fault"] for device in world.ctl("status")["devices"]}
    assert status[CARD] == "BARs read back as zero"


def test_kill_5_manual_reset_clears_both_marks() -> None:
    world = World().booted()
    world.dom0.broken_reset.add(CARD)
    fail(world)
    assert world.xl(f"pci-assignable-add {CARD}")[0] == 1
    world.dom0.broken_reset.clear()
    assert world.xl(f"pci-assignable-add {CARD}")[0] == 0
    assert world.xl("pci-assignable-list")[1] == f"{CARD} \n{CARD_1} \n"
    assert world.read("/libxl/pci/0000-03-00-0/fault") is None


def test_kill_6_all_devices_of_the_guest() -> None:
    world = killed(devices=(CARD, CARD_1))
    assert world.dom0.ops("hw_reset") == [("hw_reset", CARD), ("hw_reset", CARD_1)]
    assert ("hw_reset", CARD, (CARD, CARD_1)) in world.dom0.calls


def test_kill_7_ignore() -> None:
    world = killed(policy="ignore")
    assert world.steps() == []
    assert "-b----" in world.xl("list guest1")[1]
    assert world.read(f"{BE}/aerState") == "aerfail"


def test_kill_7_preserve() -> None:
    world = killed(policy="preserve")
    assert world.steps() == ["pause", f"block_dma {CARD}", "wake", *RECLAIM, "remove_nodes"]
    assert world.supervisors["guest1"].signals == ["pause"]
    assert "--p---" in world.xl("list guest1")[1]
    assert world.xl("pci-list guest1") == (0, "", "")
    assert world.xl("destroy guest1") == (0, "", "")
    assert names(world) == []


def test_kill_7_poweroff_asks_then_destroys() -> None:
    world = killed(policy="poweroff")
    assert world.read("/local/domain/1/control/shutdown") == "poweroff"
    world.pass_ms(9_999)
    assert names(world) == ["guest1"]
    world.pass_ms(1)
    assert names(world) == []
    assert world.steps() == KILL


def test_kill_7_poweroff_of_a_guest_that_obeys() -> None:
    world = killed(policy="poweroff")
    world.run(world.guest().rpc.call("shutdown", 0))
    world.pass_ms(20_000)
    assert names(world) == []
    assert "mark" not in world.steps()
    assert "(XEN) Domain 1 has shut down, reason code 0 0x0" in world.console


def test_kill_8_guest_that_dies_by_itself() -> None:
    world = World().booted()
    world.supervisors["guest1"].die(1, 139)
    world.settle()
    assert world.steps() == ["dying", f"block_dma {CARD}", "wake", *RECLAIM, "remove_nodes", "destroy"]
    assert world.supervisors["guest1"].signals == []
    assert world.traces("domain.died") == [("guest1", 1001, 139)]


def test_kill_8_death_between_report_and_action() -> None:
    world = World().booted()
    world.supervisors["guest1"].die(1, 139)
    fail(world)
    assert world.steps().count(f"reset {CARD}") == 1
    assert names(world) == []


def test_kill_9_restart_gets_the_clean_devices_only() -> None:
    world = World(make_host(make_guest(devices=(CARD, CARD_1), on_crash="restart"))).booted()
    world.dom0.broken_reset.add(CARD)
    fail(world)
    assert names(world) == []
    world.pass_ms(2_000)
    assert names(world) == ["guest1"]
    assert world.xl("pci-list guest1")[1] == f"Vdev Device\n00.0 {CARD_1}\n"
    assert world.xl("domid guest1")[1] == "2\n"


def test_kill_9_on_crash_preserve_keeps_the_domain_without_devices() -> None:
    world = killed(on_crash="preserve")
    assert "---sc-" in world.xl("list guest1")[1]
    assert world.read(BE) is None


def test_kill_10_zombie_directory_is_removed() -> None:
    world = killed()
    fail(world)
    assert world.read(BE) is None
    assert world.traces("kill.zombie") == [("Domain-0", 1)]


def test_kill_10_linux_leaves_the_zombie() -> None:
    world = World(make_host(profile="linux")).booted()
    fail(world)
    fail(world)
    assert world.read(f"{BE}/aerState") == "aerfail"


def test_9_5_messages_of_a_kill() -> None:
    world = killed()
    assert world.console[-4:] == [
        "(XEN) Domain 1 has shut down, reason code 3 0x3",
        "(XEN) Action for shutdown reason code 3 is destroy",
        "(XEN) Domain 1 needs to be cleaned up: destroying the domain",
        "(XEN) Done. Exiting now",
    ]


def test_destroy_hardened_stops_first_and_resets_once() -> None:
    world = World().booted()
    world.dom0.calls.clear()
    assert world.xl("destroy guest1") == (0, "", "")
    assert world.steps() == ["dying", "withdraw", *KILL[2:]]
    assert world.dom0.ops("hw_reset") == [("hw_reset", CARD)]
    assert world.dom0.events[0] == ("domain_stopped", 1, "destroy")


def test_destroy_linux_detaches_while_the_guest_runs() -> None:
    world = World(make_host(profile="linux")).booted()
    assert world.xl("destroy guest1") == (0, "", "")
    assert world.steps() == ["detach_devices", "dying", "stop", "remove_nodes", "destroy"]
    assert [row[1] for row in world.traces("pci.step")] == ["reset", "deassign", "unplug", "remove_entry"]


def test_destroy_linux_of_a_hung_guest_costs_both_waits() -> None:
    world = World(make_host(profile="linux")).booted()
    world.guest().mute = True
    before = world.clock.time
    world.xl("destroy guest1")
    assert world.clock.time - before == 10_000 * MS
    assert any(line.endswith(f"Backend {BE} not ready") for line in world.console)


def test_destroy_during_a_kill_waits_for_it() -> None:
    world = World().booted()
    world.supervisors["guest1"].deaf = True
    fail(world)
    assert world.xl("destroy guest1")[0] == 0
    assert world.steps() == KILL


@pytest.mark.parametrize(
    ("reason", "action", "left"),
    [(0, "destroy", []), (1, "restart", ["guest1"]), (3, "destroy", []), (2, "preserve", ["guest1"])],
)
def test_shutdown_reasons(reason: int, action: str, left: list[str]) -> None:
    world = World().booted()
    world.run(world.guest().rpc.call("shutdown", reason))
    world.pass_ms(3_000)
    assert f"(XEN) Action for shutdown reason code {reason} is {action}" in world.console
    assert names(world) == left


def test_supervisor_lost_means_guest_dead() -> None:
    world = World().booted()
    world.supervisors["guest1"].rpc.link.close()
    world.settle()
    assert names(world) == []
    assert world.traces("domain.died") == [("guest1", 1001, -1)]


def test_death_takes_ports_and_grants_along() -> None:
    world = World().booted()
    port = world.run(world.guest().rpc.call("evtchn_alloc", 0))
    mine = world.run(world.dom0.rpc.call("evtchn_bind", 1, port, "ipc://somewhere"))
    assert ("evtchn_open", port, "ipc://somewhere") in world.guest().log
    ref = world.run(world.guest().rpc.call("grant", 0, False, b"page"))
    assert world.run(world.dom0.rpc.call("grant_map", 1, ref)) == b"page"
    fail(world)
    assert ("evtchn_closed", mine) in world.dom0.events
    assert world.run(world.dom0.rpc.call("grant_unmap", 1, ref)) is None


def test_kill_while_the_guest_is_being_started() -> None:
    host = make_host(timing=TimingSpec(connect_grace_ms=500))
    world = World(host, guests_answer=False).connect_all()
    world.xl("create guest1")
    fail(world)
    assert world.steps() == KILL
    assert world.supervisors["guest1"].signals == ["kill"]


def test_every_procedure_has_an_order_in_both_profiles() -> None:
    assert ORDERS["linux"].keys() == ORDERS["hardened"].keys() >= set(PROCEDURES.values())
    order = ORDERS["hardened"]["kill"]
    assert order.index("stop") < order.index("wake") < order.index("reset") < order.index("deassign")
