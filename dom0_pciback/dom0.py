"""dom0: the hardware, its PCI core, the AER driver and pciback, put together; no socket, no clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dom0_pciback.aer.core import AerCore
from dom0_pciback.aer.dpc import Dpc
from dom0_pciback.aer.dpc_reset import contained_reset, dpc_reset_link
from dom0_pciback.aer.edr import Edr
from dom0_pciback.aer.inject import AerInject
from dom0_pciback.aer.recovery import ResetSubordinates, pcie_do_recovery
from dom0_pciback.aer.root_reset import aer_root_reset
from dom0_pciback.control import Control
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
from dom0_pciback.pcie.device_bus import DeviceBus
from dom0_pciback.pcie.firmware import Firmware
from dom0_pciback.pcie.hierarchy import Hierarchy
from dom0_pciback.pcie.iommu import Iommu
from dom0_pciback.sysfs.control import Mount, no_files
from dom0_pciback.sysfs.sysfs import Sysfs
from kernel_stub.kernel import INFO, MS, Kernel
from kernel_stub.refusals import Refusals
from kernel_stub.rpc import Rpc
from kernel_stub.sync import WaitQueue
from protocol.ers import ChannelState
from protocol.ids import guest_identity
from protocol.ports import Clock, Endpoints, Link
from protocol.topology import HOST, HostSpec

END_PATIENCE = 900 * MS  # less than the stub waits for its parties to end


class Dom0:
    """The control domain. ``link`` leads to the hypervisor stub, which has the host's description."""

    def __init__(self, kernel: Kernel, clock: Clock, link: Link, endpoints: Endpoints, *, pid: int = 0) -> None:
        self.kernel = kernel
        self.clock = clock
        self.endpoints = endpoints
        self.rpc = Rpc(kernel, link, "hypervisor")
        self.hierarchy: Hierarchy | None = None
        self.on_stop: Callable[[], None] = lambda: None
        self.mount_sysfs: Mount = no_files
        self.recoveries = 0
        self.recovered = WaitQueue(kernel, "a recovery to end")
        self.refusals = Refusals(kernel)
        self.rpc.events["domain_key"] = lambda domid, key: endpoints.admit(guest_identity(domid), key)
        self.rpc.hold()  # nothing is served before the devices are seized
        kernel.spawn(self._boot(pid), "init")

    async def _boot(self, pid: int) -> None:
        hello: dict[str, Any] = await self.rpc.call("hello", "dom0", "")
        self.kernel.trace("party.start", "dom0", pid)
        await self._start(HOST.validate_json(hello["host"]))
        self.rpc.handlers["ctl"] = Control(self).ctl
        self.rpc.release()

    async def _start(self, host: HostSpec) -> None:
        kernel, profile = self.kernel, make_profile(host.profile, host.turned_over())
        kernel.printk(INFO, f"Linux version {host.kernel} (xenaer) host {host.name}, profile {profile.name}")
        hierarchy = self.hierarchy = Hierarchy(host, self.clock)
        firmware = Firmware(hierarchy) if host.boot.firmware_first else None
        for line in osc_lines(host.boot):
            kernel.printk(INFO, line)
        core = self.core = PciCore(kernel, hierarchy, host.timing, host.boot)
        create_slots(core)
        await bind_ports(core)
        pciback = self.pciback = Pciback(kernel, core, self.rpc, self.endpoints, host, profile)
        pciback.refusals = self.refusals
        callbacks = Callbacks(pciback)
        pciback.use_handlers(callbacks.handlers())
        iommu = Iommu()
        resets = self.resets = Resets(core, pciback, iommu)
        hardened = HardenedRecovery(core, pciback, callbacks, resets)
        if profile.hardened:
            core.reset_guard = resets.by_sysfs
        self.aer = AerCore(core, host.kernel, self._recover)
        hardened.look_again = self.aer.look_again
        if firmware is not None:
            firmware.notify = self.aer.ghes.notify
        self.sysfs = Sysfs(core, self.aer)
        self.injector = AerInject(core, self.aer)
        if profile.hardened:
            save_ports(core)
        await bind_native(core, host, {})
        kernels = partial(pcie_do_recovery, core, self.aer.generation)
        self._do_recover = hardened.recover if profile.hardened else kernels
        self._dpc_reset = contained_reset if profile.hardened else dpc_reset_link
        self.dpc = Dpc(core, host, self.aer, self._recover_port)
        hardened.containments.served = self.dpc.ports
        self.edr = Edr(core, host, self.dpc.ports, self._recover_port)
        bus = self.bus = DeviceBus(kernel, hierarchy, iommu, keeps_mappings=not profile.hardened)
        bus.resolve, bus.guest_devfn = pciback.resolve, pciback.guest_devfn
        bus.refusals = self.refusals
        # In linux a guest keeps its configuration operations until pciback itself lets the device go (finding 13).
        pciback.owns = iommu.owned_by if profile.hardened else lambda sbdf, domid: not iommu.revoked(domid)
        Hypercalls(core, pciback, resets, iommu, bus, self.endpoints).install(self.rpc)
        self.rpc.events["domain_revoked"] = lambda domid: self._revoke(iommu, domid)
        self.rpc.events["domain_stopped"] = pciback.domain_stopped
        self.rpc.events["stop"] = self._stop
        self.rpc.events["domain_paused"] = pciback.domain_paused
        self.rpc.events["evtchn_closed"] = lambda port: None
        await pciback.start()

    def _revoke(self, iommu: Iommu, domid: int) -> None:
        """First step of a kill: the guest is cut off from its devices, whatever it sends."""
        iommu.revoke(domid)
        self.endpoints.admit(guest_identity(domid), "")

    def _stop(self) -> None:
        """The orderly end of the host."""
        self.kernel.spawn(self._end(), "reboot")

    async def _end(self) -> None:
        """First the devices of the last guests are put back."""
        deadline = self.kernel.now() + END_PATIENCE
        await self.pciback.progress.wait_until(lambda: not self.pciback.guests, deadline)
        self.on_stop()

    # -- recovery ------------------------------------------------------------------------------
    async def _recover(self, dev: PciDev, state: ChannelState, reset: ResetSubordinates = aer_root_reset) -> int:
        """The recovery that is in force, counted."""
        status = await self._do_recover(dev, state, reset)
        self.recoveries += 1
        self.recovered.wake_all()
        return status

    async def _recover_port(self, port: PciDev) -> int:
        """The recovery of a contained port: its release is the reset."""
        return await self._recover(port, ChannelState.FROZEN, self._dpc_reset)
