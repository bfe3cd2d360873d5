"""Mistakes in the hardened recovery: groups, rounds, phases, merging of votes, verdicts (H-rules)."""

from __future__ import annotations

from xenaer.campaign.mutants.mutation import Mutation

_RECOVERY, _GROUPS = "dom0_pciback.pciback.recovery", "dom0_pciback.pciback.groups"
_ROOT_RESET = "dom0_pciback.aer.root_reset"

RECOVERY_ROWS: tuple[Mutation, ...] = (
    Mutation(
        "rec-one-group", _GROUPS,
        "return (_NOBODY, None) if domid is None else (_GUEST, domid)",
        "return (_NOBODY, None) if domid is None else (_GUEST, -1)",
        "functions of all guests are one group, whose votes are merged (H14)",
    ),
    Mutation(
        "rec-budget-per-round", _GROUPS,
        "Group(*key, budgets.setdefault(key, Budget(ns)))",
        "Group(*key, Budget(ns))",
        "each round has a budget of its own: a guest may stall an incident three times as long (H25)",
    ),
    Mutation(
        "rec-votes-not-merged", _RECOVERY,
        "group.status = merge(group.status, vote)",
        "group.status = vote",
        "the last vote wins, not the worst (H14, merge_result)",
    ),
    Mutation(
        "rec-mmio-after-need-reset", _RECOVERY,
        "        if group.status == _CAN_RECOVER:\n",
        "        if group.status != _RECOVERED:\n",
        "mmio_enabled is asked although somebody wants a reset (T4, linux-aer.md 4.2)",
    ),
    Mutation(
        "rec-reset-request-ignored", _RECOVERY,
        "        if group.status == _NEED_RESET:\n            if await self._reset_group",
        "        if group.status == _NEED_RESET and group.silent:\n            if await self._reset_group",
        "a vote NEED_RESET does not lead to a reset (H21)",
    ),
    Mutation(
        "rec-no-slot-reset-phase", _RECOVERY,
        "        await self._phase(group, _SLOT_RESET, _NORMAL, None)\n",
        "",
        "slot_reset is left out: nobody sets up the device that was reset (linux-aer.md 4.2 step 5)",
    ),
    Mutation(
        "rec-abandoned-is-success", _GROUPS,
        '(frozenset({Outcome.DETACHED, Outcome.SUPERSEDED}), "abandoned")',
        '(frozenset({Outcome.DETACHED, Outcome.SUPERSEDED}), "successful")',
        "a recovery whose device was taken away counts as a success (H14, D11)",
    ),
    Mutation(
        "rec-failed-vote-resumes", _RECOVERY,
        "        if group.status != _RECOVERED:\n            await self._condemn",
        "        if group.status == ErsResult.DISCONNECT:\n            await self._condemn",
        "a group that has not recovered is told to resume instead of being killed (T4, H14)",
    ),
    Mutation(
        "rec-frozen-without-reset", _RECOVERY,
        "            if await self._bus_reset(this):\n                self._log_status",
        "            if not this.source.is_bridge or await self._bus_reset(this):\n                self._log_status",
        "the frozen way only resets for errors of ports themselves (linux-aer.md 4.2 step 4)",
    ),
    Mutation(
        "rec-reset-before-stopped", _RECOVERY,
        "            await self._await_condemned(groups)\n",
        "",
        "the bus is reset while a condemned guest still runs (H22)",
    ),
    Mutation(
        "rec-dma-not-blocked", _RECOVERY,
        "            self.resets.block_dma(below)\n",
        "",
        "a frozen device may go on with DMA (X44)",
    ),
    Mutation(
        "rec-dma-not-allowed", _RECOVERY,
        "        self.resets.allow_dma(dev for dev in group.asked() if not self.pciback.departing(dev))\n",
        "",
        "a recovered device stays cut off from memory (X44)",
    ),
    Mutation(
        "rec-no-restore", _RECOVERY,
        "            self.resets.restore(dev)\n            if text",
        "            if text",
        "configuration space is not restored after a reset (H18)",
    ),
    Mutation(
        "rec-no-check-at-end", _RECOVERY,
        "            if text:\n                await self._faulty(group, dev, text)\n        for dev in group.asked():",
        "        for dev in group.asked():",
        "what a dead device says at the end is not looked at (H19)",
    ),
    Mutation(
        "rec-source-status-kept", _RECOVERY,
        "        clear_recovered_status(self.core, this.source, later)\n",
        "",
        "the status of the source is not cleared at the end of a round (H24)",
    ),
    Mutation(
        "contained-answers-count", "dom0_pciback.pciback.containment",
        "            if self._contained(port) and port not in self._recovering:\n                return True\n",
        "",
        "what drivers and checks say of a device below a contained port counts (ours, docs/DIFFERENCES.md)",
    ),
    Mutation(
        "recoveries-overlap", "dom0_pciback.pciback.resets",
        "return any(others) or any(_covers(bridge, dev) for dev in self._asked)",
        "return any(_covers(bridge, dev) for dev in self._asked)",
        "a recovery by DPC and one by AER of the same functions run side by side (ours, docs/DIFFERENCES.md)",
    ),
    Mutation(
        "rec-second-error-wiped", _RECOVERY,
        "later = self._new_errors(this) if again is None else 0",
        "later = 0",
        "an error that comes while the only guest is killed is cleared before anybody has logged it (H24)",
    ),
    Mutation(
        "rec-one-round-only", _RECOVERY,
        "        if not new or all(group.over for group in this.concerned()):\n",
        "        if new or all(group.over for group in this.concerned()):\n",
        "new errors of the source are not given another round (errata 9.2 no. 14)",
    ),
    Mutation(
        "rec-before-not-forgotten", _RECOVERY,
        "return self._uncorrectable(this.source) & ~this.before",
        "return self._uncorrectable(this.source)",
        "the error that is being recovered from counts as a new one (errata 9.2 no. 14)",
    ),
    Mutation(
        "rec-bystander-is-source", _RECOVERY,
        "bystander = source is not None and dev is not source",
        "bystander = False",
        "a function without fault and without handler costs its guest the life (H20)",
    ),
    Mutation(
        "rec-whole-bus-always", _RECOVERY,
        "return all(self.pciback.owned_by(dev, group.owner) for dev in devices_below(this.bridge))",
        "return any(self.pciback.owned_by(dev, group.owner) for dev in devices_below(this.bridge))",
        "the bus is reset although another guest has a function on it (H21)",
    ),
    Mutation(
        "rec-condemned-unreported", _RECOVERY,
        "            return\n        if group.kind is Kind.GUEST:\n",
        "            return\n        if group.kind is not Kind.GUEST:\n",
        "a group that has failed is not reported for killing (H23)",
    ),
    Mutation(
        "rec-faulty-not-marked", _RECOVERY,
        "            await self.pciback.mark_faulty(psdev, why)\n",
        "            self.kernel.trace('pciback.fault', dev.name)\n",
        "a device that did not come back is given to the next guest (KILL-5)",
    ),
    Mutation(
        "rec-not-looked-again", _RECOVERY,
        "            if this.reset is aer_root_reset:\n",
        "            if not done:\n",
        "messages that a bus reset swallowed are not looked for (T26)",
    ),
    Mutation(
        "rec-serial-groups", _RECOVERY,
        "        for task in tasks:\n            await self.kernel.join(task)",
        "        for task in tasks[:1]:\n            await self.kernel.join(task)",
        "only the first group is waited for (H25)",
    ),
    Mutation(
        "rec-recovery-of-the-device", _ROOT_RESET,
        "    if dev.kind in OWN_SCOPE or dev.bridge is None:\n",
        "    if dev.kind in OWN_SCOPE or not dev.is_bridge or dev.bridge is None:\n",
        "a recovery is about the device alone, not about the port above (linux-aer.md 4.1)",
    ),
    Mutation(
        "rec-root-stays-masked", _ROOT_RESET,
        "        core.update(root, root.aer + AER.ROOT_COMMAND, 4, 0, AER_ROOT_CMD_ALL)\n",
        "",
        "after a bus reset the root port never interrupts again (linux-aer.md 4.8)",
    ),
)  # fmt: skip
