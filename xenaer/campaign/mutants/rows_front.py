"""Mistakes in pcifront: the AER service, configuration requests, states (FE-rules)."""

from __future__ import annotations

from xenaer.campaign.mutants.mutation import Mutation

_SERVICE, _OP, _FRONT = "domu_pcifront.aer_service", "domu_pcifront.pci_op", "domu_pcifront.pcifront"

FRONT_ROWS: tuple[Mutation, ...] = (
    Mutation(
        "front-no-doorbell", _SERVICE,
        "            page.clear_bit(PCIB_ACTIVE)\n            self.channel.notify()\n        self.served",
        "            page.clear_bit(PCIB_ACTIVE)\n        self.served",
        "an answer is not announced (FE-21)",
    ),
    Mutation(
        "front-missing-callback-none", _SERVICE,
        "    Phase.MMIO_ENABLED: ErsResult.RECOVERED,\n    Phase.SLOT_RESET",
        "    Phase.MMIO_ENABLED: ErsResult.NONE,\n    Phase.SLOT_RESET",
        "a driver without mmio_enabled refuses instead of being skipped (H12)",
    ),
    Mutation(
        "front-phases-exchanged", _SERVICE,
        "    PciOp.AER_MMIO: Phase.MMIO_ENABLED,\n    PciOp.AER_SLOTRESET: Phase.SLOT_RESET,",
        "    PciOp.AER_MMIO: Phase.SLOT_RESET,\n    PciOp.AER_SLOTRESET: Phase.MMIO_ENABLED,",
        "mmio_enabled and slot_reset are exchanged (FE-22)",
    ),
    Mutation(
        "front-state-ignored", _SERVICE,
        "args = (ChannelState(state),) if phase is _ERROR_DETECTED else ()",
        "args = (ChannelState(1),) if phase is _ERROR_DETECTED else ()",
        "the driver is never told that its channel is frozen (FE-22)",
    ),
    Mutation(
        "front-wrong-function", _SERVICE,
        "number = op.domain << 16 | op.bus << 8 | op.devfn",
        "number = op.domain << 16 | op.bus << 8 | op.devfn & 0xF8",
        "whatever function has the error, the driver of function 0 is called (FE-22)",
    ),
    Mutation(
        "front-aer-not-looked-for", _OP,
        "                self.schedule_aer()\n            return page.op_result()",
        "            return page.op_result()",
        "a request whose event a configuration request has swallowed is not served (FE-1)",
    ),
    Mutation(
        "front-departing-kept", _FRONT,
        "                await self.bus.remove(parse_vdev(vdev).number)",
        "                self.bus.wanted.pop(parse_vdev(vdev).number, None)",
        "a device that the toolstack wants back stays on the bus (F5)",
    ),
    Mutation(
        "front-buses-kept", _FRONT,
        "        await self.bus.remove_all()\n        await self.dev.switch_state(S.CLOSED)",
        "        await self.dev.switch_state(S.CLOSED)",
        "drivers keep their devices when the backend goes away (F9)",
    ),
)  # fmt: skip
