"""Functions that collect error messages and interrupt: root ports, and event collectors for integrated endpoints.

Source: linux-aer.md 2.3 (interrupt) and 3.9 (which endpoints belong to a collector).
"""

from __future__ import annotations

from dom0_pciback.pcie.function import Fabric, Function
from protocol.layout_aer import (
    AER,
    AER_ROOT_CMD_COR_EN,
    AER_ROOT_CMD_FATAL_EN,
    AER_ROOT_CMD_NONFATAL_EN,
    AER_ROOT_COR_RCV,
    AER_ROOT_FATAL_RCV,
    AER_ROOT_NONFATAL_RCV,
    AER_ROOT_STATUS_ALL,
)
from protocol.layout_rcec import RCEC, bus_range
from protocol.topology import FunctionSpec

# A class interrupts while it is received (Root Status) and enabled (Root Command): linux-aer.md 2.3.
INTERRUPT_CLASSES = (
    (AER_ROOT_COR_RCV, AER_ROOT_CMD_COR_EN),
    (AER_ROOT_NONFATAL_RCV, AER_ROOT_CMD_NONFATAL_EN),
    (AER_ROOT_FATAL_RCV, AER_ROOT_CMD_FATAL_EN),
)
# Root Status -> the enables of which one lets it interrupt
ENABLED_BY = tuple(
    sum(enabled for received, enabled in INTERRUPT_CLASSES if status & received)
    for status in range(AER_ROOT_STATUS_ALL + 1)
)


class AerInterrupt:
    """The AER interrupt of one function with root error registers; ``level`` is its condition."""

    __slots__ = ("function", "level")

    def __init__(self, function: Function) -> None:
        self.function = function
        self.level = False

    def update(self) -> None:
        """Interrupt when the condition becomes true, and only then (linux-aer.md 2.3, T27, C13)."""
        function, config = self.function, self.function.config
        status = config.peek(function.aer + AER.ROOT_STATUS, 4)
        command = config.peek(function.aer + AER.ROOT_COMMAND, 4)
        before = self.level
        self.level = bool(ENABLED_BY[status & AER_ROOT_STATUS_ALL] & command)
        if self.level and not before:
            function.fabric.interrupt(function)


class EventCollector(Function):
    """A Root Complex Event Collector. ``rcec`` is the offset of its Endpoint Association capability, 0 without it."""

    __slots__ = ("aer_interrupt", "rcec")

    def __init__(self, spec: FunctionSpec, parent: Function | None, fabric: Fabric) -> None:
        super().__init__(spec, parent, fabric)
        self.aer_interrupt = AerInterrupt(self)
        self.rcec = 0

    def collects_from(self, function: Function) -> bool:
        """Is ``function`` an integrated endpoint that reports to this collector (3.9)?"""
        if not self.rcec or function.kind != "rciep" or function.sbdf.segment != self.sbdf.segment:
            return False
        if function.sbdf.bus == self.sbdf.bus:
            return bool(self.config.peek(self.rcec + RCEC.BITMAP, 4) >> function.sbdf.device & 1)
        first, last = bus_range(self.config.peek(self.rcec + RCEC.BUSN, 4))
        return first <= function.sbdf.bus <= last


def collector_of(function: Function) -> EventCollector | None:
    """The event collector to which an integrated endpoint reports; without one it reports to nobody (3.9)."""
    collectors = (each for each in function.fabric.functions.values() if isinstance(each, EventCollector))
    return next((each for each in collectors if each.collects_from(function)), None)
