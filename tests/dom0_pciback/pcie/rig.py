"""A host with a switch and a plain root port, a clock that stands still, and short names for register accesses."""

from __future__ import annotations

from collections.abc import Iterable

from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.hierarchy import Hierarchy
from dom0_pciback.pcie.port import Port
from dom0_pciback.pcie.profile import SPEC, HardwareProfile
from protocol.ids import Sbdf
from protocol.layout_aer import AER, AER_ROOT_CMD_ALL
from protocol.layout_dpc import DPC
from protocol.layout_header import BRIDGE_CTL_BUS_RESET, TYPE1
from protocol.layout_pcie import EXP, EXP_DEVCTL_AER_FLAGS
from protocol.registers import Reg
from protocol.topology import FunctionSpec, HostSpec

ROOT, UP, DOWN, DOWN2 = "0000:00:1c.0", "0000:01:00.0", "0000:02:00.0", "0000:02:01.0"
NIC, CARD, DISK = "0000:03:00.0", "0000:03:00.1", "0000:04:00.0"
ROOT2, NIC2008 = "0000:00:1d.0", "0000:06:00.0"
ORDER = [ROOT, UP, DOWN, NIC, CARD, DOWN2, DISK, ROOT2, NIC2008]

MS = 1_000_000


def specs() -> list[FunctionSpec]:
    """The functions, not in enumeration order on purpose."""
    return [
        FunctionSpec(NIC2008, "endpoint", ROOT2, model="nic", role_based=False),
        FunctionSpec(CARD, "endpoint", DOWN),
        FunctionSpec(NIC, "endpoint", DOWN, model="nic"),
        FunctionSpec(DISK, "endpoint", DOWN2, model="block", aer=False, flr=False),
        FunctionSpec(DOWN2, "downstream_port", UP, 4, 4),
        FunctionSpec(DOWN, "downstream_port", UP, 3, 3),
        FunctionSpec(UP, "upstream_port", ROOT, 2, 5),
        FunctionSpec(ROOT2, "root_port", "", 6, 6),
        FunctionSpec(ROOT, "root_port", "", 1, 5),
    ]


class FakeClock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.time = 1000 * MS

    def now(self) -> int:
        return self.time


class Rig:
    """The hierarchy under test. ``interrupts`` and ``resets`` list the callbacks by address."""

    def __init__(self, functions: Iterable[FunctionSpec] | None = None, profile: HardwareProfile = SPEC) -> None:
        self.clock = FakeClock()
        listed = specs() if functions is None else list(functions)
        self.hierarchy = Hierarchy(HostSpec("rig", listed, []), self.clock, profile)
        self.interrupts: list[str] = []
        self.resets: list[str] = []
        self.hierarchy.interrupt = lambda root: self.interrupts.append(str(root.sbdf))
        self.hierarchy.on_reset = lambda function: self.resets.append(str(function.sbdf))
        for function in self.hierarchy.functions.values():  # what a kernel that owns AER enables
            if function.aer and not function.spec.config:
                self.set(str(function.sbdf), EXP.DEVCTL, EXP_DEVCTL_AER_FLAGS)
            if function.kind == "root_port":
                self.set(str(function.sbdf), AER.ROOT_COMMAND, AER_ROOT_CMD_ALL)

    def function(self, bdf: str) -> Function:
        return self.hierarchy.functions[Sbdf.parse(bdf)]

    def port(self, bdf: str) -> Port:
        port = self.function(bdf)
        assert isinstance(port, Port)
        return port

    def offset(self, bdf: str, reg: Reg) -> int:
        function = self.function(bdf)
        if any(reg is one for one in AER.registers):
            return function.aer + reg
        if any(reg is one for one in DPC.registers):
            return function.dpc + reg
        if any(reg is one for one in EXP.registers):
            return function.exp + reg
        return int(reg)

    def get(self, bdf: str, reg: Reg) -> int:
        return self.hierarchy.read(Sbdf.parse(bdf), self.offset(bdf, reg), reg.width)

    def set(self, bdf: str, reg: Reg, value: int) -> None:
        self.hierarchy.write(Sbdf.parse(bdf), self.offset(bdf, reg), reg.width, value)

    def inject(self, bdf: str, cor: int = 0, uncor: int = 0, header: tuple[int, int, int, int] = (0, 0, 0, 0)) -> None:
        self.hierarchy.inject(Sbdf.parse(bdf), cor, uncor, header)

    def bus_reset(self, bdf: str) -> None:
        control = self.get(bdf, TYPE1.BRIDGE_CONTROL)
        self.set(bdf, TYPE1.BRIDGE_CONTROL, control | BRIDGE_CTL_BUS_RESET)
        self.set(bdf, TYPE1.BRIDGE_CONTROL, control & ~BRIDGE_CTL_BUS_RESET)

    def root_state(self, bdf: str = ROOT) -> tuple[int, int, int]:
        """Root status, source of the uncorrectable class, source of the correctable class."""
        source = self.get(bdf, AER.ROOT_ERR_SRC)
        return self.get(bdf, AER.ROOT_STATUS), source >> 16, source & 0xFFFF
