"""The small dom0 with Downstream Port Containment: its service, and a firmware that may own it."""

from __future__ import annotations

from typing import Any

from dom0_pciback.aer.dpc import Dpc
from dom0_pciback.aer.dpc_reset import dpc_reset_link
from dom0_pciback.aer.edr import Edr, Locate, no_dsm
from dom0_pciback.aer.recovery import GENERATIONS, pcie_do_recovery
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pcie.function import Function
from protocol.ers import ChannelState
from protocol.ids import Sbdf
from protocol.layout_dpc import DPC, DPC_CTL_SW_TRIGGER, DPC_STATUS_TRIGGER
from protocol.registers import Reg
from protocol.topology import BootSpec, FunctionSpec, HostSpec
from tests.dom0_pciback.aer.rig import Rig, small_host

RP1, RP2, RP3, UP, DOWN, DOWN2 = "00:01.0", "00:02.0", "00:03.0", "03:00.0", "04:00.0", "04:01.0"
DPC_NATIVE = BootSpec(pcie_ports="dpc-native")
EDR = BootSpec(edr=True, osc_aer=False)


def contained_host(**fields: Any) -> list[FunctionSpec]:
    """The small host with DPC in every root and downstream port; ``fields`` of FunctionSpec for those ports."""
    functions = small_host()
    for spec in functions:
        if spec.kind in ("root_port", "downstream_port"):
            spec.dpc = True
            for name, value in fields.items():
                setattr(spec, name, value)
    return functions


class DpcRig(Rig):
    """``results`` are the return values of the recoveries; ``dpc_log`` is what the service said at boot."""

    def __init__(
        self, functions: list[FunctionSpec] | None = None, boot: BootSpec | None = None, locate: Locate = no_dsm
    ) -> None:
        super().__init__(functions or contained_host())
        self.results: list[int] = []
        self.host = HostSpec("test", [], [], boot=boot or BootSpec())
        self.dpc = Dpc(self.core, self.host, self.aer, self.recover)
        self.edr = Edr(self.core, self.host, self.dpc.ports, self.recover, locate)
        self.settle()
        self.dpc_log = self.log()

    async def recover(self, port: PciDev) -> int:
        """What the kernel does: ``pcie_do_recovery(port, frozen, dpc_reset_link)``."""
        table = GENERATIONS["linux-7.2"]
        result = await pcie_do_recovery(self.core, table, port, ChannelState.FROZEN, dpc_reset_link)
        self.results.append(result)
        return result

    def function(self, bdf: str) -> Function:
        return self.hierarchy.functions[Sbdf.parse(bdf)]

    def dpc_reg(self, bdf: str, register: Reg) -> int:
        dev = self.dev(bdf)
        return self.core.read(dev, dev.dpc + register, register.width)

    def set_dpc(self, bdf: str, register: Reg, value: int) -> None:
        dev = self.dev(bdf)
        self.core.write(dev, dev.dpc + register, register.width, value)

    def contained(self, bdf: str) -> bool:
        return bool(self.dpc_reg(bdf, DPC.STATUS) & DPC_STATUS_TRIGGER)

    def trigger(self, bdf: str) -> None:
        """The software trigger; nothing has run yet when this returns."""
        self.set_dpc(bdf, DPC.CTL, self.dpc_reg(bdf, DPC.CTL) | DPC_CTL_SW_TRIGGER)

    def ms(self) -> int:
        """The time, in whole milliseconds."""
        return self.clock.time // 1_000_000
