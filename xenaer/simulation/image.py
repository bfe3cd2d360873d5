"""What a case may change of hardware and of dom0's PCI core: taken after boot, put back before the next case."""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from copy import copy
from enum import Enum
from typing import Any, NamedTuple

from dom0_pciback.aer.info import AerInfo
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import PciDriver
from dom0_pciback.pci.state import SavedState
from dom0_pciback.pcie.collector import EventCollector
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.link import LinkState
from dom0_pciback.pcie.port import Port, RootPort
from domu_pcifront.domu import DomU
from domu_pcifront.drivers.queued import QueueDriver
from kernel_stub.kernel import Kernel


class FunctionImage(NamedTuple):
    """A function of the hardware."""

    function: Function
    data: bytes
    children: tuple[Function, ...]
    link: LinkState | None
    reachable_at: int


class DeviceImage(NamedTuple):
    """A device as the kernel sees it."""

    dev: PciDev
    driver: PciDriver | None
    saved_state: SavedState | None
    enable_cnt: int
    devpath: str
    subordinate: tuple[PciDev, ...]
    below: tuple[PciDev, ...]


def function_image(function: Function) -> FunctionImage:
    """What to remember of a function."""
    link = function.link.state if isinstance(function, Port) else None
    return FunctionImage(
        function, bytes(function.config.data), tuple(function.children), link, function.reachable_at
    )  # fmt: skip


def device_image(dev: PciDev) -> DeviceImage:
    """What to remember of a device."""
    return DeviceImage(
        dev, dev.driver, dev.saved_state, dev.enable_cnt, dev.devpath, tuple(dev.subordinate), dev.below
    )  # fmt: skip


def restore_function(image: FunctionImage) -> None:
    """Put a function of the hardware back."""
    function = image.function
    function.config.data[:] = image.data
    function.children[:] = image.children
    function.ready_at = 0
    function.reachable_at = image.reachable_at
    function.log_valid = False
    if isinstance(function, Port) and image.link is not None:
        function.link.state = image.link
    if isinstance(function, RootPort | EventCollector):
        function.aer_interrupt.level = False


def restore_device(image: DeviceImage, kernel: Kernel) -> None:
    """Put a device of the kernel back; its counters and limiters begin anew."""
    dev = image.dev
    dev.set_driver(image.driver)
    dev.error_state = type(dev.error_state).NORMAL
    dev.saved_state, dev.enable_cnt, dev.devpath = image.saved_state, image.enable_cnt, image.devpath
    dev.subordinate[:] = image.subordinate
    dev.below = image.below
    dev.reset_methods = None
    if dev.aer_info is not None:
        dev.aer_info = AerInfo(kernel)


# -- objects that keep their state in plain attributes ------------------------------------------------
PLAIN = (int, float, str, bytes, bool, type(None), tuple, frozenset, Enum)
CONTAINERS = (dict, list, set, deque, bytearray)
FRAMEWORK = ("domu_pcifront.", "kernel_stub.", "protocol.", "dom0_pciback.", "xenaer.simulation.")


class ObjectImage:
    """The attributes of an object, and the contents of the containers among them; other objects are referred to.

    ``known`` are objects that have an image of their own, by ``id``.
    """

    __slots__ = ("_containers", "_names", "_values", "opaque", "target")

    def __init__(self, target: object, known: Set[int] = frozenset()) -> None:
        self.target = target
        self._names = frozenset(getattr(target, "__dict__", ()))
        theirs = not _ours(target)
        self._values: list[tuple[str, Any]] = []
        self._containers: list[tuple[Any, Any]] = []
        self.opaque: list[str] = []  # attributes whose value is an object of somebody else, which may hold anything
        for name in _attributes(target):
            value = getattr(target, name)
            self._values.append((name, value))
            if isinstance(value, CONTAINERS):
                self._containers.append((value, copy(value)))
                if theirs and not all(map(_plain, value.values() if isinstance(value, dict) else value)):
                    self.opaque.append(name)
            elif not isinstance(value, PLAIN) and not callable(value) and not _ours(value) and id(value) not in known:
                self.opaque.append(name)

    def restore(self) -> None:
        """Everything as it was."""
        target = self.target
        for name, value in self._values:
            setattr(target, name, value)
        if len(names := getattr(target, "__dict__", ())) != len(self._names):
            for name in set(names) - self._names:
                delattr(target, name)
        for container, content in self._containers:
            _refill(container, content)


def _attributes(target: object) -> list[str]:
    slots = [name for cls in type(target).__mro__ for name in getattr(cls, "__slots__", ())]
    return [name for name in (*slots, *getattr(target, "__dict__", ())) if hasattr(target, name)]


def _plain(value: object) -> bool:
    """Cannot change, with all that is in it."""
    return all(map(_plain, value)) if isinstance(value, tuple | frozenset) else isinstance(value, PLAIN)


def _ours(value: object) -> bool:
    return type(value).__module__.startswith(FRAMEWORK)


def _refill(container: Any, content: Any) -> None:
    if isinstance(container, bytearray | list):
        container[:] = content
        return
    container.clear()
    if isinstance(container, deque):
        container.extend(content)
    else:
        container.update(content)


class GuestImage:
    """A guest's devices with their drivers and interrupts, and the memory that they use.

    ``opaque``: nobody knows all of its state.
    """

    def __init__(self, domu: DomU) -> None:
        devices = list(domu.bus.devices.values())
        drivers = [device.driver for device in devices if device.driver is not None]
        rings = [ring for driver in drivers if isinstance(driver, QueueDriver) for ring in driver.rings()]
        targets = [domu.devbus, *devices, *drivers, *rings]
        known = {id(target) for target in targets}
        self._images = [ObjectImage(target, known) for target in targets]
        self._memory = domu.memory
        self._data = domu.memory.save()
        self.opaque = [f"{type(image.target).__name__}.{name}" for image in self._images for name in image.opaque]
        self.opaque += [driver.name for driver in drivers if not driver.restorable]

    def restore(self) -> None:
        """As after boot."""
        for image in self._images:
            image.restore()
        self._memory.load(self._data)
