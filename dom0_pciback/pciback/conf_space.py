"""The virtual configuration space: what a guest may see and change of a device's registers.

Reads go to the hardware and are then covered by virtual fields; writes reach the hardware only through a
field, or anywhere in permissive mode. The fields are tables in ``conf_header`` and ``conf_capability``.
Source: xen-pci.md 6.1 (CFG-1 to CFG-7), 10 (X4 to X7, X47); kernel ``conf_space.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dom0_pciback.pciback.conf_capability import CAP_PCIE, capability_fields, clear_pme_enable, find_capabilities
from dom0_pciback.pciback.conf_field import SUCCESS, ConfDevice, ConfigAccess, Field, Resource
from dom0_pciback.pciback.conf_header import EINVAL, HEADER_FIELDS, HEADER_TYPE, make_bars
from dom0_pciback.pciback.conf_quirks import Quirk
from protocol.sharedinfo import PciErr

__all__ = ["ConfSpace", "ConfigAccess", "Resource"]

INVALID_OFFSET = int(PciErr.INVALID_OFFSET)
MASK = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFF_FFFF}  # the legal sizes and what fits in them
CONVENTIONAL_SIZE = 256
EXTENDED_SIZE = 4096

Index = dict[int, tuple[Field, ...]]


class ConfSpace(ConfDevice):
    """Filter between a guest and one seized device. Made at seizure, reset at each put back.

    ``resources`` are BAR 0 to 5 and the ROM as dom0 knows them (missing ones do not exist), ``irq`` is dom0's
    irq number, ``warn`` gets warnings about this device. ``hardened`` refuses offsets outside the device's
    space (CFG-1, X6, X7). Raises ValueError for a header that is neither type 0 nor type 1.

    A request is aligned and at most 4 bytes, so it never leaves its dword: fields are found through a
    dictionary from dword number to the fields that touch it.
    """

    __slots__ = ("_hardened", "_index", "_initial_command", "_static_index", "size", "warned_on_write")

    def __init__(
        self,
        access: ConfigAccess,
        *,
        resources: tuple[Resource, ...],
        irq: int,
        hardened: bool,
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(access, resources, irq, warn)
        header_type = access.read(HEADER_TYPE, 1) & 0x7F
        if header_type not in HEADER_FIELDS:
            raise ValueError(f"unsupported header type {header_type}")
        self.capabilities = find_capabilities(access)
        self.bars = make_bars(resources, header_type)
        self.size = EXTENDED_SIZE if CAP_PCIE in self.capabilities else CONVENTIONAL_SIZE
        self.warned_on_write = False
        self._hardened = hardened
        self._initial_command = self.command
        self._static_index = _index_by_dword((*HEADER_FIELDS[header_type], *capability_fields(self.capabilities)))
        self._index = dict(self._static_index)
        clear_pme_enable(self)

    def read(self, offset: int, size: int) -> tuple[int, int]:
        """``xen_pcibk_config_read()``: (error, value). Error is an ``XEN_PCI_ERR_*`` number or a negative errno."""
        if size not in MASK or offset % size:
            return INVALID_OFFSET, 0
        if not 0 <= offset < self.size:
            return self._read_outside(offset, size)
        fields = self._index.get(offset >> 2)
        value = self.access.read(offset, size)
        if fields is not None:
            end = offset + size
            for start, length, _name, read, _write in fields:
                if start < end and offset < start + length:
                    value = _merge(value, read(self, start), length, start - offset) & MASK[size]
        return SUCCESS, value

    def write(self, offset: int, size: int, value: int) -> int:
        """``xen_pcibk_config_write()``: an ``XEN_PCI_ERR_*`` number or a negative errno, 0 for success.

        Every field that the request touches gets its bytes; the first error of a field is the answer.
        """
        if size not in MASK or offset % size:
            return INVALID_OFFSET
        if not 0 <= offset < self.size:
            return self._write_outside(offset, size)
        value &= MASK[size]
        end, result, handled = offset + size, SUCCESS, False
        for start, length, _name, read, write in self._index.get(offset >> 2, ()):
            if start < end and offset < start + length:
                handled = True
                if write is not None:
                    merged = _merge(read(self, start), value, size, offset - start) & MASK[length]
                    result = write(self, start, merged) or result
        return result if handled else self._write_uncovered(offset, size, value)

    def add_quirk(self, quirk: Quirk) -> None:
        """Add the pass-through field of ``quirk``; ignored if a field begins at that offset already (6.7)."""
        there = self._index.get(quirk.reg >> 2, ())
        if all(field.offset != quirk.reg for field in there):
            self._index[quirk.reg >> 2] = (*there, quirk.field())

    def reset_fields(self, *, keep_permissive: bool = False) -> None:
        """Put back: forget what the last guest did here. The hardware has been reset and disabled before.

        ``keep_permissive`` is defect D24. The warning about dropped writes stays given: once per device.
        """
        for bar in self.bars.values():
            bar.sizing = False
        self._index = dict(self._static_index)
        self.command = self._initial_command
        self.enabled = self.bus_master = self.enable_intx = False
        self.allow_interrupt_control = False
        self.permissive = self.permissive and keep_permissive

    def _read_outside(self, offset: int, size: int) -> tuple[int, int]:
        """CFG-1: refused if hardened; else what dom0's PCI core says, -EINVAL from 4096 on."""
        if self._hardened:
            return INVALID_OFFSET, 0
        return (-EINVAL if offset >= EXTENDED_SIZE else SUCCESS), MASK[size]

    def _write_outside(self, offset: int, size: int) -> int:
        if self._hardened:
            return INVALID_OFFSET
        if not self.permissive:
            return self._drop(offset, size)
        return -EINVAL if offset >= EXTENDED_SIZE else SUCCESS

    def _write_uncovered(self, offset: int, size: int, value: int) -> int:
        """CFG-4: no field here."""
        if not self.permissive:
            return self._drop(offset, size)
        self.access.write(offset, size, value)
        return SUCCESS

    def _drop(self, offset: int, size: int) -> int:
        if not self.warned_on_write:
            self.warned_on_write = True
            self.warn(
                "Driver tried to write to a read-only configuration space field "
                f"at offset 0x{offset & 0xFFFF_FFFF:x}, size {size}. "
                "The write was dropped; a driver that needs it needs permissive mode."
            )
        return SUCCESS


def _index_by_dword(fields: Iterable[Field]) -> Index:
    """Dword number -> fields that touch it, in the order of the tables."""
    index: dict[int, list[Field]] = {}
    for field in fields:
        for dword in range(field.offset >> 2, (field.offset + field.size + 3) >> 2):
            index.setdefault(dword, []).append(field)
    return {dword: tuple(found) for dword, found in index.items()}


def _merge(old: int, new: int, length: int, shift: int) -> int:
    """``old`` with the ``length`` bytes of ``new`` laid over it, ``shift`` bytes up (down if negative).

    Bytes of ``new`` below byte 0 fall away; the caller masks those above its own size.
    """
    mask = MASK[length]
    if shift < 0:
        return old & ~(mask >> -8 * shift) | (new & mask) >> -8 * shift
    return old & ~(mask << 8 * shift) | (new & mask) << 8 * shift
