"""Xenbus states and the paths of the PCI split driver. Source: xen-pci.md 2.1, 2.2."""

from __future__ import annotations

from enum import IntEnum

from protocol.ids import Sbdf


class XenbusState(IntEnum):
    """``enum xenbus_state``; stored in XenStore as decimal text."""

    UNKNOWN = 0
    INITIALISING = 1
    INIT_WAIT = 2
    INITIALISED = 3
    CONNECTED = 4
    CLOSING = 5
    CLOSED = 6
    RECONFIGURING = 7
    RECONFIGURED = 8


BACKEND_ROOT = "/local/domain/0/backend/pci"
BOOKKEEPING_ROOT = "/libxl/pci"
MAGIC = "7"  # XEN_PCI_MAGIC, xen-pci.md 1.2


def backend_dir(domid: int) -> str:
    """``be`` of xen-pci.md 0.1: only device 0 exists (BUS-5)."""
    return f"{BACKEND_ROOT}/{domid}/0"


def frontend_dir(domid: int) -> str:
    """``fe`` of xen-pci.md 0.1."""
    return f"/local/domain/{domid}/device/pci/0"


def bookkeeping(bdf: str) -> str:
    """``/libxl/pci/<DDDD>-<BB>-<SS>-<F>``: what the toolstack remembers of a function."""
    return f"{BOOKKEEPING_ROOT}/{bdf.replace(':', '-').replace('.', '-')}"


def removed_node(bdf: str) -> str:
    """Where pciback leaves word that a function is no longer there, with the domain that had it (``hardened``)."""
    return f"{bookkeeping(bdf)}/removed"


def parse_state(text: str | None) -> int:
    """A state node as the xenbus core reads it: missing or not a number is 0 (Unknown)."""
    try:
        return int(text or "0")
    except ValueError:
        return int(XenbusState.UNKNOWN)


def vdev_text(address: Sbdf) -> str:
    """A ``vdev-N`` node: ``%04x:%02x:%02x.%02x``, the function having two digits (xen-pci.md 2.2)."""
    return f"{address.segment:04x}:{address.bus:02x}:{address.device:02x}.{address.function:02x}"


def parse_vdev(text: str) -> Sbdf:
    """The address that a ``vdev-N`` node names. Raises ValueError."""
    address, _, function = text.rpartition(".")
    return Sbdf.parse(f"{address}.{int(function, 16):x}")
