"""One PCI function: where it is, its registers, whether it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from dom0_pciback.pcie.config_space import ConfigSpace
from dom0_pciback.pcie.profile import HardwareProfile
from protocol.ids import Sbdf
from protocol.layout_header import BAR_SIZE, COMMAND_MASTER, COMMAND_MEMORY, HEADER, bar_offset
from protocol.layout_pm import PM, PM_CTRL_STATE_MASK
from protocol.ports import Clock
from protocol.topology import BRIDGES, FunctionSpec

NEVER = 1 << 63  # later than every time in ns


class ResetFault(NamedTuple):
    """What goes wrong with the resets of a function: ``ready_ms`` until it answers (-1: never).

    ``ids``: vendor and device of the one that answers afterwards, as if the card had been exchanged; None: the same.
    """

    ready_ms: int
    ids: tuple[int, int] | None = None


class Bar(NamedTuple):
    """A memory base address register: its number, register offset and size in bytes."""

    number: int
    offset: int
    size: int


class Fabric(Protocol):
    """What a function needs from the hierarchy that it is part of."""

    clock: Clock
    functions: dict[Sbdf, Function]
    profile: HardwareProfile
    native_hotplug: bool
    interrupt: Callable[[Function], None]
    on_reset: Callable[[Function], None]


class Function:
    """A function and its registers. ``parent`` is the port above (None on a root bus), ``children`` are below it.

    ``aer``, ``dpc``, ``exp``, ``msi``, ``pm`` are offsets of the capabilities, 0 for one that it lacks;
    ``prefix_log`` is that of AER's TLP prefix log, which not every AER capability has. ``ready_at`` (ns) is when its
    own reset is over, -1 never; ``reachable_at`` (ns) also takes in everything on the way, NEVER if a link is
    down or bus numbers do not lead here. ``log_valid``: First Error Pointer names a recorded error. ``dead``: no
    reset brings the function back; ``reset_fault``: what goes wrong with its resets (faults, ``pcie.gone``).
    """

    __slots__ = (
        "aer",
        "bars",
        "children",
        "config",
        "dead",
        "dpc",
        "exp",
        "fabric",
        "log_valid",
        "msi",
        "parent",
        "pm",
        "prefix_log",
        "reachable_at",
        "ready_at",
        "reset_fault",
        "sbdf",
        "spec",
    )

    def __init__(self, spec: FunctionSpec, parent: Function | None, fabric: Fabric) -> None:
        self.spec = spec
        self.sbdf = Sbdf.parse(spec.bdf)
        self.parent = parent
        self.fabric = fabric
        self.children: list[Function] = []
        self.config = ConfigSpace()
        self.aer = self.dpc = self.exp = self.msi = self.pm = self.prefix_log = 0
        self.bars: list[Bar] = [] if self.is_port else [Bar(0, bar_offset(0), BAR_SIZE)]
        self.log_valid = False
        self.ready_at = 0
        self.reachable_at = 0
        self.dead = False
        self.reset_fault: ResetFault | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} {self.sbdf}>"

    @property
    def kind(self) -> str:
        """Its PCI Express type (``protocol.topology.Kind``)."""
        return self.spec.kind

    @property
    def is_port(self) -> bool:
        """Whether it has a type 1 header."""
        return self.spec.kind in BRIDGES

    def below(self) -> Iterator[Function]:
        """Every function below this one, a bridge before what is below it."""
        for child in self.children:
            yield child
            yield from child.below()

    # -- reachability --------------------------------------------------------------------------
    def accessible(self) -> bool:
        """Whether a configuration request issued now would be answered."""
        return not self.reachable_at or self.fabric.clock.now() >= self.reachable_at

    def in_reset(self) -> bool:
        """Whether the function itself is in reset or dead, so that it detects and records nothing."""
        return self.dead or self.ready_at < 0 or (self.ready_at > 0 and self.fabric.clock.now() < self.ready_at)

    def set_ready_at(self, ready_at: int) -> None:
        """Say when the function's reset is over (ns; -1 never); keeps ``reachable_at`` in step."""
        self.ready_at = ready_at
        self.refresh()

    def refresh(self) -> None:
        """Work ``reachable_at`` out again, here and below."""
        own = NEVER if self.dead or self.ready_at < 0 else self.ready_at
        self.reachable_at = max(own, self.parent.way_down(self) if self.parent else 0)
        for child in self.children:
            child.refresh()

    def way_down(self, child: Function) -> int:
        """When a request gets through this function to ``child`` (ns or NEVER); ports override it."""
        return NEVER

    # -- memory and DMA ------------------------------------------------------------------------
    def bar_address(self, bar: int) -> int:
        """The address that ``bar`` (0..5) is programmed with; 0 for none."""
        return self.config.peek(bar_offset(bar), 4) & 0xFFFFFFF0

    def memory_enabled(self, bar: int) -> bool:
        """Whether the function answers memory requests to ``bar``: reachable, D0, Command.MEM, BAR programmed."""
        data = self.config.data
        return bool(
            data[HEADER.COMMAND] & COMMAND_MEMORY
            and self.bar_address(bar)
            and not (self.pm and data[self.pm + PM.CTRL] & PM_CTRL_STATE_MASK)
            and self.accessible()
        )

    def bus_master_enabled(self) -> bool:
        """Whether the function may issue requests (DMA, MSI): reachable and Command.MASTER."""
        return bool(self.config.data[HEADER.COMMAND] & COMMAND_MASTER) and self.accessible()
