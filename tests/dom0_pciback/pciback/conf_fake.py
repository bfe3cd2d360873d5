"""A device for the tests of the configuration space filter: plain bytes, every access recorded."""

from __future__ import annotations

from dom0_pciback.pciback.conf_space import ConfSpace, Resource

VPD, PM, MSI, MSIX, PCIE, AER = 0x40, 0x50, 0x60, 0x70, 0x80, 0x100
COMMAND = 0x04

RESOURCES = (
    Resource(0xE000, 0x20, 0x101),  # BAR 0: I/O
    Resource(0xFE00_0000, 0x1000, 0x200),  # BAR 1: memory, 32 bits
    Resource(0, 0, 0),
    Resource(0, 0, 0),
    Resource(0x38_0000_0000, 0x4000, 0x20C),  # BAR 4 and 5: memory, 64 bits, prefetchable
    Resource(0, 0, 0),
    Resource(0xFE10_0000, 0x4_0000, 0x200),  # ROM
)
# What a working device holds in these registers; a bus reset would leave 0.
BARS = {0x10: 0xE001, 0x14: 0xFE00_0000, 0x20: 0x0000_000C, 0x24: 0x38, 0x30: 0xFE10_0000}
CAPABILITIES = ((VPD, 0x03), (PM, 0x01), (MSI, 0x05), (MSIX, 0x11), (PCIE, 0x10))


class FakeDevice:
    """ConfigAccess over 4096 bytes without read-only bits. ``log`` holds what was done to the hardware."""

    def __init__(self, *, header_type: int = 0, capabilities: tuple[tuple[int, int], ...] = CAPABILITIES) -> None:
        self.memory = bytearray(4096)
        self.log: list[tuple[object, ...]] = []
        self.enable_error = 0
        self.power_error = 0
        self.poke(0x00, 4, 0x1041_1AF4)
        self.poke(COMMAND, 2, 0x0103)
        self.poke(0x08, 4, 0x0200_0001)
        self.poke(0x0E, 1, header_type)
        self.poke(0x3D, 1, 1)
        for offset, value in BARS.items():
            self.poke(offset, 4, value)
        self.poke(AER, 4, 0x1401_0001)
        self.poke(PM + 2, 2, 0xF803)
        self.poke(MSIX + 2, 2, 0x0002)
        if capabilities:
            self.poke(0x06, 2, 0x10)
            self.poke(0x34, 1, capabilities[0][0])
        for (offset, cap), (following, _) in zip(capabilities, (*capabilities[1:], (0, 0)), strict=False):
            self.poke(offset, 2, following << 8 | cap)

    def poke(self, offset: int, size: int, value: int) -> None:
        """Change a register behind everybody's back."""
        self.memory[offset : offset + size] = value.to_bytes(size, "little")

    def peek(self, offset: int, size: int) -> int:
        """What the register holds."""
        return int.from_bytes(self.memory[offset : offset + size], "little")

    def read(self, offset: int, size: int) -> int:
        assert 0 <= offset <= len(self.memory) - size
        return int.from_bytes(self.memory[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        assert 0 <= offset <= len(self.memory) - size
        self.log.append(("write", offset, size, value))
        self.poke(offset, size, value)

    def enable_device(self) -> int:
        self.log.append(("enable",))
        return self.enable_error

    def disable_device(self) -> None:
        self.log.append(("disable",))

    def set_master(self, on: bool) -> None:
        self.log.append(("master", on))

    def set_power_state(self, state: int) -> int:
        self.log.append(("power", state))
        return self.power_error


class Rig:
    """A device, its filter, and the warnings given so far."""

    def __init__(self, device: FakeDevice | None = None, *, hardened: bool = True, permissive: bool = False) -> None:
        self.hw = device or FakeDevice()
        self.warnings: list[str] = []
        self.space = ConfSpace(self.hw, resources=RESOURCES, irq=0x114, hardened=hardened, warn=self.warnings.append)
        self.space.permissive = permissive
        self.hw.log.clear()

    def value(self, offset: int, size: int) -> int:
        """Read that must succeed."""
        err, value = self.space.read(offset, size)
        assert err == 0
        return value

    def write(self, offset: int, size: int, value: int) -> int:
        """Write; the error."""
        return self.space.write(offset, size, value)
