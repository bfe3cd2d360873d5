"""Tables that the AER driver derives from ``protocol.bits``: names by bit, layers and agents by priority."""

from __future__ import annotations

from typing import NamedTuple

from protocol import bits
from protocol.bits import COR, UNCOR, Bit
from protocol.ers import Severity

COR_NAMES = {bit.number: bit.name for bit in COR}
UNCOR_NAMES = {bit.number: bit.name for bit in UNCOR}
HEADER_LOGGED = sum(bit.mask for bit in UNCOR if bit.header_logged)
HEADER_IF_CAPABLE = sum(bit.mask for bit in UNCOR if bit.header_if_capable)

SEVERITY_TEXT = {  # aer_error_severity_string
    Severity.NONFATAL: "Uncorrectable (Non-Fatal)",
    Severity.FATAL: "Uncorrectable (Fatal)",
    Severity.CORRECTABLE: "Correctable",
}

# AER_GET_LAYER_ERROR and AER_GET_AGENT: the raw status word, first match wins, else the last one (1.5).
_LAYERS = (bits.PHYSICAL, bits.DATA_LINK, bits.GENERAL)
_AGENTS = (bits.COMPLETER, bits.REQUESTER, bits.TRANSMITTER, bits.COMPONENT)

Masks = tuple[tuple[int, str], ...]
_CORRECTABLE = Severity.CORRECTABLE  # quicker than looked up in its class


class Words(NamedTuple):
    """The words of one kernel generation, by message class where there are two: correctable, uncorrectable."""

    severities: dict[Severity, str]
    names: tuple[dict[int, str], dict[int, str]]
    layers: tuple[Masks, Masks]
    agents: tuple[Masks, Masks]

    def bit_names(self, severity: Severity) -> dict[int, str]:
        """Names of the bits of this class."""
        return self.names[severity is not _CORRECTABLE]

    def layer(self, severity: Severity, status: int) -> str:
        """Layer text for a raw status word of this class (masked bits included)."""
        return _first(self.layers[severity is not _CORRECTABLE], status, bits.TRANSACTION)

    def agent(self, severity: Severity, status: int) -> str:
        """Agent text for a raw status word of this class (masked bits included)."""
        return _first(self.agents[severity is not _CORRECTABLE], status, bits.RECEIVER)


def _first(masks: Masks, status: int, otherwise: str) -> str:
    for mask, text in masks:
        if status & mask:
            return text
    return otherwise


def _by_layer(rows: tuple[Bit, ...]) -> Masks:
    return tuple((sum(bit.mask for bit in rows if bit.layer == layer), layer) for layer in _LAYERS)


def _by_agent(rows: tuple[Bit, ...]) -> Masks:
    return tuple((sum(bit.mask for bit in rows if bit.agent == agent), agent) for agent in _AGENTS)


WORDS = Words(
    SEVERITY_TEXT, (COR_NAMES, UNCOR_NAMES), (_by_layer(COR), _by_layer(UNCOR)), (_by_agent(COR), _by_agent(UNCOR))
)
