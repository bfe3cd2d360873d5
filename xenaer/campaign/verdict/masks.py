"""Which error bits of a function are masked once its host has booted, as far as the host file says."""

from __future__ import annotations

from protocol.bits import COR_MASKED, UNCOR_MASKED
from protocol.config_image import read_image
from protocol.layout_aer import AER
from protocol.topology import FunctionSpec, HostSpec
from xenaer.campaign.steps.judge import find_extended

COR_NAME, UNCOR_NAME = "aer_cor_mask", "aer_unc_mask"  # of protocol.register_names
NOTHING_MASKED = frozenset({"qemu-7.2"})  # hardware whose uncorrectable mask is 0 after power-on

Masks = tuple[int, int]  # correctable, uncorrectable


def masks_of(function: FunctionSpec, host: HostSpec) -> Masks:
    """From its registers, else from its configuration image, else the defaults (linux-aer.md 1.6)."""
    cor, uncor = COR_MASKED, 0 if host.hardware in NOTHING_MASKED else UNCOR_MASKED
    if function.config:
        image = read_image(function.config)
        at = find_extended(image, AER.cap_id)
        if at:
            cor, uncor = _dword(image, at + AER.COR_MASK), _dword(image, at + AER.UNCOR_MASK)
    return function.registers.get(COR_NAME, cor), function.registers.get(UNCOR_NAME, uncor)


def _dword(image: bytes, offset: int) -> int:
    return int.from_bytes(image[offset : offset + 4], "little")
