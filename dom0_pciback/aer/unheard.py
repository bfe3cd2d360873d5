"""Errors whose messages a reset has swallowed (T26): a rule of ours for ``hardened``, docs/DIFFERENCES.md.

While a bus is reset the root port's interrupt is off, and at the end its status is thrown away, for everything below
that root. Functions that were not reset keep their own status: they are looked at once nothing else is queued, so that
no error is handled twice.
"""

from __future__ import annotations

from dom0_pciback.aer.info import ErrorRecord
from dom0_pciback.aer.irq import AerRpc
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev
from protocol.bits import ADVISORY_NONFATAL
from protocol.ers import Severity
from protocol.layout_aer import AER
from protocol.layout_pcie import EXP, EXP_DEVCTL_AER_FLAGS, EXP_DEVSTA_NFED

ALL_ONES = 0xFFFFFFFF


def look_at_others(rpc: AerRpc, reset: tuple[PciDev, ...], source: PciDev) -> None:
    """Everything below the root but what was ``reset``; uncorrectable errors of the ``source`` are being recovered."""
    others = (dev for dev in (rpc.root, *rpc.root.below) if dev.aer and dev not in reset)
    looks = [(dev, correctable) for dev in others for correctable in (True, False) if correctable or dev is not source]
    rpc.unheard.extend(look for look in looks if look not in rpc.unheard)


def next_unheard(rpc: AerRpc) -> ErrorRecord | None:
    """The record of the next function that still shows an error; None if there is none."""
    while rpc.unheard:
        dev, correctable = rpc.unheard.popleft()
        severity = shown(rpc.core, dev, correctable) if rpc.core.devices.get(dev.sbdf) is dev else None
        if severity is not None:
            return ErrorRecord(dev.rid, severity, False, rpc.reporting)
    return None


def shown(core: PciCore, dev: PciDev, correctable: bool) -> Severity | None:
    """What the function has reported of one kind, and nobody has cleared; the worst."""
    if not core.read(dev, dev.exp + EXP.DEVCTL, 2) & EXP_DEVCTL_AER_FLAGS:
        return None
    if correctable:
        return Severity.CORRECTABLE if _unmasked(core, dev, AER.COR_STATUS, AER.COR_MASK) else None
    uncor = _unmasked(core, dev, AER.UNCOR_STATUS, AER.UNCOR_MASK)
    if uncor & core.read(dev, dev.aer + AER.UNCOR_SEVER, 4):
        return Severity.FATAL
    return Severity.NONFATAL if uncor and not _only_advisory(core, dev) else None


def _only_advisory(core: PciCore, dev: PciDev) -> bool:
    """The error was reported as a correctable one, or not at all if that is masked (2.2)."""
    detected = core.read(dev, dev.exp + EXP.DEVSTA, 2) & EXP_DEVSTA_NFED
    return not detected and bool(core.read(dev, dev.aer + AER.COR_STATUS, 4) >> ADVISORY_NONFATAL & 1)


def _unmasked(core: PciCore, dev: PciDev, status: int, mask: int) -> int:
    value = core.read(dev, dev.aer + status, 4)
    return 0 if value == ALL_ONES else value & ~core.read(dev, dev.aer + mask, 4)
