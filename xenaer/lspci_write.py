"""Configuration spaces as ``lspci -n -xxxx`` writes them, so that ``lspci -F`` and ``setpci -A dump`` read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from protocol.capabilities import CapabilityError, capabilities, find, peek
from protocol.ids import Sbdf
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP
from xenaer.lspci_dump import CONVENTIONAL_BYTES, ROW


def dump_lines(spaces: Mapping[Sbdf, bytes]) -> Iterator[str]:
    """The dump of several functions, by address; domains are shown if any is not 0, as lspci does it."""
    domains = any(sbdf.segment for sbdf in spaces)
    for sbdf, data in sorted(spaces.items()):
        revision = data[HEADER.REVISION_ID]
        name = str(sbdf) if domains else str(sbdf).partition(":")[2]
        ids = f"{peek(data, HEADER.VENDOR_ID, 2):04x}:{peek(data, HEADER.DEVICE_ID, 2):04x}"
        text = f"{name} {peek(data, HEADER.CLASS_DEVICE, 2):04x}: {ids}"
        yield text + (f" (rev {revision:02x})" if revision else "")
        for offset in range(0, _size(data), ROW):
            yield f"{offset:02x}: {data[offset : offset + ROW].hex(' ')}"
        yield ""


def _size(data: bytes) -> int:
    """A conventional function has 256 bytes; one that does not answer shows all that could be there."""
    try:
        express = find(capabilities(data), EXP.cap_id)
    except CapabilityError:
        return len(data)
    return len(data) if express is not None or data[HEADER.HEADER_TYPE] == 0xFF else CONVENTIONAL_BYTES
