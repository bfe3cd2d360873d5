"""Common Platform Error Record: how firmware tells the kernel of a PCI Express error, as bytes.

Source: UEFI specification, appendix N.2 (record), N.2.7 (PCI Express section); ACPI 18.3.2.7.1 (Generic Error
Status Block, the form in which GHES delivers sections). All of it is little-endian and packed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from protocol.ids import Sbdf, devfn

# d995e954-bbc1-430f-ad91-b44dcb3c6f35: the first three parts of a GUID are little-endian
PCIE_SECTION = bytes.fromhex("54e995d9 c1bb 0f43 ad91 b44dcb3c6f35")
RECORD_SIGNATURE = b"CPER"
SECTION_RESET = 0x04  # section flag: the firmware has reset the component

_RECORD_HEADER = struct.Struct("<4sHIHIII8s16s16s16s16sQIQ12s")
_DESCRIPTOR = struct.Struct("<IIHBBI16s16sI20s")
_STATUS_BLOCK = struct.Struct("<IIIII")
_DATA_ENTRY = struct.Struct("<16sIHBBI16s20s")
_TIMESTAMP = 8  # bytes behind a data entry from revision 3.0 on
_REVISION_WITH_TIMESTAMP = 0x300
_PCIE = struct.Struct("<QIHHHHIHH3sBBHBBHBQHH60s96s")


class CperSeverity(IntEnum):
    """Severity of a record or section."""

    RECOVERABLE = 0
    FATAL = 1
    CORRECTED = 2
    INFORMATIONAL = 3


class Valid(IntEnum):
    """Validation bits of a PCI Express section."""

    PORT_TYPE = 0x01
    VERSION = 0x02
    COMMAND_STATUS = 0x04
    DEVICE_ID = 0x08
    SERIAL_NUMBER = 0x10
    BRIDGE = 0x20
    CAPABILITY = 0x40
    AER_INFO = 0x80


class Section(NamedTuple):
    """One section of a record: its type as 16 bytes, severity (``CperSeverity``), flags, and contents."""

    kind: bytes
    severity: int
    flags: int
    payload: bytes


class PcieSection(NamedTuple):
    """A PCI Express section. ``valid`` says which fields mean anything; ``aer_info`` is the AER capability."""

    valid: int
    sbdf: Sbdf
    vendor: int
    device: int
    class_code: int
    port_type: int
    command: int
    status: int
    capability: bytes = bytes(60)
    aer_info: bytes = bytes(96)
    version: int = 0x0101
    secondary_bus: int = 0
    slot: int = 0
    serial: int = 0
    secondary_status: int = 0
    bridge_control: int = 0


def sections(data: bytes, severity: int = CperSeverity.RECOVERABLE) -> list[Section]:
    """The sections of a record: a CPER record, a Generic Error Status Block, or one bare PCI Express section.

    ``severity`` is that of a bare section, which has none of its own. Raises ValueError for anything else.
    """
    try:
        if data.startswith(RECORD_SIGNATURE):
            return list(_of_record(data))
        if len(data) == _PCIE.size:
            return [Section(PCIE_SECTION, severity, 0, data)]
        return list(_of_status_block(data))
    except struct.error as error:
        raise ValueError(f"an error record of {len(data)} bytes ends too early: {error}") from None


def _of_record(data: bytes) -> Iterator[Section]:
    count = _RECORD_HEADER.unpack_from(data)[3]
    for number in range(count):
        place = _RECORD_HEADER.size + number * _DESCRIPTOR.size
        offset, length, _, _, _, flags, kind, _, severity, _ = _DESCRIPTOR.unpack_from(data, place)
        yield Section(kind, severity, flags, _slice(data, offset, length))


def _of_status_block(data: bytes) -> Iterator[Section]:
    length = _STATUS_BLOCK.unpack_from(data)[3]
    offset, end = _STATUS_BLOCK.size, _STATUS_BLOCK.size + length
    while offset < end:
        kind, severity, revision, _, flags, size, _, _ = _DATA_ENTRY.unpack_from(data, offset)
        offset += _DATA_ENTRY.size + (_TIMESTAMP if revision >= _REVISION_WITH_TIMESTAMP else 0)
        yield Section(kind, severity, flags, _slice(data, offset, size))
        offset += size


def _slice(data: bytes, offset: int, length: int) -> bytes:
    if offset + length > len(data):
        raise ValueError(f"a section of {length} bytes at {offset} is not within the {len(data)} bytes of the record")
    return data[offset : offset + length]


def parse_pcie(payload: bytes) -> PcieSection:
    """A PCI Express section from its bytes. Raises ValueError if they are too few."""
    if len(payload) < _PCIE.size:
        raise ValueError(f"a PCI Express section has {_PCIE.size} bytes, not {len(payload)}")
    (
        valid, port_type, version, _, command, status, _, vendor, device, class_code, function, slot_device, segment,
        bus, secondary_bus, slot, _, serial, secondary_status, bridge_control, capability, aer_info,
    ) = _PCIE.unpack_from(payload)  # fmt: skip
    sbdf = Sbdf.from_rid(bus << 8 | devfn(slot_device & 0x1F, function & 7), segment)
    return PcieSection(
        valid, sbdf, vendor, device, int.from_bytes(class_code, "little"), port_type, command, status, capability,
        aer_info, version, secondary_bus, slot, serial, secondary_status, bridge_control,
    )  # fmt: skip


def pack_pcie(section: PcieSection) -> bytes:
    """The bytes of a PCI Express section."""
    s, place = section, section.sbdf
    return _PCIE.pack(
        s.valid, s.port_type, s.version, 0, s.command, s.status, 0, s.vendor, s.device,
        s.class_code.to_bytes(3, "little"), place.function, place.device, place.segment, place.bus, s.secondary_bus,
        s.slot, 0, s.serial, s.secondary_status, s.bridge_control, s.capability, s.aer_info,
    )  # fmt: skip


def pack_status_block(parts: list[Section]) -> bytes:
    """A Generic Error Status Block with these sections; its severity is that of the first one."""
    body = b"".join(
        _DATA_ENTRY.pack(part.kind, part.severity, 0x201, 0, part.flags, len(part.payload), bytes(16), bytes(20))
        + part.payload
        for part in parts
    )
    status = 0x10 * len(parts) | 0x1  # entry count in 13:4; an uncorrectable error is valid
    return _STATUS_BLOCK.pack(status, 0, 0, len(body), parts[0].severity) + body
