"""The driver of the recordings of a real Xen: logs every callback, looks at its device, answers as it was told.

Source: golden/xen/README.md ("How it was recorded"), xen-pci-errata.md 4.2 and 5. In permissive mode its
``slot_reset`` brings back what a guest can: the control registers and the AER masks, never a BAR (S3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from domu_pcifront.device import GuestPciDev
from domu_pcifront.driver import Handler, PciDriver, ProbeError
from domu_pcifront.options import Option, number, vote, whole
from kernel_stub.kernel import INFO
from protocol.ers import ChannelState, ErsResult, Phase
from protocol.layout_aer import AER

_MS = number(0, 3_600_000)
_SWITCH = whole(0, 1)
COMMAND, EXTENDED = 0x04, 0x100
MMIO_BAR, MMIO_REGISTER = 4, 4
AER_CLEARED = (AER.COR_STATUS, AER.UNCOR_STATUS)  # pci_aer_clear_status
AER_RESTORED = (AER.UNCOR_MASK, AER.UNCOR_SEVER, AER.COR_MASK, AER.CAP)  # pci_restore_aer_state

# error_detected answers by state; ed_perm follows ed unless it is given (errata 5)
ED_OPTION: dict[ChannelState, str] = {
    ChannelState.NORMAL: "ed",
    ChannelState.FROZEN: "ed_frozen",
    ChannelState.PERM_FAILURE: "ed_perm",
}
MISSING_OPTION: dict[Phase, str] = {
    Phase.ERROR_DETECTED: "no_ed",
    Phase.MMIO_ENABLED: "no_mm",
    Phase.SLOT_RESET: "no_sr",
    Phase.RESUME: "no_rs",
}


class AerProbe(PciDriver):
    """Every answer and delay comes from the options. It has no data path."""

    name: ClassVar[str] = "aerprobe"
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "ed": Option(vote, 2, "answer of error_detected, state 1 (normal)"),
        "ed_frozen": Option(vote, 3, "answer of error_detected, state 2 (frozen)"),
        "ed_perm": Option(vote, None, "answer of error_detected, state 3 (perm_failure); default: that of ed"),
        "mm": Option(vote, 5, "answer of mmio_enabled"),
        "sr": Option(vote, 5, "answer of slot_reset"),
        "ed_ms": Option(_MS, 0, "how long error_detected sleeps, in ms"),
        "mm_ms": Option(_MS, 0, "how long mmio_enabled sleeps, in ms"),
        "sr_ms": Option(_MS, 0, "how long slot_reset sleeps, in ms"),
        "rs_ms": Option(_MS, 0, "how long resume sleeps, in ms"),
        "no_eh": Option(_SWITCH, 0, "1: the driver has no table of handlers"),
        "no_ed": Option(_SWITCH, 0, "1: no error_detected"),
        "no_mm": Option(_SWITCH, 0, "1: no mmio_enabled"),
        "no_sr": Option(_SWITCH, 0, "1: no slot_reset"),
        "no_rs": Option(_SWITCH, 0, "1: no resume"),
    }

    def __init__(self, dev: GuestPciDev, options: dict[str, Any]) -> None:
        super().__init__(dev, options)
        self.no_err_handler = bool(self.options["no_eh"])
        if self.options["ed_perm"] is None:
            self.options["ed_perm"] = self.options["ed"]
        self._enable_rc = 0
        self._aer = 0  # offset of the capability, 0 if there is none or it cannot be seen
        self._saved: dict[int, int] = {}

    def handler(self, phase: Phase) -> Handler | None:
        """None for what ``no_*`` leaves out."""
        return None if self.options[MISSING_OPTION[phase]] else super().handler(phase)

    async def probe(self) -> None:
        """Switch the device on and keep its state."""
        if await self.dev.enable_device() < 0:
            raise ProbeError("cannot enable the device")
        await self.dev.set_master()
        await self.dev.save_state()
        header = await self.dev.read_config(EXTENDED, 4)
        self._aer = EXTENDED if header & 0xFFFF == AER.cap_id else 0
        if self._aer:
            offsets = [self._aer + reg for reg in AER_RESTORED]
            self._saved = {offset: await self.dev.read_config(offset, 4) for offset in offsets}

    async def remove(self) -> None:
        """Switch the device off; after a ``slot_reset``, which enabled it again, that takes no effect."""
        await self.dev.disable_device()
        self.dev.printk(INFO, "aerprobe REMOVED")

    # -- handlers ------------------------------------------------------------------------------
    async def error_detected(self, state: ChannelState) -> int:
        """``ed``, ``ed_frozen``, ``ed_perm``."""
        await self._look("error_detected")
        await self.dev.sleep(self.options["ed_ms"])
        return self._vote(ED_OPTION[state])

    async def mmio_enabled(self) -> int:
        """``mm``."""
        await self._look("mmio_enabled")
        await self.dev.sleep(self.options["mm_ms"])
        return self._vote("mm")

    async def slot_reset(self) -> int:
        """``sr``; restores first, whatever the answer is."""
        await self._look("slot_reset-entry")
        self._enable_rc = await self.dev.enable_device()
        await self.dev.restore_state()
        await self._restore_aer()
        await self.dev.set_master()
        await self._look("slot_reset-restored")
        await self.dev.sleep(self.options["sr_ms"])
        return self._vote("sr")

    async def resume(self) -> None:
        """Nothing to start again."""
        await self._look("resume")
        await self.dev.sleep(self.options["rs_ms"])

    def log_answer(self, phase: Phase, text: str) -> None:
        """The CB line; the one of ``slot_reset`` also tells what enabling the device gave."""
        enabled = f" enable_rc={self._enable_rc}" if phase is Phase.SLOT_RESET else ""
        self.dev.printk(INFO, f"aerprobe CB {text.replace(phase, f'{phase}{enabled}', 1)}")

    # -- parts ---------------------------------------------------------------------------------
    async def _look(self, where: str) -> None:
        """The LOOK line: vendor and device id, Command, a register. ``error_state``: pcifront never sets it (FE-22)."""
        ids = await self.dev.read_config(0, 4)
        command = await self.dev.read_config(COMMAND, 2)
        register = await self.dev.mmio_read(MMIO_BAR, MMIO_REGISTER)
        self.dev.printk(
            INFO, f"aerprobe LOOK {where} id={ids:08x} rc=0 command={command:04x} mmio4={register:08x} error_state=1"
        )

    async def _restore_aer(self) -> None:
        """The AER part of ``pci_restore_state``: status cleared, masks and severity written back."""
        for reg in AER_CLEARED if self._aer else ():
            await self.dev.write_config(self._aer + reg, 4, await self.dev.read_config(self._aer + reg, 4))
        for offset, value in self._saved.items():
            await self.dev.write_config(offset, 4, value)

    def _vote(self, option: str) -> int:
        value = self.options[option]
        return int(ErsResult[value]) if isinstance(value, str) else int(value)
