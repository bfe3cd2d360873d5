"""Capabilities with virtual fields, MSI and MSI-X flags (xen-pci.md 6.5 and 6.6)."""

from __future__ import annotations

import pytest

from dom0_pciback.pciback.conf_capability import InterruptType, active_interrupts, find_capabilities
from tests.dom0_pciback.pciback.conf_fake import COMMAND, MSI, MSIX, PCIE, PM, VPD, FakeDevice, Rig

DENIED = -3
ENABLE = {MSI: 0x0001, MSIX: 0x8000}


# -- the walk --------------------------------------------------------------------------------------
def test_capabilities_are_found_at_their_offsets() -> None:
    assert find_capabilities(FakeDevice()) == {0x03: VPD, 0x01: PM, 0x05: MSI, 0x11: MSIX, 0x10: PCIE}
    assert find_capabilities(FakeDevice(capabilities=())) == {}


def test_a_looping_or_dead_capability_list_ends() -> None:
    looping = FakeDevice()
    looping.poke(PCIE, 2, VPD << 8 | 0x10)
    assert len(find_capabilities(looping)) == 5
    dead = FakeDevice()
    dead.memory[:256] = b"\xff" * 256
    assert find_capabilities(dead) == {}


# -- 6.5 -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("base", [VPD, PM, MSI, MSIX])
def test_6_5_id_and_next_are_read_only(base: int) -> None:
    rig = Rig(permissive=True)
    before = rig.value(base, 2)
    assert rig.write(base, 2, 0) == 0
    assert rig.value(base, 2) == before
    assert rig.hw.log == []


def test_6_5_vpd() -> None:
    rig = Rig()
    assert rig.write(VPD + 2, 2, 0x0010) == 0
    assert rig.hw.peek(VPD + 2, 2) == 0x0010
    assert rig.write(VPD + 2, 2, 0x8010) == DENIED
    assert rig.write(VPD + 4, 4, 0x1234) == 0
    assert rig.hw.log == [("write", VPD + 2, 2, 0x0010)]


def test_6_5_pm_capabilities_have_no_pme() -> None:
    rig = Rig()
    assert rig.value(PM + 2, 2) == 0x0003
    assert rig.write(PM + 2, 2, 0) == 0
    assert rig.hw.log == []


def test_6_5_pm_control_writes_pme_status_and_data_select_only() -> None:
    rig = Rig()
    rig.hw.poke(PM + 4, 2, 0x0008)
    assert rig.write(PM + 4, 2, 0xFFFF & ~0x0003) == 0
    assert rig.hw.log == [("write", PM + 4, 2, 0x9E08), ("power", 0)]


def test_6_5_power_state_goes_through_dom0() -> None:
    rig = Rig()
    assert rig.write(PM + 4, 2, 0x0003) == 0
    assert ("power", 3) in rig.hw.log
    assert rig.hw.peek(PM + 4, 2) == 0
    rig.hw.power_error = -5
    assert rig.write(PM + 4, 2, 0x0003) == DENIED


@pytest.mark.parametrize("offset", [PM + 6, PM + 7])
def test_6_5_pm_bridge_extensions_and_data_are_ignored(offset: int) -> None:
    rig = Rig(permissive=True)
    rig.hw.poke(offset, 1, 0x42)
    assert rig.write(offset, 1, 0) == 0
    assert rig.value(offset, 1) == 0x42


def test_6_5_pme_enable_is_cleared_at_seizure_and_status_is_not() -> None:
    class Status(FakeDevice):
        def write(self, offset: int, size: int, value: int) -> None:
            kept = self.peek(offset, size) & 0x8000 & ~value if offset == PM + 4 else 0
            super().write(offset, size, value & 0x7FFF | kept)

    device = Status()
    device.poke(PM + 4, 2, 0x8108)
    Rig(device)
    assert device.peek(PM + 4, 2) == 0x8008


# -- 6.6 -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("base", [MSI, MSIX])
def test_6_6_1_permissive_writes(base: int) -> None:
    rig = Rig(permissive=True)
    assert rig.write(base + 2, 2, ENABLE[base] | 0x0070) == 0
    assert rig.hw.peek(base + 2, 2) == ENABLE[base] | 0x0070


@pytest.mark.parametrize("base", [MSI, MSIX])
def test_6_6_2_unchanged_is_success(base: int) -> None:
    rig = Rig()
    assert rig.write(base + 2, 2, rig.value(base + 2, 2)) == 0
    assert rig.hw.log == []


@pytest.mark.parametrize("base", [MSI, MSIX])
def test_6_6_3_denied_without_interrupt_control(base: int) -> None:
    rig = Rig()
    assert rig.write(base + 2, 2, rig.value(base + 2, 2) | ENABLE[base]) == DENIED
    assert rig.hw.log == []


@pytest.mark.parametrize(
    ("base", "bits", "err"), [(MSI, 0x0001, 0), (MSI, 0x0011, DENIED), (MSIX, 0xC000, 0), (MSIX, 0xC001, DENIED)]
)
def test_6_6_3_only_the_enable_bits_may_change(base: int, bits: int, err: int) -> None:
    rig = Rig()
    rig.space.allow_interrupt_control = True
    assert rig.write(base + 2, 2, rig.value(base + 2, 2) ^ bits) == err


@pytest.mark.parametrize(
    ("command", "msi", "msix", "base", "err"),
    [
        (0x0503, 0, 0, MSI, 0),  # nothing active
        (0x0103, 0, 0, MSIX, 0),  # INTx does not stand in the way
        (0x0503, 1, 0, MSIX, DENIED),
        (0x0503, 0, 0x8000, MSI, DENIED),
    ],
)
def test_6_6_4_msi_and_msix_exclude_each_other(command: int, msi: int, msix: int, base: int, err: int) -> None:
    rig = Rig()
    rig.space.allow_interrupt_control = True
    rig.hw.poke(COMMAND, 2, command)
    rig.hw.poke(MSI + 2, 2, msi)
    rig.hw.poke(MSIX + 2, 2, msix)
    assert rig.write(base + 2, 2, ENABLE[base]) == err


def test_6_6_4_disabling_and_masking_need_no_free_type() -> None:
    rig = Rig()
    rig.space.allow_interrupt_control = True
    rig.hw.poke(MSIX + 2, 2, 0x8000)
    assert rig.write(MSIX + 2, 2, 0xC000) == 0
    assert rig.write(MSIX + 2, 2, 0x0000) == 0


@pytest.mark.parametrize(
    ("command", "msi", "msix", "active"),
    [
        (0x0000, 0, 0, InterruptType.INTX),
        (0x0400, 0, 0, InterruptType.NONE),
        (0x0000, 1, 0, InterruptType.MSI),
        (0x0000, 0, 0x8000, InterruptType.MSIX),
    ],
)
def test_6_6_active_type_is_read_from_the_registers(command: int, msi: int, msix: int, active: InterruptType) -> None:
    rig = Rig()
    rig.hw.poke(COMMAND, 2, command)
    rig.hw.poke(MSI + 2, 2, msi)
    rig.hw.poke(MSIX + 2, 2, msix)
    assert active_interrupts(rig.space) == active
