"""Devices that are gone: dead, behind a broken link, pulled out; and their return.

A dead function answers nothing and detects nothing, whatever is reset. A link that goes down, and a card that is
pulled out, take everything below the port along; the port reports Surprise Down unless its slot expects it (PCI
Express 6.2.10; linux-aer.md 2.1 bit 5, 4.10).
"""

from __future__ import annotations

from dom0_pciback.pcie import errors, resets
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.hierarchy import Hierarchy
from dom0_pciback.pcie.port import Port
from protocol.bits import SURPRISE_DOWN
from protocol.ids import Sbdf


def die(function: Function) -> None:
    """The function is dead: reads give all ones, no DMA, no MSI, no error message."""
    function.dead = True
    function.refresh()


def link_above(function: Function) -> Port:
    """The port whose link leads to a function. Raises ValueError for a function on a root bus."""
    if not isinstance(function.parent, Port):
        raise ValueError(f"{function.sbdf} has no link above it: it is on a root bus")
    return function.parent


def cut_link(function: Function) -> Port:
    """The link above goes down and stays down; the port that lost it reports that. Raises ValueError."""
    port = link_above(function)
    port.link.cut()
    errors.detect_uncorrectable(port, SURPRISE_DOWN)
    return port


def pull(hierarchy: Hierarchy, function: Function, *, expected: bool) -> Port:
    """The card is pulled out of its slot, with all its functions; ``expected``: the slot can tell.

    Raises ValueError for a function on a root bus.
    """
    port = link_above(function)
    for each in reversed(list(port.children)):
        hierarchy.unplug(each.sbdf)
    if not expected:
        errors.detect_uncorrectable(port, SURPRISE_DOWN)
    return port


def bring_back(hierarchy: Hierarchy, sbdf: Sbdf) -> None:
    """Undo what was done to a function; it, or all of its card, comes back as after power on. Raises ValueError."""
    function = hierarchy.functions.get(sbdf) or hierarchy.taken_out(sbdf)
    if function is None:
        raise ValueError(f"no PCI device {sbdf}")
    port = function.parent
    if sbdf not in hierarchy.functions:
        assert port is not None
        for each in hierarchy.taken_out_below(port.sbdf):
            hierarchy.plug(each)
    elif function.dead:
        function.dead = False
        resets.power_on(function)
    elif isinstance(port, Port) and not port.link.up:
        for below in port.below():
            resets.power_on(below)
        port.link.mend()
    else:
        raise ValueError(f"{sbdf} is not gone")
    function.refresh()
