"""Fields of the configuration header: identity, Command, BIST, BARs, ROM, interrupt line.

Source: xen-pci.md 6.2 to 6.4, xen-pci-errata.md S3 to S5; kernel ``conf_space_header.c``.
"""

from __future__ import annotations

from dom0_pciback.pciback.conf_field import (
    NO_RESOURCE,
    REGION_FLAGS,
    SUCCESS,
    Bar,
    ConfDevice,
    Field,
    Resource,
    read_byte,
    write_byte,
)

COMMAND = 0x04
CACHE_LINE_SIZE = 0x0C
HEADER_TYPE = 0x0E
BAR_0 = 0x10

CMD_DECODING = 0x0003  # I/O and memory space
CMD_MASTER = 0x0004
CMD_INVALIDATE = 0x0010
CMD_INTX_DISABLE = 0x0400
# PCI_COMMAND_GUEST: master, special cycles, invalidate, VGA palette, address stepping, fast back-to-back.
# SERR and PARITY are not in it: a guest must not silence the host's error reporting (XSA-120).
CMD_GUEST = 0x02BC

BIST_START = 0x40
ROM_INDEX = 6  # PCI_ROM_RESOURCE
ROM_FLAG_BITS = 0x7FF
CACHE_LINE_DWORDS = 16  # 64 bytes
EINVAL = 22


# -- identity and interrupt line -------------------------------------------------------------------
def vendor_read(dev: ConfDevice, _offset: int) -> int:
    """Vendor ID as dom0's PCI core cached it; the register of a virtual function is all ones."""
    return dev.vendor


def device_read(dev: ConfDevice, _offset: int) -> int:
    """Device ID as dom0's PCI core cached it."""
    return dev.device


def interrupt_line_read(dev: ConfDevice, _offset: int) -> int:
    """Low 8 bits of dom0's irq number."""
    return dev.irq & 0xFF


def bist_write(dev: ConfDevice, offset: int, value: int) -> int:
    """Start a self-test, or write back what is there; anything else is ignored."""
    now = dev.access.read(offset, 1)
    if value == BIST_START or (now ^ value) & ~BIST_START & 0xFF == 0:
        dev.access.write(offset, 1, value)
    return SUCCESS


# -- Command (6.3) ---------------------------------------------------------------------------------
def command_read(dev: ConfDevice, offset: int) -> int:
    """Bits that a guest may change come from the hardware, the others from its last write (S5)."""
    return dev.access.read(offset, 2) & CMD_GUEST | dev.command & ~CMD_GUEST


def command_write(dev: ConfDevice, offset: int, value: int) -> int:
    """``command_write()``: the six steps of 6.3 in order. Returns the error of enabling the device."""
    err = _switch_decoding(dev, value)
    if err:
        return err
    _switch_master(dev, value)
    value = _switch_mwi(dev, value)
    if dev.allow_interrupt_control and (dev.command ^ value) & CMD_INTX_DISABLE:
        _set_command_bit(dev, CMD_INTX_DISABLE, bool(value & CMD_INTX_DISABLE))
    dev.command = value
    if dev.permissive:
        _write_guest_bits(dev, offset, value)
    return SUCCESS


def _switch_decoding(dev: ConfDevice, value: int) -> int:
    """Step 1: both decodings together, as dom0's resources say."""
    wanted = bool(value & CMD_DECODING)
    if wanted and not dev.enabled:
        err = dev.access.enable_device()
        if err:
            return err
    elif dev.enabled and not wanted:
        dev.access.disable_device()
        dev.bus_master = False  # pci_disable_device takes bus mastering away too
    else:
        return SUCCESS
    dev.enabled = dev.enable_intx = wanted
    return SUCCESS


def _switch_master(dev: ConfDevice, value: int) -> None:
    """Step 2: bus master through the PCI core, only on a change in dom0's view."""
    wanted = bool(value & CMD_MASTER)
    if wanted != dev.bus_master:
        dev.access.set_master(wanted)
        dev.bus_master = wanted


def _switch_mwi(dev: ConfDevice, value: int) -> int:
    """Step 3: memory-write-and-invalidate; returns the value, without the bit if that was refused."""
    if not (dev.command ^ value) & CMD_INVALIDATE:
        return value
    if not value & CMD_INVALIDATE:
        _set_command_bit(dev, CMD_INVALIDATE, False)
        return value
    err = _set_cacheline_size(dev)
    if err:
        dev.warn(f"cannot enable memory-write-invalidate ({err})")
        return value & ~CMD_INVALIDATE
    _set_command_bit(dev, CMD_INVALIDATE, True)
    return value


def _set_cacheline_size(dev: ConfDevice) -> int:
    """``pci_set_cacheline_size``: a multiple of 64 bytes in the register, else -EINVAL."""
    size = dev.access.read(CACHE_LINE_SIZE, 1)
    if size and size % CACHE_LINE_DWORDS == 0:
        return SUCCESS
    dev.access.write(CACHE_LINE_SIZE, 1, CACHE_LINE_DWORDS)
    return SUCCESS if dev.access.read(CACHE_LINE_SIZE, 1) == CACHE_LINE_DWORDS else -EINVAL


def _set_command_bit(dev: ConfDevice, bit: int, on: bool) -> None:
    now = dev.access.read(COMMAND, 2)
    wanted = now | bit if on else now & ~bit
    if wanted != now:
        dev.access.write(COMMAND, 2, wanted)


def _write_guest_bits(dev: ConfDevice, offset: int, value: int) -> None:
    """Step 6, permissive only: the guest's bits of ``value``, the hardware's other bits."""
    now = dev.access.read(offset, 2)
    if now != value:
        dev.access.write(offset, 2, value & CMD_GUEST | now & ~CMD_GUEST)


# -- BARs and ROM (6.4) ----------------------------------------------------------------------------
def bar_read(dev: ConfDevice, offset: int) -> int:
    """Address or, in sizing mode, size mask; the hardware is never consulted."""
    bar = dev.bars[offset]
    return bar.len_val if bar.sizing else bar.val


def bar_write(dev: ConfDevice, offset: int, value: int) -> int:
    """Sizing on or off; the address itself reaches the hardware only to repair a register that lost it."""
    bar = dev.bars[offset]
    bar.sizing = value | bar.mask == 0xFFFF_FFFF
    if not bar.sizing and value == bar.val and dev.access.read(offset, 4) != value:
        dev.access.write(offset, 4, value)
    return SUCCESS


def make_bars(resources: tuple[Resource, ...], header_type: int) -> dict[int, Bar]:
    """The BARs and the ROM of a type 0 or type 1 header, by offset."""
    count, rom_offset = HEADER_SHAPE[header_type]
    known = (resources + (NO_RESOURCE,) * (ROM_INDEX + 1))[: ROM_INDEX + 1]
    bars = {BAR_0 + 4 * i: _make_bar(known, i) for i in range(count)}
    rom = known[ROM_INDEX]
    bars[rom_offset] = Bar(_address(rom), _length(rom), ROM_FLAG_BITS)
    return bars


def _make_bar(known: tuple[Resource, ...], index: int) -> Bar:
    below = known[index - 1] if index else NO_RESOURCE
    if below.is_64bit:
        return Bar(_address(below, 32), _length(below, 32), 0)
    here = known[index]
    return Bar(_address(here), _length(here), 0x3 if here.is_io else 0xF)


def _address(res: Resource, shift: int = 0) -> int:
    """32 bits of start and flags, from bit ``shift``; 0 for a resource that cannot be used."""
    return (res.start | res.flags & REGION_FLAGS) >> shift & 0xFFFF_FFFF if res.usable else 0


def _length(res: Resource, shift: int = 0) -> int:
    """32 bits of the two's complement of the size with the flags, from bit ``shift``."""
    return (-res.size | res.flags & REGION_FLAGS) >> shift & 0xFFFF_FFFF if res.usable else 0


# -- tables ----------------------------------------------------------------------------------------
# header type -> number of BARs, offset of the expansion ROM register
HEADER_SHAPE: dict[int, tuple[int, int]] = {0: (6, 0x30), 1: (2, 0x38)}

HEADER_COMMON: tuple[Field, ...] = (
    Field(0x00, 2, "vendor", vendor_read),
    Field(0x02, 2, "device", device_read),
    Field(COMMAND, 2, "command", command_read, command_write),
    Field(CACHE_LINE_SIZE, 1, "cache line size", read_byte, write_byte),
    Field(0x0D, 1, "latency timer", read_byte),
    Field(0x0F, 1, "bist", read_byte, bist_write),
    Field(0x3C, 1, "interrupt line", interrupt_line_read),
    Field(0x3D, 1, "interrupt pin", read_byte),
)


def _address_fields(count: int, rom_offset: int) -> tuple[Field, ...]:
    bars = tuple(Field(BAR_0 + 4 * i, 4, f"bar {i}", bar_read, bar_write) for i in range(count))
    return (*bars, Field(rom_offset, 4, "rom", bar_read, bar_write))


HEADER_FIELDS: dict[int, tuple[Field, ...]] = {
    header_type: HEADER_COMMON + _address_fields(count, rom) for header_type, (count, rom) in HEADER_SHAPE.items()
}
