"""The attributes of a PCI function, as one table: name, mode, when it is there, what reading and writing do.

Names and modes are those of ``drivers/pci/pci-sysfs.c`` and ``drivers/pci/pcie/aer.c``. A row without ``store``
whose mode allows writing answers -EIO, as the kernel does for an attribute that has none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES
from dom0_pciback.sysfs import resources, show, store
from dom0_pciback.sysfs.store import Store, limiter_of
from dom0_pciback.sysfs.subject import Subject
from protocol.topology import COLLECTORS

READ, READ_WRITE, WRITE, WRITE_GROUP = 0o444, 0o644, 0o200, 0o220

Show = Callable[[Subject], str | bytes]


class Attribute(NamedTuple):
    """One file. ``show`` is None for files that can only be written."""

    name: str
    mode: int
    visible: Callable[[Subject], bool]
    show: Show | None
    store: Store | None = None


def always(subject: Subject) -> bool:
    """Every function."""
    return True


def is_pcie(subject: Subject) -> bool:
    """``pci_is_pcie``."""
    return bool(subject.dev.exp)


def has_aer(subject: Subject) -> bool:
    """The function has counters and limiters, also with ``pci=noaer`` (3.1, 6.4, 7.2)."""
    return subject.dev.aer_info is not None


def counts_for_others(subject: Subject) -> bool:
    """Root ports and event collectors (7.3)."""
    return has_aer(subject) and subject.dev.kind in COLLECTORS


def resettable(subject: Subject) -> bool:
    """``pci_reset_supported`` when the function was found."""
    return bool(subject.identity.reset_methods)


def _stats(name: str, subject: Subject) -> str:
    return subject.aer.stats_text(subject.dev, name)


def _interval(severity: str, subject: Subject) -> str:
    return show.interval(limiter_of(subject, severity))


def _burst(severity: str, subject: Subject) -> str:
    return f"{limiter_of(subject, severity).burst}\n"


def _limiter(severity: str) -> tuple[Attribute, ...]:
    """The two files of one limiter, 6.4."""
    name = f"aer/{severity}_ratelimit"
    return (
        Attribute(f"{name}_burst", READ_WRITE, has_aer, partial(_burst, severity), store.burst(severity)),
        Attribute(f"{name}_interval_ms", READ_WRITE, has_aer, partial(_interval, severity), store.interval(severity)),
    )


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("vendor", READ, always, lambda it: f"{it.dev.vendor:#06x}\n"),
    Attribute("device", READ, always, lambda it: f"{it.dev.device:#06x}\n"),
    Attribute("subsystem_vendor", READ, always, lambda it: f"{it.identity.subsystem[0]:#06x}\n"),
    Attribute("subsystem_device", READ, always, lambda it: f"{it.identity.subsystem[1]:#06x}\n"),
    Attribute("class", READ, always, lambda it: f"{it.dev.class_code:#08x}\n"),
    Attribute("revision", READ, always, lambda it: f"{it.identity.revision:#04x}\n"),
    Attribute("irq", READ, always, show.irq),
    Attribute("resource", READ, always, lambda it: resources.text(it.identity.resources)),
    Attribute("config", READ_WRITE, always, Subject.config, store.config),
    Attribute("enable", READ_WRITE, always, show.enable, store.enable),
    Attribute("modalias", READ, always, show.modalias),
    Attribute("uevent", READ_WRITE, always, show.uevent),
    Attribute("current_link_speed", READ, is_pcie, show.current_link_speed),
    Attribute("current_link_width", READ, is_pcie, show.current_link_width),
    Attribute("max_link_speed", READ, is_pcie, show.max_link_speed),
    Attribute("max_link_width", READ, is_pcie, show.max_link_width),
    Attribute("reset_method", READ_WRITE, resettable, show.reset_method, store.reset_method),
    Attribute("reset", WRITE, resettable, None, store.reset),
    Attribute("remove", WRITE_GROUP, always, None, store.remove),
    Attribute("rescan", WRITE, always, None, store.rescan),
    *(Attribute(name, READ, has_aer, partial(_stats, name)) for name in DEVICE_FILES),
    *(Attribute(name, READ, counts_for_others, partial(_stats, name)) for name in ROOT_FILES),
    *_limiter("correctable"),
    *_limiter("nonfatal"),
)
