"""XenStore nodes of passed-through devices, as libxl writes them.

Source: xen-pci.md 2.2 (nodes), 2.7 (T1, T2), 2.8 (permissions); xen-pci-errata.md 8 (order).
"""

from __future__ import annotations

from typing import NamedTuple

from hypervisor_stub.domains import Domain
from hypervisor_stub.toolstack_store import ToolstackStore
from hypervisor_stub.xl_spec import PciSpec
from protocol.ids import Sbdf
from protocol.xenbus import XenbusState, backend_dir, frontend_dir

REMOVAL_ORDER = ("state", "key", "dev", "vdev", "opts", "vdevfn", "name")
FIRST_HVM_SLOT = 3  # slots 0 to 2 of QEMU's bus carry the chipset and its own devices


class Entry(NamedTuple):
    """Device number N of a back-end directory."""

    number: int
    bdf: str
    vdevfn: int  # what the toolstack asked for, 0 if nothing
    vdev: str  # what pciback published, "" if nothing yet


def short_form(bdf: str) -> str:
    """``%x:%x:%x.%x``, the other way in which libxl prints an address."""
    at = Sbdf.parse(bdf)
    return f"{at.segment:x}:{at.bus:x}:{at.device:x}.{at.function:x}"


def count(xs: ToolstackStore, domid: int) -> int | None:
    """``num_devs``, None if the domain has no back-end directory."""
    text = xs.read(f"{backend_dir(domid)}/num_devs")
    return int(text) if text is not None and text.isdecimal() else None


def entries(xs: ToolstackStore, domid: int) -> list[Entry]:
    """The devices of a domain as its back-end directory lists them."""
    be = backend_dir(domid)
    return [
        Entry(
            number,
            xs.read(f"{be}/dev-{number}") or "",
            int(xs.read(f"{be}/vdevfn-{number}") or "0", 16),
            xs.read(f"{be}/vdev-{number}") or "",
        )
        for number in range(count(xs, domid) or 0)
    ]


def find(xs: ToolstackStore, domid: int, bdf: str) -> Entry | None:
    """The entry of one device."""
    return next((entry for entry in entries(xs, domid) if entry.bdf == bdf), None)


def add(xs: ToolstackStore, domain: Domain, bdf: str, spec: PciSpec, *, reconfigure: bool) -> None:
    """T1 for the first device, T2 for others; ``reconfigure`` also sets the state to 7 (hot attach)."""
    number = count(xs, domain.domid)
    first = number is None

    def body(tx: int) -> None:
        if first:
            _directories(xs, domain, tx)
        _device(xs, domain, number or 0, bdf, spec, tx)
        if reconfigure and not first:
            xs.write(f"{backend_dir(domain.domid)}/state", int(XenbusState.RECONFIGURING), tx)

    xs.transaction(body)


def _directories(xs: ToolstackStore, domain: Domain, tx: int) -> None:
    be, fe = backend_dir(domain.domid), frontend_dir(domain.domid)
    xs.fresh_dir(be, ["n0", f"r{domain.domid}"], tx)
    for node, value in (
        ("frontend", fe),
        ("frontend-id", domain.domid),
        ("online", 1),
        ("state", int(XenbusState.INITIALISING)),
        ("domain", domain.name),
    ):
        xs.write(f"{be}/{node}", value, tx)
    xs.fresh_dir(fe, [f"n{domain.domid}", "r0"], tx)
    for node, value in (("backend", be), ("backend-id", 0), ("state", int(XenbusState.INITIALISING))):
        xs.write(f"{fe}/{node}", value, tx)


def _device(xs: ToolstackStore, domain: Domain, number: int, bdf: str, spec: PciSpec, tx: int) -> None:
    be = backend_dir(domain.domid)
    vdevfn = spec.vdevfn
    if not vdevfn and domain.spec.type == "hvm":
        vdevfn = FIRST_HVM_SLOT + number << 3
    xs.write(f"{be}/key-{number}", bdf, tx)
    xs.write(f"{be}/dev-{number}", bdf, tx)
    if vdevfn:
        xs.write(f"{be}/vdevfn-{number}", f"{vdevfn:x}", tx)
    if spec.name:
        xs.write(f"{be}/name-{number}", spec.name, tx)
    xs.write(f"{be}/opts-{number}", spec.opts, tx)
    xs.write(f"{be}/state-{number}", int(XenbusState.INITIALISING), tx)
    xs.write(f"{be}/num_devs", number + 1, tx)


def mark_closing(xs: ToolstackStore, domid: int, number: int, *, reconfigure: bool) -> None:
    """``state-N`` = 5 and, for a connected guest, ``state`` = 7."""
    be = backend_dir(domid)

    def body(tx: int) -> None:
        xs.write(f"{be}/state-{number}", int(XenbusState.CLOSING), tx)
        if reconfigure:
            xs.write(f"{be}/state", int(XenbusState.RECONFIGURING), tx)

    xs.transaction(body)


def remove(xs: ToolstackStore, domid: int, bdf: str) -> None:
    """Delete the entry of a device; entries above move down; the last one takes both directories along."""
    entry = find(xs, domid, bdf)
    if entry is None:
        return
    be = backend_dir(domid)
    left = (count(xs, domid) or 1) - 1

    def body(tx: int) -> None:
        for stem in REMOVAL_ORDER:
            xs.remove(f"{be}/{stem}-{entry.number}", tx)
        xs.write(f"{be}/num_devs", left, tx)
        for number in range(entry.number, left):
            _move_down(xs, be, number, tx)

    xs.transaction(body)
    if not left:
        remove_directories(xs, domid)


def _move_down(xs: ToolstackStore, be: str, number: int, tx: int) -> None:
    for stem in REMOVAL_ORDER:
        value = xs.read(f"{be}/{stem}-{number + 1}", tx)
        if value is not None:
            xs.write(f"{be}/{stem}-{number}", value, tx)
            xs.remove(f"{be}/{stem}-{number + 1}", tx)


def remove_directories(xs: ToolstackStore, domid: int) -> None:
    """Remove ``fe`` and ``be`` and the parents that become empty (``libxl__device_destroy``)."""

    def body(tx: int) -> None:
        xs.cleanup(frontend_dir(domid), tx)
        xs.cleanup(backend_dir(domid), tx)

    xs.transaction(body)
