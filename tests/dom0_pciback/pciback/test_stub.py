"""dom0_pciback.pciback.stub: a seized device by itself (4.1, 4.7, XSA-157)."""

from __future__ import annotations

import pytest

from dom0_pciback.pciback.stub import FIRST_GSI, FIRST_PIRQ, WARN_BURST, read_resources
from protocol.layout_header import COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY, HEADER
from tests.dom0_pciback.pciback.pair import CARD, CARD_1, Pair


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_4_1_each_device_has_its_own_interrupts(pair: Pair) -> None:
    assert [psdev.gsi for psdev in pair.slots.values()] == [FIRST_GSI, FIRST_GSI + 1]
    assert [psdev.pirq for psdev in pair.slots.values()] == [FIRST_PIRQ, FIRST_PIRQ + 1]
    assert pair.psdev.domid == 7


def test_sizing_the_bars_leaves_them_as_they_were(pair: Pair) -> None:
    dev = pair.psdev.dev
    before = [pair.core.read(dev, offset, 4) for offset in range(0, 0x40, 4)]
    found = read_resources(pair.core, dev)
    assert [pair.core.read(dev, offset, 4) for offset in range(0, 0x40, 4)] == before
    sizes = [resource[1] for resource in found]
    assert any(sizes)
    assert all(size & (size - 1) == 0 for size in sizes), "a BAR is a power of two"


def test_command_bits_through_the_host(pair: Pair) -> None:
    access = pair.psdev.access
    assert access.enable_device() == 0
    assert access.read(HEADER.COMMAND, 2) & (COMMAND_IO | COMMAND_MEMORY) == COMMAND_IO | COMMAND_MEMORY
    access.set_master(True)
    assert access.read(HEADER.COMMAND, 2) & COMMAND_MASTER
    access.disable_device()
    assert not access.read(HEADER.COMMAND, 2) & COMMAND_MASTER
    assert access.read(HEADER.COMMAND, 2) & COMMAND_MEMORY, "BE-22: decoding stays on"


def test_msi_on_and_off(pair: Pair) -> None:
    psdev = pair.psdev
    assert not psdev.msi_enabled
    psdev.disable_msi()
    assert psdev.enable_msi() == 0
    assert psdev.msi_enabled
    assert psdev.msi_image
    psdev.disable_msi()
    assert not psdev.msi_enabled
    assert not psdev.msi_image


def test_a_device_without_msi_says_so(pair: Pair) -> None:
    pair.psdev.dev.msi = 0
    assert pair.psdev.enable_msi() == 6
    assert not pair.psdev.msi_enabled


def test_xsa_157_warnings_have_an_end_and_a_new_guest_has_its_own(pair: Pair) -> None:
    psdev = pair.psdev
    assert [psdev.may_warn() for _ in range(WARN_BURST + 3)] == [True] * WARN_BURST + [False] * 3
    psdev.forget_guest(keep_permissive=False)
    assert psdev.may_warn()


def test_4_7_what_a_guest_did_is_forgotten(pair: Pair) -> None:
    psdev = pair.psdev
    psdev.detaching = True
    psdev.conf.permissive = True
    psdev.forget_guest(keep_permissive=False)
    assert psdev.pdev is None
    assert psdev.domid is None
    assert not psdev.detaching
    assert not psdev.conf.permissive


def test_be_20_d24_permissive_may_be_kept(pair: Pair) -> None:
    pair.psdev.conf.permissive = True
    pair.psdev.forget_guest(keep_permissive=True)
    assert pair.psdev.conf.permissive


def test_4_7_the_state_of_seizure_comes_back(pair: Pair) -> None:
    psdev = pair.psdev
    before = psdev.access.read(HEADER.COMMAND, 2)
    psdev.access.write(HEADER.COMMAND, 2, before ^ (COMMAND_MEMORY | COMMAND_MASTER))
    psdev.restore_seized()
    assert psdev.access.read(HEADER.COMMAND, 2) == before
    assert pair.slots[CARD_1].access.read(HEADER.VENDOR_ID, 2) == 0x1AF4
    assert pair.slots[CARD] is psdev
