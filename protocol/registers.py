"""How a register is declared: offset, width, what software may change, what a reset leaves.

A ``Layout`` is a class whose attributes are ``Reg`` values. A ``Reg`` is its own offset (an ``int``), so that
kernel code writes ``cap + AER.UNCOR_STATUS``; its name is the attribute's, hence typed once. The checks run
when the class is made, that is at import.
"""

from __future__ import annotations

from typing import ClassVar


class Reg(int):
    """One register of 1, 2 or 4 bytes at an offset inside its header or capability.

    ``rw`` bits take the written value, ``w1c`` bits are cleared by writing 1; bits in neither are read-only.
    ``sticky`` registers keep their value over bus reset and FLR, the others return to ``reset``
    (linux-aer.md 1.2). ``only_in`` restricts it to some kinds of function; in the others it reads 0.
    """

    name: str
    width: int
    rw: int
    w1c: int
    reset: int
    sticky: bool
    kinds: tuple[str, ...]

    def __new__(
        cls,
        offset: int,
        width: int = 4,
        *,
        rw: int = 0,
        w1c: int = 0,
        reset: int = 0,
        sticky: bool = False,
    ) -> Reg:
        """Declare a register; ``__set_name__`` adds the name."""
        self = super().__new__(cls, offset)
        self.width, self.rw, self.w1c, self.reset = width, rw, w1c, reset
        self.sticky, self.kinds, self.name = sticky, (), ""
        return self

    def only_in(self, *kinds: str) -> Reg:
        """Restrict the register to functions of these kinds (``FunctionSpec.kind``); returns the register."""
        self.kinds = kinds
        return self

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def end(self) -> int:
        """Offset of the first byte behind the register."""
        return int(self) + self.width

    def exists_in(self, kind: str) -> bool:
        """Whether a function of this kind implements the register."""
        return not self.kinds or kind in self.kinds


class Layout:
    """A header or capability: its registers in order of their offsets, checked when declared.

    ``length`` is the size in bytes, ``cap_id`` the capability ID (0: a header), ``extended`` tells the two
    capability lists apart, ``version`` is that of an extended capability. Subclasses pass these as keywords.
    """

    registers: ClassVar[tuple[Reg, ...]] = ()
    length: ClassVar[int] = 0
    cap_id: ClassVar[int] = 0
    extended: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def __init_subclass__(cls, length: int, cap_id: int = 0, extended: bool = False, version: int = 1) -> None:
        """Collect and check the registers. Raises ValueError for a wrong declaration."""
        cls.registers = tuple(sorted(value for value in vars(cls).values() if isinstance(value, Reg)))
        cls.length, cls.cap_id, cls.extended, cls.version = length, cap_id, extended, version
        check(cls.__name__, cls.registers, length)


def check(owner: str, registers: tuple[Reg, ...], length: int) -> None:
    """Raise ValueError unless registers do not overlap, fit, are aligned, and have disjoint masks in their width."""
    end = 0
    for reg in registers:
        where = f"{owner}.{reg.name} at {int(reg):#x}"
        if reg.width not in (1, 2, 4) or reg % reg.width:
            raise ValueError(f"{where}: width {reg.width} or alignment is wrong")
        if reg < end or reg.end > length:
            raise ValueError(f"{where}: overlaps its neighbour or the end at {length:#x}")
        if reg.rw & reg.w1c or (reg.rw | reg.w1c | reg.reset) >> 8 * reg.width:
            raise ValueError(f"{where}: masks overlap or exceed {reg.width} bytes")
        end = reg.end
