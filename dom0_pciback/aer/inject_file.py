"""The input language of ``aer-inject`` (linux-aer.md 9.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from protocol.bits import COR, UNCOR
from protocol.ids import Sbdf, devfn

COR_KEYWORDS = {bit.inject: bit.mask for bit in COR if bit.inject}
UNCOR_KEYWORDS = {bit.inject: bit.mask for bit in UNCOR if bit.inject}

_TOKEN = re.compile(
    r"(?P<comment>#[^\n]*\n)|(?P<newline>\n)|(?P<blank>[ \t\r]+)"
    r"|(?P<id>(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])"
    r"|(?P<number>0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)|(?P<word>[a-z_][a-z0-9_]*)|(?P<mark>[:{}<>])",
    re.IGNORECASE,
)


class InjectSyntaxError(ValueError):
    """The text is not in the language; printed as ``<file>:<line>: <message>``."""


class Injection(NamedTuple):
    """One record: where, Correctable and Uncorrectable Error Status bits, four header log dwords (32 bits each)."""

    sbdf: Sbdf
    cor: int
    uncor: int
    header: tuple[int, int, int, int]


class Token(NamedTuple):
    """A word of the input; ``kind`` is a group of the token pattern, or ``end``. Line numbers start at 0."""

    kind: str
    text: str
    line: int


class _Record:
    """A record under construction; all zero at the start."""

    __slots__ = ("cor", "header", "sbdf", "uncor")

    def __init__(self) -> None:
        self.sbdf = Sbdf(0, 0, 0, 0)
        self.cor = self.uncor = 0
        self.header = (0, 0, 0, 0)

    def finished(self) -> Injection:
        return Injection(self.sbdf, self.cor, self.uncor, self.header)


def parse(text: str, filename: str = "<stdin>") -> list[Injection]:
    """All records of ``text``. Raises InjectSyntaxError."""
    return list(records(text, filename))


def records(text: str, filename: str = "<stdin>") -> Iterator[Injection]:
    """The records one by one: those before an error are delivered before InjectSyntaxError is raised."""
    parser = _Parser(tokens(text, filename), filename)
    while parser.token.kind != "end":
        yield parser.record()


def tokens(text: str, filename: str) -> Iterator[Token]:
    """Cut into words. Comment lines are not counted, a comment must end in a newline (9.2)."""
    line = position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InjectSyntaxError(f"{filename}:{line}: Unrecognized character '{text[position]}'")
        position = match.end()
        kind = match.lastgroup or ""
        if kind == "newline":
            line += 1
        elif kind not in ("comment", "blank"):
            yield Token(kind, match[0], line)
    yield Token("end", "end of file", line)


class _Parser:
    """One token of lookahead over the grammar of 9.2; one method per rule."""

    def __init__(self, source: Iterator[Token], filename: str) -> None:
        self._source = source
        self._filename = filename
        self.token = next(source)

    def record(self) -> Injection:
        """``"AER" , term , { term }``."""
        self._keyword("AER")
        record = _Record()
        self._term(record)
        while self.token.kind == "word" and self.token.text.upper() in _TERMS:
            self._term(record)
        if self.token.kind != "end" and self.token.text.upper() != "AER":
            raise self._error()
        return record.finished()

    def _term(self, record: _Record) -> None:
        rule = _TERMS.get(self.token.text.upper())
        if rule is None:
            raise self._error()
        rule(self, record)

    def cor(self, record: _Record) -> None:
        """``cor , { cor-item }``; replaces an earlier list."""
        record.cor = self._items(COR_KEYWORDS)

    def uncor(self, record: _Record) -> None:
        """``uncor , { uncor-item }``; replaces an earlier list."""
        record.uncor = self._items(UNCOR_KEYWORDS)

    def place(self, record: _Record) -> None:
        """``[ "DOMAIN" , num ] , "BUS" , num , "DEV" , num , "FN" , num``; without DOMAIN it is 0."""
        domain = 0
        if self.token.text.upper() == "DOMAIN":
            domain = self._keyword_number("DOMAIN")
        bus, device, function = (self._keyword_number(word) for word in ("BUS", "DEV", "FN"))
        record.sbdf = Sbdf.from_rid((bus & 0xFF) << 8 | devfn(device & 0x1F, function & 7), domain)

    def address(self, record: _Record) -> None:
        """``id , pci-id``."""
        self._next()
        if self.token.kind != "id":
            raise self._error()
        try:
            record.sbdf = Sbdf.parse(self._next().text)
        except ValueError as error:
            raise InjectSyntaxError(f"{self._filename}:{self.token.line}: {error}") from None

    def header(self, record: _Record) -> None:
        """``hdr , num , num , num , num``."""
        self._next()
        record.header = (self._number(), self._number(), self._number(), self._number())

    def _items(self, keywords: dict[str, int]) -> int:
        """Keywords and numbers OR-ed together; an empty list is 0."""
        self._next()
        bits = 0
        while True:
            if self.token.kind == "number":
                bits |= self._number()
            elif self.token.text.upper() in keywords:
                bits |= keywords[self._next().text.upper()]
            else:
                return bits

    def _keyword(self, word: str) -> None:
        if self.token.text.upper() != word:
            raise self._error()
        self._next()

    def _keyword_number(self, word: str) -> int:
        self._keyword(word)
        return self._number()

    def _number(self) -> int:
        """C notation (``0x`` hexadecimal, leading ``0`` octal), kept in 32 bits."""
        if self.token.kind != "number":
            raise self._error()
        text = self._next().text.lower()
        base = 16 if text.startswith("0x") else 8 if text.startswith("0") else 10
        return int(text, base) & 0xFFFFFFFF

    def _next(self) -> Token:
        token, self.token = self.token, next(self._source, self.token)
        return token

    def _error(self) -> InjectSyntaxError:
        token = self.token
        return InjectSyntaxError(f"{self._filename}:{token.line}: syntax error at {token.text!r}")


_TERMS: dict[str, Callable[[_Parser, _Record], None]] = {
    "UNCOR_STATUS": _Parser.uncor,
    "UNCOR": _Parser.uncor,
    "UNCORRECTABLE": _Parser.uncor,
    "COR_STATUS": _Parser.cor,
    "COR": _Parser.cor,
    "CORRECTABLE": _Parser.cor,
    "DOMAIN": _Parser.place,
    "BUS": _Parser.place,
    "PCI_ID": _Parser.address,
    "ID": _Parser.address,
    "HEADER_LOG": _Parser.header,
    "HL": _Parser.header,
}
