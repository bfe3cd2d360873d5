"""Error Disconnect Recover (linux-aer.md 10.4, T14).

No recording has EDR: these tests hold the rules of the specification, not a machine's behaviour.
"""

from __future__ import annotations

import pytest

from dom0_pciback.aer.edr import Locate, edr_handle_event
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pcie.containment import set_busy
from protocol.ers import ErsResult
from protocol.ids import Sbdf
from protocol.labels_dpc import LABELS
from protocol.layout_aer import AER
from protocol.layout_dpc import DPC
from protocol.topology import BootSpec
from tests.dom0_pciback.aer.dpc_rig import DOWN, EDR, RP1, DpcRig
from tests.dom0_pciback.aer.rig import bind_lab

FATAL, NONFATAL = 1 << 18, 1 << 15
PREFIX = "pcieport 0000:00:01.0: "
RECEIVED = f"<6> {PREFIX}EDR: EDR event received"
RP1_ID = 0x0008
SUCCESS, FAILURE = 0x80, 0x81


def edr_rig(boot: BootSpec = EDR) -> DpcRig:
    rig = DpcRig(boot=boot)
    bind_lab(rig, "01:00.0", det_frozen=ErsResult.NEED_RESET, slot=ErsResult.RECOVERED)
    return rig


def ost(rig: DpcRig) -> list[tuple[str, int, int]]:
    """Port, event and value of every ``_OST``."""
    return [(subject, event, value) for subject, event, value in rig.traced("edr.ost")]


def handle(rig: DpcRig, bdf: str, locate: int | None = None) -> None:
    def dsm(dev: PciDev) -> int | None:
        return locate

    rig.call(edr_handle_event(rig.core, rig.dev(bdf), rig.recover, dsm))


# -- who owns it -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("boot", "served", "firmware"),
    [
        (EDR, 0, 5),
        (BootSpec(edr=True), 3, 2),
        (BootSpec(edr=True, osc_dpc=True), 3, 0),
        (BootSpec(edr=False, osc_aer=False), 0, 0),
        (BootSpec(edr=True, pcie_ports="dpc-native"), 5, 0),
    ],
)
def test_the_firmware_has_what_the_kernel_does_not_serve(boot: BootSpec, served: int, firmware: int) -> None:
    rig = DpcRig(boot=boot)
    assert (len(rig.dpc.ports), len(rig.edr.ports)) == (served, firmware)
    enabled = [dev.name for dev in rig.core.devices.values() if dev.dpc and rig.dpc_reg(dev.name, DPC.CTL)]
    assert len(enabled) == served + firmware


# -- an event --------------------------------------------------------------------------------------
def test_10_4_event_recovery_and_success() -> None:
    rig = edr_rig()
    rig.inject("01:00.0", uncor=FATAL)
    assert rig.log() == [
        RECEIVED,
        f"<4> {PREFIX}DPC: containment event, status:0x0005, ERR_FATAL received from 0000:01:00.0",
        f"<6> {PREFIX}AER: device recovery successful",
    ]
    assert ost(rig) == [("0000:00:01.0", 0xF, RP1_ID << 16 | SUCCESS)]
    assert not rig.contained(RP1)


def test_10_4_failure() -> None:
    rig = DpcRig(boot=EDR)
    rig.inject("01:00.0", uncor=FATAL)
    assert rig.log()[-1] == f"<6> {PREFIX}AER: device recovery failed"
    assert ost(rig) == [("0000:00:01.0", 0xF, RP1_ID << 16 | FAILURE)]


def test_t14_a_failed_recovery_is_told_as_success() -> None:
    rig = DpcRig(boot=EDR)
    bind_lab(rig, "01:00.0", det_frozen=ErsResult.CAN_RECOVER, mmio=ErsResult.RECOVERED)
    set_busy(rig.function(RP1), True)
    rig.inject("01:00.0", uncor=FATAL)
    assert rig.log()[-1] == f"<6> {PREFIX}AER: device recovery failed"
    assert ost(rig) == [("0000:00:01.0", 0xF, RP1_ID << 16 | SUCCESS)]


def test_10_4_all_aer_status_is_cleared_whoever_owns_it() -> None:
    rig = edr_rig()
    rig.set_dpc(RP1, DPC.CTL, 0)
    rig.inject(RP1, cor=1 << 6, uncor=FATAL)
    rig.set_dpc(RP1, DPC.CTL, 1)
    rig.log()
    rig.trigger(RP1)
    rig.edr.notify(rig.dev(RP1))
    rig.settle()
    assert (rig.uncor_status(RP1), rig.aer_reg(RP1, AER.COR_STATUS)) == (0, 0)
    assert rig.log()[1].endswith("software trigger detected")


def test_10_4_without_a_trigger_it_fails() -> None:
    rig = edr_rig()
    handle(rig, RP1)
    assert rig.log() == [RECEIVED, f"<3> {PREFIX}EDR: Invalid DPC trigger 0x00000000"]
    assert ost(rig) == [("0000:00:01.0", 0xF, RP1_ID << 16 | FAILURE)]
    assert rig.results == []


# -- _DSM ------------------------------------------------------------------------------------------
def test_10_4_the_port_is_where_dsm_says() -> None:
    rig = edr_rig()
    rig.set_dpc(DOWN, DPC.CTL, 1)
    rig.trigger(DOWN)
    rid = Sbdf.parse(DOWN).rid
    handle(rig, RP1, rid)
    assert rig.log()[:2] == [
        RECEIVED,
        "<4> pcieport 0000:04:00.0: DPC: containment event, status:0x0027: software trigger detected",
    ]
    assert [(port, value >> 16) for port, _, value in ost(rig)] == [("0000:00:01.0", rid)]


@pytest.mark.parametrize(
    ("locate", "lines"),
    [
        (1 << 31, ["EDR: Locate Port _DSM failed", "EDR: Firmware failed to locate DPC port"]),
        (0x7F00, ["EDR: Firmware failed to locate DPC port"]),
    ],
)
def test_10_4_a_port_that_is_not_found_gets_no_answer(locate: int, lines: list[str]) -> None:
    rig = edr_rig()
    handle(rig, RP1, locate)
    assert rig.log() == [RECEIVED, *(f"<3> {PREFIX}{line}" for line in lines)]
    assert ost(rig) == []


def test_10_4_a_port_without_dpc_fails() -> None:
    rig = edr_rig()
    handle(rig, RP1, Sbdf.parse("03:00.0").rid)
    assert rig.log()[1] == "<3> pcieport 0000:03:00.0: EDR: [Firmware Bug]: This device doesn't support DPC"
    assert [value & 0xFFFF for _, _, value in ost(rig)] == [FAILURE]


def test_the_firmware_asks_its_own_dsm() -> None:
    def dsm(dev: PciDev) -> int | None:
        asked.append(dev.name)
        return None

    asked: list[str] = []
    locate: Locate = dsm
    rig = DpcRig(boot=EDR, locate=locate)
    rig.inject("01:00.0", uncor=FATAL)
    assert asked == ["0000:00:01.0"]


def test_records_match_their_declaration() -> None:
    rig = edr_rig(BootSpec(edr=True))
    rig.trigger(RP1)
    rig.set_dpc(DOWN, DPC.CTL, 9)
    rig.trigger(DOWN)
    rig.settle()
    for label, count in (("dpc.irq", 1), ("edr.ost", 1)):
        assert [len(fields) - 1 for fields in rig.traced(label)] == [len(LABELS[label])] * count
