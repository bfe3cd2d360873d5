"""Release of a contained port in virtual time, and surprise removal (linux-aer.md 10.3, 11, T1, T14).

No recording has DPC: these tests hold the rules of the specification, not a machine's behaviour.
"""

from __future__ import annotations

import pytest

from dom0_pciback.aer.dpc_reset import contained_reset, dpc_reset_link
from dom0_pciback.pci.regs import EXP_SLTCAP_HPC
from dom0_pciback.pcie.containment import set_busy
from kernel_stub.kernel import MS
from protocol.ers import ErsResult
from protocol.layout_aer import AER, AER_ROOT_CMD_ALL
from protocol.layout_dpc import DPC
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP, EXP_DEVSTA_FED, EXP_LNKSTA_DLLLA
from protocol.topology import BootSpec, FunctionSpec
from tests.dom0_pciback.aer.dpc_rig import DOWN, DPC_NATIVE, RP1, RP3, DpcRig, contained_host
from tests.dom0_pciback.aer.rig import bind_lab

FATAL, SURPRISE_DOWN, NONFATAL = 1 << 18, 1 << 5, 1 << 15
PREFIX = "pcieport 0000:00:01.0: "
NOT_CLEARED = f"<6> {PREFIX}DPC: Data Link Layer Link Active not cleared in 1000 msec"
BUSY = f"<4> {PREFIX}DPC: root port still busy"
RESET_FAILED = f"<4> {PREFIX}AER: subordinate device reset failed"
FAILED, SUCCESS = (f"<6> {PREFIX}AER: device recovery {verdict}" for verdict in ("failed", "successful"))
SOFTWARE = f"<4> {PREFIX}DPC: containment event, status:0x0027: software trigger detected"


def hold_link(rig: DpcRig, bdf: str = RP1) -> None:
    """The port is contained, but Link Status never shows it."""
    function = rig.function(bdf)
    function.config.set_bits(function.exp + EXP.LNKSTA, 2, EXP_LNKSTA_DLLLA)


def reset_link(rig: DpcRig, bdf: str = RP1) -> tuple[int, int]:
    """Answer of ``dpc_reset_link`` and the milliseconds that it took."""
    begin = rig.ms()
    return rig.call(dpc_reset_link(rig.core, rig.dev(bdf))), rig.ms() - begin


def triggered(functions: list[FunctionSpec] | None = None, boot: BootSpec | None = None, bdf: str = RP1) -> DpcRig:
    """A contained port whose thread does not run: its interrupt is off."""
    rig = DpcRig(functions, boot)
    rig.set_dpc(bdf, DPC.CTL, 1)
    rig.trigger(bdf)
    assert rig.contained(bdf)
    return rig


# -- dpc_reset_link --------------------------------------------------------------------------------
def test_the_link_comes_back_after_the_settle_time() -> None:
    rig = triggered()
    assert reset_link(rig) == (ErsResult.RECOVERED, 100)
    assert not rig.contained(RP1)
    assert rig.traced("pci.reset") == [("0000:00:01.0", "dpc", 0)]
    assert rig.log() == []


def test_a_link_that_stays_up_is_told_of_after_1000_ms_and_otherwise_ignored() -> None:
    rig = triggered()
    hold_link(rig)
    assert reset_link(rig) == (ErsResult.RECOVERED, 1000 + 100)
    assert rig.log() == [NOT_CLEARED]


def test_without_link_reporting_the_wait_is_1100_ms() -> None:
    rig = triggered(contained_host(link_reporting=False))
    assert reset_link(rig) == (ErsResult.RECOVERED, 1100 + 100)
    assert rig.log() == []


def test_a_busy_root_port_is_not_released() -> None:
    rig = triggered()
    set_busy(rig.function(RP1), True)
    assert reset_link(rig) == (ErsResult.DISCONNECT, 1010)
    assert rig.log() == [BUSY]
    assert rig.contained(RP1)
    assert rig.traced("pci.reset") == [("0000:00:01.0", "dpc", -16)]


def test_a_root_port_that_stops_being_busy_in_time_is_released() -> None:
    rig = triggered()
    set_busy(rig.function(RP1), True)
    rig.kernel.call_at(rig.clock.time + 995 * MS, lambda: set_busy(rig.function(RP1), False))
    assert reset_link(rig) == (ErsResult.RECOVERED, 1000 + 100)
    assert rig.log() == []


def test_busy_counts_with_root_port_extensions_only() -> None:
    rig = triggered(boot=DPC_NATIVE, bdf=DOWN)
    set_busy(rig.function(DOWN), True)
    assert reset_link(rig, DOWN) == (ErsResult.RECOVERED, 100)


def test_a_device_that_never_answers_again_is_disconnected() -> None:
    functions = contained_host()
    next(spec for spec in functions if spec.bdf == "01:00.0").ready_ms = -1
    rig = triggered(functions)
    answer, ms = reset_link(rig)
    assert answer == ErsResult.DISCONNECT
    assert ms > 60_000
    assert rig.log()[-1] == "<3> pci 0000:01:00.0: not ready 65535ms after DPC; giving up"


def test_a_fast_link_that_does_not_train_is_disconnected() -> None:
    functions = contained_host(link_speed=4, link_dead_after_reset=True)
    rig = triggered(functions)
    assert reset_link(rig) == (ErsResult.DISCONNECT, 1020)
    assert rig.log() == [f"<6> {PREFIX}Data Link Layer Link Active not set in 100 msec"]


def test_10_3_no_lock_is_taken_and_the_root_stays_enabled() -> None:
    rig = triggered()
    dev = rig.dev("01:00.0")

    async def holding() -> int:
        async with dev.device_lock, rig.dev(RP1).device_lock:
            enabled = rig.core.read(rig.dev(RP1), rig.dev(RP1).aer + AER.ROOT_COMMAND, 4)
            assert enabled == AER_ROOT_CMD_ALL
            return await dpc_reset_link(rig.core, rig.dev(RP1))

    assert rig.call(holding()) == ErsResult.RECOVERED


@pytest.mark.parametrize(("contained", "method"), [(True, "dpc"), (False, "bus")])
def test_a_second_reset_is_one_of_the_bus(contained: bool, method: str) -> None:
    rig = triggered()
    if not contained:
        reset_link(rig)
        rig.journal.records.clear()
    assert rig.call(contained_reset(rig.core, rig.dev(RP1))) == ErsResult.RECOVERED
    assert rig.traced("pci.reset") == [("0000:00:01.0", method, 0)]


# -- within a recovery -----------------------------------------------------------------------------
def test_10_3_mmio_enabled_is_called_while_the_link_is_contained() -> None:
    rig = DpcRig()
    lab = bind_lab(rig, "01:00.0", det_frozen=ErsResult.CAN_RECOVER, mmio=ErsResult.RECOVERED, slot=ErsResult.RECOVERED)
    seen: list[tuple[str, int, bool]] = []

    async def look(call: str) -> None:
        seen.append((call, rig.core.read(rig.dev("01:00.0"), HEADER.VENDOR_ID, 2), rig.contained(RP1)))

    lab.on_call = look
    rig.inject("01:00.0", uncor=FATAL)
    assert seen == [
        ("error_detected(FROZEN)", 0xFFFF, True),
        ("mmio_enabled", 0xFFFF, True),
        ("resume", 0x1AF4, False),
    ]
    assert rig.log()[-1] == SUCCESS
    assert rig.core.read(rig.dev("01:00.0"), HEADER.COMMAND, 2) == 0, "nobody restored it (T2)"


def test_a_failed_release_fails_the_recovery() -> None:
    rig = DpcRig()
    lab = bind_lab(rig, "01:00.0", det_frozen=ErsResult.NEED_RESET, slot=ErsResult.RECOVERED)
    set_busy(rig.function(RP1), True)
    rig.trigger(RP1)
    rig.settle()
    assert rig.log() == [SOFTWARE.replace("0x0027", "0x0037"), BUSY, RESET_FAILED, FAILED]
    assert lab.calls == ["error_detected(FROZEN)", "error_detected(PERM_FAILURE)"]
    assert rig.results == [ErsResult.NEED_RESET]


def test_t14_failed_and_yet_recovered() -> None:
    rig = DpcRig()
    bind_lab(rig, "01:00.0", det_frozen=ErsResult.CAN_RECOVER, mmio=ErsResult.RECOVERED)
    set_busy(rig.function(RP1), True)
    rig.trigger(RP1)
    rig.settle()
    assert rig.log()[-1] == FAILED
    assert rig.results == [ErsResult.RECOVERED]


# -- surprise removal ------------------------------------------------------------------------------
def hotplug_rig() -> DpcRig:
    """RP1 is capable of hot-plug."""
    rig = DpcRig()
    function = rig.function(RP1)
    function.config.set_bits(function.exp + EXP.SLTCAP, 4, EXP_SLTCAP_HPC)
    bind_lab(rig, "01:00.0", det_frozen=ErsResult.NEED_RESET, slot=ErsResult.RECOVERED)
    return rig


def test_10_3_surprise_removal_is_cleared_and_nobody_recovers() -> None:
    rig = hotplug_rig()
    function = rig.function(RP1)
    function.config.set_bits(function.dpc + DPC.RP_PIO_STATUS, 4, 1)
    rig.inject(RP1, uncor=SURPRISE_DOWN)
    assert (rig.log(), rig.results, rig.traced("recovery.begin")) == ([], [], [])
    assert not rig.contained(RP1)
    assert (rig.uncor_status(RP1), rig.aer_reg(RP1, AER.COR_STATUS), rig.dpc_reg(RP1, DPC.RP_PIO_STATUS)) == (0, 0, 0)
    assert not rig.core.read(rig.dev(RP1), rig.dev(RP1).exp + EXP.DEVSTA, 2) & EXP_DEVSTA_FED
    assert not rig.core.read(rig.dev(RP1), HEADER.STATUS, 2) & 0xF900


def test_10_3_surprise_down_of_a_port_without_hotplug_is_an_error() -> None:
    rig = DpcRig()
    bind_lab(rig, "01:00.0", det_frozen=ErsResult.NEED_RESET, slot=ErsResult.RECOVERED)
    rig.inject(RP1, uncor=SURPRISE_DOWN)
    assert any("SDES" in line for line in rig.log())
    assert rig.results == [ErsResult.RECOVERED]


def test_10_3_another_error_of_a_hotplug_port_is_an_error() -> None:
    rig = hotplug_rig()
    rig.inject(RP1, uncor=NONFATAL)
    assert rig.results == [ErsResult.RECOVERED]


@pytest.mark.parametrize(("obstacle", "line"), [("link", NOT_CLEARED), ("busy", BUSY)])
def test_10_3_a_removal_whose_link_or_root_port_does_not_rest_is_not_released(obstacle: str, line: str) -> None:
    rig = hotplug_rig()
    if obstacle == "busy":
        set_busy(rig.function(RP1), True)
    rig.hierarchy.inject(rig.dev(RP1).sbdf, 0, SURPRISE_DOWN)
    if obstacle == "link":
        hold_link(rig)
    rig.settle()
    assert rig.log() == [line]
    assert rig.contained(RP1)
    assert rig.uncor_status(RP1) == SURPRISE_DOWN


def test_other_ports_are_not_disturbed() -> None:
    rig = hotplug_rig()
    rig.inject(RP1, uncor=SURPRISE_DOWN)
    assert not rig.contained(RP3)
