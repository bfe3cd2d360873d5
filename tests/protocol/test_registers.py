"""Declarations of registers: checks at import, and the tables against the reference offsets."""

import json
from pathlib import Path

import pytest

from protocol.layout_aer import AER, AER_ROOT_CMD_ALL, AER_ROOT_STATUS_ALL
from protocol.layout_dpc import DPC, DPC_REASON_FATAL, DPC_REASON_NONFATAL, DPC_REASON_UNCOR, RP_PIO_ERRORS
from protocol.layout_header import BAR_ADDRESS, HEADER, TYPE0, TYPE1, bar_offset
from protocol.layout_msi import MSI, qmask
from protocol.layout_pcie import EXP
from protocol.layout_pm import PM
from protocol.registers import Layout, Reg

REFERENCE = json.loads((Path(__file__).parent / "data" / "aer-bits.json").read_text())
LAYOUTS: list[type[Layout]] = [HEADER, TYPE0, TYPE1, EXP, AER, DPC, PM, MSI]


def test_register_is_its_offset_and_knows_its_name() -> None:
    assert 0x100 + AER.UNCOR_MASK == 0x108
    assert (AER.UNCOR_MASK.name, AER.UNCOR_MASK.width, AER.UNCOR_MASK.end) == ("UNCOR_MASK", 4, 0x0C)


@pytest.mark.parametrize(
    ("registers", "complaint"),
    [
        ({"A": Reg(0, 4), "B": Reg(2, 2)}, "B at 0x2: overlaps"),
        ({"A": Reg(8, 4)}, "A at 0x8: overlaps its neighbour or the end at 0x8"),
        ({"A": Reg(0, 2, rw=3, w1c=1)}, "masks overlap"),
        ({"A": Reg(0, 2, rw=0x10000)}, "exceed 2 bytes"),
        ({"A": Reg(0, 1, reset=0x100)}, "exceed 1 bytes"),
        ({"A": Reg(1, 2)}, "alignment"),
        ({"A": Reg(0, 3)}, "width 3"),
    ],
)
def test_wrong_declaration_is_refused_at_import(registers: dict[str, Reg], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        type("BAD", (Layout,), registers, length=8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_registers_are_in_order_and_within_the_length(layout: type[Layout]) -> None:
    assert list(layout.registers) == sorted(layout.registers)
    assert layout.registers[-1].end <= layout.length
    assert len({reg.name for reg in layout.registers}) == len(layout.registers)


@pytest.mark.parametrize("other", [TYPE0, TYPE1])
def test_common_header_and_type_part_do_not_overlap(other: type[Layout]) -> None:
    taken = [offset for layout in (HEADER, other) for reg in layout.registers for offset in range(reg, reg.end)]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize(
    ("reg", "section", "key"),
    [
        (AER.UNCOR_STATUS, "uncorrectable", "status_offset"),
        (AER.UNCOR_MASK, "uncorrectable", "mask_offset"),
        (AER.UNCOR_SEVER, "uncorrectable", "severity_offset"),
        (AER.COR_STATUS, "correctable", "status_offset"),
        (AER.COR_MASK, "correctable", "mask_offset"),
        (AER.CAP, "aer_cap_control", "offset"),
        (AER.ROOT_COMMAND, "root_error_command", "offset"),
        (AER.ROOT_STATUS, "root_error_status", "offset"),
        (AER.ROOT_ERR_SRC, "error_source_id", "offset"),
    ],
)
def test_aer_offsets_equal_reference(reg: Reg, section: str, key: str) -> None:
    assert int(reg) == int(REFERENCE[section][key], 16)


def test_aer_access_of_every_register() -> None:
    access = {reg.name: (bool(reg.rw), bool(reg.w1c), reg.sticky) for reg in AER.registers}
    rows = {
        (False, True, True): {"UNCOR_STATUS", "COR_STATUS", "ROOT_STATUS"},
        (True, False, True): {"UNCOR_MASK", "UNCOR_SEVER", "COR_MASK", "CAP"},
        (True, False, False): {"ROOT_COMMAND"},
    }
    for kind, names in rows.items():
        assert {name for name, one in access.items() if one == kind} == names
    assert (AER.ROOT_COMMAND.rw, AER.ROOT_STATUS.w1c) == (AER_ROOT_CMD_ALL, AER_ROOT_STATUS_ALL)


@pytest.mark.parametrize(
    ("reg", "root", "downstream", "upstream", "endpoint"),
    [
        (AER.ROOT_STATUS, True, False, False, False),
        (AER.UNCOR_STATUS, True, True, True, True),
        (EXP.SLTCTL, True, True, False, False),
        (EXP.RTCTL, True, False, False, False),
        (EXP.DEVCTL, True, True, True, True),
    ],
)
def test_which_kind_has_the_register(reg: Reg, root: bool, downstream: bool, upstream: bool, endpoint: bool) -> None:
    kinds = ("root_port", "downstream_port", "upstream_port", "endpoint")
    assert tuple(map(reg.exists_in, kinds)) == (root, downstream, upstream, endpoint)


@pytest.mark.parametrize(
    ("reg", "offset"),
    [
        (EXP.FLAGS, 2),
        (EXP.DEVCAP, 4),
        (EXP.DEVCTL, 8),
        (EXP.DEVSTA, 0xA),
        (EXP.LNKCAP, 0xC),
        (EXP.LNKSTA, 0x12),
        (EXP.SLTSTA, 0x1A),
        (EXP.RTCTL, 0x1C),
        (EXP.RTSTA, 0x20),
        (EXP.DEVCAP2, 0x24),
    ],
)
def test_pcie_offsets_of_section_1_1(reg: Reg, offset: int) -> None:
    assert int(reg) == offset


@pytest.mark.parametrize(
    ("reg", "offset", "width"),
    [
        (DPC.CAP, 0x04, 2),
        (DPC.CTL, 0x06, 2),
        (DPC.STATUS, 0x08, 2),
        (DPC.SOURCE_ID, 0x0A, 2),
        (DPC.RP_PIO_STATUS, 0x0C, 4),
        (DPC.RP_PIO_MASK, 0x10, 4),
        (DPC.RP_PIO_SEVERITY, 0x14, 4),
        (DPC.RP_PIO_SYSERROR, 0x18, 4),
        (DPC.RP_PIO_EXCEPTION, 0x1C, 4),
        (DPC.RP_PIO_HEADER_LOG, 0x20, 4),
        (DPC.RP_PIO_IMPSPEC_LOG, 0x30, 4),
        (DPC.RP_PIO_TLPPREFIX_LOG, 0x34, 4),
    ],
)
def test_dpc_offsets_of_section_10_1(reg: Reg, offset: int, width: int) -> None:
    assert (int(reg), reg.width) == (offset, width)


def test_dpc_texts_and_reasons_equal_reference() -> None:
    bits = REFERENCE["dpc_rp_pio_status"]["bits"]
    assert {str(bit): {"kernel_string": text} for bit, text in RP_PIO_ERRORS.items()} == bits
    assert [reason >> 1 for reason in (DPC_REASON_UNCOR, DPC_REASON_NONFATAL, DPC_REASON_FATAL)] == [0, 1, 2]


def test_bar_offsets_and_size_mask() -> None:
    assert [bar_offset(bar) for bar in range(6)] == [0x10, 0x14, 0x18, 0x1C, 0x20, 0x24]
    assert BAR_ADDRESS == 0xFFFF0000


@pytest.mark.parametrize(("vectors", "field"), [(1, 0), (2, 1), (4, 2), (8, 3)])
def test_msi_multiple_message_capable(vectors: int, field: int) -> None:
    assert qmask(vectors) >> 1 & 7 == field


def test_msi_refuses_other_counts() -> None:
    with pytest.raises(ValueError, match="not 3"):
        qmask(3)
