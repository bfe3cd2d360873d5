"""dom0's control verbs: what the operator asks of the hardware and of dom0's kernel."""

from __future__ import annotations

from collections.abc import Callable
from errno import errorcode
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from dom0_pciback.aer.inject_file import Injection, parse
from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES
from dom0_pciback.control_arguments import check_arguments
from dom0_pciback.faults import Faults
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pcie.containment import detect_rp_pio
from dom0_pciback.pcie.hierarchy import Hierarchy
from dom0_pciback.sysfs.control import SysfsControl
from kernel_stub.rpc import RpcError
from protocol.cper import CperSeverity
from protocol.ids import Sbdf
from protocol.layout_dpc import DPC, DPC_CTL_EN_MASK, DPC_CTL_SW_TRIGGER
from protocol.topology import COLLECTORS

if TYPE_CHECKING:
    from dom0_pciback.dom0 import Dom0

Header = tuple[int, int, int, int]
MISSING_FUNCTION = 7  # what "touch" looks for


class Control:
    """The verbs of a dom0 that has started."""

    def __init__(self, dom0: Dom0) -> None:
        assert dom0.hierarchy is not None
        self.dom0 = dom0
        self.kernel = dom0.kernel
        self.core = dom0.core
        self.hierarchy: Hierarchy = dom0.hierarchy
        self._verbs: dict[str, Callable[..., Any]] = {
            "inject": self._inject,
            "inject-repeat": self._inject_repeat,
            "touch": self._touch,
            "aer-inject": self._aer_inject,
            "ghes": self._ghes,
            "dpc-trigger": self._dpc_trigger,
            "rp-pio": self._rp_pio,
            "stats": self._stats,
            "functions": self._functions,
            "config": self._config,
            "channel-stats": self._channel_stats,
            "refusals": self.dom0.refusals.statistics,
            **Faults(self.dom0).verbs(),
            **SysfsControl(self.dom0.sysfs, self.dom0.mount_sysfs).verbs(),
        }

    async def ctl(self, verb: str, args: tuple[Any, ...]) -> Any:
        """Control verbs; RpcError with the reason for what is wrong."""
        handler = self._verbs.get(verb)
        if handler is None:
            raise RpcError(f"dom0 verb {verb!r}; allowed: {', '.join(self._verbs)}")
        try:
            result = handler(*check_arguments(verb, args))
            return await result if isawaitable(result) else result
        except (ValueError, KeyError) as error:
            raise RpcError(str(error.args[0])) from None

    def _inject(self, bdf: str, cor: int, uncor: int, header: Header = (0, 0, 0, 0)) -> None:
        """The hardware of a function detects errors."""
        sbdf = self._known(bdf)
        self.kernel.trace("hw.inject", str(sbdf), cor, uncor)
        self.hierarchy.inject(sbdf, cor, uncor, tuple(header))  # type: ignore[arg-type]

    async def _inject_repeat(self, bdf: str, cor: int, uncor: int, count: int) -> int:
        """``inject`` again and again, each time after the recovery of the last one; how many recoveries ended."""
        begin = self.dom0.recoveries
        for number in range(1, count + 1):
            self._inject(bdf, cor, uncor)
            await self.dom0.recovered.wait_until(partial(self._reached, begin + number))
        return self.dom0.recoveries - begin

    def _reached(self, count: int) -> bool:
        return self.dom0.recoveries >= count

    def _touch(self, bdf: str) -> int:
        """A configuration read of a function that does not exist, as the 2008 test did it."""
        sbdf = Sbdf.parse(bdf)
        if sbdf in self.hierarchy.functions:
            sbdf = self._missing(sbdf)
        self.kernel.trace("hw.touch", str(sbdf))
        return self.hierarchy.read(sbdf, 0, 4)

    def _missing(self, sbdf: Sbdf) -> Sbdf:
        """The highest function of the same device that is not there."""
        for function in range(MISSING_FUNCTION, 0, -1):
            candidate = sbdf._replace(function=function)
            if candidate not in self.hierarchy.functions:
                return candidate
        raise ValueError(f"{sbdf}: all eight functions of the device exist")

    def _aer_inject(self, text: str, filename: str, software: bool = False) -> int:
        """An aer-inject file; returns how many records were injected. Earlier ones count if a later is wrong.

        The hardware detects the errors, or with ``software`` the kernel's injector pretends so (T40).
        """
        count = 0
        for record in parse(text, filename):
            if software:
                self._pretend(record, filename)
            else:
                self._inject(str(record.sbdf), record.cor, record.uncor, record.header)
            count += 1
        return count

    def _ghes(self, record: str, severity: str = "recoverable") -> int:
        """The firmware reports an error: a CPER record in hexadecimal; how many errors AER got from it."""
        return self.dom0.aer.ghes.notify(bytes.fromhex(record), CperSeverity[severity.upper()])

    def _pretend(self, record: Injection, filename: str) -> None:
        rc = self.dom0.injector.inject(record.sbdf, record.cor, record.uncor, record.header)
        if rc < 0:
            raise ValueError(f"{filename}: {record.sbdf}: failed to write, {errorcode[-rc]}")

    def _dpc_trigger(self, bdf: str) -> None:
        """Write the software trigger of a port's DPC, as ``setpci`` does."""
        dev = self._dpc_port(bdf)
        if not self.core.read(dev, dev.dpc + DPC.CTL, 2) & DPC_CTL_EN_MASK:
            raise ValueError(f"DPC of {dev.name} is not enabled")
        self.kernel.trace("hw.dpc_trigger", dev.name)
        self.core.update(dev, dev.dpc + DPC.CTL, 2, 0, DPC_CTL_SW_TRIGGER)

    def _rp_pio(self, bdf: str, bits: int, header: Header = (0, 0, 0, 0)) -> None:
        """Requests of the root complex fail below a root port."""
        dev = self._dpc_port(bdf)
        self.kernel.trace("hw.rp_pio", dev.name, bits)
        detect_rp_pio(self.hierarchy.functions[dev.sbdf], bits, header)

    def _dpc_port(self, bdf: str) -> PciDev:
        dev = self.core.devices[self._known(bdf)]
        if not dev.dpc:
            known = ", ".join(each.name for each in self.core.devices.values() if each.dpc)
            raise ValueError(f"{dev.name} has no DPC; there are {known or 'no ports that have it'}")
        return dev

    def _stats(self, bdf: str) -> dict[str, str]:
        dev = self.core.devices[self._known(bdf)]
        files = (*DEVICE_FILES, *(ROOT_FILES if dev.kind in COLLECTORS else ()))
        return {file: self.dom0.aer.stats_text(dev, file) for file in files}

    def _channel_stats(self, domid: int) -> dict[str, int]:
        """Counters of a guest's event channel, and of answers that equal their request (8.2, H9)."""
        pdev = self.dom0.pciback.guests.get(domid)
        if pdev is None or pdev.worker is None:
            raise ValueError(f"domain {domid} is not connected to pciback")
        return pdev.worker.events.statistics()

    def _functions(self) -> list[str]:
        """The addresses of all functions, in enumeration order."""
        return [str(sbdf) for sbdf in self.hierarchy.functions]

    def _config(self, bdf: str) -> bytes:
        """The 4096 bytes of a function's configuration space, as a read through dom0 gives them."""
        sbdf, read = self._known(bdf), self.hierarchy.read
        return b"".join(read(sbdf, offset, 4).to_bytes(4, "little") for offset in range(0, 4096, 4))

    def _known(self, bdf: str) -> Sbdf:
        sbdf = Sbdf.parse(bdf)
        if sbdf not in self.hierarchy.functions:
            known = ", ".join(str(each) for each in self.hierarchy.functions)
            raise ValueError(f"no PCI device {bdf}; there are {known}")
        return sbdf
