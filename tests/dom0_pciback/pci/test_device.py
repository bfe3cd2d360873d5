"""Channel state (linux-aer.md 4.6), enumeration (1.7), binding."""

from __future__ import annotations

from itertools import product

from dom0_pciback.pci.device import IO_STATE, PciDev, pci_dev_set_disconnected, pci_dev_set_io_state
from dom0_pciback.pci.driver import PciDriver
from protocol.ers import ChannelState
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP
from protocol.topology import FunctionSpec
from tests.dom0_pciback.aer.rig import Rig

NORMAL, FROZEN, PERM = ChannelState

# 4.6, written out: current, requested -> stored afterwards, accepted
STATES = {
    (NORMAL, NORMAL): (NORMAL, True),
    (NORMAL, FROZEN): (FROZEN, True),
    (NORMAL, PERM): (PERM, True),
    (FROZEN, NORMAL): (NORMAL, True),
    (FROZEN, FROZEN): (FROZEN, True),
    (FROZEN, PERM): (PERM, True),
    (PERM, NORMAL): (PERM, False),
    (PERM, FROZEN): (PERM, False),
    (PERM, PERM): (PERM, True),
}


def test_4_6_channel_state_has_a_row_for_every_pair() -> None:
    assert {(old, new) for old in IO_STATE for new in IO_STATE[old]} == set(product(ChannelState, repeat=2))
    dev = Rig().dev("01:00.0")
    for (old, new), (stored, accepted) in STATES.items():
        dev.error_state = old
        assert pci_dev_set_io_state(dev, new) is accepted
        assert dev.error_state is stored


def test_4_6_disconnected_reads_ones_and_drops_writes() -> None:
    rig = Rig()
    port, below = rig.dev("03:00.0"), rig.dev("06:00.0")
    command = rig.hierarchy.read(below.sbdf, HEADER.COMMAND, 2)
    pci_dev_set_disconnected(port)
    assert below.disconnected
    assert not rig.dev("00:03.0").disconnected
    assert [rig.core.read(below, HEADER.VENDOR_ID, size) for size in (1, 2, 4)] == [0xFF, 0xFFFF, 0xFFFFFFFF]
    rig.core.write(below, HEADER.COMMAND, 2, 0)
    assert rig.hierarchy.read(below.sbdf, HEADER.COMMAND, 2) == command != 0


def test_walk_is_depth_first_a_bridge_before_what_is_below() -> None:
    rig = Rig()
    assert [dev.name[5:] for dev in rig.core.walk_bus(rig.dev("00:03.0"))] == [
        "03:00.0", "04:00.0", "05:00.0", "04:01.0", "06:00.0",
    ]  # fmt: skip
    assert [dev.name[5:] for dev in rig.dev("00:02.0").subordinate] == ["02:00.0", "02:00.1"]


def test_1_7_enumeration_finds_capabilities_and_enables_reporting() -> None:
    rig = Rig()
    dev = rig.dev("01:00.0")
    assert (dev.vendor, dev.device, dev.header_type) == (0x1AF4, 0x1041, 0)
    assert dev.exp
    assert dev.aer
    assert dev.pm
    assert dev.msi
    assert dev.aer_info is not None
    assert rig.core.read(dev, dev.exp + EXP.DEVCTL, 2) & 0xF == 0xF
    assert dev.saved_state is not None
    assert rig.dev("04:00.0").root is rig.dev("00:03.0")
    assert rig.dev("04:00.0").is_bridge


def test_bind_and_unbind_call_the_driver_under_the_device_lock() -> None:
    rig = Rig()
    dev = rig.dev("01:00.0")
    seen = []

    async def probe(dev: PciDev) -> int:
        seen.append(("probe", dev.prefix, dev.device_lock.owner is rig.kernel.current))
        return 0

    async def remove(dev: PciDev) -> None:
        seen.append(("remove", dev.prefix, dev.device_lock.owner is rig.kernel.current))

    driver = PciDriver("nic", None, probe, remove)
    assert rig.call(rig.core.bind(dev, driver)) == 0
    assert rig.call(rig.core.bind(dev, driver)) == -16
    rig.call(rig.core.unbind(dev))
    rig.call(rig.core.unbind(dev))
    assert seen == [("probe", "nic 0000:01:00.0: ", True), ("remove", "nic 0000:01:00.0: ", True)]
    assert dev.driver is None
    assert dev.prefix == "pci 0000:01:00.0: "
    assert rig.traced("pci.bind") == rig.traced("pci.unbind") == [("0000:01:00.0", "nic")]


def test_a_failing_probe_leaves_the_device_unbound() -> None:
    rig = Rig()
    dev = rig.dev("01:00.0")

    async def probe(dev: PciDev) -> int:
        return -19

    assert rig.call(rig.core.bind(dev, PciDriver("nic", None, probe))) == -19
    assert dev.driver is None
    assert rig.traced("pci.bind") == []


# Express version 1 at 0xe0, so that AER begins where version 2 would have its second half; MSI and MSI-X are on
LIVELY = bytearray(4096)
for _offset, _text in {
    0: "8680d310 0705 1000 00000002", 0x34: "d0", 0xD0: "05a0 8100", 0xA0: "11e0 0480", 0xE0: "1000 0100",
    0x100: "01000200 00000000 00004000 30204600",
}.items():  # fmt: skip
    _piece = bytes.fromhex(_text)
    LIVELY[_offset : _offset + len(_piece)] = _piece


def test_enumeration_switches_interrupts_off_that_a_former_kernel_left_on() -> None:
    """``pci_msi_init`` and ``pci_msix_init``."""
    card = FunctionSpec("01:00.0", "endpoint", "00:01.0", config=LIVELY.hex())
    rig = Rig([FunctionSpec("00:01.0", "root_port", secondary=1, subordinate=1), card])
    dev = rig.dev("01:00.0")
    assert (dev.msi, dev.exp, dev.aer) == (0xD0, 0xE0, 0x100)
    assert [rig.core.read(dev, offset, 2) for offset in (0xD2, 0xA2)] == [0x80, 0x0004]


def test_a_saved_state_has_only_registers_that_exist() -> None:
    """``pcie_cap_has_devctl2``: the AER mask must not be saved as Device Control 2."""
    card = FunctionSpec("01:00.0", "endpoint", "00:01.0", config=LIVELY.hex())
    rig = Rig([FunctionSpec("00:01.0", "root_port", secondary=1, subordinate=1), card])
    state, port = (rig.dev(bdf).saved_state for bdf in ("01:00.0", "00:01.0"))
    assert state is not None
    assert port is not None
    assert [offset for offset, _, _ in state.exp] == [0xE8, 0xF0]
    assert len(port.exp) == 7
