"""Mistakes in the filter of configuration space (CFG-rules, xen-pci.md 6)."""

from __future__ import annotations

from xenaer.campaign.mutants.mutation import Mutation

_SPACE, _HEADER = "dom0_pciback.pciback.conf_space", "dom0_pciback.pciback.conf_header"
_CAPABILITY = "dom0_pciback.pciback.conf_capability"

CONFIG_ROWS: tuple[Mutation, ...] = (
    Mutation(
        "cfg-write-uncovered", _SPACE,
        "        if not self.permissive:\n            return self._drop(offset, size)\n        self.access.write",
        "        if self.permissive:\n            return self._drop(offset, size)\n        self.access.write",
        "writes where no field is reach the hardware, and permissive mode loses them (CFG-4)",
    ),
    Mutation(
        "cfg-offset-off-by-one", _SPACE,
        "        if not 0 <= offset < self.size:\n            return self._read_outside(offset, size)",
        "        if not 0 <= offset <= self.size:\n            return self._read_outside(offset, size)",
        "one register behind the end of the space is read (CFG-1, X6)",
    ),
    Mutation(
        "cfg-unaligned", _SPACE,
        "        if size not in MASK or offset % size:\n            return INVALID_OFFSET, 0",
        "        if size not in MASK:\n            return INVALID_OFFSET, 0",
        "reads that are not aligned are let through (CFG-1, X7)",
    ),
    Mutation(
        "cfg-bar-written", _HEADER,
        "    if not bar.sizing and value == bar.val and dev.access.read(offset, 4) != value:\n",
        "    if not bar.sizing:\n",
        "a guest moves the BAR of its device in the hardware (6.4, X8)",
    ),
    Mutation(
        "cfg-master-stays", _HEADER,
        "    wanted = bool(value & CMD_MASTER)\n",
        "    wanted = bool(value & CMD_MASTER) or dev.bus_master\n",
        "bus mastering cannot be switched off again (6.3 step 2)",
    ),
    Mutation(
        "cfg-msi-by-guest", _CAPABILITY,
        "            if not dev.allow_interrupt_control or changed & ~allowed:\n",
        "            if changed & ~allowed and not dev.allow_interrupt_control:\n",
        "a guest switches MSI on by itself, past dom0 (6.6)",
    ),
    Mutation(
        "cfg-permissive-kept", _SPACE,
        "        self.permissive = self.permissive and keep_permissive\n",
        "        self.permissive = self.permissive or keep_permissive\n",
        "permissive mode is there for the next guest (BE-20)",
    ),
)  # fmt: skip
