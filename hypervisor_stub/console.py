"""The hypervisor's console ring and the log lines of libxl. Source: xen-pci.md 9.2 (``xl dmesg``), 9.4."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from kernel_stub.kernel import ALERT, CRIT, DEBUG, ERR, INFO, NOTICE, WARNING, Kernel

RING = 4096  # lines

# XTL_* in rising order with the printk level that fits.
LEVELS: dict[str, int] = {
    "debug": DEBUG,
    "verbose": DEBUG,
    "detail": DEBUG,
    "progress": INFO,
    "info": INFO,
    "notice": NOTICE,
    "warning": WARNING,
    "error": ERR,
    "critical": CRIT,
}
SHOWN = frozenset(("progress", "info", "notice", "warning", "error", "critical"))  # what xl prints by default


class Line(NamedTuple):
    """One libxl message: level, source position as libxl prints it, text with named fields.

    The line numbers only have to look right; nothing may depend on them, as they change with each release.
    """

    level: str
    where: str
    text: str


_PCI = "libxl_pci.c"
LINES: dict[str, Line] = {
    "not_assignable": Line("error", f"{_PCI}:1640:libxl__device_pci_add", "PCI device {short} is not assignable"),
    "not_attached": Line("error", f"{_PCI}:2011:do_pci_remove", "PCI device not attached to this domain"),
    "no_pciback": Line("error", f"{_PCI}:454:libxl_device_pci_assignable_list", "Looks like pciback driver not loaded"),
    "already_assigned": Line(
        "warning", f"{_PCI}:808:libxl__device_pci_assignable_add", "{bdf} already assigned to pciback"
    ),
    "no_device": Line("error", f"{_PCI}:798:libxl__device_pci_assignable_add", "Couldn't lstat {path}"),
    "not_rebound": Line(
        "warning",
        f"{_PCI}:834:libxl__device_pci_assignable_add",
        "{bdf} not bound to a driver, will not be rebound.",
    ),
    "will_be_rebound": Line(
        "info",
        f"{_PCI}:830:libxl__device_pci_assignable_add",
        "{bdf} not bound to a driver, will be rebound to {driver}",
    ),
    "bind_failed": Line("error", f"{_PCI}:840:libxl__device_pci_assignable_add", "Couldn't bind device to pciback!"),
    "quarantine_failed": Line("error", f"{_PCI}:852:libxl__device_pci_assignable_add", "failed to quarantine {bdf}"),
    "dequarantine_failed": Line(
        "error", f"{_PCI}:880:libxl__device_pci_assignable_remove", "failed to de-quarantine {bdf}"
    ),
    "not_bound": Line("warning", f"{_PCI}:893:libxl__device_pci_assignable_remove", "Not bound to pciback"),
    "no_driver_path": Line(
        "warning",
        f"{_PCI}:915:libxl__device_pci_assignable_remove",
        "Couldn't find path for original driver; not rebinding",
    ),
    "rebinding": Line("info", f"{_PCI}:904:libxl__device_pci_assignable_remove", "Rebinding to driver at {driver}"),
    "no_sysfs_reset": Line(
        "error",
        f"{_PCI}:1555:libxl__device_pci_reset",
        "The kernel doesn't support reset from sysfs for PCI device {bdf}",
    ),
    "reset_failed": Line("error", f"{_PCI}:1548:libxl__device_pci_reset", "write to {path} failed: {reason}"),
    "backend_missing": Line("error", "libxl_device.c:1413:libxl__wait_for_backend", "Backend {path} does not exist"),
    "backend_not_ready": Line("error", "libxl_device.c:1434:libxl__wait_for_backend", "Backend {path} not ready"),
    "not_in_xenstore": Line(
        "error", f"{_PCI}:249:libxl__device_pci_remove_xenstore", "Couldn't find the device on xenstore"
    ),
    "create_add_failed": Line(
        "error",
        f"{_PCI}:1792:add_pcis_done",
        "libxl__device_pci_add failed for PCI device {short} (rc {rc})",
    ),
    "assign_failed": Line("error", f"{_PCI}:1497:pci_add_dm_done", "xc_assign_device failed: {reason}"),
    "deassign_failed": Line("error", f"{_PCI}:2160:pci_remove_detached", "xc_deassign_device failed: {reason}"),
    "add_failed": Line("error", "libxl_device.c:1395:device_addrm_aocomplete", "unable to add device"),
    "remove_failed": Line("error", "libxl_device.c:1395:device_addrm_aocomplete", "unable to remove device"),
    "pci_shutdown_failed": Line("error", "libxl_domain.c:1134:libxl__destroy_domid", "Pci shutdown failed"),
    "name_exists": Line(
        "error", "libxl_create.c:1040:initiate_domain_create", 'Domain with name "{name}" already exists.'
    ),
    "no_supervisor": Line(
        "error", "libxl_create.c:1203:initiate_domain_create", "no supervisor is connected for {name}"
    ),
    "start_failed": Line("error", "libxl_create.c:1561:domcreate_rebuild_done", "cannot start the guest: {reason}"),
    "domain0": Line("error", "libxl_domain.c:1020:libxl__destroy_domid", "domain 0 cannot be destroyed"),
}


class Console:
    """The console ring; every line also goes to the journal as ``printk``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ring: deque[str] = deque(maxlen=RING)

    def printk(self, level: int, text: str) -> None:
        """A line of the hypervisor itself; ``level`` 0 to 7."""
        self._ring.append(text)
        self._kernel.printk(level, text)

    def alert(self, text: str) -> None:
        """Something that the operator must see."""
        self.printk(ALERT, text)

    def lines(self, *, clear: bool = False) -> list[str]:
        """``xl dmesg``: the ring, oldest first; ``clear`` empties it."""
        lines = [f"(XEN) {text}" for text in self._ring]
        if clear:
            self._ring.clear()
        return lines


class LibxlLog:
    """The log of one libxl context: lines go to the console, and to ``shown`` what ``xl`` prints on stderr."""

    __slots__ = ("_console", "shown")

    def __init__(self, console: Console) -> None:
        self._console = console
        self.shown: list[str] = []

    def say(self, key: str, domid: int | None = None, **fields: object) -> None:
        """Write the line ``LINES[key]`` with its fields, for a domain if one is given."""
        line = LINES[key]
        domain = "" if domid is None else f"Domain {domid}:"
        self.write(line.level, f"{line.where}: {domain}{line.text.format(**fields)}")

    def write(self, level: str, text: str) -> None:
        """``libxl: <level>: <text>``; level is a key of ``LEVELS``."""
        line = f"libxl: {level}: {text}"
        self._console.printk(LEVELS[level], line)
        if level in SHOWN:
            self.shown.append(line)


class LibxlError(Exception):
    """An operation of the toolstack failed; ``rc`` is libxl's negative return code."""

    def __init__(self, rc: int) -> None:
        super().__init__(f"rc={rc}")
        self.rc = rc


ERROR_FAIL = -3
ERROR_INVAL = -6
