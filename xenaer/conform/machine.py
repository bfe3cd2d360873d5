"""A recorded machine, booted once and set back before each case.

What a case may change is taken at boot (``_Image``) and put back: registers, drivers, counters, limiters,
the lists of functions. A machine on which a task is left waiting is not used again.
"""

from __future__ import annotations

from pathlib import Path

from dom0_pciback.native import NativeDom0
from dom0_pciback.pci.device import PciDev
from kernel_stub.kernel import Kernel, Task
from protocol.ids import Sbdf
from protocol.ports import Record
from xenaer.boot import data_dir
from xenaer.conform.steps import UnsupportedError
from xenaer.host import load_host
from xenaer.simulation.image import device_image, function_image, restore_device, restore_function
from xenaer.simulation.world import World

NS_PER_S = 1_000_000_000
BOOT_NS = 60 * NS_PER_S
XEN_MACHINES = "xen-"  # hosts of the recordings of a real Xen (``xen_machine``)


class Memory:
    """A journal in memory that can be emptied."""

    __slots__ = ("append", "records")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.append = self.records.append

    def flush(self) -> None:
        """Nothing waits."""


class Machine:
    """``name`` is one of ``machine_names``. ``stuck``: not to be used again."""

    def __init__(self, name: str) -> None:
        host = load_host(_folder() / f"{name}.yaml")
        self.name = name
        self.stuck = False
        self.world = World(host.seed)
        self.journal = Memory()
        self.kernel = Kernel("dom0", self.world, self.journal)
        self.world.adopt(self.kernel)
        self.dom0 = NativeDom0(self.kernel, self.world, host)
        self.kernel.spawn(self.dom0.start(), "init")
        self.world.run_until(lambda: False, BOOT_NS)
        self.core, self.hierarchy = self.dom0.core, self.dom0.hierarchy
        self.names = {spec.name: Sbdf.parse(spec.bdf) for spec in host.functions if spec.name}
        self.processors = host.boot.processors
        self._servants: set[Task] = set(self.kernel.tasks)  # the interrupt threads, waiting for work
        self._functions = [function_image(function) for function in self.hierarchy.functions.values()]
        self._known = dict(self.core.devices)
        self._devices = [device_image(dev) for dev in self.core.devices.values()]

    @property
    def at_rest(self) -> bool:
        """All tasks of the last case have ended, and the interrupt threads wait for work."""
        waiting = all(not rpc.fifo and rpc.queue.waiters for rpc in self.dom0.aer.roots.values())
        return set(self.kernel.tasks) == self._servants and waiting

    def known(self, sbdf: Sbdf) -> PciDev:
        """A function that was there after boot, gone or not."""
        return self._known[sbdf]

    # -- back to the state after boot ------------------------------------------------------------
    def reset(self) -> None:
        """As it was after boot."""
        self.journal.records.clear()
        self.dom0.injector.unload()
        self.dom0.answers.clear()
        self.kernel.choose = lambda label, ways: 0
        self.hierarchy.functions.clear()
        self.core.devices.clear()
        for image in self._functions:
            restore_function(image)
            self.hierarchy.functions[image.function.sbdf] = image.function
        for device in self._devices:
            restore_device(device, self.kernel)
            self.core.devices[device.dev.sbdf] = device.dev

    def device(self, sbdf: Sbdf) -> PciDev:
        """A function of the kernel. Raises UnsupportedError."""
        dev = self.core.devices.get(sbdf)
        if dev is None:
            raise UnsupportedError(f"machine {self.name} has no function {sbdf}")
        return dev


def _folder() -> Path:
    return data_dir("hosts") / "recorded"


def machine_names() -> list[str]:
    """Machines without Xen that are described in ``hosts/recorded``."""
    return sorted(file.stem for file in _folder().glob("*.yaml") if not file.stem.startswith(XEN_MACHINES))
