"""A small coverage-guided fuzzer: mutates inputs, keeps those that reach a line of ours which none reached before.

No more than the standard library, so that it runs wherever the tests do: lines are counted with ``sys.settrace``, for
the project's own files alone. The decoders themselves are compiled; new in them is a new kind of refusal.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import msgpack

ROOT = str(Path(__file__).resolve().parents[2])
OURS = tuple(f"{ROOT}/{name}/" for name in ("protocol", "kernel_stub", "hypervisor_stub", "dom0_pciback"))
CORPUS = Path(__file__).parent / "corpus"
INPUT_MAX = 8192  # bytes; longer inputs are cut, what a link takes at most is tested elsewhere
SMALL = (0, 1, 2, 3, 7, 31, 32, 127, 128, 255, 256, 571, 572, 4095, 4096, 0x7FFF, 0xFFFF, 1 << 31, (1 << 32) - 1)
NUMBERS = (*SMALL, 1 << 53, (1 << 64) - 1, -1, -(1 << 31), -(1 << 63))
VALUES: tuple[Any, ...] = (None, True, False, "", b"", "x" * 40, b"\0" * 572, 1.5, float("nan"), (), {}, ((1,),))

Target = Callable[[bytes], str]  # takes an input; the answer is the kind of its outcome


class Coverage:
    """Lines of ours that have been reached."""

    def __init__(self) -> None:
        self.seen: set[Any] = set()
        self._new = False
        self._codes: dict[CodeType, bool] = {}

    def run(self, target: Target, raw: bytes) -> bool:
        """Run one input; True if it has reached something new."""
        self._new = False
        sys.settrace(self._call)
        try:
            kind = target(raw)
        finally:
            sys.settrace(None)
        if kind not in self.seen:
            self.seen.add(kind)
            self._new = True
        return self._new

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        ours = self._codes.get(code)
        if ours is None:
            ours = self._codes[code] = code.co_filename.startswith(OURS)
        return self._line if ours else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        place = (frame.f_code, frame.f_lineno)
        if place not in self.seen:
            self.seen.add(place)
            self._new = True
        return self._line


class Mutator:
    """Makes new inputs of old ones, as bytes and as msgpack values."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def mutate(self, inputs: list[bytes]) -> bytes:
        """One new input."""
        draw = self.random
        raw = draw.choice(inputs)
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            raw = draw.choice((self._bytes, self._value, self._value, self._splice))(raw, inputs)
        return raw[:INPUT_MAX]

    def _bytes(self, raw: bytes, inputs: list[bytes]) -> bytes:
        draw, data = self.random, bytearray(raw)
        at = draw.randrange(len(data) + 1)
        way = draw.randrange(4)
        if way == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif way == 1:
            data[at:at] = draw.randbytes(draw.choice((1, 2, 4, 8, 100)))
        elif way == 2:
            del data[at : at + draw.choice((1, 2, 8, 64))]
        else:
            data[at:] = b""
        return bytes(data)

    def _splice(self, raw: bytes, inputs: list[bytes]) -> bytes:
        other = self.random.choice(inputs)
        return raw[: self.random.randrange(len(raw) + 1)] + other[self.random.randrange(len(other) + 1) :]

    def _value(self, raw: bytes, inputs: list[bytes]) -> bytes:
        """Change one value inside a message; a wrong message is returned as it is."""
        try:
            packed: bytes = msgpack.packb(self._change(msgpack.unpackb(raw, use_list=False), 0))
        except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException):
            return raw
        return packed

    def _change(self, value: Any, depth: int) -> Any:
        draw = self.random
        if isinstance(value, tuple) and value and (depth == 0 or draw.random() < 0.8):
            items = list(value)
            at = draw.randrange(len(items))
            way = draw.random()
            if way < 0.1:
                del items[at]
            elif way < 0.2:
                items.insert(at, items[draw.randrange(len(items))])
            else:
                items[at] = self._change(items[at], depth + 1)
            return tuple(items)
        if isinstance(value, bool) or draw.random() < 0.15:
            return draw.choice(VALUES)
        if isinstance(value, int):
            return draw.choice((*NUMBERS, value + 1, value - 1, value ^ 1 << draw.randrange(32)))
        if isinstance(value, bytes):
            return self._bytes(value, [])
        if isinstance(value, str):
            return draw.choice((value + "/", value[1:], value * 3, "../" + value, draw.choice("0-:@\0\u0660") + value))
        return draw.choice((*VALUES, draw.choice(NUMBERS)))


class Fuzzer:
    """One target with its corpus."""

    def __init__(self, name: str, target: Target, seeds: list[bytes], seed: int) -> None:
        self.name = name
        self.target = target
        self.coverage = Coverage()
        self.mutator = Mutator(seed)
        self.inputs: list[bytes] = []
        self.found: list[bytes] = []  # inputs that were not in the corpus and reached something new
        for raw in [*seeds, *self.corpus()]:
            self.coverage.run(target, raw)
            self.inputs.append(raw)

    def corpus(self) -> list[bytes]:
        """The inputs that earlier runs have kept: lines of hexadecimal digits."""
        path = CORPUS / f"{self.name}.txt"
        return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []

    def run(self, count: int) -> None:
        """Try ``count`` new inputs. What a target raises is a finding, and its input is told with it."""
        for _ in range(count):
            raw = self.mutator.mutate(self.inputs)
            try:
                new = self.coverage.run(self.target, raw)
            except Exception as error:
                error.add_note(f"target {self.name}, input {raw!r}")
                raise
            if new:
                self.inputs.append(raw)
                self.found.append(raw)

    def save(self) -> None:
        """Keep what was found."""
        CORPUS.mkdir(exist_ok=True)
        lines = sorted({raw.hex() for raw in (*self.corpus(), *self.found)}, key=lambda line: (len(line), line))
        (CORPUS / f"{self.name}.txt").write_text("".join(f"{line}\n" for line in lines))
        self.found.clear()
