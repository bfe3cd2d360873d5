"""Hardware detects an error: record it, decide whether to tell, send the message up to the root port.

Source: linux-aer.md 2.1 (recording), 2.2 (on the way up), 2.3 (root port); errata 4.2 and 4.3 for the profile
``qemu-11.1``. Severities are those of ``protocol.ers``.
"""

from __future__ import annotations

from typing import NamedTuple

from dom0_pciback.pcie.collector import EventCollector, collector_of
from dom0_pciback.pcie.containment import contains_own, contains_received
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.port import PORTS, Port, RootPort
from protocol.bits import ADVISORY_NONFATAL, SURPRISE_DOWN, UNCOR_BY_NUMBER, UNSUPPORTED_REQUEST
from protocol.ers import Severity
from protocol.layout_aer import (
    AER,
    AER_CAP_FEP,
    AER_CAP_PREFIX_LOG_PRESENT,
    AER_ROOT_COR_RCV,
    AER_ROOT_FATAL_RCV,
    AER_ROOT_FIRST_FATAL,
    AER_ROOT_MULTI_COR_RCV,
    AER_ROOT_MULTI_UNCOR_RCV,
    AER_ROOT_NONFATAL_RCV,
    AER_ROOT_UNCOR_RCV,
)
from protocol.layout_header import (
    BRIDGE_CTL_SERR,
    COMMAND_SERR,
    HEADER,
    SEC_STATUS_RCV_SYSTEM_ERROR,
    STATUS_SIG_SYSTEM_ERROR,
    TYPE1,
)
from protocol.layout_pcie import (
    EXP,
    EXP_DEVCTL_CERE,
    EXP_DEVCTL_FERE,
    EXP_DEVCTL_NFERE,
    EXP_DEVCTL_URRE,
    EXP_DEVSTA_CED,
    EXP_DEVSTA_FED,
    EXP_DEVSTA_NFED,
    EXP_DEVSTA_URD,
)

NO_HEADER = (0, 0, 0, 0)
_CORRECTABLE = Severity.CORRECTABLE  # quicker than looked up in its class
_RECEIVERS = (RootPort, EventCollector)


class ErrorMessage(NamedTuple):
    """One of the three messages: its enable in Device Control, its bit in Device Status, what it does at the root.

    ``received`` and ``multiple`` belong to the class (correctable, uncorrectable), ``also`` is set each time,
    ``first`` only if nothing of the class was received yet; ``source`` is the class's half of ROOT_ERR_SRC.
    """

    name: str
    uncorrectable: bool
    enable: int
    detected: int
    received: int
    multiple: int
    also: int
    first: int
    source: int


_UNCOR_RCV, _MULTI_UNCOR = AER_ROOT_UNCOR_RCV, AER_ROOT_MULTI_UNCOR_RCV
MESSAGES: dict[Severity, ErrorMessage] = {
    Severity.CORRECTABLE: ErrorMessage(
        "ERR_COR", False, EXP_DEVCTL_CERE, EXP_DEVSTA_CED, AER_ROOT_COR_RCV, AER_ROOT_MULTI_COR_RCV, 0, 0, source=0
    ),
    Severity.NONFATAL: ErrorMessage(
        "ERR_NONFATAL",
        True,
        EXP_DEVCTL_NFERE,
        EXP_DEVSTA_NFED,
        _UNCOR_RCV,
        _MULTI_UNCOR,
        AER_ROOT_NONFATAL_RCV,
        0,
        source=2,
    ),
    Severity.FATAL: ErrorMessage(
        "ERR_FATAL",
        True,
        EXP_DEVCTL_FERE,
        EXP_DEVSTA_FED,
        _UNCOR_RCV,
        _MULTI_UNCOR,
        AER_ROOT_FATAL_RCV,
        AER_ROOT_FIRST_FATAL,
        source=2,
    ),
}


# -- detection ---------------------------------------------------------------------------------
def detect_correctable(function: Function, bit: int) -> None:
    """The function detects correctable error ``bit`` (linux-aer.md 2.1).

    Nothing happens while it is in reset, and in a conventional function, which has no such errors.
    """
    if function.in_reset() or not function.exp:
        return
    config, aer = function.config, function.aer
    config.set_bits(function.exp + EXP.DEVSTA, 2, EXP_DEVSTA_CED)
    if aer:
        config.set_bits(aer + AER.COR_STATUS, 4, 1 << bit)
        if config.peek(aer + AER.COR_MASK, 4) >> bit & 1:
            return
    if _device_control(function) & EXP_DEVCTL_CERE:
        send_message(function, _CORRECTABLE)


def detect_uncorrectable(
    function: Function,
    bit: int,
    *,
    header: tuple[int, int, int, int] = NO_HEADER,
    prefixes: tuple[int, ...] = (),
    advisory: bool = False,
) -> None:
    """The function detects uncorrectable error ``bit``; ``header`` and ``prefixes`` are the dwords of the TLP.

    ``advisory``: the situation is one of the role-based ones, in which a nonfatal error is reported as
    correctable if the function is of the role-based kind (Device Capabilities bit 15). Nothing happens while
    the function is in reset, and in a conventional function, which has no such errors.
    """
    if function.in_reset() or not function.exp:
        return
    fatal = _is_fatal(function, bit)
    if bit == SURPRISE_DOWN and isinstance(function, Port) and function.fabric.profile.surprise_down_freezes:
        function.link.freeze()
    if advisory and not fatal and function.spec.role_based:
        _advisory(function, bit, header, prefixes)
    else:
        _uncorrectable(function, bit, Severity.FATAL if fatal else Severity.NONFATAL, header, prefixes)


def _is_fatal(function: Function, bit: int) -> bool:
    """Severity register, or the fixed default severity of a function without AER."""
    if function.aer:
        return bool(function.config.peek(function.aer + AER.UNCOR_SEVER, 4) >> bit & 1)
    return bit in UNCOR_BY_NUMBER and UNCOR_BY_NUMBER[bit].fatal


def _advisory(function: Function, bit: int, header: tuple[int, ...], prefixes: tuple[int, ...]) -> None:
    """Advisory Non-Fatal Error: correctable bit 13. A function without AER sends no message for it."""
    config, aer = function.config, function.aer
    unsupported = bit == UNSUPPORTED_REQUEST
    config.set_bits(function.exp + EXP.DEVSTA, 2, EXP_DEVSTA_CED | EXP_DEVSTA_URD * unsupported)
    if not aer:
        return
    config.set_bits(aer + AER.COR_STATUS, 4, 1 << ADVISORY_NONFATAL)
    if config.peek(aer + AER.COR_MASK, 4) >> ADVISORY_NONFATAL & 1:
        return
    if not config.peek(aer + AER.UNCOR_MASK, 4) >> bit & 1:
        _record_log(function, bit, header, prefixes)
    config.set_bits(aer + AER.UNCOR_STATUS, 4, 1 << bit)
    wanted = EXP_DEVCTL_CERE | EXP_DEVCTL_URRE * unsupported
    if _device_control(function) & wanted == wanted:
        send_message(function, _CORRECTABLE)


def _uncorrectable(
    function: Function, bit: int, severity: Severity, header: tuple[int, ...], prefixes: tuple[int, ...]
) -> None:
    config, aer = function.config, function.aer
    unsupported = bit == UNSUPPORTED_REQUEST
    config.set_bits(function.exp + EXP.DEVSTA, 2, MESSAGES[severity].detected | EXP_DEVSTA_URD * unsupported)
    if aer:
        masked = config.peek(aer + AER.UNCOR_MASK, 4) >> bit & 1
        if not masked:
            _record_log(function, bit, header, prefixes)
        config.set_bits(aer + AER.UNCOR_STATUS, 4, 1 << bit)
        if masked:
            return
    if contains_own(function):
        return
    control, serr = _device_control(function), _serr_enabled(function)
    if unsupported and not (serr or control & EXP_DEVCTL_URRE):
        return
    if serr or control & MESSAGES[severity].enable:
        send_message(function, severity)


def _device_control(function: Function) -> int:
    return function.config.peek(function.exp + EXP.DEVCTL, 2)


def _serr_enabled(function: Function) -> bool:
    return bool(function.config.peek(HEADER.COMMAND, 2) & COMMAND_SERR)


# -- First Error Pointer and logs ----------------------------------------------------------------
def _record_log(function: Function, bit: int, header: tuple[int, ...], prefixes: tuple[int, ...]) -> None:
    """First Error Pointer, header and prefix log, unless they hold an older error (linux-aer.md 2.1)."""
    profile = function.fabric.profile
    if function.log_valid and not profile.overwrite_log:
        return
    if profile.swap_header:
        header, prefixes = tuple(map(swap_bytes, header)), tuple(map(swap_bytes, prefixes))
    _set_log(function, bit | AER_CAP_PREFIX_LOG_PRESENT * bool(prefixes), header)
    if function.prefix_log:
        function.config.poke_dwords(function.prefix_log, (*prefixes, 0, 0, 0, 0)[:4])
    function.log_valid = True


def _set_log(function: Function, pointer: int, header: tuple[int, ...]) -> None:
    config, cap = function.config, function.aer + AER.CAP
    kept = config.peek(cap, 4) & ~(AER_CAP_FEP | AER_CAP_PREFIX_LOG_PRESENT)
    config.poke(cap, 4, kept | pointer)
    config.poke_dwords(function.aer + AER.HEADER_LOG, header)


def swap_bytes(dword: int) -> int:
    """The dword with its four bytes in reverse order."""
    return int.from_bytes(dword.to_bytes(4, "little"), "big")


def first_error(function: Function) -> int:
    """The bit number in the First Error Pointer, valid or not."""
    return function.config.peek(function.aer + AER.CAP, 4) & AER_CAP_FEP


def rearm_log(function: Function) -> None:
    """After a write to UNCOR_STATUS: clearing the bit that the pointer names makes room for the next error."""
    status = function.config.peek(function.aer + AER.UNCOR_STATUS, 4)
    if not status >> first_error(function) & 1:
        function.log_valid = False


def drop_stale_log(function: Function) -> None:
    """``ports_clear_log``: a port forgets pointer and header while the bit that the pointer names is clear."""
    rearm_log(function)
    if not function.log_valid:
        _set_log(function, 0, NO_HEADER)


# -- the message on its way ----------------------------------------------------------------------
def send_message(function: Function, severity: Severity) -> None:
    """Send ERR_COR, ERR_NONFATAL or ERR_FATAL from ``function`` towards its root port (linux-aer.md 2.2).

    Lost when a link on the way is down, when a port stops or contains it, or when no root port is above. An integrated
    endpoint sends to its event collector, which is no bridge and has no gate (3.9).
    """
    message = MESSAGES[severity]
    passes = _passes_strict if function.fabric.profile.strict_gates else _passes
    at: Function | None = function
    while at is not None and passes(at, message, at is function):
        root = collector_of(at) if at.kind == "rciep" else at
        if isinstance(root, _RECEIVERS):
            _receive(root, message, function.sbdf.rid)
            return
        at = at.parent
        if isinstance(at, Port) and (not at.link.up or contains_received(at, severity, function.sbdf.rid)):
            return


def _passes(at: Function, message: ErrorMessage, is_source: bool) -> bool:
    """Gates of the specification. The source has asked its own enables already."""
    serr = _serr_enabled(at)
    if not is_source:
        if message.uncorrectable:
            at.config.set_bits(TYPE1.SEC_STATUS, 2, SEC_STATUS_RCV_SYSTEM_ERROR)
        if not at.config.peek(TYPE1.BRIDGE_CONTROL, 2) & BRIDGE_CTL_SERR:
            return False
        if not (serr or _device_control(at) & message.enable):
            return False
    if message.uncorrectable and serr:
        at.config.set_bits(HEADER.STATUS, 2, STATUS_SIG_SYSTEM_ERROR)
    return True


def _passes_strict(at: Function, message: ErrorMessage, is_source: bool) -> bool:
    """Gates of the QEMU profiles (errata 4.3): the same five steps for the source and for every bridge."""
    if at.kind in PORTS:
        if message.uncorrectable:
            at.config.set_bits(TYPE1.SEC_STATUS, 2, SEC_STATUS_RCV_SYSTEM_ERROR)
        if not at.config.peek(TYPE1.BRIDGE_CONTROL, 2) & BRIDGE_CTL_SERR:
            return False
    enabled = bool(_device_control(at) & message.enable)
    serr = message.uncorrectable and _serr_enabled(at)
    if at.fabric.profile.serr_gate and not serr:
        return False
    if enabled or serr:
        at.config.set_bits(HEADER.STATUS, 2, STATUS_SIG_SYSTEM_ERROR)
    return enabled


def _receive(root: RootPort | EventCollector, message: ErrorMessage, requester_id: int) -> None:
    """The root port or event collector records the message (linux-aer.md 2.3).

    The source ID stays that of the first of its class.
    """
    if not root.aer:
        return
    config, offset = root.config, root.aer + AER.ROOT_STATUS
    status = config.peek(offset, 4)
    if status & message.received:
        status |= message.multiple
    else:
        status |= message.received | message.first
        config.poke(root.aer + AER.ROOT_ERR_SRC + message.source, 2, requester_id)
    config.poke(offset, 4, status | message.also)
    root.aer_interrupt.update()
