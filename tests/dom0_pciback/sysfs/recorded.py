"""The recorded machine as hardware: configuration space of a real kernel's devices, bytes that can be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from dom0_pciback.aer.core import AerCore
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.driver import PciDriver
from dom0_pciback.sysfs.sysfs import Sysfs
from kernel_stub.kernel import Kernel
from protocol.ids import Sbdf
from protocol.layout_pcie import EXP_TYPE
from protocol.topology import BootSpec, TimingSpec
from tests.kernel_stub.world import ListJournal, ManualClock

KINDS = {number: kind for kind, number in EXP_TYPE.items()}


@cache
def machine() -> Any:
    return json.loads((Path(__file__).parent / "data" / "machine.json").read_text())


class RecordedFunction:
    def __init__(self, bdf: str, config: str) -> None:
        self.sbdf = Sbdf.parse(bdf)
        self.config = bytearray(bytes.fromhex(config).ljust(4096, b"\0"))
        self.parent: RecordedFunction | None = None
        self.children: list[RecordedFunction] = []

    @property
    def kind(self) -> str:
        offset = self.config[0x34] if self.config[0x06] & 0x10 else 0
        while offset and self.config[offset] != 0x10:
            offset = self.config[offset + 1]
        return KINDS[self.config[offset + 2] >> 4] if offset else "endpoint"

    @property
    def secondary(self) -> int:
        return self.config[0x19] if self.config[0x0E] & 0x7F == 1 else -1


class RecordedHierarchy:
    """``HierarchyLike``; registers keep what is written, base addresses included, so sizes are not the real ones."""

    def __init__(self) -> None:
        self.interrupt: Callable[[Any], None] = lambda function: None
        rows = machine()["devices"].items()
        self.functions = {Sbdf.parse(bdf): RecordedFunction(bdf, row["config"]) for bdf, row in rows}
        bridges = {function.secondary: function for function in self.functions.values() if function.secondary > 0}
        for function in self.functions.values():
            function.parent = bridges.get(function.sbdf.bus)
            if function.parent is not None:
                function.parent.children.append(function)

    def wake(self, sbdf: Sbdf) -> None:
        """Nothing here is idle."""

    def unplug(self, sbdf: Sbdf) -> None:
        """Nothing here is in a slot."""

    def read(self, sbdf: Sbdf, offset: int, size: int) -> int:
        return int.from_bytes(self.functions[sbdf].config[offset : offset + size], "little")

    def write(self, sbdf: Sbdf, offset: int, size: int, value: int) -> None:
        self.functions[sbdf].config[offset : offset + size] = value.to_bytes(size, "little")


def recorded_sysfs(boot: BootSpec | None = None) -> Sysfs:
    """sysfs of the recorded machine, its drivers bound; ``boot``: what it was booted with."""
    kernel = Kernel("dom0", ManualClock(), ListJournal())
    core = PciCore(kernel, RecordedHierarchy(), TimingSpec(), boot)
    for bdf, row in machine()["devices"].items():
        if row["driver"]:
            core.drivers.setdefault(row["driver"], PciDriver(row["driver"]))
            kernel.spawn(core.bind(core.devices[Sbdf.parse(bdf)], core.drivers[row["driver"]]), "bind")
    kernel.run()
    aer = AerCore(core)
    kernel.run()
    return Sysfs(core, aer)
