"""Functions that a hotplug slot has lost while a guest had them are detached from it (``hardened``).

A real toolstack hears nothing of it: the guest keeps a device that reads all ones for ever. Source: a rule of ours,
docs/DIFFERENCES.md; the steps are those of a forced detach (xen-pci.md 2.7).
"""

from __future__ import annotations

import re
from contextlib import suppress

from hypervisor_stub.console import LibxlError, LibxlLog
from hypervisor_stub.libxl_pci import LibxlPci
from hypervisor_stub.machine import Machine
from protocol.xenbus import BOOKKEEPING_ROOT

_REMOVED = re.compile(re.escape(BOOKKEEPING_ROOT) + r"/([0-9a-f]{4})-([0-9a-f]{2})-([0-9a-f]{2})-([0-7])/removed")


class Removals:
    """Watches the nodes that pciback writes (``protocol.xenbus.removed_node``)."""

    def __init__(self, machine: Machine, pci: LibxlPci) -> None:
        self._machine = machine
        self._pci = pci
        if machine.hardened:
            machine.xs.watch(BOOKKEEPING_ROOT, "removed", self._changed)

    def _changed(self, path: str) -> None:
        match = _REMOVED.fullmatch(path)
        domid = self._machine.xs.read(path) if match is not None else None
        if match is not None and domid is not None:
            bdf = f"{match[1]}:{match[2]}:{match[3]}.{match[4]}"
            # A task of its own, because events arrive in the middle of another connection's request.
            self._machine.kernel.spawn(self._detach(path, bdf, int(domid)), f"removal of {bdf}")

    async def _detach(self, path: str, bdf: str, domid: int) -> None:
        machine = self._machine
        machine.xs.remove(path)
        domain = machine.domains.get(domid)
        if domain is None:
            return
        with suppress(LibxlError):  # it is in the log; whoever ends the domain finds what is left
            await self._pci.detach_removed(domain, bdf, LibxlLog(machine.console))
