"""FLR, Secondary Bus Reset, links: linux-aer.md 1.2 and 4.8, errata 4.4, C6, C7."""

import pytest

from dom0_pciback.pcie.link import LinkState
from dom0_pciback.pcie.profile import QEMU_11_1
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE0, TYPE1
from protocol.layout_msi import MSI
from protocol.layout_pcie import EXP
from protocol.registers import Reg
from protocol.topology import FunctionSpec
from tests.dom0_pciback.pcie.rig import CARD, DISK, DOWN, DOWN2, MS, NIC, NIC2008, ORDER, ROOT, ROOT2, UP, Rig

FLR, BUS_RESET = 0x8000, 0x0040
COMP_ABORT, SURPRISE_DOWN = 1 << 15, 1 << 5


def silent(rig: Rig) -> set[str]:
    """The functions that read all ones now."""
    return {bdf for bdf in ORDER if rig.get(bdf, HEADER.VENDOR_ID) == 0xFFFF}


def dirty(rig: Rig, bdf: str) -> None:
    """Leave a trace in every sort of register."""
    rig.set(bdf, AER.UNCOR_SEVER, 0)
    rig.set(bdf, AER.UNCOR_MASK, 0x1000)
    rig.set(bdf, AER.COR_MASK, 0)
    rig.set(bdf, HEADER.COMMAND, 0x0507)
    rig.inject(bdf, 1 << 6, COMP_ABORT, (1, 2, 3, 4))
    function = rig.function(bdf)
    rig.hierarchy.write(function.sbdf, function.msi + MSI.FLAGS, 2, 1)


STICKY = [
    AER.UNCOR_STATUS,
    AER.UNCOR_MASK,
    AER.UNCOR_SEVER,
    AER.COR_STATUS,
    AER.COR_MASK,
    AER.CAP,
    AER.HEADER_LOG,
    AER.HEADER_LOG_3,
    EXP.DEVSTA,
]


@pytest.mark.parametrize("method", ["flr", "bus"])
def test_reset_keeps_sticky_registers_and_clears_the_others(rig: Rig, method: str) -> None:
    dirty(rig, NIC)
    before = [rig.get(NIC, reg) for reg in STICKY]
    assert all(before[:1] + before[3:4] + before[6:])
    if method == "flr":
        rig.set(NIC, EXP.DEVCTL, FLR)
    else:
        rig.bus_reset(DOWN)
    rig.clock.time += 100 * MS
    assert [rig.get(NIC, reg) for reg in STICKY] == before
    assert rig.get(NIC, HEADER.COMMAND) == 0
    assert rig.get(NIC, HEADER.STATUS) == 0x0010  # bit 14 does not survive (C7)
    assert rig.get(NIC, TYPE0.BASE_ADDRESS_0) == 0
    assert rig.get(NIC, EXP.DEVCTL) == 0
    assert rig.hierarchy.read(Sbdf.parse(NIC), rig.function(NIC).msi + MSI.FLAGS, 2) & 1 == 0
    assert rig.get(NIC, HEADER.VENDOR_ID) == 0x1AF4


def test_log_stays_taken_over_a_reset(rig: Rig) -> None:
    rig.inject(NIC, uncor=COMP_ABORT)
    rig.set(NIC, EXP.DEVCTL, FLR)
    rig.clock.time += 100 * MS
    rig.inject(NIC, uncor=1 << 12)
    assert rig.get(NIC, AER.CAP) & 0x1F == 15


# -- FLR -----------------------------------------------------------------------------------------
def test_flr_hits_one_function_and_takes_ready_ms(rig: Rig) -> None:
    rig.set(NIC, EXP.DEVCTL, FLR | 0xF)
    assert (silent(rig), rig.resets) == ({NIC}, [NIC])
    rig.clock.time += 100 * MS - 1
    assert silent(rig) == {NIC}
    rig.clock.time += 1
    assert silent(rig) == set()


@pytest.mark.parametrize("bdf", [DISK, UP, ROOT])
def test_flr_bit_does_nothing_without_the_capability(rig: Rig, bdf: str) -> None:
    rig.set(bdf, EXP.DEVCTL, FLR | 0xF)
    assert (silent(rig), rig.resets, rig.get(bdf, EXP.DEVCTL)) == (set(), [], 0xF)


def test_function_in_reset_detects_nothing(rig: Rig) -> None:
    rig.set(NIC, EXP.DEVCTL, FLR)
    rig.inject(NIC, 1 << 6, COMP_ABORT)
    rig.clock.time += 100 * MS
    assert (rig.get(NIC, EXP.DEVSTA), rig.get(NIC, AER.COR_STATUS)) == (0, 0)


@pytest.mark.parametrize("method", ["flr", "bus"])
def test_ready_minus_one_never_comes_back(method: str) -> None:
    rig = Rig([FunctionSpec(ROOT, "root_port", "", 1, 1), FunctionSpec(UP, "endpoint", ROOT, ready_ms=-1)])
    assert rig.get(UP, HEADER.VENDOR_ID) == 0x1AF4
    if method == "flr":
        rig.set(UP, EXP.DEVCTL, FLR)
    else:
        rig.bus_reset(ROOT)
    rig.clock.time += 1_000_000_000 * MS
    assert rig.get(UP, HEADER.VENDOR_ID) == 0xFFFF


# -- Secondary Bus Reset -------------------------------------------------------------------------
def test_bus_reset_holds_everything_below_and_the_link_down(rig: Rig) -> None:
    rig.set(UP, TYPE1.BRIDGE_CONTROL, BUS_RESET | 2)
    assert silent(rig) == {DOWN, NIC, CARD, DOWN2, DISK}
    assert rig.resets == [DOWN, NIC, CARD, DOWN2, DISK]
    rig.clock.time += 10_000 * MS
    assert silent(rig) == {DOWN, NIC, CARD, DOWN2, DISK}


def test_bus_reset_shows_in_link_status_of_the_port(rig: Rig) -> None:
    rig.set(ROOT2, TYPE1.BRIDGE_CONTROL, BUS_RESET | 2)
    assert rig.get(ROOT2, EXP.LNKSTA) == 0x0011
    rig.set(ROOT2, TYPE1.BRIDGE_CONTROL, 2)
    assert rig.get(ROOT2, EXP.LNKSTA) == 0x2011


def test_setting_the_bit_twice_resets_once(rig: Rig) -> None:
    rig.set(ROOT2, TYPE1.BRIDGE_CONTROL, BUS_RESET | 2)
    rig.set(ROOT2, TYPE1.BRIDGE_CONTROL, BUS_RESET)
    assert rig.resets == [NIC2008]


def test_each_function_wakes_after_its_own_time() -> None:
    rig = Rig(
        [
            FunctionSpec(ROOT, "root_port", "", 1, 1),
            FunctionSpec("0000:01:00.0", "endpoint", ROOT, ready_ms=10),
            FunctionSpec("0000:01:00.1", "endpoint", ROOT, ready_ms=30),
        ]
    )
    rig.bus_reset(ROOT)
    rig.clock.time += 10 * MS
    vendors = [rig.get(bdf, HEADER.VENDOR_ID) for bdf in ("0000:01:00.0", "0000:01:00.1")]
    assert vendors == [0x1AF4, 0xFFFF]


def test_switch_below_a_reset_has_lost_its_bus_numbers(rig: Rig) -> None:
    numbers = rig.hierarchy.read(Sbdf.parse(UP), TYPE1.PRIMARY_BUS, 4)
    rig.set(UP, TYPE1.SEC_STATUS, 0)
    rig.inject(NIC, uncor=COMP_ABORT)
    rig.bus_reset(ROOT)
    rig.clock.time += 100 * MS
    assert silent(rig) == {DOWN, NIC, CARD, DOWN2, DISK}
    assert (rig.get(UP, TYPE1.BRIDGE_CONTROL), rig.get(UP, HEADER.COMMAND)) == (0, 0)
    assert rig.get(UP, TYPE1.SEC_STATUS) == 0x4000  # survives (C7)
    rig.hierarchy.write(Sbdf.parse(UP), TYPE1.PRIMARY_BUS, 4, numbers)
    assert silent(rig) == {NIC, CARD, DISK}


def test_port_that_resets_is_not_reset_itself(rig: Rig) -> None:
    rig.bus_reset(DOWN)
    assert (rig.get(DOWN, HEADER.COMMAND), rig.get(DOWN, EXP.DEVCTL)) == (0x0103, 0xF)
    assert rig.resets == [NIC, CARD]


@pytest.mark.parametrize(("reg", "value"), [(EXP.LNKSTA, 0x2011), (EXP.SLTCTL, 0x03C0)])
def test_link_status_and_slot_control_of_a_port_survive(rig: Rig, reg: Reg, value: int) -> None:
    rig.bus_reset(UP)
    rig.clock.time += 100 * MS
    assert rig.get(DOWN, reg) == value


def test_reset_function_sends_nothing_until_it_is_programmed_t25(rig: Rig) -> None:
    rig.bus_reset(ROOT2)
    rig.clock.time += 100 * MS
    rig.inject(NIC2008, uncor=COMP_ABORT)
    assert (rig.get(NIC2008, AER.UNCOR_STATUS), rig.root_state(ROOT2)) == (COMP_ABORT, (0, 0, 0))


# -- links ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["port", "device"])
def test_link_dead_after_reset_stays_down(where: str) -> None:
    rig = Rig(
        [
            FunctionSpec(ROOT, "root_port", "", 1, 1, link_dead_after_reset=where == "port"),
            FunctionSpec(UP, "endpoint", ROOT, link_dead_after_reset=where == "device"),
        ]
    )
    assert rig.get(ROOT, EXP.LNKSTA) == 0x2011
    rig.bus_reset(ROOT)
    rig.clock.time += 1000 * MS
    assert (rig.get(ROOT, EXP.LNKSTA), rig.get(UP, HEADER.VENDOR_ID)) == (0x0011, 0xFFFF)
    assert rig.port(ROOT).link.state is LinkState.DEAD
    assert rig.resets == [UP]


def test_frozen_link_reads_all_ones_until_the_bus_reset(rig: Rig) -> None:
    rig.port(DOWN).link.freeze()
    assert (silent(rig), rig.get(DOWN, EXP.LNKSTA)) == ({NIC, CARD}, 0x0011)
    rig.bus_reset(DOWN)
    rig.clock.time += 100 * MS
    assert (silent(rig), rig.get(DOWN, EXP.LNKSTA)) == (set(), 0x2011)


def test_surprise_down_of_a_port_takes_its_link_down_and_is_reported(rig: Rig) -> None:
    rig.inject(DOWN, uncor=SURPRISE_DOWN)
    assert silent(rig) == {NIC, CARD}
    assert rig.root_state() == (0x54, 0x0200, 0)


def test_other_fatal_errors_freeze_nothing(rig: Rig) -> None:
    rig.inject(DOWN, uncor=1 << 4)
    rig.inject(NIC, uncor=SURPRISE_DOWN)
    assert silent(rig) == set()


def test_qemu_surprise_down_freezes_nothing() -> None:
    rig = Rig(profile=QEMU_11_1)
    rig.inject(DOWN, uncor=SURPRISE_DOWN)
    assert silent(rig) == set()


# -- memory and bus master -------------------------------------------------------------------------
def test_memory_is_decoded_only_when_everything_is_set(rig: Rig) -> None:
    nic = rig.function(NIC)
    assert nic.memory_enabled(0)
    assert not nic.memory_enabled(1)
    rig.set(NIC, HEADER.COMMAND, 0x0101)
    assert not nic.memory_enabled(0)
    rig.set(NIC, HEADER.COMMAND, 0x0103)
    rig.set(NIC, TYPE0.BASE_ADDRESS_0, 0)
    assert not nic.memory_enabled(0)
    rig.set(NIC, TYPE0.BASE_ADDRESS_0, 0xC0000000)
    rig.hierarchy.write(nic.sbdf, nic.pm + 4, 2, 3)
    assert not nic.memory_enabled(0)  # D3hot
    rig.hierarchy.write(nic.sbdf, nic.pm + 4, 2, 0)
    rig.port(DOWN).link.freeze()
    assert not nic.memory_enabled(0)


def test_memory_is_off_after_a_reset(rig: Rig) -> None:
    rig.bus_reset(DOWN)
    rig.clock.time += 100 * MS
    assert not rig.function(NIC).memory_enabled(0)
