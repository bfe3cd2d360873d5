"""CPER bytes, by the layouts of UEFI appendix N and ACPI 18.3.2.7.1."""

from __future__ import annotations

import struct

import pytest

from protocol.cper import (
    PCIE_SECTION,
    SECTION_RESET,
    CperSeverity,
    PcieSection,
    Section,
    Valid,
    pack_pcie,
    pack_status_block,
    parse_pcie,
    sections,
)
from protocol.ids import Sbdf

SECTION = PcieSection(
    valid=Valid.DEVICE_ID | Valid.AER_INFO,
    sbdf=Sbdf.parse("0001:42:1e.7"),
    vendor=0x8086,
    device=0x10D3,
    class_code=0x020000,
    port_type=0,
    command=0x507,
    status=0x10,
    capability=bytes(range(60)),
    aer_info=bytes(range(96)),
    slot=0x38,
    serial=0x0102030405060708,
    secondary_status=0x4000,
    bridge_control=2,
)


def test_n_2_7_fields_stand_at_the_offsets_of_the_specification() -> None:
    data = pack_pcie(SECTION)
    assert len(data) == 208
    assert data[0:8] == (0x88).to_bytes(8, "little")
    assert data[12:14] == b"\x01\x01"
    assert struct.unpack_from("<HH", data, 16) == (0x507, 0x10)
    assert data[24:40] == bytes.fromhex("8680d310 000002 07 1e 0100 42 00 3800 00".replace(" ", ""))
    assert data[40:48] == (0x0102030405060708).to_bytes(8, "little")
    assert struct.unpack_from("<HH", data, 48) == (0x4000, 2)
    assert data[52:112] == SECTION.capability
    assert data[112:208] == SECTION.aer_info


def test_n_2_7_what_was_packed_is_parsed() -> None:
    assert parse_pcie(pack_pcie(SECTION)) == SECTION


def test_the_guid_of_a_pcie_section() -> None:
    assert PCIE_SECTION.hex() == "54e995d9c1bb0f43ad91b44dcb3c6f35"


def test_a_bare_section_takes_the_severity_that_is_given() -> None:
    data = pack_pcie(SECTION)
    assert sections(data, CperSeverity.FATAL) == [Section(PCIE_SECTION, CperSeverity.FATAL, 0, data)]


def test_a_status_block_has_its_sections_in_order() -> None:
    parts = [
        Section(PCIE_SECTION, CperSeverity.CORRECTED, 0, pack_pcie(SECTION)),
        Section(bytes(16), CperSeverity.RECOVERABLE, SECTION_RESET, b"12345"),
    ]
    assert sections(pack_status_block(parts)) == parts


def test_a_data_entry_of_revision_3_has_a_timestamp() -> None:
    entry = struct.pack("<16sIHBBI16s20sQ", PCIE_SECTION, 1, 0x300, 0, 0, 3, bytes(16), bytes(20), 7) + b"abc"
    block = struct.pack("<IIIII", 0x11, 0, 0, len(entry), 1) + entry
    assert sections(block) == [Section(PCIE_SECTION, 1, 0, b"abc")]


def test_a_whole_record_names_its_sections_by_offset() -> None:
    payload = pack_pcie(SECTION)
    header = struct.pack("<4sHIHIIIQ64xQIQ12x", b"CPER", 0x100, 0xFFFFFFFF, 1, 0, 0, 200 + len(payload), 0, 0, 0, 0)
    descriptor = struct.pack(
        "<IIHBBI16s16sI20s", 200, len(payload), 0x100, 0, 0, SECTION_RESET, PCIE_SECTION, bytes(16), 0, bytes(20)
    )
    assert sections(header + descriptor + payload) == [Section(PCIE_SECTION, 0, SECTION_RESET, payload)]


@pytest.mark.parametrize("data", [b"", b"CPER", bytes(19), b"CPER" + bytes(2) + b"\xff" * 200])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        sections(data)


def test_a_section_that_points_outside_is_refused() -> None:
    block = pack_status_block([Section(PCIE_SECTION, 0, 0, pack_pcie(SECTION))])
    with pytest.raises(ValueError, match="not within"):
        sections(block[:-1])
    with pytest.raises(ValueError, match="208 bytes"):
        parse_pcie(b"short")
