"""What a write to an attribute does. Raises StoreError with the errno that the kernel's store function returns."""

from __future__ import annotations

from errno import EBUSY, EINVAL, EIO
from typing import Protocol

from dom0_pciback.aer.info import AerInfo
from dom0_pciback.aer.ratelimit import RateLimit
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.enable import pci_disable_device, pci_enable_device_mem
from dom0_pciback.pci.remove import pci_stop_and_remove_bus_device
from dom0_pciback.pci.rescan import pci_rescan_bus
from dom0_pciback.pci.reset import RESET_METHODS, reset_function
from dom0_pciback.pci.reset_methods import supported_now
from dom0_pciback.sysfs.kstrto import StoreError, kstrtoint, kstrtoul, word
from dom0_pciback.sysfs.subject import Subject
from kernel_stub.kernel import ERR, WARNING

DEFAULT = "default"


class Store(Protocol):
    """``data`` written at ``offset`` (0 for everything but configuration space)."""

    async def __call__(self, subject: Subject, data: bytes, offset: int) -> None:
        """Carry the write out, or raise StoreError."""


def limiter_of(subject: Subject, severity: str) -> RateLimit:
    """``correctable`` or ``nonfatal`` limiter of a function with AER."""
    info = subject.dev.aer_info
    assert isinstance(info, AerInfo)
    return info.correctable_ratelimit if severity == "correctable" else info.nonfatal_ratelimit


def interval(severity: str) -> Store:
    """``*_ratelimit_interval_ms``: 0 or less is 0, else milliseconds become jiffies (6.4)."""

    async def store(subject: Subject, data: bytes, offset: int) -> None:
        limiter_of(subject, severity).set_interval_ms(kstrtoint(data))

    return store


def burst(severity: str) -> Store:
    """``*_ratelimit_burst``: any integer, stored as it is (6.4)."""

    async def store(subject: Subject, data: bytes, offset: int) -> None:
        limiter_of(subject, severity).burst = kstrtoint(data)

    return store


async def enable(subject: Subject, data: bytes, offset: int) -> None:
    """``enable_store``: not while a driver is bound; 0 takes one user away, anything else adds one."""
    core, dev, wanted = subject.core, subject.dev, kstrtoul(data)
    async with dev.device_lock:
        if dev.driver is not None:
            raise StoreError(EBUSY)
        if wanted:
            pci_enable_device_mem(core, dev)
        elif dev.enable_cnt:
            pci_disable_device(core, dev)
        else:
            raise StoreError(EIO)


async def remove(subject: Subject, data: bytes, offset: int) -> None:
    """``remove_store``: anything but 0 takes the function, and what is below it, away from the kernel."""
    if kstrtoul(data):
        async with subject.core.rescan_remove_lock:
            await pci_stop_and_remove_bus_device(subject.core, subject.dev)


async def rescan(subject: Subject, data: bytes, offset: int) -> None:
    """``dev_rescan_store``: anything but 0 looks for functions that the kernel does not know."""
    await rescan_bus(subject.core, data, offset)


async def rescan_bus(core: PciCore, data: bytes, offset: int) -> None:
    """``rescan_store`` of the bus."""
    if kstrtoul(data):
        await pci_rescan_bus(core)


async def reset(subject: Subject, data: bytes, offset: int) -> None:
    """``reset_store``: "1" resets the function; the errno of the reset if that fails."""
    if kstrtoul(data) != 1:
        raise StoreError(EINVAL)
    rc, _ = await reset_function(subject.core, subject.dev)
    if rc < 0:
        raise StoreError(-rc)


async def reset_method(subject: Subject, data: bytes, offset: int) -> None:
    """``reset_method_store``: methods in order, ``default``, or nothing to disable all of them."""
    core, dev, text = subject.core, subject.dev, word(data)
    if not text:
        core.printk(WARNING, dev, "All device reset methods disabled by user")
        dev.reset_methods = ()
        return
    if text == DEFAULT:
        dev.reset_methods = tuple(method.label for method in RESET_METHODS if method.offered(core, dev))
        return
    names = [name.strip() for name in text.split(" ") if name]
    for name in names:
        if not supported_now(core, dev, name):
            known = any(method.label == name for method in RESET_METHODS)
            core.printk(ERR, dev, f"{'Unsupported' if known else 'Invalid'} reset method '{name}'")
            raise StoreError(EINVAL)
    dev.reset_methods = tuple(names)


async def config(subject: Subject, data: bytes, offset: int) -> None:
    """``pci_write_config``: bytes and words up to a dword boundary, dwords, then what is left."""
    end = min(offset + len(data), subject.identity.config_size)
    if offset >= end:
        raise StoreError(EIO)
    position = offset
    while position < end:
        size = next(size for size in (4, 2, 1) if not position % size and position + size <= end)
        value = int.from_bytes(data[position - offset : position - offset + size], "little")
        subject.core.write(subject.dev, position, size, value)
        position += size
