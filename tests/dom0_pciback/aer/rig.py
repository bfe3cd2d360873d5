"""A small dom0 on emulated hardware, with a clock that jumps to the next timer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from dom0_pciback.aer.core import AerCore
from dom0_pciback.aer.isr import Recover
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from dom0_pciback.pci.ownership import pcie_ports_disabled
from dom0_pciback.pci.portdrv import PORT_KINDS, port_driver
from dom0_pciback.pcie.hierarchy import Hierarchy
from kernel_stub.kernel import Kernel
from protocol.ers import ChannelState, ErsResult
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.topology import BootSpec, FunctionSpec, HostSpec, TimingSpec
from tests.kernel_stub.world import ListJournal, ManualClock

VECTOR_HEADER = (1, 2, 3, 4)


def endpoint(bdf: str, parent: str, **more: Any) -> FunctionSpec:
    return FunctionSpec(bdf, "endpoint", parent, **more)


def small_host() -> list[FunctionSpec]:
    """rp1 with one function, rp2 with a two-function device, rp3 with a switch and two endpoints."""
    return [
        FunctionSpec("00:01.0", "root_port", secondary=1, subordinate=1),
        endpoint("01:00.0", "00:01.0"),
        FunctionSpec("00:02.0", "root_port", secondary=2, subordinate=2),
        endpoint("02:00.0", "00:02.0"),
        endpoint("02:00.1", "00:02.0"),
        FunctionSpec("00:03.0", "root_port", secondary=3, subordinate=6),
        FunctionSpec("03:00.0", "upstream_port", "00:03.0", secondary=4, subordinate=6),
        FunctionSpec("04:00.0", "downstream_port", "03:00.0", secondary=5, subordinate=5),
        FunctionSpec("04:01.0", "downstream_port", "03:00.0", secondary=6, subordinate=6),
        endpoint("05:00.0", "04:00.0"),
        endpoint("06:00.0", "04:01.0"),
    ]


class Rig:
    """Hardware, kernel, PCI core and AER driver of one dom0; ports are bound to ``pcieport``."""

    def __init__(
        self,
        functions: list[FunctionSpec] | None = None,
        *,
        generation: str = "linux-7.2",
        recover: Recover | None = None,
        timing: TimingSpec | None = None,
        boot: BootSpec | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.journal = ListJournal()
        self.kernel = Kernel("dom0", self.clock, self.journal)
        self.hierarchy = Hierarchy(HostSpec("test", functions or small_host(), []), self.clock)
        self.core = PciCore(self.kernel, self.hierarchy, timing or TimingSpec(), boot)
        driver = port_driver(self.core)
        for dev in self.core.devices.values():
            if dev.kind in PORT_KINDS and not pcie_ports_disabled(self.core.boot):
                self.call(self.core.bind(dev, driver))
        self.aer = AerCore(self.core, generation, recover)
        self.settle()
        self.boot_log = self.log()
        self.journal.records.clear()

    def dev(self, bdf: str) -> PciDev:
        return self.core.devices[Sbdf.parse(bdf)]

    def settle(self, until: int | None = None) -> None:
        """Run until nothing is ready and no timer is left (or until that time, in ns)."""
        self.kernel.run()
        while (deadline := self.kernel.next_timer()) is not None and (until is None or deadline <= until):
            self.clock.time = max(self.clock.time, deadline)
            self.kernel.run()
        if until is not None:
            self.clock.time = until

    def call(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Run one coroutine to its end and return its result."""
        task = self.kernel.spawn(coro, "test")
        self.settle()
        assert task.done, f"{task} never ended"
        return task.result

    def bind(self, bdf: str, driver: PciDriver) -> None:
        assert self.call(self.core.bind(self.dev(bdf), driver)) == 0

    def inject(self, bdf: str, cor: int = 0, uncor: int = 0, header: tuple[int, int, int, int] = VECTOR_HEADER) -> None:
        """The hardware of the function detects these errors; then everything runs to its end."""
        self.hierarchy.inject(Sbdf.parse(bdf), cor, uncor, header)
        self.settle()

    # -- what is left behind -------------------------------------------------------------------
    def log(self, level: int = 6) -> list[str]:
        """The kernel log up to ``level``, in the form ``<level> text``, and forget it."""
        lines = [f"<{r[4]}> {r[5]}" for r in self.journal.records if r[2] == "printk" and r[4] <= level]
        self.journal.records = [r for r in self.journal.records if r[2] != "printk"]
        return lines

    def traced(self, label: str) -> list[tuple[Any, ...]]:
        """Subject and fields of every record with this label."""
        return [record[3:] for record in self.journal.records if record[2] == label]

    def aer_reg(self, bdf: str, register: int) -> int:
        dev = self.dev(bdf)
        return self.core.read(dev, dev.aer + register, 4)

    def uncor_status(self, bdf: str) -> int:
        return self.aer_reg(bdf, AER.UNCOR_STATUS)


class Lab:
    """A driver that answers as it is told and writes down what it is asked."""

    def __init__(self, rig: Rig, name: str = "lab", /, **answers: int) -> None:
        """``answers``: det_normal, det_frozen, det_perm, mmio, slot; a phase not named has no callback."""
        self.rig = rig
        self.answers = answers
        self.calls: list[str] = []
        self.on_call: Callable[[str], Awaitable[None]] | None = None
        detects = any(key.startswith("det_") for key in answers)
        self.driver = PciDriver(
            name,
            ErrorHandlers(
                error_detected=self.error_detected if detects else None,
                mmio_enabled=self._voting("mmio") if "mmio" in answers else None,
                slot_reset=self._voting("slot") if "slot" in answers else None,
                resume=self.resume,
            ),
        )

    async def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.on_call is not None:
            await self.on_call(call)

    async def error_detected(self, dev: PciDev, state: ChannelState) -> int:
        await self._note(f"error_detected({state.name})")
        word = {ChannelState.NORMAL: "normal", ChannelState.FROZEN: "frozen", ChannelState.PERM_FAILURE: "perm"}[state]
        return self.answers.get(f"det_{word}", ErsResult.DISCONNECT)

    def _voting(self, phase: str) -> Callable[[PciDev], Awaitable[int]]:
        async def callback(dev: PciDev) -> int:
            await self._note({"mmio": "mmio_enabled", "slot": "slot_reset"}[phase])
            return self.answers[phase]

        return callback

    async def resume(self, dev: PciDev) -> None:
        await self._note("resume")


def bind_lab(rig: Rig, bdf: str, name: str = "lab", /, **answers: int) -> Lab:
    """Bind a ``Lab`` driver to a function."""
    lab = Lab(rig, name, **answers)
    rig.bind(bdf, lab.driver)
    return lab
