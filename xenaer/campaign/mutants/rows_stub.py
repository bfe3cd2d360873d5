"""Mistakes in the hypervisor stub: order of the kill, hand-over, rights of XenStore, grants, event channels."""

from __future__ import annotations

from xenaer.campaign.mutants.mutation import Mutation

_TEARDOWN, _KILL, _WATCHER = "hypervisor_stub.teardown", "hypervisor_stub.kill", "hypervisor_stub.domain_watcher"
_PERMS, _QUOTA = "hypervisor_stub.xenstore.perms", "hypervisor_stub.xenstore.quota"
_GRANTS, _PORTS, _HARDWARE = "hypervisor_stub.grants", "hypervisor_stub.event_channels", "hypervisor_stub.hardware"
_NODES, _IOMMU = "hypervisor_stub.pci_nodes", "dom0_pciback.pcie.iommu"

STUB_ROWS: tuple[Mutation, ...] = (
    Mutation(
        "kill-reset-before-stop", _TEARDOWN,
        '    "hardened": {\n        "kill": ("mark", "dying", "stop", *_RECLAIM, "destroy"),\n',
        '    "hardened": {\n        "kill": ("mark", "dying", *_RECLAIM, "stop", "destroy"),\n',
        "the device is reset and given away while the guest still runs (KILL-4.2)",
    ),
    Mutation(
        "kill-no-reset", _TEARDOWN,
        '_RECLAIM = ("block_dma", "wake", "reset", "restore",',
        '_RECLAIM = ("block_dma", "wake", "restore",',
        "the device of a guest that ended is not reset (KILL-4.5)",
    ),
    Mutation(
        "kill-deassign-before-reset", _TEARDOWN,
        '_RECLAIM = ("block_dma", "wake", "reset", "restore", "check", "deassign", "remove_nodes")',
        '_RECLAIM = ("block_dma", "wake", "deassign", "reset", "restore", "check", "remove_nodes")',
        "the device is assignable before it has been reset (KILL-4.7)",
    ),
    Mutation(
        "kill-dma-after-reset", _TEARDOWN,
        '_RECLAIM = ("block_dma", "wake", "reset",',
        '_RECLAIM = ("wake", "reset", "block_dma",',
        "DMA is blocked after the reset only (KILL-4.3)",
    ),
    Mutation(
        "kill-no-wake", _TEARDOWN,
        '_RECLAIM = ("block_dma", "wake", "reset",',
        '_RECLAIM = ("block_dma", "reset",',
        "dom0 goes on waiting for an answer of the dead (KILL-4.4)",
    ),
    Mutation(
        "kill-no-check", _TEARDOWN,
        '"restore", "check", "deassign", "remove_nodes")\n_RECLAIM_LINUX',
        '"restore", "deassign", "remove_nodes")\n_RECLAIM_LINUX',
        "nobody looks whether the device has survived its reset (H19, KILL-5)",
    ),
    Mutation(
        "kill-nodes-left", _TEARDOWN,
        "        pci_nodes.remove_directories(self._machine.xs, domain.domid)\n",
        "",
        "the back-end directory of a dead domain stays (KILL-4.8)",
    ),
    Mutation(
        "kill-directory-itself", _KILL,
        "        if match[2] and self._machine.xs.read(path) == AERFAIL:\n",
        "        if match[2] and self._machine.xs.read(path) != AERFAIL:\n",
        "aerfail kills nobody (KILL-1)",
    ),
    Mutation(
        "kill-restart-always", _WATCHER,
        '        if action == "restart" and not self.stopping:\n',
        '        if action != "preserve" and not self.stopping:\n',
        "a guest that was killed is started again whatever its configuration says (KILL-9)",
    ),
    Mutation(
        "fault-given-away", _HARDWARE,
        '        if not self.fault(bdf):\n            self._machine.xs.remove(f"{bookkeeping(bdf)}/domid")',
        '        self._machine.xs.remove(f"{bookkeeping(bdf)}/domid")',
        "a faulty device is assignable again (KILL-5)",
    ),
    Mutation(
        "iommu-block-forgotten", _IOMMU,
        "        self._owner[sbdf] = domid\n        self._blocked.discard(sbdf)\n",
        "        self._owner[sbdf] = domid\n",
        "the next owner of a device cannot use DMA (KILL-4.3)",
    ),
    Mutation(
        "iommu-revoked-owner", _IOMMU,
        "return self._owner.get(sbdf, DOM0) == domid and domid not in self._revoked",
        "return self._owner.get(sbdf, DOM0) == domid",
        "a domain that is being destroyed still reaches its functions (KILL-4.1)",
    ),
    Mutation(
        "xs-reader-writes", "hypervisor_stub.xenstore.operations",
        "    _require(caller, node, path, WRITE)\n    growth",
        "    _require(caller, node, path, READ)\n    growth",
        "who may read a node may write it (XS-3)",
    ),
    Mutation(
        "xs-default-rights", _PERMS,
        "        return first.rights\n",
        "        return self.entries[-1].rights\n",
        "whom no entry names gets the rights of the last one, not of the first (XS-3)",
    ),
    Mutation(
        "xs-watch-limit-off-by-one", _QUOTA,
        "        if self.open[domid, what] >= most:\n",
        "        if self.open[domid, what] > most:\n",
        "a guest has one watch and one transaction more than it may (XS-13, X37)",
    ),
    Mutation(
        "xs-frontend-owns-backend", _NODES,
        '    xs.fresh_dir(be, ["n0", f"r{domain.domid}"], tx)\n',
        '    xs.fresh_dir(be, ["n0", f"b{domain.domid}"], tx)\n',
        "a guest may write its back-end directory, aerState among it (BUS-2)",
    ),
    Mutation(
        "grant-any-mapper", _GRANTS,
        '        if entry.remote != mapper or entry.read_only:\n            raise RpcError("permission_denied")\n',
        '        if entry.read_only:\n            raise RpcError("permission_denied")\n',
        "a page is mapped by a domain that it was not granted to (WIRE-3)",
    ),
    Mutation(
        "grant-ended-while-mapped", _GRANTS,
        '        if entry.mapped:\n            raise RpcError("EBUSY")\n',
        "",
        "a grant ends under whoever has mapped it (8.3)",
    ),
    Mutation(
        "port-of-another", _PORTS,
        "or other.state is not PortState.UNBOUND or other.remote != domid:",
        "or other.state is not PortState.UNBOUND:",
        "a domain binds a port that was kept for another one (WIRE-2)",
    ),
)  # fmt: skip
