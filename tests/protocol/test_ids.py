"""protocol.ids: SBDF syntax, limits, order, Requester ID."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import Sbdf, devfn

SBDFS = st.builds(Sbdf, st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000:03:00.1", Sbdf(0, 3, 0, 1)),
        ("03:00.1", Sbdf(0, 3, 0, 1)),
        ("3:0.1", Sbdf(0, 3, 0, 1)),
        ("0:3:0.0", Sbdf(0, 3, 0, 0)),
        ("ABCD:fF:1f.7", Sbdf(0xABCD, 0xFF, 0x1F, 7)),
        ("  0000:03:00.1\n", Sbdf(0, 3, 0, 1)),
    ],
)
def test_bus_16_short_forms_are_equal(text: str, expected: Sbdf) -> None:
    assert Sbdf.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "03", "03:00", "0000:03:00", "03:00.8", "03:20.0", "03:00.10", "103:00.0", "10000:03:00.0",
        "0000:03:00.1 x", "03:00.-1", "0x03:00.0", "03:00,1", "g3:00.0", "03::00.0", "0000:03:00.a", "\u0663:0.0",
    ],
)  # fmt: skip
def test_wrong_addresses_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError) as failure:
        Sbdf.parse(text)
    assert repr(text) in str(failure.value)


@given(SBDFS)
def test_text_and_requester_id_lead_back(sbdf: Sbdf) -> None:
    assert Sbdf.parse(str(sbdf)) == sbdf
    assert Sbdf.from_rid(sbdf.rid, sbdf.segment) == sbdf
    assert sbdf.rid == sbdf.bus << 8 | sbdf.devfn
    assert sbdf.devfn == devfn(sbdf.device, sbdf.function)
    assert sbdf.rid <= 0xFFFF


def test_order_is_that_of_enumeration() -> None:
    texts = ["0001:00:00.0", "0000:10:00.0", "0000:02:1f.7", "0000:02:03.1", "0000:02:03.0"]
    assert [str(sbdf) for sbdf in sorted(map(Sbdf.parse, texts))] == texts[::-1]
