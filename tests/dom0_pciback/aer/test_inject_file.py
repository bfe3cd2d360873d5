"""The aer-inject language (linux-aer.md 9.2)."""

from __future__ import annotations

import pytest

from dom0_pciback.aer.inject_file import COR_KEYWORDS, UNCOR_KEYWORDS, Injection, InjectSyntaxError, parse, records
from protocol.ids import Sbdf

ZERO = Sbdf(0, 0, 0, 0)

EXAMPLES = [
    ("AER COR_STATUS 0x2 HEADER_LOG 0 1 2 3", [Injection(ZERO, 2, 0, (0, 1, 2, 3))]),
    ("aer\ncor_status rcvr\nheader_log 0 1 2 3\n", [Injection(ZERO, 1, 0, (0, 1, 2, 3))]),
    ("AER\nCOR_STATUS BAD_DLLP REP_ROLL\nHEADER_LOG 010 0x9 0xa 0xB\n", [Injection(ZERO, 0x180, 0, (8, 9, 10, 11))]),
    ("AER\nBUS 0 DEV 0 FN 2\nCOR_STATUS BAD_TLP\n", [Injection(Sbdf(0, 0, 0, 2), 0x40, 0, (0, 0, 0, 0))]),
    ("AER COR BAD_TLP UNCOR COMP_ABORT", [Injection(ZERO, 0x40, 0x8000, (0, 0, 0, 0))]),
    (
        "AER COR BAD_TLP AER UNCOR COMP_ABORT",
        [Injection(ZERO, 0x40, 0, (0, 0, 0, 0)), Injection(ZERO, 0, 0x8000, (0, 0, 0, 0))],
    ),
    ("AER PCI_ID 0001:02:03.4 UNCORRECTABLE DLP 0x20", [Injection(Sbdf(1, 2, 3, 4), 0, 0x30, (0, 0, 0, 0))]),
    ("AER ID 02:1f.7 COR", [Injection(Sbdf(0, 2, 0x1F, 7), 0, 0, (0, 0, 0, 0))]),
    ("AER DOMAIN 5 BUS 1 DEV 2 FN 3 HL 1 2 3 4", [Injection(Sbdf(5, 1, 2, 3), 0, 0, (1, 2, 3, 4))]),
    ("AER COR RCVR COR BAD_TLP", [Injection(ZERO, 0x40, 0, (0, 0, 0, 0))]),  # a second list replaces
    ("# nothing\n", []),
    ("", []),
    ("AER UNCOR 0x1ffffffff", [Injection(ZERO, 0, 0xFFFFFFFF, (0, 0, 0, 0))]),  # kept in 32 bits
]


@pytest.mark.parametrize(("text", "wanted"), EXAMPLES)
def test_9_2_examples(text: str, wanted: list[Injection]) -> None:
    assert parse(text) == wanted


ERRORS = [
    ("AER COR FOO", "f:0: syntax error at 'FOO'"),
    ("COR RCVR", "f:0: syntax error at 'COR'"),
    ("AER\n", "f:1: syntax error at 'end of file'"),
    ("AER COR 1\nUNCOR 2\nHL 1 2 3\n", "f:3: syntax error at 'end of file'"),
    ("# a comment\nAER BUS 1 DEV 2\n", "f:1: syntax error at 'end of file'"),  # the comment is not counted
    ("AER COR 1 # open", "f:0: Unrecognized character '#'"),
    ("AER { COR 1 }", "f:0: syntax error at '{'"),
    ("AER COR SDES", "f:0: syntax error at 'SDES'"),  # bit 5 has no word
    ("AER UNCOR RCVR", "f:0: syntax error at 'RCVR'"),
    ("AER PCI_ID 12", "f:0: syntax error at '12'"),
    ("AER COR 1 ;", "f:0: Unrecognized character ';'"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_9_2_errors_name_file_and_line(text: str, message: str) -> None:
    with pytest.raises(InjectSyntaxError) as caught:
        parse(text, "f")
    assert str(caught.value) == message


def test_9_2_an_impossible_address_is_named() -> None:
    with pytest.raises(InjectSyntaxError, match=r"^f:0: '00:20\.0'"):
        parse("AER ID 00:20.0", "f")


def test_9_2_records_before_an_error_are_delivered() -> None:
    stream = records("AER COR 1\nAER COR 2\nAER FOO\n", "f")
    assert [next(stream).cor, next(stream).cor] == [1, 2]
    with pytest.raises(InjectSyntaxError, match=r"^f:2: "):
        next(stream)


def test_9_2_keyword_values() -> None:
    assert COR_KEYWORDS == {"RCVR": 1, "BAD_TLP": 0x40, "BAD_DLLP": 0x80, "REP_ROLL": 0x100, "REP_TIMER": 0x1000}
    assert UNCOR_KEYWORDS == {
        "TRAIN": 0x1, "DLP": 0x10, "POISON_TLP": 0x1000, "FCP": 0x2000, "COMP_TIME": 0x4000, "COMP_ABORT": 0x8000,
        "UNX_COMP": 0x10000, "RX_OVER": 0x20000, "MALF_TLP": 0x40000, "ECRC": 0x80000, "UNSUP": 0x100000,
    }  # fmt: skip
