"""The machine of a recorded Xen case: a simulated system, brought to where the case begins.

Profile ``linux``, kill policy ``ignore``. A system costs a few milliseconds, so each performance has its own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from dom0_pciback.aer.stats import DEVICE_FILES, ROOT_FILES
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pcie.function import Function
from hypervisor_stub.domains import Domain
from hypervisor_stub.xenstore.errors import XenStoreError
from protocol.ids import Sbdf
from protocol.layout_pcie import EXP_LNKSTA_DLLLA
from protocol.topology import AssignmentSpec, GuestDriverSpec, GuestSpec, HostSpec
from xenaer.boot import data_dir
from xenaer.conform.prepare import set_counter_file
from xenaer.conform.steps import UnsupportedError
from xenaer.conform.xen_case import XenCase, leftover_domains
from xenaer.conform.xen_registers import FIELDS, set_registers
from xenaer.conform.xen_words import GuestPlan, Node
from xenaer.host import load_host
from xenaer.simulation import SimError, SimSystem

HOTPLUG, NO_HOTPLUG = "xen-pciehp", "xen-noslots"  # files in hosts/recorded
DOM0_BOOT_MS, CONNECT_MS = 3_000, 2_000
FIRST_GSI = 20  # the chipset's interrupt of a port in slot 4; behind it INTA stays INTA (errata 4.1)
GSI_PINS, FIRST_SLOT = 4, 4


@cache
def _machine(name: str) -> HostSpec:
    return load_host(data_dir("hosts") / "recorded" / f"{name}.yaml")


class XenMachine:
    """One booted system; ``seed`` decides how long messages take."""

    def __init__(self, case: XenCase, seed: int) -> None:
        self.host = replace(_machine(_kind(case)), guests=_guests(case))
        for bdf, _ in case.guest.devices if case.guest is not None else ():
            if self.host.function(bdf) is None:
                raise UnsupportedError(f"the guest has no {bdf}: the machine has no such function")
        self.system = system = SimSystem(self.host, seed, boot=False)
        system.advance(DOM0_BOOT_MS)
        self.dom0 = system.dom0
        self._wire_interrupts()
        domains = system.hypervisor.machine.domains
        domains.start_at(case.domid)
        self._write_nodes(leftover_domains(case))
        self._create_guest()
        system.advance(CONNECT_MS)
        self._write_nodes([node for node in case.nodes if not self._has(node.path)])
        self._order_nodes(case.nodes)
        self._set_state(case)

    @property
    def domain(self) -> Domain | None:
        """The guest, None if it is gone or there is none."""
        name = self.host.guests[0].name if self.host.guests else ""
        return self.system.hypervisor.machine.domains.by_name(name)

    def function(self, sbdf: Sbdf) -> Function:
        """The hardware of a function. Raises UnsupportedError."""
        hierarchy = self.dom0.hierarchy
        assert hierarchy is not None
        if sbdf not in hierarchy.functions:
            raise UnsupportedError(f"the machine has no function {sbdf}")
        return hierarchy.functions[sbdf]

    def device(self, sbdf: Sbdf) -> PciDev:
        """A function as dom0's kernel knows it. Raises UnsupportedError."""
        self.function(sbdf)
        return self.dom0.core.devices[sbdf]

    def named(self, name: str, port: Sbdf | None) -> Sbdf:
        """The function that the monitor calls ``name``.

        Of an injection, ``port`` tells where it is; the recordings do not say how the monitor calls each function.
        """
        known = [Sbdf.parse(spec.bdf) for spec in self.host.functions if spec.name == name]
        below = [child.sbdf for child in self.function(port).children] if port is not None else known
        if not below:
            raise UnsupportedError(f"the machine has no device {name!r}")
        return known[0] if known and known[0] in below else below[-1]

    def _create_guest(self) -> None:
        try:
            self.system.ctl("hypervisor", "boot", [])
        except SimError as error:
            raise UnsupportedError(f"the guest cannot be created: {error}") from None

    # -- to the start of a case ------------------------------------------------------------------
    def _wire_interrupts(self) -> None:
        for psdev in self.dom0.pciback.slots.values():
            slot = psdev.dev.root.sbdf.device
            psdev.gsi = FIRST_GSI + (slot - FIRST_SLOT) % GSI_PINS

    def _has(self, path: str) -> bool:
        return self.system.hypervisor.machine.xs.read(path) is not None

    def _write_nodes(self, nodes: list[Node]) -> None:
        xs = self.system.hypervisor.machine.xs
        for node in nodes:
            try:
                xs.write(node.path, node.value)
                xs.conn.set_perms(0, node.path, list(node.perms))
            except XenStoreError as error:
                raise UnsupportedError(f"before.xenstore: {node.path}: {error}") from None

    def _order_nodes(self, nodes: list[Node]) -> None:
        """Children in the order of the listing, which is that of their creation on the recorded machine."""
        tree = self.system.hypervisor.machine.store.tree
        for parent in dict.fromkeys(node.path.rpartition("/")[0] for node in nodes):
            found = tree.get(parent)
            if found is not None:
                listed = [n.path.rpartition("/")[2] for n in nodes if n.path.rpartition("/")[0] == parent]
                order = [*listed, *(name for name in found.children if name not in listed)]
                found.children = {name: None for name in order if name in found.children}

    def _set_state(self, case: XenCase) -> None:
        """Registers and counters that earlier cases left."""
        for sbdf, values in case.registers:
            unknown = [name for name in values if name not in FIELDS]
            if unknown:
                raise UnsupportedError(f"before.regs: no register {unknown[0]!r}")
            set_registers(self.function(sbdf), values)
        for sbdf, files in case.counters.items():
            info = self.device(sbdf).aer_info
            for file, value in files.items():
                if info is None or file not in (*DEVICE_FILES, *ROOT_FILES):
                    raise UnsupportedError(f"before.aer_stats: {sbdf} has no {file}")
                set_counter_file(info, file, value)


def _kind(case: XenCase) -> str:
    """Links that never show that they are active: nobody serves the slots (errata 4.3, "Dead link")."""
    for sbdf, values in case.registers[:1]:
        if not values.get("lnksta", (EXP_LNKSTA_DLLLA,))[0] & EXP_LNKSTA_DLLLA and sbdf.bus == 0:
            return NO_HOTPLUG
    return HOTPLUG


def _guests(case: XenCase) -> list[GuestSpec]:
    plan = case.guest
    if plan is None:
        return []
    return [
        GuestSpec(
            plan.name, "hvm" if plan.hvm else "pv", plan.memory_mb, plan.vcpus, _devices(plan, case), policy="ignore",
            on_crash="preserve", front=plan.front,
        )
    ]  # fmt: skip


def _devices(plan: GuestPlan, case: XenCase) -> list[AssignmentSpec]:
    driver = GuestDriverSpec(case.driver, dict(case.options))
    return [AssignmentSpec(bdf, driver, permissive) for bdf, permissive in plan.devices]
