"""Downstream Port Containment in hardware: what triggers it, what it does to the link, how it is released.

Source: linux-aer.md 10.1 and 10.3. A trigger takes the link down, which resets everything below, and latches
reason and source; the error that caused it is not reported to the root port. Clearing the trigger status lets the link
train again, as after a Secondary Bus Reset.
"""

from __future__ import annotations

from dom0_pciback.pcie import resets
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.port import Port
from protocol.ers import Severity
from protocol.layout_dpc import (
    DPC,
    DPC_CAP_RP_EXT,
    DPC_CTL_EN_FATAL,
    DPC_CTL_EN_MASK,
    DPC_CTL_EN_NONFATAL,
    DPC_CTL_INT_EN,
    DPC_CTL_SW_TRIGGER,
    DPC_REASON_FATAL,
    DPC_REASON_NONFATAL,
    DPC_REASON_RP_PIO,
    DPC_REASON_SW_TRIGGER,
    DPC_REASON_UNCOR,
    DPC_STATUS_INTERRUPT,
    DPC_STATUS_RP_BUSY,
    DPC_STATUS_RP_PIO_FEP,
    DPC_STATUS_RP_PIO_FEP_SHIFT,
    DPC_STATUS_TRIGGER,
    RP_PIO_ALL,
)
from protocol.layout_header import SEC_STATUS_RCV_SYSTEM_ERROR, TYPE1

NO_HEADER = (0, 0, 0, 0)

# message received -> (control bits of which one must be set, reason)
RECEIVED = {
    Severity.NONFATAL: (DPC_CTL_EN_NONFATAL, DPC_REASON_NONFATAL),
    Severity.FATAL: (DPC_CTL_EN_FATAL | DPC_CTL_EN_NONFATAL, DPC_REASON_FATAL),
}


# -- what triggers -------------------------------------------------------------------------------
def contains_own(function: Function) -> bool:
    """The function has an unmasked uncorrectable error: whether it contains it instead of reporting it.

    Its severity does not matter. What a port detects while it is contained belongs to the same event.
    """
    if not function.dpc or not _control(function) & DPC_CTL_EN_MASK:
        return False
    _trigger(function, DPC_REASON_UNCOR)
    return True


def contains_received(port: Function, severity: Severity, requester_id: int) -> bool:
    """A message arrives from below: whether the port contains it instead of forwarding it."""
    if not port.dpc or severity not in RECEIVED:
        return False
    wanted, reason = RECEIVED[severity]
    if not _control(port) & wanted:
        return False
    port.config.set_bits(TYPE1.SEC_STATUS, 2, SEC_STATUS_RCV_SYSTEM_ERROR)
    _trigger(port, reason, requester_id)
    return True


def detect_rp_pio(port: Function, bits: int, header: tuple[int, int, int, int] = NO_HEADER) -> None:
    """Requests of the root complex fail as ``bits`` of the RP PIO status say; ``header`` is that of the first.

    Only unmasked errors with their severity bit set trigger; the others are advisory. Raises ValueError for a
    port without root port extensions and for bits that are reserved or none.
    """
    if not has_rp_extensions(port):
        raise ValueError(f"{port.sbdf} has no root port extensions of DPC")
    if not bits or bits & ~RP_PIO_ALL:
        raise ValueError(f"{port.sbdf}: RP PIO errors {bits:#x}; allowed: bits of {RP_PIO_ALL:#x}")
    config, dpc = port.config, port.dpc
    unmasked = bits & ~config.peek(dpc + DPC.RP_PIO_MASK, 4)
    if unmasked:
        _record_rp_pio(port, unmasked, header)
    config.set_bits(dpc + DPC.RP_PIO_STATUS, 4, bits)
    if unmasked & config.peek(dpc + DPC.RP_PIO_SEVERITY, 4) and _control(port) & DPC_CTL_EN_MASK:
        _trigger(port, DPC_REASON_RP_PIO)


def _record_rp_pio(port: Function, unmasked: int, header: tuple[int, int, int, int]) -> None:
    """First error pointer and header log, unless the error that the pointer names is still there."""
    config, offset = port.config, port.dpc + DPC.STATUS
    status = config.peek(offset, 2)
    pointer = (status & DPC_STATUS_RP_PIO_FEP) >> DPC_STATUS_RP_PIO_FEP_SHIFT
    if config.peek(port.dpc + DPC.RP_PIO_STATUS, 4) >> pointer & 1:
        return
    first = (unmasked & -unmasked).bit_length() - 1
    config.poke(offset, 2, status & ~DPC_STATUS_RP_PIO_FEP | first << DPC_STATUS_RP_PIO_FEP_SHIFT)
    config.poke_dwords(port.dpc + DPC.RP_PIO_HEADER_LOG, header)


# -- what a trigger does ---------------------------------------------------------------------------
def _trigger(port: Function, reason: int, source: int = 0) -> None:
    """The link goes down and everything below is reset; nothing happens to a port that is contained already."""
    assert isinstance(port, Port)
    config, offset = port.config, port.dpc + DPC.STATUS
    status = config.peek(offset, 2)
    if status & DPC_STATUS_TRIGGER:
        return
    told = status & DPC_STATUS_INTERRUPT
    interrupt = DPC_STATUS_INTERRUPT if _control(port) & DPC_CTL_INT_EN else told
    kept = status & (DPC_STATUS_RP_PIO_FEP | DPC_STATUS_RP_BUSY)
    config.poke(offset, 2, kept | DPC_STATUS_TRIGGER | reason | interrupt)
    config.poke(port.dpc + DPC.SOURCE_ID, 2, source)
    resets.assert_bus_reset(port)
    port.link.contain()
    if interrupt and not told:
        port.fabric.interrupt(port)


def release(port: Port) -> None:
    """The trigger status was cleared."""
    port.link.end_containment()
    resets.deassert_bus_reset(port)


def set_busy(port: Function, busy: bool) -> None:
    """A root port with extensions still has requests in flight, or has none any more."""
    offset = port.dpc + DPC.STATUS
    idle = port.config.peek(offset, 2) & ~DPC_STATUS_RP_BUSY
    port.config.poke(offset, 2, idle | DPC_STATUS_RP_BUSY * busy)


# -- registers ---------------------------------------------------------------------------------------
def has_rp_extensions(port: Function) -> bool:
    """Whether the port has RP PIO registers."""
    return bool(port.dpc and port.config.peek(port.dpc + DPC.CAP, 2) & DPC_CAP_RP_EXT)


def hang_hooks(port: Port) -> None:
    """Writing 1 to the software trigger contains the port, writing 1 to the trigger status releases it."""

    def control_written(old: int, new: int, value: int) -> None:
        if value >> 16 & DPC_CTL_SW_TRIGGER and _control(port) & DPC_CTL_EN_MASK:  # the upper half of its dword
            _trigger(port, DPC_REASON_SW_TRIGGER)

    def status_written(old: int, new: int, value: int) -> None:
        if old & ~new & DPC_STATUS_TRIGGER:
            release(port)

    port.config.hooks[int(port.dpc + DPC.CAP)] = control_written
    port.config.hooks[int(port.dpc + DPC.STATUS)] = status_written


def _control(port: Function) -> int:
    return port.config.peek(port.dpc + DPC.CTL, 2)
