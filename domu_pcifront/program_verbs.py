"""What an external program may ask its guest for while it is called: one table, a row per verb.

A row has the arguments, each with its check, and what the verb does with the device. A line that does not fit its row
is a mistake in the program; what the guest cannot do (RefusedError) is answered with ``FAIL`` and a text.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from domu_pcifront.device import GuestPciDev
from domu_pcifront.memory import PAGE
from domu_pcifront.program_wire import FAIL, OK, number, shown
from kernel_stub.kernel import MS
from protocol.limits import PROGRAM_DMA

HOUR_MS = 3_600_000
MEMORY_MAX = 1 << 20
TIME = re.compile(r"[0-9]{1,8}(\.[0-9]{1,6})?")
HEX = re.compile(r"([0-9a-fA-F]{2})+")


class RefusedError(Exception):
    """The guest cannot do it; the text is what the program is told."""


class Arg(NamedTuple):
    """An argument: its name in the manual, what is allowed, and how it is read (raises ValueError)."""

    name: str
    allowed: str
    read: Callable[[str], Any]


Does = Callable[..., Awaitable[str]]  # the device and the arguments -> the value behind OK


class Verb(NamedTuple):
    """A row: its arguments, what it does, and what the value behind OK is ("" if there is none)."""

    args: tuple[Arg, ...]
    does: Does
    answer: str = ""


def whole(name: str, low: int, high: int, step: int = 1) -> Arg:
    """A whole number from ``low`` to ``high``, a multiple of ``step``."""

    def read(text: str) -> int:
        value = number(text)
        if not low <= value <= high or value % step:
            raise ValueError
        return value

    multiple = f", a multiple of {step}" if step > 1 else ""
    return Arg(name, f"a whole number from {low:#x} to {high:#x}{multiple}", read)


def _time(text: str) -> int:
    if not TIME.fullmatch(text) or float(text) > HOUR_MS:
        raise ValueError
    return round(float(text) * MS)


def _data(text: str) -> bytes:
    if not HEX.fullmatch(text) or len(text) > 2 * PROGRAM_DMA:
        raise ValueError
    return bytes.fromhex(text)


TIME_MS = Arg("MS", f"milliseconds from 0 to {HOUR_MS}, decimals allowed", _time)
DATA = Arg("HEX", f"pairs of hex digits, at most {PROGRAM_DMA} bytes", _data)
ADDRESS = whole("ADDRESS", 0, (1 << 64) - 1)
TEXT = Arg("TEXT", "the rest of the line", str)  # the last argument may have spaces if it is this one


# -- configuration space, registers ------------------------------------------------------------------
def _config_read(size: int) -> Verb:
    async def does(dev: GuestPciDev, offset: int) -> str:
        return f"{await dev.read_config(offset, size):#x}"

    return Verb((whole("OFFSET", 0, 0x1000 - size, size),), does, "the register; all ones if nobody answers")


def _config_write(size: int) -> Verb:
    async def does(dev: GuestPciDev, offset: int, value: int) -> str:
        await dev.write_config(offset, size, value)
        return ""

    return Verb((whole("OFFSET", 0, 0x1000 - size, size), whole("VALUE", 0, (1 << 8 * size) - 1)), does)


def _mmio_read(size: int) -> Verb:
    async def does(dev: GuestPciDev, bar: int, offset: int) -> str:
        return f"{await dev.mmio_read(bar, offset, size):#x}"

    return Verb(
        (BAR, whole("OFFSET", 0, 0xFFFFFFFF - size + 1, size)), does, "the register; all ones if nobody answers"
    )


def _mmio_write(size: int) -> Verb:
    async def does(dev: GuestPciDev, bar: int, offset: int, value: int) -> str:
        dev.mmio_write(bar, offset, value, size)
        return ""

    last = 0xFFFFFFFF - size + 1
    return Verb((BAR, whole("OFFSET", 0, last, size), whole("VALUE", 0, (1 << 8 * size) - 1)), does)


BAR = whole("BAR", 0, 5)
SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}


# -- the device --------------------------------------------------------------------------------------
async def _find_capability(dev: GuestPciDev, cap: int) -> str:
    return f"{await dev.find_capability(cap):#x}"


async def _enable_device(dev: GuestPciDev) -> str:
    if await dev.enable_device() < 0:
        raise RefusedError("ENODEV: the device does not answer")
    return ""


async def _disable_device(dev: GuestPciDev) -> str:
    await dev.disable_device()
    return ""


async def _set_master(dev: GuestPciDev) -> str:
    await dev.set_master()
    return ""


async def _save_state(dev: GuestPciDev) -> str:
    await dev.save_state()
    return ""


async def _restore_state(dev: GuestPciDev) -> str:
    await dev.restore_state()
    return ""


# -- interrupts --------------------------------------------------------------------------------------
async def _enable_msi(dev: GuestPciDev) -> str:
    vector = await dev.enable_msi()
    if vector <= 0:
        raise RefusedError("EINVAL: the guest gets no message signalled interrupts for this device")
    return str(vector)


async def _disable_msi(dev: GuestPciDev) -> str:
    await dev.disable_msi()
    return ""


async def _msi_active(dev: GuestPciDev) -> str:
    return str(int(await dev.msi_active()))


async def _wait_msi(dev: GuestPciDev, ns: int) -> str:
    return str(int(await dev.wait_msi(0, ns)))


# -- memory ------------------------------------------------------------------------------------------
async def _dma_alloc(dev: GuestPciDev, size: int) -> str:
    try:
        return f"{dev.memory.alloc(size, PAGE):#x}"
    except MemoryError as error:
        raise RefusedError(f"ENOMEM: {error}") from None


async def _dma_free(dev: GuestPciDev, address: int) -> str:
    try:
        dev.memory.free(address)
    except ValueError as error:
        raise RefusedError(f"EINVAL: {error}") from None
    return ""


async def _dma_read(dev: GuestPciDev, address: int, length: int) -> str:
    try:
        return dev.memory.read(address, length).hex()
    except ValueError as error:
        raise RefusedError(f"EFAULT: {error}") from None


async def _dma_write(dev: GuestPciDev, address: int, data: bytes) -> str:
    try:
        dev.memory.write(address, data)
    except ValueError as error:
        raise RefusedError(f"EFAULT: {error}") from None
    return ""


# -- time and the log --------------------------------------------------------------------------------
async def _msleep(dev: GuestPciDev, ns: int) -> str:
    await dev.kernel.sleep(ns)
    return ""


async def _printk(dev: GuestPciDev, level: int, text: str) -> str:
    dev.printk(level, text)
    return ""


async def _now(dev: GuestPciDev) -> str:
    return str(dev.kernel.now())


VERBS: dict[str, Verb] = {
    **{f"config_read{letter}": _config_read(size) for letter, size in SIZES.items() if size <= 4},
    **{f"config_write{letter}": _config_write(size) for letter, size in SIZES.items() if size <= 4},
    "find_capability": Verb((whole("ID", 0, 0xFF),), _find_capability, "its offset; 0 if the device has none"),
    "enable_device": Verb((), _enable_device),
    "disable_device": Verb((), _disable_device),
    "set_master": Verb((), _set_master),
    "save_state": Verb((), _save_state),
    "restore_state": Verb((), _restore_state),
    **{f"read{letter}": _mmio_read(size) for letter, size in SIZES.items()},
    **{f"write{letter}": _mmio_write(size) for letter, size in SIZES.items()},
    "dma_alloc": Verb((whole("SIZE", 1, MEMORY_MAX),), _dma_alloc, "address of so many zeroed bytes, page-aligned"),
    "dma_free": Verb((ADDRESS,), _dma_free),
    "dma_read": Verb((ADDRESS, whole("LENGTH", 1, PROGRAM_DMA)), _dma_read, "the bytes, two hex digits each"),
    "dma_write": Verb((ADDRESS, DATA), _dma_write),
    "enable_msi": Verb((), _enable_msi, "the vector"),
    "disable_msi": Verb((), _disable_msi),
    "msi_active": Verb((), _msi_active, "1 if it is on in the device itself, which a reset undoes; else 0"),
    "wait_msi": Verb((TIME_MS,), _wait_msi, "1: one has come since the last call; 0: the time is over"),
    "msleep": Verb((TIME_MS,), _msleep),
    "printk": Verb((whole("LEVEL", 0, 7), TEXT), _printk),
    "now": Verb((), _now, "the guest's clock in nanoseconds"),
}


def usage(name: str) -> str:
    """``writel BAR OFFSET VALUE``."""
    return " ".join([name, *(arg.name for arg in VERBS[name].args)])


async def serve(dev: GuestPciDev, line: str) -> str:
    """Do what a line asks for; the answer as the program reads it. Raises ValueError: what was wrong and is allowed."""
    name, _, rest = line.partition(" ")
    verb = VERBS.get(name)
    if verb is None:
        raise ValueError(f"wrote {shown(line)}; allowed: {OK}, {FAIL}, {', '.join(VERBS)}")
    values = _arguments(name, verb, rest, line)
    try:
        value = await verb.does(dev, *values)
    except RefusedError as error:
        return f"{FAIL} {error}"
    return f"{OK} {value}" if value else OK


def _arguments(name: str, verb: Verb, rest: str, line: str) -> list[Any]:
    """The arguments of a verb. Raises ValueError."""
    has_text = bool(verb.args) and verb.args[-1] is TEXT
    words = rest.split(maxsplit=len(verb.args) - 1) if has_text else rest.split()
    if len(words) != len(verb.args):
        raise ValueError(f"wrote {shown(line)}; allowed: {usage(name)}")
    values = []
    for arg, word in zip(verb.args, words, strict=True):
        try:
            values.append(arg.read(word))
        except ValueError:
            text = f"wrote {shown(line)}, where {arg.name} is {shown(word)}; allowed: {arg.allowed}"
            raise ValueError(text) from None
    return values
