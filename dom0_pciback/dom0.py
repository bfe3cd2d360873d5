"""dom0: the hardware, its PCI core, the AER driver and pciback, put together; no socket, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from errno import errorcode
from functools import partial
from inspect import isawaitable
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from dom0_pciback.aer.core import AerCore
from dom0_pciback.aer.dpc import Dpc
from dom0_pciback.aer.dpc_reset import contained_reset, dpc_reset_link
from dom0_pciback.aer.edr import Edr
from dom0_pciback.aer.inject import AerInject
from dom0_pciback.aer.inject_file import Injection, parse
from dom0_pciback.aer.recovery import ResetSubordinates, pcie_do_recovery
from dom0_pciback.aer.root_reset import aer_root_reset
from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES
from dom0_pciback.hypercalls import Hypercalls
from dom0_pciback.native import bind_native, bind_ports, save_ports
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.osc import osc_lines
from dom0_pciback.pci.slot import create_slots
from dom0_pciback.pciback.handlers import Callbacks
from dom0_pciback.pciback.pciback import Pciback
from dom0_pciback.pciback.profile import make_profile
from dom0_pciback.pciback.recovery import HardenedRecovery
from dom0_pciback.pciback.resets import Resets
from dom0_pciback.pcie.containment import detect_rp_pio
from dom0_pciback.pcie.device_bus import DeviceBus
from dom0_pciback.pcie.hierarchy import Hierarchy
from dom0_pciback.pcie.iommu import Iommu
from kernel_stub.kernel import INFO, MS, Kernel
from kernel_stub.rpc import Rpc, RpcError
from kernel_stub.sync import WaitQueue
from protocol.ers import ChannelState
from protocol.ids import Sbdf
from protocol.layout_dpc import DPC, DPC_CTL_EN_MASK, DPC_CTL_SW_TRIGGER
from protocol.ports import Clock, Endpoints, Link
from protocol.topology import COLLECTORS, HOST, HostSpec

Header = tuple[int, int, int, int]
END_PATIENCE = 900 * MS  # less than the stub waits for its parties to end
MISSING_FUNCTION = 7  # what "touch" looks for


class Dom0:
    """The control domain. ``link`` leads to the hypervisor stub, which has the host's description."""

    def __init__(self, kernel: Kernel, clock: Clock, link: Link, endpoints: Endpoints, *, pid: int = 0) -> None:
        self.kernel = kernel
        self.clock = clock
        self.endpoints = endpoints
        self.rpc = Rpc(kernel, link, "hypervisor")
        self.hierarchy: Hierarchy | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self.recoveries = 0
        self.recovered = WaitQueue(kernel, "a recovery to end")
        self.rpc.hold()  # nothing is served before the devices are seized
        kernel.spawn(self._boot(pid), "init")

    async def _boot(self, pid: int) -> None:
        hello: dict[str, Any] = await self.rpc.call("hello", "dom0", "")
        self.kernel.trace("party.start", "dom0", pid)
        await self._start(HOST.validate_json(hello["host"]))
        self.rpc.handlers["ctl"] = self.ctl
        self.rpc.release()

    async def _start(self, host: HostSpec) -> None:
        kernel, profile = self.kernel, make_profile(host.profile, host.turned_over())
        kernel.printk(INFO, f"Linux version {host.kernel} (xenaer) host {host.name}, profile {profile.name}")
        hierarchy = self.hierarchy = Hierarchy(host, self.clock)
        for line in osc_lines(host.boot):
            kernel.printk(INFO, line)
        core = self.core = PciCore(kernel, hierarchy, host.timing, host.boot)
        create_slots(core)
        await bind_ports(core)
        pciback = self.pciback = Pciback(kernel, core, self.rpc, self.endpoints, host, profile)
        callbacks = Callbacks(pciback)
        pciback.use_handlers(callbacks.handlers())
        iommu = Iommu()
        resets = self.resets = Resets(core, pciback, iommu)
        hardened = HardenedRecovery(core, pciback, callbacks, resets)
        self.aer = AerCore(core, host.kernel, self._recover)
        self.injector = AerInject(core, self.aer)
        if profile.hardened:
            save_ports(core)
        await bind_native(core, host, {})
        kernels = partial(pcie_do_recovery, core, self.aer.generation)
        self._do_recover = hardened.recover if profile.hardened else kernels
        self._dpc_reset = contained_reset if profile.hardened else dpc_reset_link
        self.dpc = Dpc(core, host, self.aer, self._recover_port)
        self.edr = Edr(core, host, self.dpc.ports, self._recover_port)
        bus = DeviceBus(kernel, hierarchy, iommu)
        bus.resolve, bus.guest_devfn = pciback.resolve, pciback.guest_devfn
        Hypercalls(core, pciback, resets, iommu, bus, self.endpoints).install(self.rpc)
        self.rpc.events["domain_stopped"] = pciback.domain_stopped
        self.rpc.events["stop"] = self._stop
        self.rpc.events["domain_paused"] = pciback.domain_paused
        self.rpc.events["evtchn_closed"] = lambda port: None
        await pciback.start()

    def _stop(self) -> None:
        """The orderly end of the host."""
        self.kernel.spawn(self._end(), "reboot")

    async def _end(self) -> None:
        """First the devices of the last guests are put back."""
        deadline = self.kernel.now() + END_PATIENCE
        await self.pciback.progress.wait_until(lambda: not self.pciback.guests, deadline)
        self.on_stop()

    # -- control -------------------------------------------------------------------------------
    async def ctl(self, verb: str, args: tuple[Any, ...]) -> Any:
        """Control verbs; RpcError with the reason for what is wrong."""
        verbs: dict[str, Callable[..., Any]] = {
            "inject": self._inject,
            "inject-repeat": self._inject_repeat,
            "touch": self._touch,
            "aer-inject": self._aer_inject,
            "dpc-trigger": self._dpc_trigger,
            "rp-pio": self._rp_pio,
            "stats": self._stats,
            "functions": self._functions,
            "config": self._config,
            "channel-stats": self._channel_stats,
        }
        handler = verbs.get(verb)
        if handler is None:
            raise RpcError(f"dom0 verb {verb!r}; allowed: {', '.join(verbs)}")
        try:
            result = handler(*check_arguments(verb, args))
            return await result if isawaitable(result) else result
        except (ValueError, KeyError) as error:
            raise RpcError(str(error.args[0])) from None

    def _inject(self, bdf: str, cor: int, uncor: int, header: Header = (0, 0, 0, 0)) -> None:
        """The hardware of a function detects errors."""
        assert self.hierarchy is not None
        self.kernel.trace("hw.inject", str(self._known(bdf)), cor, uncor)
        self.hierarchy.inject(Sbdf.parse(bdf), cor, uncor, tuple(header))  # type: ignore[arg-type]

    async def _inject_repeat(self, bdf: str, cor: int, uncor: int, count: int) -> int:
        """``inject`` again and again, each time after the recovery of the last one; how many recoveries ended."""
        begin = self.recoveries
        for number in range(1, count + 1):
            self._inject(bdf, cor, uncor)
            await self.recovered.wait_until(partial(self._reached, begin + number))
        return self.recoveries - begin

    def _reached(self, count: int) -> bool:
        return self.recoveries >= count

    async def _recover(self, dev: PciDev, state: ChannelState, reset: ResetSubordinates = aer_root_reset) -> int:
        """The recovery that is in force, counted."""
        status = await self._do_recover(dev, state, reset)
        self.recoveries += 1
        self.recovered.wake_all()
        return status

    async def _recover_port(self, port: PciDev) -> int:
        """The recovery of a contained port: its release is the reset."""
        return await self._recover(port, ChannelState.FROZEN, self._dpc_reset)

    def _touch(self, bdf: str) -> int:
        """A configuration read of a function that does not exist, as the 2008 test did it."""
        assert self.hierarchy is not None
        sbdf = Sbdf.parse(bdf)
        if sbdf in self.hierarchy.functions:
            sbdf = self._missing(sbdf)
        self.kernel.trace("hw.touch", str(sbdf))
        return self.hierarchy.read(sbdf, 0, 4)

    def _missing(self, sbdf: Sbdf) -> Sbdf:
        """The highest function of the same device that is not there."""
        assert self.hierarchy is not None
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

    def _pretend(self, record: Injection, filename: str) -> None:
        rc = self.injector.inject(record.sbdf, record.cor, record.uncor, record.header)
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
        assert self.hierarchy is not None
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
        return {file: self.aer.stats_text(dev, file) for file in files}

    def _channel_stats(self, domid: int) -> dict[str, int]:
        """Counters of a guest's event channel, and of answers that equal their request (8.2, H9)."""
        pdev = self.pciback.guests.get(domid)
        if pdev is None or pdev.worker is None:
            raise ValueError(f"domain {domid} is not connected to pciback")
        return pdev.worker.events.statistics()

    def _functions(self) -> list[str]:
        """The addresses of all functions, in enumeration order."""
        assert self.hierarchy is not None
        return [str(sbdf) for sbdf in self.hierarchy.functions]

    def _config(self, bdf: str) -> bytes:
        """The 4096 bytes of a function's configuration space, as a read through dom0 gives them."""
        assert self.hierarchy is not None
        sbdf, read = self._known(bdf), self.hierarchy.read
        return b"".join(read(sbdf, offset, 4).to_bytes(4, "little") for offset in range(0, 4096, 4))

    def _known(self, bdf: str) -> Sbdf:
        sbdf = Sbdf.parse(bdf)
        if self.hierarchy is None or sbdf not in self.hierarchy.functions:
            known = ", ".join(str(each) for each in self.hierarchy.functions) if self.hierarchy else ""
            raise ValueError(f"no PCI device {bdf}; there are {known}")
        return sbdf


_Text = Annotated[str, Field(strict=True)]
_Word = Annotated[int, Field(strict=True, ge=0, le=0xFFFFFFFF)]
_Plain = tuple[_Text, _Word, _Word]
_WithHeader = tuple[_Text, _Word, _Word, tuple[_Word, _Word, _Word, _Word]]
ARGUMENTS: dict[str, TypeAdapter[tuple[Any, ...]]] = {
    "inject": TypeAdapter(_Plain | _WithHeader),  # function, correctable and uncorrectable bits, TLP header
    "inject-repeat": TypeAdapter(tuple[_Text, _Word, _Word, _Word]),
    "touch": TypeAdapter(tuple[_Text]),
    "aer-inject": TypeAdapter(tuple[_Text, _Text] | tuple[_Text, _Text, bool]),  # contents, file name, software
    "dpc-trigger": TypeAdapter(tuple[_Text]),
    "rp-pio": TypeAdapter(tuple[_Text, _Word] | tuple[_Text, _Word, tuple[_Word, _Word, _Word, _Word]]),
    "stats": TypeAdapter(tuple[_Text]),
    "functions": TypeAdapter(tuple[()]),
    "config": TypeAdapter(tuple[_Text]),
    "channel-stats": TypeAdapter(tuple[_Word]),  # domain
}


def check_arguments(verb: str, args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of a control verb. Raises ValueError that says which one is wrong, and why."""
    try:
        return ARGUMENTS[verb].validate_python(tuple(args))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{verb}: argument {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
