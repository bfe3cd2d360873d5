"""Root Complex Event Collector Endpoint Association extended capability (ID 0x0007).

Source: linux-aer.md 3.9. Offsets are relative to the capability.
"""

from __future__ import annotations

from protocol.registers import Layout, Reg

OWN_BUS_ONLY = (0xFF, 0x00)  # first and last bus: there are no endpoints on other buses
RCEC_BUSN_FIRST_SHIFT = 8
RCEC_BUSN_LAST_SHIFT = 16
RCEC_BUSN_VERSION = 2  # the bus range exists from this version of the capability on


class RCEC(Layout, length=0x0C, cap_id=0x0007, extended=True, version=2):
    """Which integrated endpoints report to the collector: device numbers on its bus, and a range of buses."""

    BITMAP = Reg(0x04)
    BUSN = Reg(0x08)


def bus_numbers(first: int, last: int) -> int:
    """Value of ``BUSN`` for a range of buses."""
    return first << RCEC_BUSN_FIRST_SHIFT | last << RCEC_BUSN_LAST_SHIFT


def bus_range(busn: int) -> tuple[int, int]:
    """First and last bus that a value of ``BUSN`` names."""
    return busn >> RCEC_BUSN_FIRST_SHIFT & 0xFF, busn >> RCEC_BUSN_LAST_SHIFT & 0xFF
