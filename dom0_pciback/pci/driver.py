"""``struct pci_driver`` and ``struct pci_error_handlers`` (linux-aer.md 0.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dom0_pciback.pci.device import PciDev
from protocol.ers import ChannelState

Detected = Callable[[PciDev, ChannelState], Awaitable[int]]
Voting = Callable[[PciDev], Awaitable[int]]
Telling = Callable[[PciDev], Awaitable[None]]


@dataclass(slots=True, frozen=True)
class ErrorHandlers:
    """The callbacks of error recovery; each may be missing.

    ``error_detected``, ``mmio_enabled`` and ``slot_reset`` answer with an ``ErsResult`` (any other integer is
    accepted as the kernel accepts it). ``reset_prepare`` and ``reset_done`` belong to function resets and are
    never called by a recovery. ``cor_error_detected`` is called without the device lock.
    """

    error_detected: Detected | None = None
    mmio_enabled: Voting | None = None
    slot_reset: Voting | None = None
    resume: Telling | None = None
    reset_prepare: Telling | None = None
    reset_done: Telling | None = None
    cor_error_detected: Telling | None = None


NO_HANDLERS = ErrorHandlers()


@dataclass(slots=True, frozen=True)
class PciDriver:
    """A driver. ``probe`` returns 0 or a negative errno; both callbacks run under the device lock."""

    name: str
    err_handler: ErrorHandlers | None = None
    probe: Voting | None = None
    remove: Telling | None = None


def handlers_of(dev: PciDev) -> ErrorHandlers:
    """The error handlers of the bound driver; all missing if there is none (T10: a structure may be empty)."""
    driver = dev.driver
    return NO_HANDLERS if driver is None or driver.err_handler is None else driver.err_handler
