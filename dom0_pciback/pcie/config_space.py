"""Configuration space of one function: 4096 bytes with write masks, composed from register tables.

One ``read`` and one ``write`` serve every register. What a write sets going (a reset, an interrupt) is not
decided here: the owner hangs a hook on a dword.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping

from protocol.layout_header import CONFIG_SIZE, HEADER
from protocol.registers import Layout, Reg

ALL_ONES = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF}
EXTENDED_BASE = 0x100

# (bits before, bits after, bits written), each in its place in the dword; bytes not written are 0 in all three
Hook = Callable[[int, int, int], None]


def check_access(offset: int, size: int) -> None:
    """Raise ValueError unless ``size`` is 1, 2 or 4 and ``offset`` is aligned to it and within 0..4095."""
    if size not in ALL_ONES or offset & size - 1 or not 0 <= offset < CONFIG_SIZE:
        raise ValueError(f"configuration access of {size} bytes at {offset:#x} is not aligned or out of range")


def _views(image: bytearray) -> dict[int, memoryview[int]]:
    """The image as numbers of 1, 2 and 4 bytes; configuration space is little-endian, and so must the machine be."""
    view = memoryview(image)
    return {1: view, 2: view.cast("H"), 4: view.cast("I")}


class ConfigSpace:
    """The bytes of one function's registers.

    ``data`` holds the values, ``rw`` and ``w1c`` say which bits software may set or clear; a bit in neither is
    read-only or reserved. ``read``/``write`` are accesses by software; ``peek``/``poke`` are the hardware's own.
    Both go through views of the bytes as numbers of each size, which is several times faster than slices.
    """

    __slots__ = ("_fresh", "_keep", "_masks", "_views", "data", "hooks", "rw", "w1c")

    def __init__(self) -> None:
        self.data = bytearray(CONFIG_SIZE)
        self.rw = bytearray(CONFIG_SIZE)
        self.w1c = bytearray(CONFIG_SIZE)
        self._views = _views(self.data)
        self._masks = {size: (_views(self.rw)[size], _views(self.w1c)[size]) for size in ALL_ONES}
        self.hooks: dict[int, Hook] = {}
        self._fresh = bytearray(CONFIG_SIZE)
        self._keep = bytearray(CONFIG_SIZE)

    # -- composition ---------------------------------------------------------------------------
    def add(
        self, layout: type[Layout], base: int, kind: str, values: Mapping[str, int], end: int = CONFIG_SIZE
    ) -> None:
        """Place the registers of ``layout`` that a function of ``kind`` has; ``values`` replaces reset values.

        Registers that do not fit before ``end`` are left out.
        """
        for reg in layout.registers:
            if reg.exists_in(kind) and base + reg.end <= end:
                self._add(reg, base + reg, values.get(reg.name, reg.reset))

    def _add(self, reg: Reg, offset: int, reset: int) -> None:
        end = offset + reg.width
        for image, bits in ((self.data, reset), (self._fresh, reset), (self.rw, reg.rw), (self.w1c, reg.w1c)):
            image[offset:end] = bits.to_bytes(reg.width, "little")
        if reg.sticky:
            self._keep[offset:end] = b"\xff" * reg.width

    def add_capabilities(self, placed: Iterable[tuple[type[Layout], int]]) -> None:
        """Write IDs and next pointers of the capabilities, both lists in the order given."""
        last, last_extended = int(HEADER.CAPABILITY_LIST), 0
        for layout, offset in placed:
            if layout.extended:
                self._constant(offset, 4, layout.cap_id | layout.version << 16)
                if last_extended:
                    self._constant(last_extended, 4, self.peek(last_extended, 4) | offset << 20)
                last_extended = offset
            else:
                self._constant(offset, 1, layout.cap_id)
                self._constant(last, 1, offset)
                last = offset + 1

    def restrict(self, offset: int, size: int, bits: int) -> None:
        """Make ``bits`` of a register read-only; they read 0."""
        for image in (self.rw, self.w1c, self.data, self._fresh):
            value = int.from_bytes(image[offset : offset + size], "little") & ~bits
            image[offset : offset + size] = value.to_bytes(size, "little")

    def allow(self, offset: int, size: int, bits: int) -> None:
        """Make ``bits`` of a register writable, and no others."""
        self.rw[offset : offset + size] = bits.to_bytes(size, "little")

    def preset(self, offset: int, size: int, value: int) -> None:
        """Set a register's value after boot; bits that software cannot change are also what a reset leaves."""
        end = offset + size
        self.data[offset:end] = value.to_bytes(size, "little")
        writable = int.from_bytes(self.rw[offset:end], "little") | int.from_bytes(self.w1c[offset:end], "little")
        fresh = int.from_bytes(self._fresh[offset:end], "little") & writable | value & ~writable
        self._fresh[offset:end] = fresh.to_bytes(size, "little")

    def _constant(self, offset: int, size: int, value: int) -> None:
        self.poke(offset, size, value)
        self._fresh[offset : offset + size] = self.data[offset : offset + size]

    # -- software ------------------------------------------------------------------------------
    def read(self, offset: int, size: int) -> int:
        """Value of ``size`` bytes (1, 2, 4) at an aligned offset. Raises ValueError for any other access."""
        if size not in ALL_ONES or offset & size - 1 or not 0 <= offset < CONFIG_SIZE:
            check_access(offset, size)
        return self._views[size][offset // size]

    def write(self, offset: int, size: int, value: int) -> None:
        """Store the writable bits, clear the write-one-to-clear bits, then call the dword's hook."""
        if size not in ALL_ONES or offset & size - 1 or not 0 <= offset < CONFIG_SIZE:
            check_access(offset, size)
        value &= ALL_ONES[size]
        view, index = self._views[size], offset // size
        old = view[index]
        rw, w1c = self._masks[size][0][index], self._masks[size][1][index]
        new = view[index] = (old & ~rw | value & rw) & ~(value & w1c)
        hook = self.hooks.get(offset & ~3)
        if hook is not None:
            shift = (offset & 3) * 8
            hook(old << shift, new << shift, value << shift)

    # -- hardware ------------------------------------------------------------------------------
    def peek(self, offset: int, size: int) -> int:
        """What the hardware sees: no check, no masks. The offset is aligned."""
        return self._views[size][offset // size]

    def poke(self, offset: int, size: int, value: int) -> None:
        """Set a register from inside the device; read-only bits change, no hook is called."""
        self._views[size][offset // size] = value

    def set_bits(self, offset: int, size: int, bits: int) -> None:
        """Or ``bits`` into a register from inside the device."""
        self._views[size][offset // size] |= bits

    def poke_dwords(self, offset: int, values: tuple[int, ...]) -> None:
        """Set consecutive dwords from inside the device."""
        struct.pack_into(f"<{len(values)}I", self.data, offset, *values)

    def power_on(self) -> None:
        """Every register takes its reset value, sticky ones too."""
        self.data[:] = self._fresh

    def reset(self) -> None:
        """FLR or bus reset: registers take their reset value, sticky ones keep theirs (linux-aer.md 1.2, C6, C7)."""
        keep = int.from_bytes(self._keep, "little")
        kept = int.from_bytes(self.data, "little") & keep
        fresh = int.from_bytes(self._fresh, "little") & ~keep
        self.data[:] = (kept | fresh).to_bytes(CONFIG_SIZE, "little")
