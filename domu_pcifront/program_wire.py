"""What a guest and an external program that is its driver say to one another (``docs/DRIVERS.md``): lines of text.

The guest says ``hello``, ``probe``, ``transfer 4``, ...: a call. The program answers with requests, one line each
(``domu_pcifront.program_verbs``), and at last ends the call with ``OK [VALUE]`` or ``FAIL TEXT``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from kernel_stub.places import PlacedError
from protocol.ers import ErsResult, Phase
from protocol.limits import PROGRAM_LINE

VERSION = 1
PREFIX = "program:"  # of a driver's name in host and campaign files
FORMS = "program:./FILE (beside the file that names it), program:/FILE, or program:NAME (on PATH), with arguments"
OK, FAIL = "OK", "FAIL"
SHOWN = 80  # characters of a wrong line that a message repeats

NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|-?[0-9]+")
DIGITS_MAX = 32  # of a number, so that nobody has to read a longer one
PLAIN = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")  # what stands for itself in the value of an option
HELLO_FORM = f"{OK} name=NAME [handlers=HANDLER,...], handlers: {', '.join(Phase)}"


class ProgramError(PlacedError):
    """The driver's own program has failed in a call: it said so, or it broke the rules, or it is gone."""


class ProgramGoneError(Exception):
    """The program has ended, or was ended; the text says how, as the end of a sentence about it."""


class Program(Protocol):
    """A running program, as ``device.Machine`` gives it."""

    def exchange(self, line: str) -> str:
        """Say a line and wait for one, however long that takes. Raises ProgramGoneError."""

    def leave(self) -> None:
        """It is not needed any more: it may end by itself, and is gone when this returns."""

    def close(self) -> None:
        """SIGKILL. A second time it does nothing."""


class Greeting(NamedTuple):
    """What a program has said of itself."""

    name: str
    handlers: frozenset[Phase]


Read = Callable[[str], Any]  # the value behind OK; raises ValueError with what is allowed


def words_of(name: str) -> list[str]:
    """The words of the command in a driver's name, quotes as in a shell. Raises ValueError."""
    try:
        words = shlex.split(name.removeprefix(PREFIX))
    except ValueError as error:
        raise ValueError(f"guest driver {name!r}: {str(error).lower()}; allowed: {FORMS}") from None
    if not words or not words[0]:
        raise ValueError(f"guest driver {name!r} names no program; allowed: {FORMS}")
    return words


def shown(line: str) -> str:
    """A wrong line for a message: in quotes, and not too much of it."""
    return repr(line if len(line) <= SHOWN else f"{line[:SHOWN]}...")


def too_long(begin: str) -> str:
    """The end of a sentence about a program that wrote a line without end; ``begin`` is how it begins."""
    return f"wrote a line of more than {PROGRAM_LINE} bytes, {shown(begin)}; allowed: {PROGRAM_LINE} and a line feed"


def number(text: str) -> int:
    """A number, decimal or with 0x. Raises ValueError."""
    if not NUMBER.fullmatch(text) or len(text) > DIGITS_MAX:
        raise ValueError("a whole number, decimal or with 0x")
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


# -- what the guest says -----------------------------------------------------------------------------
def hello(device: str, options: Mapping[str, Any]) -> str:
    """The greeting: version, the guest's name of the device, options. What is no plain character is ``%XX``."""
    given = "".join(f" {key}={_value(value)}" for key, value in options.items())
    return f"hello {VERSION} device={device}{given}"


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else quote(str(value), safe=PLAIN)


def option_problems(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options of a program in a host file; a text for each mistake."""
    texts = []
    for key, value in options.items():
        if not OPTION.fullmatch(key) or key == "device":
            texts.append(f"option {key!r} cannot be given to a program; allowed: letters, digits, _ . -; not 'device'")
        elif not isinstance(value, bool | int | float | str):
            texts.append(f"option {key}: {value!r} is not a text, a number, true or false")
    if not texts and len(hello("0000:00:00.0", options)) > PROGRAM_LINE:
        texts.append(f"the options are longer than a line may be; allowed: {PROGRAM_LINE} bytes")
    return texts


# -- what the program says ---------------------------------------------------------------------------
def nothing(text: str) -> None:
    """``OK`` alone."""
    if text:
        raise ValueError(OK)


def vote(text: str) -> int:
    """``OK VOTE``: a name of ErsResult, or any number (FE-25)."""
    if text in ErsResult.__members__:
        return int(ErsResult[text])
    try:
        return number(text)
    except ValueError:
        raise ValueError(f"{OK} VOTE, a number or one of {', '.join(ErsResult.__members__)}") from None


def verified(asked: int) -> Read:
    """``OK COUNT``, from 0 to ``asked``; ``OK`` alone is 0: no data path."""

    def read(text: str) -> int:
        try:
            count = number(text or "0")
        except ValueError:
            count = -1
        if not 0 <= count <= asked:
            raise ValueError(f"{OK} COUNT, from 0 to {asked}")
        return count

    return read


def greeting(text: str) -> Greeting:
    """``OK name=NAME handlers=error_detected,...``; a handler that is not named is missing."""
    found = dict(word.partition("=")[::2] for word in text.split())
    handlers = [item for item in found.get("handlers", "").split(",") if item]
    wrong = [item for item in handlers if item not in list(Phase)]
    if found.keys() - {"name", "handlers"} or wrong or not NAME.fullmatch(found.get("name", "")):
        raise ValueError(HELLO_FORM)
    return Greeting(found["name"], frozenset(map(Phase, handlers)))
