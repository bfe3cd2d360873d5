"""The recovery tables (linux-aer.md 4, 13, 14; models.md 5) with scripted drivers on the emulated hardware."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from dom0_pciback.aer.recovery import GENERATIONS
from dom0_pciback.aer.root_reset import bridge_of, devices_below
from dom0_pciback.pci.device import PciDev, pci_dev_set_disconnected
from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from dom0_pciback.pci.state import restore_state
from kernel_stub.kernel import MS
from protocol.ers import ChannelState, ErsResult, merge
from protocol.layout_aer import AER
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP
from protocol.topology import FunctionSpec
from tests.dom0_pciback.aer.rig import Rig, bind_lab, endpoint

N, C, R, D, OK, X = ErsResult
NONFATAL, FATAL = 0x8000, 0x40000


# -- merge_result(), 4.4 -----------------------------------------------------------------------
def reference_merge(old: int, new: int) -> int:
    """The reading under the table of 4.4, as sentences."""
    if X in (new, old):
        return X
    if old in (C, OK):
        return old if new == N else new
    if old == D and new == R:
        return R
    return old


@pytest.mark.parametrize(("old", "new"), list(product(ErsResult, repeat=2)))
def test_4_4_merge(old: ErsResult, new: ErsResult) -> None:
    assert merge(old, new) == reference_merge(old, new)


# -- 4.5: state, det, mmio, slot -> mmio called, reset done, slot_reset called, resume called, verdict --------
ROWS = [
    ("normal", C, OK, OK, "mmio resume", True),
    ("normal", C, R, OK, "mmio reset slot resume", True),
    ("normal", C, R, D, "mmio reset slot", False),
    ("normal", C, C, OK, "mmio", False),
    ("normal", C, D, OK, "mmio", False),
    ("normal", C, N, OK, "mmio resume", True),
    ("normal", OK, OK, OK, "resume", True),
    ("normal", R, OK, OK, "reset slot resume", True),
    ("normal", R, OK, R, "reset slot", False),
    ("normal", R, OK, C, "reset slot", False),
    ("normal", D, OK, OK, "", False),
    ("normal", X, OK, OK, "", False),
    ("normal", N, OK, OK, "mmio resume", True),
    ("frozen", C, OK, OK, "mmio reset resume", True),
    ("frozen", C, R, OK, "mmio reset slot resume", True),
    ("frozen", C, R, D, "mmio reset slot", False),
    ("frozen", C, C, OK, "mmio reset", False),
    ("frozen", C, D, OK, "mmio reset", False),
    ("frozen", OK, OK, OK, "reset resume", True),
    ("frozen", R, OK, OK, "reset slot resume", True),
    ("frozen", R, OK, D, "reset slot", False),
    ("frozen", D, OK, OK, "reset", False),
    ("frozen", X, OK, OK, "reset", False),
]
WORDS = {"mmio": "mmio_enabled", "slot": "slot_reset", "resume": "resume"}


@pytest.mark.parametrize(("state", "det", "mmio", "slot", "steps", "success"), ROWS)
def test_4_5_outcome_table(
    state: str, det: ErsResult, mmio: ErsResult, slot: ErsResult, steps: str, success: bool
) -> None:
    rig = Rig()
    lab = bind_lab(rig, "01:00.0", det_normal=det, det_frozen=det, mmio=mmio, slot=slot)
    rig.inject("01:00.0", uncor=NONFATAL if state == "normal" else FATAL)
    wanted = [f"error_detected({state.upper()})", *(WORDS[word] for word in steps.split() if word != "reset")]
    assert lab.calls == wanted + ([] if success else ["error_detected(PERM_FAILURE)"])
    assert bool(rig.traced("pci.reset")) is ("reset" in steps.split())
    ((_, _, verdict),) = rig.traced("recovery.end")
    assert verdict == ("successful" if success else "failed")
    assert (rig.uncor_status("01:00.0") & NONFATAL == 0) is (success or state == "frozen")


VOTES = list(product(ErsResult, ErsResult, ErsResult))


def reference_recovery(state: str, det: int, mmio: int, slot: int, reset_ok: bool) -> tuple[str, bool, int]:
    """4.2 for one device whose driver has every callback, written as the numbered steps."""
    steps = []
    status = reference_merge(C, det)
    if status == C:
        steps.append("mmio")
        status = reference_merge(OK, mmio)
    if status == R or state == "frozen":
        steps.append("reset")
        if not reset_ok:
            return " ".join(steps), False, status
    if status == R:
        steps.append("slot")
        status = reference_merge(OK, slot)
    if status != OK:
        return " ".join(steps), False, status
    return " ".join([*steps, "resume"]), True, status


def test_4_2_every_combination_of_votes_agrees_with_the_numbered_steps() -> None:
    rigs = {True: Rig(), False: Rig()}
    rigs[False].dev("01:00.0").no_bus_reset = True
    labs = {ok: bind_lab(rig, "01:00.0", det_normal=0, det_frozen=0, mmio=0, slot=0) for ok, rig in rigs.items()}
    cases = [(ok, state, *votes) for ok, state in product((True, False), ("normal", "frozen")) for votes in VOTES]
    for ok, state, det, mmio, slot in cases:
        rig, lab = rigs[ok], labs[ok]
        lab.answers = {"det_normal": det, "det_frozen": det, "mmio": mmio, "slot": slot}
        lab.calls.clear()
        rig.journal.records.clear()
        channel = ChannelState[state.upper()]
        status = rig.call(rig.aer.do_recovery(rig.dev("01:00.0"), channel))
        steps, success, result = reference_recovery(state, det, mmio, slot, ok)
        called = [call for call in lab.calls if not call.startswith("error_detected")]
        assert called == [WORDS[word] for word in steps.split() if word != "reset"]
        assert rig.traced("recovery.end")[0][2] == ("successful" if success else "failed")
        assert status == result
        assert bool(rig.traced("pci.reset")) == ("reset" in steps)


def test_t14_a_failed_reset_may_return_recovered() -> None:
    rig = Rig()
    rig.dev("01:00.0").no_bus_reset = True
    bind_lab(rig, "01:00.0", det_frozen=C, mmio=OK)
    assert rig.call(rig.aer.do_recovery(rig.dev("01:00.0"), ChannelState.FROZEN)) == OK
    assert rig.log(6)[-3:] == [
        "<6> pcieport 0000:00:01.0: AER: Root Port link has been reset (-25)",
        "<4> pcieport 0000:00:01.0: AER: subordinate device reset failed",
        "<6> pcieport 0000:00:01.0: AER: device recovery failed",
    ]


# -- scope, 4.1 ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("detecting", "bridge", "walked"),
    [
        ("02:00.1", "00:02.0", ["02:00.0", "02:00.1"]),
        ("03:00.0", "00:03.0", ["03:00.0", "04:00.0", "05:00.0", "04:01.0", "06:00.0"]),
        ("04:00.0", "04:00.0", ["05:00.0"]),
        ("00:01.0", "00:01.0", ["01:00.0"]),
        ("05:00.0", "04:00.0", ["05:00.0"]),
    ],
)
def test_4_1_scope(detecting: str, bridge: str, walked: list[str]) -> None:
    rig = Rig()
    found = bridge_of(rig.dev(detecting))
    assert found is rig.dev(bridge)
    assert [dev.name[5:] for dev in devices_below(found)] == walked


def test_t31_a_function_on_a_root_bus_is_recovered_alone_by_flr() -> None:
    rig = Rig([FunctionSpec("00:05.0", "endpoint")])
    lab = bind_lab(rig, "00:05.0", det_frozen=R, slot=OK)
    assert rig.call(rig.aer.do_recovery(rig.dev("00:05.0"), ChannelState.FROZEN)) == OK
    assert lab.calls == ["error_detected(FROZEN)", "slot_reset", "resume"]
    assert "<6> lab 0000:00:05.0: AER: has been reset" in rig.log(6)


# -- several devices, section 13 --------------------------------------------------------------------
def two(rig: Rig, first: ErsResult, second: ErsResult, **more: int) -> tuple[list[str], list[str]]:
    labs = [bind_lab(rig, f"02:00.{i}", det_normal=vote, **more) for i, vote in enumerate((first, second))]
    rig.inject("02:00.0", uncor=NONFATAL)
    return labs[0].calls, labs[1].calls


def test_t5_need_reset_beats_disconnect_in_either_order() -> None:
    for first, second in ((D, R), (R, D)):
        rig = Rig()
        calls = two(rig, first, second, slot=OK)
        assert all("slot_reset" in each for each in calls)
        assert rig.traced("recovery.end") == [("0000:02:00.0", "RECOVERED", "successful")]


def test_t6_the_last_voter_of_can_recover_and_recovered_wins() -> None:
    assert "mmio_enabled" in two(Rig(), OK, C, mmio=OK)[0]
    assert "mmio_enabled" not in two(Rig(), C, OK, mmio=OK)[0]


def uevents(rig: Rig) -> list[tuple[Any, ...]]:
    """Function, ERROR_EVENT and DEVICE_ONLINE of every uevent about a recovery."""
    return [(bdf, *rest[:2]) for bdf, action, *rest in rig.traced("uevent") if action == "change"]


def test_t8_one_function_without_handler_vetoes_and_uevents_tell_so() -> None:
    rig = Rig()
    bind_lab(rig, "02:00.0", det_normal=C)
    rig.inject("02:00.0", uncor=NONFATAL)
    assert uevents(rig) == [
        ("0000:02:00.0", "BEGIN_RECOVERY", 0),
        ("0000:02:00.0", "FAILED_RECOVERY", 0),
        ("0000:02:00.1", "FAILED_RECOVERY", 0),
    ]
    assert rig.uncor_status("02:00.0") == NONFATAL


def test_t9_a_driverless_bridge_does_not_veto() -> None:
    rig = Rig()
    for bdf in ("03:00.0", "04:00.0", "04:01.0"):
        rig.call(rig.core.unbind(rig.dev(bdf)))
    for bdf in ("05:00.0", "06:00.0"):
        bind_lab(rig, bdf, det_normal=C)
    rig.inject("03:00.0", uncor=NONFATAL)
    votes = rig.traced("recovery.vote")
    assert ("0000:03:00.0", "error_detected", "NONE", "CAN_RECOVER") in votes
    assert rig.traced("recovery.end") == [("0000:03:00.0", "RECOVERED", "successful")]


def test_t10_handlers_without_error_detected_count_as_driverless() -> None:
    rig = Rig()
    lab = bind_lab(rig, "01:00.0", mmio=OK, slot=OK)
    rig.inject("01:00.0", uncor=NONFATAL)
    assert lab.calls == []
    assert "<6> lab 0000:01:00.0: AER: can't recover (no error_detected callback)" in rig.log()


def test_t12_a_hopeless_fatal_recovery_still_resets_and_t13_leaves_the_channel_frozen() -> None:
    rig = Rig()
    rig.inject("01:00.0", uncor=FATAL)
    assert rig.traced("pci.reset") == [("0000:00:01.0", "bus", 0)]
    assert rig.dev("01:00.0").error_state is ChannelState.FROZEN
    rig.inject("02:00.0", uncor=NONFATAL)
    assert len(rig.traced("pci.reset")) == 1
    assert rig.dev("02:00.0").error_state is ChannelState.NORMAL


def test_4_5_need_reset_without_slot_reset_callback_counts_as_recovered() -> None:
    rig = Rig()
    lab = bind_lab(rig, "01:00.0", det_normal=R)
    rig.inject("01:00.0", uncor=NONFATAL)
    assert lab.calls == ["error_detected(NORMAL)", "resume"]
    assert ("0000:01:00.0", "slot_reset", "", "RECOVERED") in rig.traced("recovery.vote")


def test_4_10_a_disconnected_device_votes_disconnect_and_its_driver_is_not_called() -> None:
    rig = Rig()
    lab = bind_lab(rig, "02:00.1", det_normal=C)
    bind_lab(rig, "02:00.0", det_normal=C)
    pci_dev_set_disconnected(rig.dev("02:00.1"))
    rig.inject("02:00.0", uncor=NONFATAL)
    assert "error_detected(NORMAL)" not in lab.calls
    assert ("0000:02:00.1", "error_detected", "DISCONNECT", "DISCONNECT") in rig.traced("recovery.vote")


def test_v14_a_fatal_switch_error_restores_the_ports_before_what_is_below() -> None:
    rig = Rig()
    for bdf in ("05:00.0", "06:00.0"):
        restoring(rig, bdf)
    rig.inject("03:00.0", uncor=0x10)
    below = ["0000:03:00.0", "0000:04:00.0", "0000:05:00.0", "0000:04:01.0", "0000:06:00.0"]
    told = uevents(rig)
    assert [dev for dev, event, _ in told if event == "BEGIN_RECOVERY"] == below
    assert [dev for dev, event, _ in told if event == "SUCCESSFUL_RECOVERY"] == below
    assert rig.uncor_status("03:00.0") == 0
    assert rig.core.read(rig.dev("06:00.0"), HEADER.VENDOR_ID, 2) == 0x1AF4
    assert rig.log()[-2:] == [
        "<6> pcieport 0000:00:03.0: AER: Root Port link has been reset (0)",
        "<6> pcieport 0000:00:03.0: AER: device recovery successful",
    ]


def restoring(rig: Rig, bdf: str) -> None:
    """A driver like e1000e: asks for a reset, restores its configuration in slot_reset."""

    async def error_detected(dev: PciDev, state: ChannelState) -> int:
        return R

    async def slot_reset(dev: PciDev) -> int:
        restore_state(rig.core, dev)
        return OK

    rig.bind(bdf, PciDriver("e1000e", ErrorHandlers(error_detected=error_detected, slot_reset=slot_reset)))


def test_t16_the_fatal_bit_of_a_root_port_stays() -> None:
    rig = Rig()
    restoring(rig, "01:00.0")
    rig.inject("00:01.0", uncor=0x10)
    assert rig.traced("recovery.end") == [("0000:00:01.0", "RECOVERED", "successful")]
    assert rig.uncor_status("00:01.0") == 0x10


def test_t2_all_can_recover_after_a_fatal_error_leaves_an_unrestored_device() -> None:
    rig = Rig()
    bind_lab(rig, "01:00.0", "vfio-pci", det_frozen=C)
    rig.inject("01:00.0", uncor=FATAL)
    dev = rig.dev("01:00.0")
    assert rig.traced("recovery.end") == [("0000:01:00.0", "RECOVERED", "successful")]
    assert rig.core.read(dev, HEADER.COMMAND, 2) == 0
    assert rig.core.read(dev, dev.exp + EXP.DEVCTL, 2) & 0xF == 0
    assert rig.uncor_status("01:00.0") == FATAL


def test_t26_messages_that_arrive_during_a_reset_are_lost() -> None:
    rig = Rig()
    bind_lab(rig, "05:00.0", det_normal=R, slot=OK)
    rig.kernel.call_at(50 * MS, lambda: rig.hierarchy.inject(rig.dev("06:00.0").sbdf, 1, 0))
    rig.inject("05:00.0", uncor=NONFATAL)
    assert len(rig.traced("aer.irq")) == 1
    assert rig.aer_reg("00:03.0", AER.ROOT_STATUS) == 0
    assert rig.aer_reg("00:03.0", AER.ROOT_COMMAND) == 7
    assert rig.aer_reg("06:00.0", AER.COR_STATUS) == 1
    rig.inject("06:00.0", cor=1)
    assert len(rig.traced("aer.irq")) == 2


def test_4_3_reports_hold_the_device_lock_and_unbind_waits_for_it() -> None:
    rig = Rig()
    lab = bind_lab(rig, "01:00.0", det_normal=C)

    async def sleep(call: str) -> None:
        await rig.kernel.sleep(5 * MS)

    lab.on_call = sleep

    def unbind() -> None:
        rig.kernel.spawn(rig.core.unbind(rig.dev("01:00.0")), "unbind")

    rig.kernel.call_at(MS, unbind)
    rig.inject("01:00.0", uncor=NONFATAL)
    labels = [r[2] for r in rig.journal.records if r[2] in ("pci.callback", "pci.unbind")]
    assert labels == ["pci.callback"] * 2 + ["pci.unbind"]  # asked for in the first, marked in the second (6.2)
    assert rig.traced("recovery.end")[0][2] == "successful"


def test_6_2_an_unbind_that_was_promised_the_lock_comes_between_two_walks() -> None:
    rig = Rig()
    lab = bind_lab(rig, "01:00.0", det_normal=R, slot=OK)

    async def sleep(call: str) -> None:
        await rig.kernel.sleep(5 * MS if call == "slot_reset" else 0)

    lab.on_call = sleep

    def unbind() -> None:
        rig.kernel.spawn(rig.core.unbind(rig.dev("01:00.0")), "unbind")

    rig.kernel.call_at(50 * MS, unbind)  # during the reset
    rig.inject("01:00.0", uncor=NONFATAL)
    labels = [(r[2], *r[5:6]) for r in rig.journal.records if r[2] in ("pci.callback", "pci.unbind")]
    assert labels == [("pci.callback", "error_detected"), ("pci.callback", "slot_reset"), ("pci.unbind",)]
    assert rig.traced("recovery.end")[0][2] == "successful"  # driverless in later walks: no vote, no veto


def test_t29_roots_run_in_parallel_one_root_in_sequence() -> None:
    rig = Rig()
    bind_lab(rig, "01:00.0", det_normal=R, slot=OK)
    bind_lab(rig, "05:00.0", det_normal=R, slot=OK)
    rig.hierarchy.inject(rig.dev("01:00.0").sbdf, 0, NONFATAL)
    rig.hierarchy.inject(rig.dev("05:00.0").sbdf, 0, NONFATAL)
    rig.settle()
    assert rig.clock.time == 102 * MS
    assert len(rig.traced("recovery.end")) == 2


# -- other tables, section 14 ------------------------------------------------------------------------
def test_14_linux_6_1_resets_a_frozen_channel_before_mmio_enabled() -> None:
    rig = Rig(generation="linux-6.1")
    lab = bind_lab(rig, "01:00.0", det_frozen=C, mmio=OK)

    async def note_reset(call: str) -> None:
        lab.calls.append(f"  resets so far: {len(rig.traced('pci.reset'))}")

    lab.on_call = note_reset
    rig.inject("01:00.0", uncor=FATAL)
    assert lab.calls[:4] == [
        "error_detected(FROZEN)", "  resets so far: 0", "mmio_enabled", "  resets so far: 1",
    ]  # fmt: skip


def test_14_linux_6_1_has_no_final_broadcast_but_tells_of_the_bridge() -> None:
    rig = Rig(generation="linux-6.1")
    lab = bind_lab(rig, "01:00.0", det_normal=D)
    rig.inject("01:00.0", uncor=NONFATAL)
    assert lab.calls == ["error_detected(NORMAL)"]
    assert uevents(rig)[-1] == ("0000:00:01.0", "FAILED_RECOVERY", 0)


def test_14_linux_6_1_does_not_reset_for_a_vote() -> None:
    rig = Rig(generation="linux-6.1")
    lab = bind_lab(rig, "01:00.0", det_normal=R, slot=OK)
    rig.inject("01:00.0", uncor=NONFATAL)
    assert lab.calls == ["error_detected(NORMAL)", "slot_reset", "resume"]
    assert rig.traced("pci.reset") == []


def test_2_6_27_a_function_without_handler_has_no_opinion() -> None:
    rig = Rig(generation="linux-2.6.27")
    bind_lab(rig, "02:00.0", det_normal=C)
    rig.inject("02:00.0", uncor=NONFATAL)
    assert rig.traced("recovery.end")[0][2] == "successful"


def test_an_unknown_generation_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"linux-9.*linux-7\.2"):
        Rig(generation="linux-9")
    assert list(GENERATIONS) == ["linux-7.2", "linux-6.1", "linux-2.6.27"]


def test_the_recovery_is_replaceable() -> None:
    asked = []

    async def recover(dev: PciDev, state: ChannelState) -> int:
        asked.append((dev.name, state))
        return D

    rig = Rig([FunctionSpec("00:01.0", "root_port", secondary=1, subordinate=1), endpoint("01:00.0", "00:01.0")],
              recover=recover)  # fmt: skip
    rig.inject("01:00.0", uncor=NONFATAL)
    rig.inject("01:00.0", uncor=FATAL)
    rig.inject("01:00.0", cor=1)
    assert asked == [("0000:01:00.0", ChannelState.NORMAL), ("0000:01:00.0", ChannelState.FROZEN)]
