"""Mistakes in resets of the PCI core and in what comes after them: order, waits, restore, check (H18, H19, KILL-5)."""

from __future__ import annotations

from xenaer.campaign.mutants.mutation import Mutation

_RESET, _WAIT, _STATE = "dom0_pciback.pci.reset", "dom0_pciback.pci.wait", "dom0_pciback.pci.state"
_RESTORE = "dom0_pciback.pciback.restore"

RESET_ROWS: tuple[Mutation, ...] = (
    Mutation(
        "reset-flr-no-wait", _RESET,
        '    return await pci_dev_wait(core, dev, "FLR", core.timing.reset_ready_ms)\n',
        "    return 0\n",
        "after FLR the function is used whether or not it is ready (linux-aer.md 4.8)",
    ),
    Mutation(
        "reset-bus-bit-stays", _RESET,
        "    core.update(bridge, TYPE1.BRIDGE_CONTROL, 2, BRIDGE_CTL_BUS_RESET, 0)\n",
        "",
        "Secondary Bus Reset is never released (linux-aer.md 4.8)",
    ),
    Mutation(
        "reset-wait-first-bus-only", _WAIT,
        "    if bridge.disconnected or not bridge.subordinate or bridge.kind == \"upstream_port\" or not delay:\n",
        "    if bridge.disconnected or not bridge.subordinate or bridge.kind != \"upstream_port\" or not delay:\n",
        "nobody waits for what is below a port after its reset (T49)",
    ),
    Mutation(
        "reset-wait-too-short", _WAIT,
        "        if delay > timeout:\n",
        "        if delay > 1:\n",
        "a device that is not ready at once is given up (PCIE_RESET_READY_POLL_MS)",
    ),
    Mutation(
        "reset-slow-forgiven", _WAIT,
        '; giving up")\n            return -ENOTTY',
        '; giving up")\n            return 0',
        "a device that never came back counts as reset (KILL-5)",
    ),
    Mutation(
        "reset-flr-of-everybody", _RESET,
        "    return bool(dev.devcap & EXP_DEVCAP_FLR)",
        "    return not dev.devcap & EXP_DEVCAP_FLR",
        "FLR is used by functions without that capability, and not by those with it (linux-aer.md 4.8)",
    ),
    Mutation(
        "reset-shared-bus", _RESET,
        "len(bridge.subordinate) == 1 and",
        "len(bridge.subordinate) >= 1 and",
        "a function is reset with its whole bus, on which others are (pci_parent_bus_reset)",
    ),
    Mutation(
        "restore-header-not-all", _STATE,
        "        for index in range(part.last, part.first - 1, -1):\n",
        "        for index in range(part.last, part.first, -1):\n",
        "the first dword of each part of the header is not restored, Command's neighbour BAR 0 among them (H18)",
    ),
    Mutation(
        "restore-no-msi", _STATE,
        "    _write(core, dev, state.msi)\n",
        "",
        "MSI is not switched on again after a reset (H18)",
    ),
    Mutation(
        "restore-no-express", _STATE,
        "    _write(core, dev, state.exp)\n",
        "",
        "Device Control is not restored: the function reports no errors any more (H18)",
    ),
    Mutation(
        "restore-guest-command-lost", _RESTORE,
        "command = header[COMMAND_DWORD] & 0xFFFF | psdev.conf.command & COMMAND_GUEST",
        "command = header[COMMAND_DWORD] & 0xFFFF",
        "what the guest has switched on in Command is off after a reset (H18)",
    ),
    Mutation(
        "check-other-device", _RESTORE,
        "if image is not None and (ids := core.read(dev, HEADER.VENDOR_ID, 4)) != image.header[0]:",
        "if image is not None and (ids := core.read(dev, HEADER.VENDOR_ID, 4)) == 0xFFFFFFFF:",
        "another device behind the reset is not noticed (H19)",
    ),
    Mutation(
        "check-retry-value", _RESTORE,
        "GONE = frozenset({0xFFFF, 0x0001})",
        "GONE = frozenset({0x0001})",
        "a function that does not answer at all counts as there (KILL-4.5, H19)",
    ),
    Mutation(
        "status-left-after-reset", _RESTORE,
        "    restore_state(core, dev, image)\n    clear_all_status(core, dev)\n",
        "    clear_all_status(core, dev)\n",
        "a function gets its status cleared, but nothing restored (H18, H24)",
    ),
)  # fmt: skip
