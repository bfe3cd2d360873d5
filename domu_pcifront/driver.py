"""Guest drivers: the base class that authors subclass, how a handler is called, and which drivers there are."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from domu_pcifront import plain
from domu_pcifront.device import GuestPciDev
from domu_pcifront.options import Option, problems
from domu_pcifront.program_process import find_program
from domu_pcifront.program_wire import PREFIX
from kernel_stub.kernel import ERR, INFO
from protocol.ers import Phase, result_name

Handler = Callable[..., Any]

# Shipped drivers. A user's driver is named by its place, "module:Class", or by its command, "program:./mydriver".
DRIVERS: dict[str, str] = {
    "xnic": "domu_pcifront.drivers.xnic:XNic",
    "xblk": "domu_pcifront.drivers.xblk:XBlk",
    "scripted": "domu_pcifront.drivers.scripted:Scripted",
    "silent": "domu_pcifront.drivers.silent:Silent",
    "aerprobe": "domu_pcifront.drivers.aerprobe:AerProbe",
}
NO_DRIVER = ("", "none")  # names that leave a device without a driver
# (vendor, device) -> driver, for a device that no configuration names
DEVICE_IDS: dict[tuple[int, int], str] = {(0x1AF4, 0x1041): "xnic", (0x1AF4, 0x1042): "xblk"}


class ProbeError(Exception):
    """The driver cannot work with this device."""


class WorkloadError(Exception):
    """Data did not come back, or came back different; the text says what differed."""


class MissingHandlerError(Exception):
    """A handler that the driver does not have was called: in C, a jump to address 0 (D14)."""


class PciDriver:
    """A guest driver for one device (``struct pci_driver`` with its ``struct pci_error_handlers``).

    Subclass it, give it a ``name``, and define what your driver supports. Every method may be ``async def``
    and await ``self.dev``, or a plain ``def`` that uses ``self.dev.sync``.

    * ``probe`` starts the device (raise ProbeError if you cannot), ``remove`` stops it.
    * ``transfer(count)`` moves ``count`` units of data and returns how many it has verified.
    * ``error_detected(state)``, ``mmio_enabled()``, ``slot_reset()`` answer with an ``ErsResult``; ``resume()``
      answers nothing; ``cor_error_detected()`` is never called in a guest. A handler that is not defined counts
      as missing; without ``error_detected`` a driver takes no part in a recovery and its guest is killed.

    ``state`` is a ``ChannelState``. Do not touch the device in ``error_detected``; with FROZEN it may be
    unreachable. ``OPTIONS`` declares the options that a host file may give; ``self.options`` has them all.
    """

    name: ClassVar[str] = "driver"
    OPTIONS: ClassVar[Mapping[str, Option]] = {}
    restorable: ClassVar[bool] = True  # all of its state is in attributes of this process

    error_detected: Handler | None = None
    mmio_enabled: Handler | None = None
    slot_reset: Handler | None = None
    resume: Handler | None = None
    cor_error_detected: Handler | None = None

    def __init__(self, dev: GuestPciDev, options: dict[str, Any]) -> None:
        """Bind to ``dev``. Raises ValueError for options that are unknown or of a wrong type."""
        wrong = self.check_options(options)
        if wrong:
            raise ValueError(f"driver {self.name}: {'; '.join(wrong)}")
        self.dev = dev
        self.options: dict[str, Any] = {key: option.default for key, option in self.OPTIONS.items()} | options
        self.no_err_handler = False

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> list[str]:
        """What is wrong with ``options``, a text for each mistake; empty if nothing is."""
        return problems(cls.OPTIONS, options)

    async def probe(self) -> None:
        """Start the device. The default does nothing."""

    async def remove(self) -> None:
        """Stop the device; no handler is called afterwards. The default does nothing."""

    async def transfer(self, count: int) -> int:
        """Move ``count`` units of data; returns how many were verified. Default: no data path, 0.

        Raises WorkloadError with what differed.
        """
        return 0

    async def workload(self, count: int) -> int:
        """Run ``transfer`` and write down how it went. Raises WorkloadError."""
        try:
            verified = int(await plain.call(self.transfer, count))
        except WorkloadError as error:
            self.dev.printk(ERR, f"workload: {error}")
            self.dev.trace("driver.workload", count, 0, str(error))
            raise
        self.dev.trace("driver.workload", count, verified, "")
        return verified

    def handler(self, phase: Phase) -> Handler | None:
        """The handler of a phase; None if the driver has none."""
        if self.no_err_handler:
            return None
        handler: Handler | None = getattr(self, phase)
        return handler

    def log_answer(self, phase: Phase, text: str) -> None:
        """A handler has returned; ``text`` says which, and what it answered."""
        self.dev.printk(INFO, text)

    @property
    def has_error_handlers(self) -> bool:
        """``err_handler`` is set: any of the five handlers is there."""
        if self.no_err_handler:
            return False
        return self.cor_error_detected is not None or any(self.handler(phase) for phase in Phase)


async def call_handler(driver: PciDriver, phase: Phase, *args: Any) -> int:
    """Call a handler and return its answer as pcifront forwards it; ``resume`` always answers 1.

    Numbers pass unchecked (FE-25); anything else is no vote and becomes 0. Exceptions of the handler pass.
    Raises MissingHandlerError if there is no handler: ask ``driver.handler`` first.
    """
    handler = driver.handler(phase)
    if handler is None:
        raise MissingHandlerError(f"NULL pointer dereference: {driver.name} has no {phase.value}")
    dev = driver.dev
    state = int(args[0]) if args else 0
    dev.trace("driver.call", phase, state)
    answer = await plain.call(handler, *args)
    result = 1 if phase is _RESUME else _vote(driver, phase, answer)
    dev.trace("driver.callback", phase, state, result)
    text = str(phase) if phase is not _ERROR_DETECTED else f"{phase} state={state}"
    driver.log_answer(phase, text if phase is _RESUME else f"{text} -> {result} {result_name(result)}")
    return result


_ERROR_DETECTED, _RESUME = Phase.ERROR_DETECTED, Phase.RESUME  # quicker than looked up in their class


def _vote(driver: PciDriver, phase: Phase, answer: Any) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool) and -(1 << 31) <= answer < 1 << 31:
        return int(answer)
    driver.dev.printk(ERR, f"{phase.value} returned {answer!r}, which is no vote")
    return 0


def load_driver(name: str, folder: str = "") -> type[PciDriver] | None:
    """The class of a driver: a name of DRIVERS, ``module:Class``, or ``program:COMMAND`` (a new class each time; it is
    found and started in ``folder``); None for "" and "none".

    Raises ValueError that says what is allowed or what went wrong with the module.
    """
    if name in NO_DRIVER:
        return None
    if name.startswith(PREFIX):
        from domu_pcifront.drivers.program import program_driver  # noqa: PLC0415 - a driver is made of this file

        return program_driver(find_program(name, folder), folder)
    place = DRIVERS.get(name, name)
    module_name, colon, class_name = place.partition(":")
    if not colon or not module_name or not class_name:
        raise ValueError(
            f"no guest driver {name!r}; allowed: {', '.join(DRIVERS)}, none, module:Class, or program:COMMAND"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module does while it is loaded
        raise ValueError(f"guest driver {name!r}: {type(error).__name__}: {error}{_frames(error)}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, PciDriver)):
        raise ValueError(f"guest driver {name!r}: {module_name} has no subclass of PciDriver called {class_name!r}")
    return found


def _frames(error: Exception) -> str:
    """Where the user's own files were when it went wrong, outermost first; nothing of ours, nothing of Python's."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno}: {(error.text or '').strip()})"
    skipped = (__file__, importlib.__file__, "<frozen ")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(skipped)]
    shown = "; ".join(f"{f.filename}:{f.lineno} in {f.name}: {f.line}" for f in frames)
    return f" ({shown})" if shown else ""


def driver_for_ids(vendor: int, device: int) -> type[PciDriver] | None:
    """The driver that claims these ids (``pci_match_device``), None if nobody does."""
    return load_driver(DEVICE_IDS.get((vendor, device), "none"))


def check_options(name: str, options: Mapping[str, Any], folder: str = "") -> list[str]:
    """What is wrong with a driver's name and options in a host file; empty if nothing is."""
    try:
        driver = load_driver(name, folder)
    except ValueError as error:
        return [str(error)]
    if driver is None:
        return ["options without a driver; allowed: nothing"] if options else []
    return driver.check_options(options)
