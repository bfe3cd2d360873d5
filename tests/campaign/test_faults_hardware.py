"""Faults of the hardware, as steps: errors at once and in storms, devices that are gone, resets that go wrong."""

from __future__ import annotations

import pytest

from protocol.topology import BootSpec, HostSpec
from tests.campaign.faulty import CORRECTABLE, FATAL, HARDENED, LINUX, NONFATAL, PORT, A, B, Play, nics, times

BOTH = pytest.mark.parametrize("profile", [HARDENED, LINUX])
MULTIPLE = 1 << 3  # ERR_FATAL/NONFATAL received again, in Root Error Status


# -- errors ------------------------------------------------------------------------------------------
def test_devices_that_err_in_one_instant_are_seen_by_one_interrupt() -> None:
    play = Play(nics(), f"inject: {{devices: [nic0, nic1], errors: [{NONFATAL}]}}")
    assert [item["subject"] for item in play.find("hw.inject")] == [A, B]
    assert play.one("aer.irq", PORT)["status"] & MULTIPLE
    assert {item["subject"] for item in play.find("aer.error")} == {A, B}
    assert play.outcomes() == {A: "recovered", B: "recovered"}


def test_the_same_devices_one_after_the_other_are_seen_by_two() -> None:
    steps = f"inject: {{device: nic0, errors: [{NONFATAL}]}}\ninject: {{device: nic1, errors: [{NONFATAL}]}}"
    assert len(Play(nics(), steps).find("aer.irq", PORT)) == 2


def test_raw_bits_beside_names() -> None:
    play = Play(nics(), f"inject: {{device: nic0, errors: [{NONFATAL}], uncorrectable: 0x10000, correctable: 0x40}}")
    found = play.one("hw.inject", A)
    assert (found["cor"], found["uncor"]) == (0x40, 0x18000)


def test_a_masked_error_leaves_its_bit_and_nothing_else() -> None:
    steps = f"""
        inject: {{device: nic0, errors: [{NONFATAL}], masked: true}}
        expect: {{device: {{device: nic0, state: dirty}}}}
    """
    play = Play(nics(), steps)
    assert play.good, play.texts
    assert play.one("hw.mask", A)["uncor"] == play.one("hw.inject", A)["uncor"] == 0x8000
    assert play.find("aer.irq") == play.find("recovery.begin") == []
    assert play.workload("g1") == 2


def test_a_mask_needs_the_capability() -> None:
    spec = nics()
    spec.functions[1].aer = False
    play = Play(spec, f"inject: {{device: nic0, errors: [{NONFATAL}], masked: true}}")
    assert play.texts == [f"{A}: no AER capability"]


def test_a_storm_keeps_its_rate_and_its_mix() -> None:
    play = Play(
        nics(),
        f"storm: {{devices: [nic0, nic1], mix: {{{CORRECTABLE}: 9, {NONFATAL}: 1}}, count: 200, rate_per_s: 1000}}",
    )
    assert play.texts == ["200 of 200 errors injected"]
    hits = play.find("hw.inject")
    assert times(hits) == [float(ms) for ms in range(200)]
    assert {item["subject"] for item in hits} == {A, B}
    assert 10 <= sum(bool(item["uncor"]) for item in hits) <= 40
    assert play.one("hw.storm_end")["injected"] == 200
    assert play.workload("g1") == play.workload("g2") == 2


def test_the_seed_of_a_storm_decides_its_order() -> None:
    def order(seed: int) -> list[int]:
        steps = f"storm: {{device: nic0, errors: [BadTLP, BadDLLP], count: 50, rate_per_s: 10000, seed: {seed}}}"
        return [item["cor"] for item in Play(nics(), steps).find("hw.inject")]

    assert order(1) == order(1) != order(2)


def test_a_storm_goes_on_beside_other_steps_and_survives_its_device() -> None:
    steps = f"""
        storm: {{device: nic0, errors: [{CORRECTABLE}], count: 100, rate_per_s: 1000}}, background: true
        gone: {{device: nic0, how: removed}}, at: {{record: {{label: hw.inject}}, nth: 50}}
    """
    play = Play(nics(boot=BootSpec(hotplug="native")), steps)
    assert play.texts[0] == "50 of 100 errors injected"


# -- gone --------------------------------------------------------------------------------------------
def test_a_dead_function_reads_all_ones_and_does_no_dma() -> None:
    steps = """
        gone: {device: nic0, how: dead}
        expect: {device: {device: nic0, state: absent}}
        expect: {device: {device: nic1, state: clean}}
        workload: {guest: g1, count: 2}, may-fail: true
        workload: {guest: g2, count: 2}
    """
    play = Play(nics(), steps)
    assert play.good, play.texts
    assert "reads all ones" in play.texts[3]


@BOTH
def test_a_dead_function_is_not_revived_by_a_reset(profile: str) -> None:
    steps = f"gone: {{device: nic0, how: dead}}\ninject: {{device: nic1, errors: [{FATAL}]}}"
    play = Play(nics(profile=profile, reset_ready_ms=500), steps, settle_ms=30_000)
    assert all(item["result"] == -25 for item in play.find("pci.reset", PORT))
    assert play.find("recovery.end")[-1]["verdict"] == "failed"
    assert not play.system.ctl("dom0", "config", [A]).strip(b"\xff")


def test_who_is_dead_comes_back_as_after_power_on() -> None:
    steps = """
        gone: {device: nic0, how: dead}
        back: {device: nic0}
        sleep: {ms: 200}
        expect: {device: {device: nic0, state: clean}}
        destroy: {guest: g1}
        attach: {guest: g2, device: nic0}
        wait: {connected: g2}
    """
    play = Play(nics(), steps)
    assert play.good, play.texts
    assert play.workload("g2") == 4


@BOTH
def test_a_link_that_breaks_is_a_fatal_error_of_the_port_and_stays_broken(profile: str) -> None:
    spec = nics(profile=profile, reset_ready_ms=500)
    play = Play(spec, "gone: {device: nic0, how: link-down}", settle_ms=30_000)
    assert play.find("aer.error", PORT)[0]["severity"] == "FATAL"
    assert play.find("pci.reset", PORT)[0]["result"] == -25
    assert play.find("recovery.end")[-1]["verdict"] == "failed"
    assert {item["subject"] for item in play.find("domain.destroy")} == {"g1", "g2"}


def test_a_link_that_is_mended_in_time_lets_the_recovery_succeed() -> None:
    steps = "gone: {device: nic0, how: link-down}\nback: {device: nic1}, at: {record: {label: pci.reset}}"
    play = Play(nics(), steps, settle_ms=30_000)
    assert play.outcomes() == {A: "recovered", B: "recovered"}
    assert [item["result"] for item in play.find("pci.reset", PORT)] == [-25, 0]
    assert play.workload("g1") == play.workload("g2") == 2


def slots(kind: str, profile: str = HARDENED) -> HostSpec:
    return nics(profile=profile, boot=BootSpec(hotplug=kind))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["native", "acpi"])
@BOTH
def test_a_slot_notices_that_its_card_was_pulled_out(kind: str, profile: str) -> None:
    play = Play(slots(kind, profile), "gone: {device: nic0, how: removed}")
    assert [item["subject"] for item in play.find("pci.remove")] == [B, A]  # the whole card
    assert {item["state"] for item in play.find("pci.state")} == {"PERM_FAILURE"}
    states, removals = play.find("pci.state"), play.find("pci.remove")
    assert play.entries.index(states[-1]) < play.entries.index(removals[0])  # 4.10: before drivers are unbound
    assert len(play.log("dom0", "while still in-use by domain")) == 2
    assert play.log("dom0", "Card not present") == (
        [f"pcieport {PORT}: pciehp: Slot(0): Card not present"] if kind == "native" else []
    )
    assert play.find("recovery.begin") == []


def test_without_a_slot_only_the_port_tells() -> None:
    play = Play(nics(reset_ready_ms=500), "gone: {device: nic0, how: removed}", settle_ms=30_000)
    assert play.find("pci.remove") == []
    assert play.find("aer.error", PORT)[0]["severity"] == "FATAL"
    assert set(play.outcomes().values()) == {"faulty"}


@pytest.mark.parametrize("kind", ["native", "acpi"])
def test_a_card_that_is_put_back_is_seized_again_and_serves_a_new_guest(kind: str) -> None:
    steps = """
        gone: {device: nic0, how: removed}
        sleep: {ms: 500}
        back: {device: nic1}
        wait: {for: {label: pciback.seize, subject: nic1}}
        destroy: {guest: g1}
        create: {guest: g1}
        wait: {connected: g1}
    """
    play = Play(slots(kind), steps)
    assert play.good, play.texts
    assert [item["subject"] for item in play.find("pciback.seize")] == [A, B]
    assert play.workload("g1") == 2


@pytest.mark.parametrize("kind", ["native", "acpi"])
def test_an_orderly_removal_and_a_new_card(kind: str) -> None:
    steps = """
        hotplug: {device: nic0, does: eject}
        wait: {for: {label: pci.remove, subject: nic0}}
        sleep: {ms: 100}
        hotplug: {device: nic0, does: insert}
        wait: {for: {label: pciback.seize, subject: nic1}}
    """
    play = Play(slots(kind), steps)
    assert play.good, play.texts
    assert play.find("pci.state") == []  # nothing was lost by surprise
    assert bool(play.log("dom0", "Button press")) == (kind == "native")


def test_a_card_that_leaves_during_a_recovery_is_no_success() -> None:
    steps = f"""
        gone: {{device: nic0, how: removed}}, at: {{phase: mmio_enabled, device: nic0}}
        inject: {{device: nic0, errors: [{NONFATAL}]}}
    """
    play = Play(slots("native"), steps)
    assert play.outcomes() == {A: "detached", B: "detached"}
    assert {item["verdict"] for item in play.find("recovery.end")} == {"abandoned"}


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ("hotplug: {device: nic0, does: eject}", f"{PORT} has no hotplug slot; there are none on this host"),
        ("back: {device: nic0}", f"{A} is not gone"),
        (f"gone: {{device: '{PORT}', how: removed}}", f"{PORT} has no link above it: it is on a root bus"),
        ("gone: {device: '0000:77:00.0', how: dead}", "no PCI device 0000:77:00.0; there are"),
        (f"reset-fault: {{device: '{PORT}', how: slow}}", f"{PORT} is a root_port, which nothing resets"),
    ],
)
def test_what_cannot_be_is_refused(steps: str, text: str) -> None:
    play = Play(nics(), steps)
    assert not play.good
    assert play.texts[0].startswith(text)


# -- resets ------------------------------------------------------------------------------------------
@BOTH
def test_a_slow_reset_is_waited_for(profile: str) -> None:
    steps = f"reset-fault: {{device: nic0, how: slow, ready_ms: 800}}\ninject: {{device: nic0, errors: [{FATAL}]}}"
    play = Play(nics(profile=profile, driver="scripted"), steps)
    reset = play.find("pci.reset", PORT)[0]
    assert reset["result"] == 0
    assert reset["t"] - play.one("hw.inject")["t"] > 0.8
    assert play.find("recovery.end")[-1]["verdict"] == "successful"


def test_a_reset_that_fails_kills_and_leaves_the_function_to_nobody() -> None:
    steps = f"reset-fault: {{device: nic0, how: fails}}\ninject: {{device: nic0, errors: [{FATAL}]}}"
    play = Play(nics(reset_ready_ms=500), steps, settle_ms=30_000)
    assert play.outcomes()[A] == "faulty"
    assert play.find("pci.faulty", A)
    assert play.find("domain.destroy", "g1")
    assert play.xl("pci-attach", "g2", A) != 0


def test_a_fault_of_resets_can_be_taken_back() -> None:
    steps = f"""
        reset-fault: {{device: nic0, how: fails}}
        reset-fault: {{device: nic0, how: none}}
        inject: {{device: nic0, errors: [{FATAL}]}}
    """
    assert Play(nics(), steps).outcomes() == {A: "recovered", B: "recovered"}


def test_another_device_after_a_reset_is_noticed() -> None:
    """H19: a card that was exchanged must not be handed to the guest of the old one."""
    steps = f"reset-fault: {{device: nic0, how: other-device, id: 0x1234}}\ninject: {{device: nic0, errors: [{FATAL}]}}"
    play = Play(nics(), steps)
    assert play.find("recovery.check", A)[0]["text"] == "is another device (8086:1234, not 1af4:1041)"
    assert play.outcomes() == {A: "faulty", B: "recovered"}
    assert play.system.ctl("dom0", "config", [A])[:4] == bytes.fromhex("86803412")
    assert play.workload("g2") == 2


def test_in_linux_nobody_looks_who_answers_after_a_reset() -> None:
    steps = f"reset-fault: {{device: nic0, how: other-device}}\ninject: {{device: nic0, errors: [{FATAL}]}}"
    assert Play(nics(profile=LINUX, driver="scripted"), steps).find("recovery.end")[-1]["verdict"] == "successful"


@BOTH
def test_a_reset_by_sysfs(profile: str) -> None:
    play = Play(nics(profile=profile), "sysfs-reset: {device: nic0}")
    assert play.texts == [f"reset of {A}"]
    assert play.one("pci.reset", A)["method"] == "flr"
    assert play.find("sysfs.store")


def test_a_reset_by_sysfs_that_fails_says_why() -> None:
    steps = "reset-fault: {device: nic0, how: fails}\nsysfs-reset: {device: nic0}"
    play = Play(nics(reset_ready_ms=200), steps)
    assert play.texts[1] == f"reset of {A}: ENOTTY"


def test_h24_an_error_that_comes_while_the_only_guest_is_killed_is_logged_too() -> None:
    """Nobody is left who could have another round; its message is still queued, and finds its status."""
    steps = f"""
        driver: {{guest: g1, phase: error_detected, does: vote, vote: DISCONNECT}}
        inject: {{device: "{PORT}", errors: [DLP]}}, at: {{record: {{label: pciback.kill}}}}
        inject: {{device: "{PORT}", errors: [{NONFATAL}]}}
    """
    play = Play(nics(functions=1), steps)
    assert [item["severity"] for item in play.find("aer.error", PORT)] == ["NONFATAL", "FATAL"]
    assert len(play.find("pciback.kill")) == 1
    assert [item["verdict"] for item in play.find("recovery.end", PORT)] == ["failed", "failed"]
