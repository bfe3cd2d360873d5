"""The words of a recovery conversation: votes, channel states, phases, severities.

Source: linux-aer.md 0.3 and 4.4, xen-pci.md 1.4 and 1.6 (numbers are wire format there).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ErsResult(IntEnum):
    """``enum pci_ers_result``: what a driver answers, and what a recovery ends with."""

    NONE = 1
    CAN_RECOVER = 2
    NEED_RESET = 3
    DISCONNECT = 4
    RECOVERED = 5
    NO_AER_DRIVER = 6

    __hash__ = int.__hash__  # an Enum's own hash goes by name and costs a call of Python code each time


class ChannelState(IntEnum):
    """``pci_channel_state_t``: may the driver use the device."""

    NORMAL = 1
    FROZEN = 2
    PERM_FAILURE = 3

    __hash__ = int.__hash__


class Severity(IntEnum):
    """AER severity, numbered as in ``include/linux/aer.h``."""

    NONFATAL = 0
    FATAL = 1
    CORRECTABLE = 2

    __hash__ = int.__hash__


class Phase(StrEnum):
    """The four phases in which a driver takes part, in the order of a recovery."""

    ERROR_DETECTED = "error_detected"
    MMIO_ENABLED = "mmio_enabled"
    SLOT_RESET = "slot_reset"
    RESUME = "resume"

    __hash__ = str.__hash__


_N, _C, _R, _D, _OK, _X = ErsResult

_NAMES = tuple(result.name for result in ErsResult)

# merge_result(), linux-aer.md 4.4. Row: status so far; column: next vote, in the order of ErsResult.
MERGE: dict[int, tuple[ErsResult, ...]] = {
    #       NONE CAN_RECOVER NEED_RESET DISCONNECT RECOVERED NO_AER_DRIVER
    _N: (_N, _N, _N, _N, _N, _X),
    _C: (_C, _C, _R, _D, _OK, _X),
    _R: (_R, _R, _R, _R, _R, _X),
    _D: (_D, _D, _R, _D, _D, _X),
    _OK: (_OK, _C, _R, _D, _OK, _X),
    _X: (_X, _X, _X, _X, _X, _X),
}


def merge(status: int, vote: int) -> int:
    """``merge_result()``: the accumulated status after one more vote.

    A vote outside the enumeration (0, 99) is accepted as the kernel does: it replaces CAN_RECOVER and
    RECOVERED and nothing else (xen-pci-errata.md 3.1). An undefined status yields to NO_AER_DRIVER only.
    """
    if vote == _X:
        return vote
    if 1 <= vote <= 6 and 1 <= status <= 6:
        return MERGE[status][vote - 1]
    return vote if status in (_C, _OK) else status


def result_name(value: int) -> str:
    """``NEED_RESET`` for 3; the number itself for a value outside the enumeration."""
    return _NAMES[value - 1] if 1 <= value <= 6 else str(value)
