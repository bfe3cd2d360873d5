"""Resets: function level, and of everything below a port.

Source: linux-aer.md 1.2 and 4.8, errata 4.4. Registers go to their reset values except the sticky ones.
"""

from __future__ import annotations

from dom0_pciback.pcie.collector import EventCollector
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.port import Port
from protocol.layout_header import HEADER
from protocol.layout_pcie import (
    EXP,
    EXP_SLTSTA_ATTENTION,
    EXP_SLTSTA_COMMAND_COMPLETED,
    EXP_SLTSTA_PRESENCE_CHANGED,
    SLOT_PORTS,
)

NS_PER_MS = 1_000_000
SLOT_EVENTS = EXP_SLTSTA_ATTENTION | EXP_SLTSTA_PRESENCE_CHANGED | EXP_SLTSTA_COMMAND_COMPLETED


def function_level_reset(function: Function) -> None:
    """FLR: this function only; it answers again after its ``ready_ms``."""
    _reset(function)
    _start_waking(function)
    function.refresh()


def assert_bus_reset(port: Port) -> None:
    """Secondary Bus Reset set: everything below goes into reset and the link down."""
    for function in port.below():
        if isinstance(function, Port):
            function.link.hold_in_reset()
        _reset(function)
        function.ready_at = -1
    port.link.hold_in_reset()


def deassert_bus_reset(port: Port) -> None:
    """Secondary Bus Reset cleared: links train, functions below answer after their ``ready_ms``.

    A switch below has lost its bus numbers, so what is behind it stays unreachable until they are restored.
    """
    for function in port.below():
        _start_waking(function)
        if isinstance(function, Port):
            function.link.release(dead=_stays_dead(function))
    port.link.release(dead=_stays_dead(port))


def _stays_dead(port: Port) -> bool:
    return port.spec.link_dead_after_reset or any(child.spec.link_dead_after_reset for child in port.children)


def _reset(function: Function) -> None:
    profile, config = function.fabric.profile, function.config
    control = config.peek(function.exp + EXP.DEVCTL, 2)
    if function.reset_fault is not None and function.reset_fault.ids is not None:
        exchange(function, *function.reset_fault.ids)
    config.reset()
    if profile.bridge_keeps_control and function.kind == "pcie_pci_bridge":
        config.poke(function.exp + EXP.DEVCTL, 2, control)
    if profile.reset_clears_slot_events and function.kind in SLOT_PORTS:
        slot_status = function.exp + EXP.SLTSTA
        config.poke(slot_status, 2, config.peek(slot_status, 2) & ~SLOT_EVENTS)
    if isinstance(function, EventCollector):
        function.aer_interrupt.update()  # Root Error Command is 0 now
    function.fabric.on_reset(function)


def exchange(function: Function, vendor: int, device: int) -> None:
    """Another card sits there from now on: its own IDs, and every register, sticky ones too, as after power on."""
    function.config.power_on()
    for register, value in ((HEADER.VENDOR_ID, vendor), (HEADER.DEVICE_ID, device)):
        function.config.preset(register, register.width, value)


def power_on(function: Function) -> None:
    """The function has had no power: nothing is left in its registers; it answers after its ``ready_ms``."""
    function.config.power_on()
    function.fabric.on_reset(function)
    _start_waking(function)


def _start_waking(function: Function) -> None:
    fault = function.reset_fault
    ready_ms = function.spec.ready_ms if fault is None else fault.ready_ms
    function.ready_at = -1 if ready_ms < 0 else function.fabric.clock.now() + ready_ms * NS_PER_MS
