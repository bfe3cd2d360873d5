"""A short run of the fuzzer, with the corpus of the long ones (scripts/fuzz): no crash, no growth."""

from __future__ import annotations

import pytest

from protocol.codec import Decoder, ProtocolError
from tests.fuzz.engine import Coverage, Fuzzer
from tests.fuzz.run import run
from tests.fuzz.targets import TARGETS

INPUTS = 20_000  # over all targets


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str) -> None:
    run(name, INPUTS * TARGETS[name].share // 100, seed=2)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_corpus(name: str) -> None:
    assert Fuzzer(name, lambda raw: "", [], 1).inputs


def test_a_fault_is_found_and_told_with_its_input() -> None:
    """The engine is able to fail: a decoder with a fault behind a condition that only mutation reaches."""

    def faulty(raw: bytes) -> str:
        try:
            message = Decoder({"go": (int,)}).decode(raw)
        except ProtocolError:
            return "no"
        if message[2] > 1 << 40:
            raise OverflowError(message[2])
        return "yes"

    with pytest.raises(OverflowError) as caught:
        Fuzzer("no such corpus", faulty, [b"\x93\xa2go\x00\x01"], 1).run(20_000)
    assert "input b'" in caught.value.__notes__[0]


def test_new_lines_of_ours_are_noticed() -> None:
    coverage = Coverage()
    decode = Decoder({"go": (int,)}).decode

    def target(raw: bytes) -> str:
        try:
            decode(raw)
        except ProtocolError:
            return ""
        return ""

    assert coverage.run(target, b"\xc1")
    assert not coverage.run(target, b"\xc1")
    assert coverage.run(target, b"\x93\xa2go\x00\x01")
