"""The files and links of one function, and of the buses, in the kernel's directory shape.

Paths begin at the root of the tree (``devices/...``, ``bus/...``); directories are what paths imply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from errno import ENODEV
from functools import partial
from typing import NamedTuple

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import PciDriver
from dom0_pciback.pci.portdrv import PORT_DRIVER, PORT_KINDS
from dom0_pciback.sysfs.attributes import ATTRIBUTES, WRITE, Attribute
from dom0_pciback.sysfs.kstrto import StoreError, word
from dom0_pciback.sysfs.services import SERVICES, services_of
from dom0_pciback.sysfs.store import rescan_bus
from dom0_pciback.sysfs.subject import Subject

PCI, PCI_EXPRESS = "bus/pci", "bus/pci_express"
WRITE_ONLY_DRIVER_FILES = ("new_id", "remove_id", "uevent")

Read = Callable[[], bytes]
Write = Callable[[bytes, int], Awaitable[None]]


class File(NamedTuple):
    """A regular file. ``write`` raises StoreError; it is None for an attribute without a store function."""

    mode: int
    read: Read
    write: Write | None = None


class Link(NamedTuple):
    """A symbolic link; ``target`` is relative, as the kernel makes it: up to the root and down again."""

    target: str


Node = File | Link
Nodes = dict[str, Node]


def link(path: str, target: str) -> Link:
    """The link at ``path`` that leads to ``target``, both from the root of the tree."""
    return Link("../" * path.count("/") + target)


def nothing() -> bytes:
    """Content of a file that can only be written."""
    return b""


# -- a function ----------------------------------------------------------------------------------
def function_nodes(subject: Subject) -> Nodes:
    """Everything in the directory of one function, but for the functions below it."""
    path = subject.identity.path
    nodes: Nodes = {f"{path}/{row.name}": _attribute(subject, row) for row in ATTRIBUTES if row.visible(subject)}
    nodes.update(_links(path, PCI, subject.dev.driver.name if subject.dev.driver else ""))
    for name, driver in services_of(subject).items():
        nodes.update(_links(f"{path}/{name}", PCI_EXPRESS, driver))
        nodes[f"{path}/{name}/uevent"] = File(0o644, partial(str.encode, f"DRIVER={driver}\n"))
    return nodes


def _attribute(subject: Subject, row: Attribute) -> File:
    write = partial(row.store, subject) if row.store is not None else None
    return File(row.mode, partial(_content, subject, row), write)


def _content(subject: Subject, row: Attribute) -> bytes:
    shown = row.show(subject) if row.show is not None else b""
    return shown if isinstance(shown, bytes) else shown.encode("ascii")


def _links(path: str, bus: str, driver: str) -> Nodes:
    nodes: Nodes = {f"{path}/subsystem": link(f"{path}/subsystem", bus)}
    if driver:
        nodes[f"{path}/driver"] = link(f"{path}/driver", f"{bus}/drivers/{driver}")
    return nodes


# -- the buses -----------------------------------------------------------------------------------
def bus_nodes(core: PciCore, subjects: Sequence[Subject]) -> Nodes:
    """``bus/pci`` and ``bus/pci_express``: links to all devices, and the drivers with theirs."""
    nodes: Nodes = {f"{PCI}/rescan": File(WRITE, nothing, partial(rescan_bus, core))}
    bound = {it.dev.driver.name: it.dev.driver for it in subjects if it.dev.driver is not None}
    for driver in (bound | core.drivers).values():
        nodes.update(_driver_files(core, driver))
    for service in SERVICES:
        home = f"{PCI_EXPRESS}/drivers/{service.driver}"
        nodes.update({f"{home}/{name}": File(WRITE, nothing) for name in ("bind", "unbind", "uevent")})
    for subject in subjects:
        dev, path = subject.dev, subject.identity.path
        _add_device(nodes, PCI, dev.name, path, dev.driver.name if dev.driver else "")
        for name, service_driver in services_of(subject).items():
            _add_device(nodes, PCI_EXPRESS, name, f"{path}/{name}", service_driver)
    return nodes


def _add_device(nodes: Nodes, bus: str, name: str, path: str, driver: str) -> None:
    for place in (f"{bus}/devices/{name}", *([f"{bus}/drivers/{driver}/{name}"] if driver else [])):
        nodes[place] = link(place, path)


def _driver_files(core: PciCore, driver: PciDriver) -> Nodes:
    home = f"{PCI}/drivers/{driver.name}"
    return {
        f"{home}/bind": File(WRITE, nothing, partial(_bind, core, driver)),
        f"{home}/unbind": File(WRITE, nothing, partial(_unbind, core, driver)),
        **{f"{home}/{name}": File(WRITE, nothing) for name in WRITE_ONLY_DRIVER_FILES},
    }


def _named(core: PciCore, data: bytes) -> PciDev:
    name = word(data)
    dev = next((dev for dev in core.devices.values() if dev.name == name), None)
    if dev is None:
        raise StoreError(ENODEV)
    return dev


async def _bind(core: PciCore, driver: PciDriver, data: bytes, offset: int) -> None:
    """``bind_store``: ENODEV for a device that is not there or that the driver is not for, EBUSY for a bound one.

    Only the port driver knows what it is for; the others take what they are given, as after ``driver_override``.
    """
    dev = _named(core, data)
    if driver.name == PORT_DRIVER and dev.kind not in PORT_KINDS:
        raise StoreError(ENODEV)
    rc = await core.bind(dev, driver)
    if rc < 0:
        raise StoreError(-rc)


async def _unbind(core: PciCore, driver: PciDriver, data: bytes, offset: int) -> None:
    """``unbind_store``: ENODEV unless the device is bound to this driver."""
    dev = _named(core, data)
    if dev.driver is not driver:
        raise StoreError(ENODEV)
    await core.unbind(dev)
