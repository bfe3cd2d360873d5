"""The recording driver: answers, sleeps and restores as it is told, and says what it sees (errata 2.2).

Nine names of it differ only in the callbacks that exist. What a device answers is in its ``Answers``.
"""

from __future__ import annotations

from dataclasses import dataclass

from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from dom0_pciback.pci.driver import ErrorHandlers, PciDriver
from dom0_pciback.pci.enable import pci_disable_device, pci_enable_device_mem, pci_set_master
from dom0_pciback.pci.state import restore_state, save_state
from kernel_stub.kernel import INFO, MS
from protocol.ers import ChannelState, ErsResult, result_name
from protocol.ids import Sbdf
from protocol.layout_header import HEADER

# name -> the callbacks that it has (errata 2.2)
VOTES = ("error_detected", "mmio_enabled", "slot_reset", "resume", "cor_error_detected")
ALL = (*VOTES, "reset_prepare", "reset_done")


def _without(missing: str) -> tuple[str, ...]:
    return tuple(name for name in VOTES if name != missing)


VARIANTS: dict[str, tuple[str, ...] | None] = {
    "aerlab": ALL,
    "aerlab_noerr": None,  # no err_handler at all
    "aerlab_empty": (),
    "aerlab_nodet": _without("error_detected"),
    "aerlab_nommio": _without("mmio_enabled"),
    "aerlab_noslot": _without("slot_reset"),
    "aerlab_noresume": _without("resume"),
    "aerlab_nocor": _without("cor_error_detected"),
    "aerlab_detonly": ("error_detected",),
}

STATE_WORDS = {
    ChannelState.NORMAL: "io_normal",
    ChannelState.FROZEN: "io_frozen",
    ChannelState.PERM_FAILURE: "io_perm_failure",
}


@dataclass(slots=True)
class Answers:
    """What one device answers, in numbers of ``ErsResult``, and how long each callback sleeps, in ms.

    ``restore``: ``slot_reset`` enables the device and restores its state, whatever it answers. ``touch``:
    every callback reads the device and says what it finds.
    """

    det_normal: int = ErsResult.CAN_RECOVER
    det_frozen: int = ErsResult.NEED_RESET
    det_perm: int = ErsResult.DISCONNECT
    mmio: int = ErsResult.RECOVERED
    slot: int = ErsResult.RECOVERED
    restore: int = 1
    touch: int = 0
    sleep_det: int = 0
    sleep_mmio: int = 0
    sleep_slot: int = 0
    sleep_resume: int = 0


class AerLab:
    """The callbacks; ``answers`` is shared by all names of the driver, as its sysfs files are per device."""

    def __init__(self, core: PciCore, answers: dict[Sbdf, Answers]) -> None:
        self._core = core
        self.answers = answers

    async def probe(self, dev: PciDev) -> int:
        """Enable the device, save its state, become bus master; 0."""
        pci_enable_device_mem(self._core, dev)
        save_state(self._core, dev)
        pci_set_master(self._core, dev)
        return 0

    async def remove(self, dev: PciDev) -> None:
        """Say in which state the channel is, and disable the device once (errata 7.2)."""
        self._say(dev, f"remove error_state={int(dev.error_state)}")
        pci_disable_device(self._core, dev)

    # -- error handlers ------------------------------------------------------------------------
    async def error_detected(self, dev: PciDev, state: ChannelState) -> int:
        """The answer for this channel state."""
        answers = self._of(dev)
        answer = {
            ChannelState.NORMAL: answers.det_normal,
            ChannelState.FROZEN: answers.det_frozen,
            ChannelState.PERM_FAILURE: answers.det_perm,
        }[state]
        name = "error_detected"
        self._say(dev, f"{name} state={int(state)}({STATE_WORDS[state]}) -> {answer}({result_name(answer)})")
        self._touch(dev, name)
        await self._sleep(dev, name, answers.sleep_det)
        return answer

    async def mmio_enabled(self, dev: PciDev) -> int:
        """The answer."""
        answers = self._of(dev)
        self._say(dev, f"mmio_enabled -> {answers.mmio}({result_name(answers.mmio)})")
        self._touch(dev, "mmio_enabled")
        await self._sleep(dev, "mmio_enabled", answers.sleep_mmio)
        return answers.mmio

    async def slot_reset(self, dev: PciDev) -> int:
        """Restore the device if told so, then the answer."""
        core, answers = self._core, self._of(dev)
        self._say(dev, f"slot_reset -> {answers.slot}({result_name(answers.slot)})")
        self._touch(dev, "slot_reset-entry")
        if answers.restore:
            pci_enable_device_mem(core, dev)
            restore_state(core, dev)
            pci_set_master(core, dev)
            self._say(dev, "slot_reset restored rc=0")
            self._touch(dev, "slot_reset-restored")
        await self._sleep(dev, "slot_reset", answers.sleep_slot)
        return answers.slot

    async def resume(self, dev: PciDev) -> None:
        """Say so."""
        self._say(dev, "resume")
        self._touch(dev, "resume")
        await self._sleep(dev, "resume", self._of(dev).sleep_resume)

    async def cor_error_detected(self, dev: PciDev) -> None:
        """Say so."""
        self._say(dev, "cor_error_detected")

    async def reset_prepare(self, dev: PciDev) -> None:
        """Say so."""
        self._say(dev, "reset_prepare")

    async def reset_done(self, dev: PciDev) -> None:
        """Say so."""
        self._say(dev, "reset_done")

    # -- what the callbacks share --------------------------------------------------------------
    def _of(self, dev: PciDev) -> Answers:
        return self.answers.setdefault(dev.sbdf, Answers())

    def _say(self, dev: PciDev, text: str) -> None:
        self._core.printk(INFO, dev, f"aerlab: {text}")

    def _touch(self, dev: PciDev, where: str) -> None:
        if self._of(dev).touch:
            ids = self._core.read(dev, HEADER.VENDOR_ID, 4)
            command = self._core.read(dev, HEADER.COMMAND, 2)
            state = int(dev.error_state)
            self._say(dev, f"touch {where}: cfg rc=0 id={ids:08x} cmd={command:04x} error_state={state} enabled=1")

    async def _sleep(self, dev: PciDev, where: str, ms: int) -> None:
        if ms:
            await self._core.kernel.sleep(ms * MS)
            self._say(dev, f"{where} slept")


def aerlab_drivers(core: PciCore, answers: dict[Sbdf, Answers]) -> list[PciDriver]:
    """All names of the driver; ``answers`` is asked by function at every call."""
    lab = AerLab(core, answers)
    drivers = []
    for name, callbacks in VARIANTS.items():
        handlers = None if callbacks is None else ErrorHandlers(**{each: getattr(lab, each) for each in callbacks})
        drivers.append(PciDriver(name, handlers, lab.probe, lab.remove))
    return drivers
