"""One run of an ``xl`` command: its arguments, its output, and the errors that all commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from hypervisor_stub.console import ERROR_INVAL, LibxlLog
from hypervisor_stub.domains import Domain
from hypervisor_stub.toolstack import Toolstack

EXIT_FAILURE = 1
EXIT_USAGE = 2  # malformed or missing arguments


class XlExitError(Exception):
    """The command ends here with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


class Call:
    """Arguments and output of one command; ``options`` maps an option letter to its value ("" for a flag)."""

    def __init__(self, toolstack: Toolstack, log: LibxlLog, cpu_seconds: Callable[[Domain | None], float]) -> None:
        self.toolstack = toolstack
        self.log = log
        self.cpu_seconds = cpu_seconds
        self.args: list[str] = []
        self.options: dict[str, str] = {}
        self.out: list[str] = []
        self.err: list[str] = []

    def print(self, line: str) -> None:
        """A line on standard output."""
        self.out.append(line)

    def complain(self, line: str) -> None:
        """A line on standard error."""
        self.err.append(line)

    def fail(self, *lines: str, code: int = EXIT_FAILURE) -> NoReturn:
        """Lines on standard error, then the end. Raises XlExitError."""
        self.err.extend(lines)
        raise XlExitError(code)

    def parse(self, argv: list[str], letters: str, least: int, usage: str) -> None:
        """Split ``argv`` (command word first) into options and arguments. Raises XlExitError(2)."""
        rest = argv[1:]
        while rest and rest[0].startswith("-") and len(rest[0]) > 1:
            self._option(rest, letters)
        self.args = rest
        if len(rest) < least:
            plural = "s" if least != 1 else ""
            self.fail(
                f"'xl {argv[0]}' requires at least {least} argument{plural}.",
                "",
                f"Usage: xl [-vfN] {argv[0]} {usage}",
                code=EXIT_USAGE,
            )

    def _option(self, rest: list[str], letters: str) -> None:
        letter, value = rest[0][1], rest.pop(0)[2:]
        at = letters.find(letter)
        if letter == ":" or at < 0:
            self.fail(f"option `{letter}' not supported.", code=EXIT_USAGE)
        if letters[at + 1 : at + 2] == ":":
            if not value and not rest:
                self.fail(f"option requires an argument -- '{letter}'", code=EXIT_USAGE)
            self.options[letter] = value or rest.pop(0)
        else:
            self.options[letter] = ""
            if value:
                rest.insert(0, f"-{value}")

    def domain_or_dom0(self, text: str) -> Domain | None:
        """The guest called ``text`` (name or number), or None for domain 0. Raises XlExitError(1)."""
        return None if text in ("0", "Domain-0") else self.domain(text)

    def domain(self, text: str) -> Domain:
        """The guest called ``text``, by name or number. Raises XlExitError(1)."""
        domain = self.toolstack.machine.domains.find(text)
        if domain is None:
            self.fail(f"{text} is an invalid domain identifier (rc={ERROR_INVAL})")
        return domain
