"""pciback's four error callbacks: find the situation, look it up, act (xen-pci-errata.md 3.1, 9).

``decide_phase`` is the whole of it; the callbacks that the AER core of the ``linux`` profile calls, and the
group recovery of the ``hardened`` profile, differ only in the table and in who merges the votes.
"""

from __future__ import annotations

from functools import lru_cache

from dom0_pciback.aer.status import pci_aer_clear_nonfatal_status
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import ErrorHandlers
from dom0_pciback.pciback.ask import LINES_KEPT, Budget, ask
from dom0_pciback.pciback.pciback import Pciback
from dom0_pciback.pciback.profile import Decision, Situation, Table, decide
from dom0_pciback.pciback.stub import PcistubDevice
from kernel_stub.kernel import DEBUG, MS
from protocol.ers import ChannelState, Phase
from protocol.ids import Sbdf
from protocol.layout_pcie import EXP, EXP_DEVSTA_FED, EXP_DEVSTA_NFED

_NOT_ASSIGNED = Situation.NOT_ASSIGNED
_NAME = {phase: f"xen_pcibk_{'error_resume' if phase is Phase.RESUME else phase}" for phase in Phase}


@lru_cache(LINES_KEPT)
def _called_line(prefix: str, phase: Phase, sbdf: Sbdf) -> str:
    return f"{prefix}xen_pciback: {_NAME[phase]}(bus:{sbdf.bus:x},devfn:{sbdf.devfn:x})"


class PhaseOutcome:
    """What came of one phase for one function: the vote, and the table row that decided."""

    __slots__ = ("decision", "situation", "vote")

    def __init__(self, situation: Situation, decision: Decision, vote: int) -> None:
        self.situation = situation
        self.decision = decision
        self.vote = vote


class Callbacks:
    """The error callbacks of pciback on top of ``Pciback``."""

    def __init__(self, pciback: Pciback) -> None:
        self.pciback = pciback
        self.kernel = pciback.kernel
        timing = pciback.host.timing
        self.budget_ns = timing.aer_budget_ms * MS
        self.grace_ns = timing.connect_grace_ms * MS
        self.table = pciback.profile.table()
        self.bystander_table = pciback.profile.bystander_table()
        self.incident = 0

    def budget(self) -> Budget:
        """The time of one phase in ``linux``, where a pause counts as silence."""
        return Budget(self.budget_ns, extra=0)

    async def decide_phase(
        self, dev: PciDev, phase: Phase, state: ChannelState, budget: Budget, table: Table | None = None
    ) -> PhaseOutcome:
        """Put one phase to the owner of ``dev`` and carry out what the table says about the outcome."""
        self._say_called(dev, phase)
        return await self._decide(dev, phase, state, budget, table or self.table)

    def _say_called(self, dev: PciDev, phase: Phase) -> None:
        self.kernel.printk(DEBUG, _called_line(dev.prefix, phase, dev.sbdf))

    async def _decide(
        self, dev: PciDev, phase: Phase, state: ChannelState, budget: Budget, table: Table
    ) -> PhaseOutcome:
        psdev = self.pciback.slots.get(dev.sbdf)
        situation, answer = _NOT_ASSIGNED, 0
        if psdev is not None:
            situation, answer = await ask(psdev, phase, state, budget, self.grace_ns)
        decision = decide(table, situation, phase)
        await self._act(dev, psdev, decision)
        return PhaseOutcome(situation, decision, answer if decision.result is None else int(decision.result))

    async def tell_perm_failure(self, dev: PciDev, budget: Budget) -> None:
        """Tell the guest that its device is lost; the answer changes nothing."""
        psdev = self.pciback.slots.get(dev.sbdf)
        if psdev is not None:
            await ask(psdev, Phase.ERROR_DETECTED, ChannelState.PERM_FAILURE, budget, self.grace_ns)

    async def _act(self, dev: PciDev, psdev: PcistubDevice | None, decision: Decision) -> None:
        for line in (decision.first_log, decision.log):
            if line is not None:
                self.kernel.printk(line[0], f"{dev.prefix}xen_pciback: {line[1]}")
        if decision.kill and psdev is not None:
            await self.pciback.kill_domain_by_device(psdev, self.incident)

    # -- what the AER core of the linux profile calls ----------------------------------------------
    def handlers(self) -> ErrorHandlers:
        """The callbacks as a driver registers them."""
        return ErrorHandlers(
            error_detected=self._error_detected,
            mmio_enabled=lambda dev: self._voting(dev, Phase.MMIO_ENABLED),
            slot_reset=lambda dev: self._voting(dev, Phase.SLOT_RESET),
            resume=self._resume,
            cor_error_detected=self._cor_error_detected if self.pciback.profile.hardened else None,
        )

    async def _cor_error_detected(self, dev: PciDev) -> None:
        """An advisory non-fatal error leaves an uncorrectable bit behind: cleared with it (errata 9.2 no. 8).

        Device Status tells it from a real one, whose own message is still to be handled.
        """
        read = self.pciback.core.read
        if dev.aer and dev.exp and not read(dev, dev.exp + EXP.DEVSTA, 2) & (EXP_DEVSTA_NFED | EXP_DEVSTA_FED):
            pci_aer_clear_nonfatal_status(self.pciback.core, dev)

    async def _error_detected(self, dev: PciDev, state: ChannelState) -> int:
        return await self._callback(dev, Phase.ERROR_DETECTED, state)

    async def _voting(self, dev: PciDev, phase: Phase) -> int:
        return await self._callback(dev, phase, ChannelState.NORMAL)  # BE-13

    async def _resume(self, dev: PciDev) -> None:
        await self._callback(dev, Phase.RESUME, ChannelState.NORMAL)

    async def _callback(self, dev: PciDev, phase: Phase, state: ChannelState) -> int:
        """One callback; each phase has its own 300 seconds, and with D1 all of dom0 waits meanwhile (ORD-4)."""
        self._say_called(dev, phase)
        self.kernel.trace("pciback.call", dev.name, phase, int(state))
        async with self.pciback.assignments:
            vote = (await self._decide(dev, phase, state, self.budget(), self.table)).vote
        self.kernel.trace("pciback.return", dev.name, phase, vote)
        return vote
