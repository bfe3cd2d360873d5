"""dom0's sysfs: a tree of files and links that is made from the PCI core's state whenever somebody looks.

Nothing is stored here but what enumeration found out about each function, so nothing can go stale.
"""

from __future__ import annotations

from errno import EACCES, EIO, ELOOP, ENOENT

from dom0_pciback.aer.core import AerCore
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.sysfs.kstrto import StoreError
from dom0_pciback.sysfs.subject import Identity, Subject, identify
from dom0_pciback.sysfs.tree import File, Link, Nodes, bus_nodes, function_nodes

BUS = "bus"  # the section that is no function's
LINKS_MAX = 40  # MAXSYMLINKS
WRITABLE = 0o222


class Sysfs:
    """``core``: whose devices; ``aer``: whose counters."""

    def __init__(self, core: PciCore, aer: AerCore) -> None:
        self.core = core
        self.aer = aer
        self._known: dict[str, tuple[PciDev, Identity]] = {}
        for subject in self._subjects():
            self._known[subject.dev.name] = subject.dev, subject.identity

    def _subjects(self) -> list[Subject]:
        return [self._subject(dev) for dev in self._devices()]

    def _devices(self) -> list[PciDev]:
        """Functions in bus order, without those whose removal waits for a recovery to end (errata 6.2)."""
        return [dev for dev in self.core.devices.values() if dev.devpath.startswith("/devices/")]

    def _subject(self, dev: PciDev) -> Subject:
        """A function that was removed and found again is another ``PciDev`` and is looked at anew."""
        known = self._known.get(dev.name)
        if known is None or known[0] is not dev:
            known = self._known[dev.name] = dev, identify(self.core, dev)
        return Subject(self.core, self.aer, dev, known[1])

    # -- the tree --------------------------------------------------------------------------------
    def sections(self) -> list[str]:
        """The parts that the tree consists of: one per function, in bus order, and the buses."""
        return [*(dev.name for dev in self._devices()), BUS]

    def section(self, name: str) -> Nodes:
        """Files and links of one part; none if the function is gone."""
        if name == BUS:
            return bus_nodes(self.core, self._subjects())
        dev = next((dev for dev in self._devices() if dev.name == name), None)
        return function_nodes(self._subject(dev)) if dev is not None else {}

    def nodes(self) -> Nodes:
        """The whole tree."""
        return {path: node for name in self.sections() for path, node in self.section(name).items()}

    # -- one file --------------------------------------------------------------------------------
    def find(self, path: str) -> File:
        """The file at ``path``, links followed. Raises StoreError (ENOENT, ELOOP)."""
        nodes, rest, done, links = self._near(path), _components(path), list[str](), 0
        while rest:
            name = rest.pop(0)
            if name == "..":
                del done[-1:]
                continue
            done.append(name)
            node = nodes.get("/".join(done))
            if isinstance(node, Link):
                links += 1
                if links > LINKS_MAX:
                    raise StoreError(ELOOP)
                done.pop()
                rest[:0] = _components(node.target)
        found = nodes.get("/".join(done))
        if not isinstance(found, File):
            raise StoreError(ENOENT)
        return found

    def _near(self, path: str) -> Nodes:
        """Everything that ``path`` can lead to: functions that it names, what is above them, and the buses."""
        wanted = [dev.name for dev in self._devices() if any(each.name in path for each in (dev, *dev.below))]
        return {at: node for name in (*wanted, BUS) for at, node in self.section(name).items()}

    def read(self, path: str) -> bytes:
        """Content of a file. Raises StoreError (ENOENT; EACCES for one that can only be written)."""
        file = self.find(path)
        if not file.mode & 0o444:
            raise StoreError(EACCES)
        return file.read()

    async def write(self, path: str, data: bytes, offset: int = 0) -> int:
        """``write(2)`` by root: how many bytes were taken, or a negative errno."""
        try:
            file = self.find(path)
            if not file.mode & WRITABLE:
                raise StoreError(EACCES)
            if file.write is None:
                raise StoreError(EIO)
            await file.write(data, offset)
        except StoreError as error:
            result = -error.errno
        else:
            result = len(data)
        shown = data[:64].decode("latin-1").removesuffix("\n")
        self.core.kernel.trace("sysfs.store", path, shown, min(result, 0))
        return result


def _components(path: str) -> list[str]:
    """Names of a path; a leading ``/sys`` is the root of the tree."""
    return [name for name in path.removeprefix("/sys/").split("/") if name not in ("", ".")]
