"""Every AER error bit with all its names, once.

One row serves the kernel log, sysfs, ``lspci -vvv``, the trace event, the inject parsers and the manual.
Source: linux-aer.md 1.3 and 1.4, ``aer-bits.json``. Bits of both registers without a row are reserved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["correctable", "uncorrectable"]

PHYSICAL, DATA_LINK = "Physical Layer", "Data Link Layer"
TRANSACTION, GENERAL = "Transaction Layer", "General"
RECEIVER, REQUESTER, COMPLETER = "Receiver ID", "Requester ID", "Completer ID"
TRANSMITTER, COMPONENT = "Transmitter ID", "Component ID"

_SAME = "="


class Bit(NamedTuple):
    """One error. ``name`` is the kernel's log and sysfs name; None means that a tool has no name for it.

    ``fatal`` is the default severity and ``masked_by_default`` the default mask (linux-aer.md 1.6).
    ``header_logged``: a TLP header belongs to the error; ``header_if_capable``: only with ``CAP`` bit 12.
    """

    number: int
    macro: str
    name: str
    title: str
    lspci: str | None
    inject: str | None
    qemu: str | None
    trace: str | None
    layer: str
    agent: str
    fatal: bool
    header_logged: bool
    header_if_capable: bool
    masked_by_default: bool

    @property
    def mask(self) -> int:
        """The bit's value in its status, mask and severity registers."""
        return 1 << self.number

    @property
    def short(self) -> str:
        """The macro without its prefix: ``COMP_ABORT`` for ``PCI_ERR_UNC_COMP_ABORT``."""
        return self.macro.split("_", 3)[3]

    def names(self) -> tuple[str, ...]:
        """Every name by which a person may call the bit, the kernel's log name first, without repetitions."""
        given = (self.name, self.short, self.inject, self.qemu, self.lspci, self.macro)
        return tuple(dict.fromkeys(name for name in given if name is not None))


class _Names(NamedTuple):
    """Names that other tools use; ``=`` repeats the macro (inject, qemu), the title (trace), the log name (lspci)."""

    inject: str | None = _SAME
    qemu: str | None = _SAME
    trace: str | None = _SAME
    lspci: str | None = _SAME


_ALL = _Names()
_NO_INJECT = _Names(inject=None)
_KERNEL_ONLY = _Names(inject=None, qemu=None, trace=None)

Row = tuple[int, str, str, str, str, str, str, _Names]

# fmt: off
# flags: F fatal by default, H header logged, h header logged if CAP bit 12, M masked by default
_UNCOR_ROWS: tuple[Row, ...] = (
    (0, "UND", "Undefined", "Undefined", "", TRANSACTION, RECEIVER, _Names(inject="TRAIN", qemu=None, lspci=None)),
    (4, "DLP", "DLP", "Data Link Protocol Error", "F", DATA_LINK, RECEIVER, _ALL),
    (5, "SURPDN", "SDES", "Surprise Down Error", "F", DATA_LINK, COMPONENT, _Names(inject=None, qemu="SDN")),
    (12, "POISON_TLP", "TLP", "Poisoned TLP Received", "H", TRANSACTION, RECEIVER, _Names(trace="Poisoned TLP")),
    (13, "FCP", "FCP", "Flow Control Protocol Error", "F", TRANSACTION, RECEIVER, _ALL),
    (14, "COMP_TIME", "CmpltTO", "Completion Timeout", "h", TRANSACTION, REQUESTER, _ALL),
    (15, "COMP_ABORT", "CmpltAbrt", "Completer Abort", "H", TRANSACTION, COMPLETER, _ALL),
    (16, "UNX_COMP", "UnxCmplt", "Unexpected Completion", "H", TRANSACTION, RECEIVER, _ALL),
    (17, "RX_OVER", "RxOF", "Receiver Overflow", "F", TRANSACTION, RECEIVER, _ALL),
    (18, "MALF_TLP", "MalfTLP", "Malformed TLP", "FH", TRANSACTION, RECEIVER, _ALL),
    (19, "ECRC", "ECRC", "ECRC Error", "H", TRANSACTION, RECEIVER, _ALL),
    (20, "UNSUP", "UnsupReq", "Unsupported Request Error", "H", TRANSACTION, RECEIVER, _ALL),
    (21, "ACSV", "ACSViol", "ACS Violation", "H", TRANSACTION, RECEIVER, _NO_INJECT),
    (22, "INTN", "UncorrIntErr", "Uncorrectable Internal Error", "FM", GENERAL, COMPONENT, _NO_INJECT),
    (23, "MCBTLP", "BlockedTLP", "MC Blocked TLP", "H", TRANSACTION, RECEIVER, _NO_INJECT),
    (24, "ATOMEG", "AtomicOpBlocked", "AtomicOp Egress Blocked", "H", TRANSACTION, TRANSMITTER,
     _Names(inject=None, qemu="ATOP_EBLOCKED")),
    (25, "TLPPRE", "TLPBlockedErr", "TLP Prefix Blocked Error", "HM", TRANSACTION, TRANSMITTER,
     _Names(inject=None, qemu="TLP_PRF_BLOCKED")),
    (26, "POISON_BLK", "PoisonTLPBlocked", "Poisoned TLP Egress Blocked", "H", TRANSACTION, TRANSMITTER, _KERNEL_ONLY),
    (27, "DMWR_BLK", "DMWrReqBlocked", "DMWr Request Egress Blocked", "H", TRANSACTION, TRANSMITTER, _KERNEL_ONLY),
    (28, "IDE_CHECK", "IDECheck", "IDE Check Failed", "H", TRANSACTION, RECEIVER, _KERNEL_ONLY),
    (29, "MISR_IDE", "MisIDETLP", "Misrouted IDE TLP", "H", TRANSACTION, RECEIVER, _KERNEL_ONLY),
    (30, "PCRC_CHECK", "PCRC_CHECK", "PCRC Check Failed", "H", TRANSACTION, RECEIVER, _KERNEL_ONLY),
    (31, "XLAT_BLK", "TLPXlatBlocked", "TLP Translation Egress Blocked", "H", TRANSACTION, TRANSMITTER, _KERNEL_ONLY),
)

_COR_ROWS: tuple[Row, ...] = (
    (0, "RCVR", "RxErr", "Receiver Error", "", PHYSICAL, RECEIVER, _ALL),
    (6, "BAD_TLP", "BadTLP", "Bad TLP", "", DATA_LINK, RECEIVER, _ALL),
    (7, "BAD_DLLP", "BadDLLP", "Bad DLLP", "", DATA_LINK, RECEIVER, _ALL),
    (8, "REP_ROLL", "Rollover", "REPLAY_NUM Rollover", "", DATA_LINK, TRANSMITTER, _Names(trace="RELAY_NUM Rollover")),
    (12, "REP_TIMER", "Timeout", "Replay Timer Timeout", "", DATA_LINK, TRANSMITTER, _ALL),
    (13, "ADV_NFAT", "NonFatalErr", "Advisory Non-Fatal Error", "M", TRANSACTION, RECEIVER,
     _Names(inject=None, qemu="ADV_NONFATAL", lspci="AdvNonFatalErr")),
    (14, "INTERNAL", "CorrIntErr", "Corrected Internal Error", "M", GENERAL, COMPONENT, _NO_INJECT),
    (15, "LOG_OVER", "HeaderOF", "Header Log Overflow", "M", GENERAL, COMPONENT,
     _Names(inject=None, qemu="HL_OVERFLOW")),
)
# fmt: on


def _same(given: str | None, default: str) -> str | None:
    return default if given == _SAME else given


def _bit(prefix: str, row: Row) -> Bit:
    number, short, name, title, flags, layer, agent, other = row
    return Bit(
        number,
        prefix + short,
        name,
        title,
        _same(other.lspci, name),
        _same(other.inject, short),
        _same(other.qemu, short),
        _same(other.trace, title),
        layer,
        agent,
        fatal="F" in flags,
        header_logged="H" in flags,
        header_if_capable="h" in flags,
        masked_by_default="M" in flags,
    )


UNCOR: tuple[Bit, ...] = tuple(_bit("PCI_ERR_UNC_", row) for row in _UNCOR_ROWS)
COR: tuple[Bit, ...] = tuple(_bit("PCI_ERR_COR_", row) for row in _COR_ROWS)

UNCOR_BY_NUMBER: dict[int, Bit] = {bit.number: bit for bit in UNCOR}
COR_BY_NUMBER: dict[int, Bit] = {bit.number: bit for bit in COR}
BY_KIND: dict[Kind, dict[int, Bit]] = {"correctable": COR_BY_NUMBER, "uncorrectable": UNCOR_BY_NUMBER}

UNCOR_ALL = sum(bit.mask for bit in UNCOR)
UNCOR_FATAL = sum(bit.mask for bit in UNCOR if bit.fatal)
UNCOR_MASKED = sum(bit.mask for bit in UNCOR if bit.masked_by_default)
COR_ALL = sum(bit.mask for bit in COR)
COR_MASKED = sum(bit.mask for bit in COR if bit.masked_by_default)

SURPRISE_DOWN = 5
COMPLETION_TIMEOUT = 14
COMPLETER_ABORT = 15
UNSUPPORTED_REQUEST = 20
ADVISORY_NONFATAL = 13  # correctable


def _index() -> dict[str, tuple[Kind, Bit]]:
    index: dict[str, tuple[Kind, Bit]] = {}
    for kind, bits in BY_KIND.items():
        for bit in bits.values():
            for name in bit.names():
                known = index.setdefault(name.upper(), (kind, bit))
                assert known == (kind, bit), f"{name} names two errors"
    return index


_BY_NAME = _index()


def find_error(name: str) -> tuple[Kind, Bit]:
    """The error with this log name, aer-inject keyword, QEMU keyword, lspci name or macro, in any case.

    Raises ValueError that lists the allowed names.
    """
    found = _BY_NAME.get(name.strip().upper())
    if found is None:
        raise ValueError(f"{name!r} is not an AER error; known: {', '.join(allowed_names())}")
    return found


def allowed_names(kind: Kind | None = None) -> list[str]:
    """The preferred name (macro without prefix) of every error of ``kind``, or of both kinds."""
    kinds: list[Kind] = ["correctable", "uncorrectable"] if kind is None else [kind]
    return [bit.short for one in kinds for bit in BY_KIND[one].values()]


def bits_of(kind: Kind, status: int) -> Iterator[tuple[int, Bit | None]]:
    """Number and row (None: reserved) of every bit set in ``status``, lowest first."""
    table = BY_KIND[kind]
    while status > 0:
        number = (status & -status).bit_length() - 1
        yield number, table.get(number)
        status &= status - 1
