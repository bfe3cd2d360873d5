"""Enumeration order, values after boot, requests that reach nobody, injection's border."""

import pytest

from dom0_pciback.pcie.hierarchy import Hierarchy
from dom0_pciback.pcie.profile import QEMU_11_1, SPEC
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE0, TYPE1
from protocol.layout_msi import MSI
from protocol.layout_pcie import EXP
from protocol.registers import Reg
from protocol.topology import FunctionSpec, HostSpec
from tests.dom0_pciback.pcie.rig import (
    CARD,
    DISK,
    DOWN,
    DOWN2,
    NIC,
    NIC2008,
    ORDER,
    ROOT,
    ROOT2,
    UP,
    FakeClock,
    Rig,
    specs,
)

UR = 1 << 20
MISSING = Sbdf.parse("06:00.1")


def test_enumeration_is_depth_first_bridge_before_what_is_below(rig: Rig) -> None:
    assert [str(sbdf) for sbdf in rig.hierarchy.functions] == ORDER
    assert [str(child.sbdf) for child in rig.function(UP).children] == [DOWN, DOWN2]
    assert rig.function(NIC).parent is rig.function(DOWN)


@pytest.mark.parametrize(
    "extra", [FunctionSpec("0:09:00.0", "endpoint", "00:1e.0"), FunctionSpec(NIC, "endpoint", DOWN)]
)
def test_orphan_or_double_function_is_refused(extra: FunctionSpec) -> None:
    with pytest.raises(ValueError, match="twice, or one whose parent is missing"):
        Hierarchy(HostSpec("bad", [*specs(), extra], []), FakeClock())


@pytest.mark.parametrize(
    ("bdf", "reg", "value"),
    [
        (ROOT, HEADER.COMMAND, 0x0103),
        (UP, HEADER.COMMAND, 0x0103),
        (NIC, HEADER.COMMAND, 0x0103),
        (NIC, HEADER.STATUS, 0x0010),
        (NIC, HEADER.CLASS_DEVICE, 0x0200),
        (DISK, HEADER.CLASS_DEVICE, 0x0100),
        (CARD, HEADER.CLASS_DEVICE, 0x00FF),
        (UP, HEADER.CLASS_DEVICE, 0x0604),
        (NIC, HEADER.HEADER_TYPE, 0x80),
        (CARD, HEADER.HEADER_TYPE, 0x80),
        (NIC2008, HEADER.HEADER_TYPE, 0x00),
        (UP, HEADER.HEADER_TYPE, 0x01),
        (UP, TYPE1.PRIMARY_BUS, 1),
        (UP, TYPE1.SECONDARY_BUS, 2),
        (UP, TYPE1.SUBORDINATE_BUS, 5),
        (UP, TYPE1.BRIDGE_CONTROL, 0x0002),
        (NIC, EXP.FLAGS, 0x0002),
        (ROOT, EXP.FLAGS, 0x0142),
        (UP, EXP.FLAGS, 0x0052),
        (DOWN, EXP.FLAGS, 0x0162),
        (NIC, EXP.DEVCTL, 0x000F),
        (DISK, EXP.DEVCTL, 0x0000),  # 1.7: no AER, no Device Control change
        (NIC, EXP.DEVCAP, 0x10008000),
        (NIC2008, EXP.DEVCAP, 0x10000000),
        (DISK, EXP.DEVCAP, 0x00008000),
        (ROOT, EXP.LNKSTA, 0x2011),
        (UP, EXP.LNKSTA, 0x0011),
        (NIC, AER.UNCOR_STATUS, 0),
        (NIC, AER.UNCOR_MASK, 0x02400000),
        (NIC, AER.UNCOR_SEVER, 0x00462030),
        (NIC, AER.COR_MASK, 0xE000),
        (NIC, AER.CAP, 0x0A0),
        (ROOT, AER.ROOT_STATUS, 0),
    ],
)
def test_value_after_boot(rig: Rig, bdf: str, reg: Reg, value: int) -> None:
    assert rig.get(bdf, reg) == value


def test_root_command_is_clear_until_the_driver_sets_it() -> None:
    hierarchy = Hierarchy(HostSpec("rig", specs(), []), FakeClock())
    root = hierarchy.functions[Sbdf.parse(ROOT)]
    assert hierarchy.read(root.sbdf, root.aer + AER.ROOT_COMMAND, 4) == 0


def test_capability_offsets_and_absent_aer(rig: Rig) -> None:
    disk, nic = rig.function(DISK), rig.function(NIC)
    assert (disk.aer, nic.aer) == (0, 0x100)
    assert rig.hierarchy.read(disk.sbdf, 0x100, 4) == 0
    assert [nic.config.read(base, 1) for base in (nic.pm, nic.msi, nic.exp)] == [1, 5, 0x10]


@pytest.mark.parametrize(("bdf", "field"), [(NIC, 2), (DISK, 2), (CARD, 0), (ROOT, 0)])
def test_msi_vectors_of_the_model(rig: Rig, bdf: str, field: int) -> None:
    function = rig.function(bdf)
    assert function.config.read(function.msi + MSI.FLAGS, 2) >> 1 & 7 == field


def test_windows_of_bridges_cover_the_bars_below_and_nothing_else(rig: Rig) -> None:
    for bdf in (NIC, CARD, DISK, NIC2008):
        address = rig.function(bdf).bar_address(0)
        port = rig.function(bdf).parent
        while port is not None:
            base, limit = (rig.get(str(port.sbdf), reg) << 16 for reg in (TYPE1.MEMORY_BASE, TYPE1.MEMORY_LIMIT))
            assert base <= address < address + 0x10000 <= limit + 0x100000
            port = port.parent
    starts = [rig.function(bdf).bar_address(0) for bdf in (NIC, CARD, DISK, NIC2008)]
    assert len(set(starts)) == 4
    assert rig.get(DOWN, TYPE1.MEMORY_LIMIT) < rig.get(DOWN2, TYPE1.MEMORY_BASE) < rig.get(ROOT2, TYPE1.MEMORY_BASE)


def test_bar_sizing_finds_64_kib(rig: Rig) -> None:
    rig.set(NIC, TYPE0.BASE_ADDRESS_0, 0xFFFFFFFF)
    assert rig.get(NIC, TYPE0.BASE_ADDRESS_0) == 0xFFFF0000


# -- requests that nobody answers ----------------------------------------------------------------
@pytest.mark.parametrize(("size", "ones"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFFFFFF)])
def test_missing_function_reads_all_ones(rig: Rig, size: int, ones: int) -> None:
    assert rig.hierarchy.read(MISSING, 0, size) == ones


def test_misaligned_access_is_refused_for_missing_and_unreachable_functions(rig: Rig) -> None:
    rig.port(DOWN).link.freeze()
    for sbdf in (MISSING, Sbdf.parse(NIC)):
        with pytest.raises(ValueError, match="not aligned"):
            rig.hierarchy.read(sbdf, 1, 4)
        with pytest.raises(ValueError, match="not aligned"):
            rig.hierarchy.write(sbdf, 1, 4, 0)


def test_2008_device_reports_missing_function_as_nonfatal(rig: Rig) -> None:
    rig.hierarchy.read(MISSING, 0x08, 4)
    assert rig.get(NIC2008, AER.UNCOR_STATUS) == UR
    assert rig.get(NIC2008, EXP.DEVSTA) == 0x000A
    assert rig.root_state(ROOT2) == (0x24, 0x0600, 0)
    assert rig.interrupts == [ROOT2]


def test_role_based_device_reports_missing_function_as_advisory(rig: Rig) -> None:
    rig.hierarchy.read(Sbdf.parse("03:00.5"), 0, 4)
    assert (rig.get(NIC, AER.COR_STATUS), rig.get(NIC, AER.UNCOR_STATUS)) == (0x2000, 0)
    assert rig.get(NIC, EXP.DEVSTA) == 0x0009
    assert rig.root_state() == (0, 0, 0)


@pytest.mark.parametrize(
    ("write", "offset", "size", "header"),
    [
        (False, 0x08, 4, [0x04000001, 0x0000000F, 0x06010008, 0]),
        (False, 0x0E, 2, [0x04000001, 0x0000000C, 0x0601000C, 0]),
        (False, 0x104, 1, [0x04000001, 0x00000001, 0x06010104, 0]),
        (True, 0x3D, 1, [0x44000001, 0x00000002, 0x0601003C, 0]),
    ],
)
def test_header_of_the_rejected_request(rig: Rig, write: bool, offset: int, size: int, header: list[int]) -> None:
    if write:
        rig.hierarchy.write(MISSING, offset, size, 0)
    else:
        rig.hierarchy.read(MISSING, offset, size)
    log = [rig.get(NIC2008, reg) for reg in (AER.HEADER_LOG, AER.HEADER_LOG_1, AER.HEADER_LOG_2, AER.HEADER_LOG_3)]
    assert log == header


def _devsta(rig: Rig) -> dict[str, int]:
    return {bdf: status for bdf in ORDER if (status := rig.get(bdf, EXP.DEVSTA))}


@pytest.mark.parametrize(
    ("missing", "receiver"),
    [
        ("06:01.0", {NIC2008: 0x000A}),  # another device number: device 0 is the only one on the link
        ("03:00.7", {NIC: 0x0009}),
        ("02:00.3", {DOWN: 0x0009}),  # inner bus: the device that has the number
        ("02:07.0", {UP: 0x0009}),  # inner bus, no such device: the upstream port
        ("01:00.1", {UP: 0x0009}),
        ("00:1f.0", {}),  # root bus
        ("77:00.0", {}),  # no such bus
    ],
)
def test_who_records_the_missing_function(rig: Rig, missing: str, receiver: dict[str, int]) -> None:
    rig.hierarchy.read(Sbdf.parse(missing), 0, 4)
    assert _devsta(rig) == receiver


def test_type_1_header_when_the_upstream_port_rejects(rig: Rig) -> None:
    rig.set(UP, AER.COR_MASK, 0)
    rig.hierarchy.read(Sbdf.parse("02:07.0"), 0, 4)
    assert rig.get(UP, AER.HEADER_LOG) == 0x05000001


def test_missing_function_below_a_broken_link_is_recorded_by_nobody(rig: Rig) -> None:
    rig.port(ROOT2).link.freeze()
    rig.hierarchy.read(MISSING, 0, 4)
    rig.bus_reset(ROOT2)
    rig.clock.time += 100_000_000
    assert rig.get(NIC2008, EXP.DEVSTA) == 0


def test_missing_function_below_an_empty_slot_is_recorded_by_nobody() -> None:
    rig = Rig([FunctionSpec(ROOT, "root_port", "", 1, 1)])
    assert rig.hierarchy.read(Sbdf.parse("01:00.0"), 0, 4) == 0xFFFFFFFF
    assert rig.get(ROOT, EXP.DEVSTA) == 0


def test_qemu_ignores_missing_functions() -> None:
    rig = Rig(profile=QEMU_11_1)
    rig.hierarchy.read(MISSING, 0, 4)
    assert _devsta(rig) == {}
    assert SPEC.missing_function_ur


# -- routing by bus numbers ------------------------------------------------------------------------
def test_cleared_bus_numbers_hide_everything_below_until_restored(rig: Rig) -> None:
    hierarchy, up = rig.hierarchy, Sbdf.parse(UP)
    numbers = hierarchy.read(up, TYPE1.PRIMARY_BUS, 4)
    hierarchy.write(up, TYPE1.PRIMARY_BUS, 4, 0)
    assert {bdf for bdf in ORDER if rig.get(bdf, HEADER.VENDOR_ID) == 0xFFFF} == {DOWN, NIC, CARD, DOWN2, DISK}
    hierarchy.write(up, TYPE1.PRIMARY_BUS, 4, numbers)
    assert rig.get(DISK, HEADER.VENDOR_ID) == 0x1AF4


def test_subordinate_bus_limits_what_passes(rig: Rig) -> None:
    rig.set(ROOT, TYPE1.SUBORDINATE_BUS, 3)
    assert {bdf for bdf in ORDER if rig.get(bdf, HEADER.VENDOR_ID) == 0xFFFF} == {DISK}


def test_write_to_unreachable_function_is_lost(rig: Rig) -> None:
    rig.port(DOWN).link.freeze()
    rig.set(NIC, HEADER.COMMAND, 0x0007)
    assert rig.function(NIC).config.peek(HEADER.COMMAND, 2) == 0x0103


# -- injection's border ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("bdf", "cor", "uncor", "header", "text"),
    [
        ("0000:09:00.0", 1, 0, (0, 0, 0, 0), "0000:09:00.0: there is no such function"),
        (NIC, 0, 0, (0, 0, 0, 0), "no error bit is set"),
        (NIC, 0x2, 0, (0, 0, 0, 0), "reserved error bits: correctable 0x2"),
        (NIC, 0, 0x8, (0, 0, 0, 0), "uncorrectable 0x8"),
        (NIC, 0, 0x10, (0, 0, 0, 1 << 32), "four dwords"),
    ],
)
def test_inject_refuses(rig: Rig, bdf: str, cor: int, uncor: int, header: tuple[int, int, int, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        rig.inject(bdf, cor, uncor, header)
    assert rig.interrupts == []
