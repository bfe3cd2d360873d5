"""Scope and reset of a recovery: ``aer_root_reset`` (linux-aer.md 4.1, 4.8)."""

from __future__ import annotations

from dom0_pciback.aer.status import write_back
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.reset import bus_error_reset, pcie_reset_flr
from kernel_stub.kernel import INFO
from protocol.ers import ErsResult
from protocol.layout_aer import AER, AER_ROOT_CMD_ALL

# The device itself is what a recovery is about; for every other kind it is the port above (4.1).
OWN_SCOPE = frozenset({"root_port", "downstream_port", "event_collector", "rciep"})


def bridge_of(dev: PciDev) -> PciDev:
    """The port whose secondary bus a recovery of ``dev`` is about (4.1).

    ``dev`` itself for roots, downstream ports and integrated endpoints, else the port above. Any function on
    a root bus without a port above is treated as an integrated endpoint: itself (T31).
    """
    if dev.kind in OWN_SCOPE or dev.bridge is None:
        return dev
    return dev.bridge


def masked_root(core: PciCore, bridge: PciDev) -> PciDev | None:
    """Whose interrupt is off while ``bridge`` is reset: the root port above, an integrated endpoint's collector.

    None without AER there, for a collector itself, above which there is no root port (4.8 item 1), and if the
    firmware owns AER.
    """
    if not core.owns_aer:
        return None
    root = bridge.rcec if bridge.kind == "rciep" else bridge.root if bridge.root.kind == "root_port" else None
    return root if root is not None and root.aer else None


def devices_below(bridge: PciDev) -> tuple[PciDev, ...]:
    """Who takes part: everything below the bridge, not itself; an endpoint or collector alone (4.1)."""
    return bridge.below if bridge.is_bridge else (bridge,)


async def aer_root_reset(core: PciCore, bridge: PciDev) -> int:
    """Reset what is below ``bridge`` with the root's interrupts off; RECOVERED or DISCONNECT.

    At the end the whole Root Error Status is cleared: messages that arrived during the reset are lost, for
    all devices below that root (T26).
    """
    core.kernel.trace("aer.root_reset_begin", bridge.name)
    root = masked_root(core, bridge)
    if root is not None:
        core.update(root, root.aer + AER.ROOT_COMMAND, 4, AER_ROOT_CMD_ALL, 0)
    rc = await _reset(core, bridge)
    if root is not None:
        write_back(core, root, root.aer + AER.ROOT_STATUS)
        core.update(root, root.aer + AER.ROOT_COMMAND, 4, 0, AER_ROOT_CMD_ALL)
    result = ErsResult.DISCONNECT if rc else ErsResult.RECOVERED
    core.kernel.trace("aer.root_reset", bridge.name, result.name)
    return result


async def _reset(core: PciCore, bridge: PciDev) -> int:
    if not bridge.is_bridge:
        rc = await pcie_reset_flr(core, bridge)
        core.printk(INFO, bridge, f"AER: not reset (no FLR support: {rc})" if rc else "AER: has been reset")
        return rc
    rc = await bus_error_reset(core, bridge)
    where = "Root" if bridge.bridge is None else "Downstream"
    core.printk(INFO, bridge, f"AER: {where} Port link has been reset ({rc})")
    return rc
