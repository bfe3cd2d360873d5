"""The walk through the capability lists of a configuration space, and what the space tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.capabilities import CapabilityError, capabilities
from protocol.config_image import describe, kind_of, read_image


def space(*parts: tuple[int, str], size: int = 4096) -> bytes:
    data = bytearray(size)
    for offset, text in parts:
        piece = bytes.fromhex(text)
        data[offset : offset + len(piece)] = piece
    return bytes(data)


LIST = (0x06, "1000")


@pytest.mark.parametrize(
    ("image", "want"),
    [
        (space(), []),
        (space((0x34, "40"), (0x40, "0100")), []),  # Status does not say that there is a list
        (space(LIST), []),
        (space(LIST, (0x34, "40"), (0x40, "0500")), [(5, 0x40, 0x100)]),
        (space(LIST, (0x34, "83"), (0x80, "0143"), (0x40, "0500")), [(1, 0x80, 0x100), (5, 0x40, 0x80)]),
        (space(LIST, (0x34, "40"), (0x40, "0510")), [(5, 0x40, 0x100)]),  # into the header
        (space(LIST, (0x34, "40"), (0x40, "ff50")), []),
        (space((0x100, "01000214"), (0x140, "03000100")), [(1, 0x100, 0x140), (3, 0x140, 0x1000)]),
        (space((0x100, "ffffffff")), []),
        (space((0x100, "01000230"), size=0x200), [(1, 0x100, 0x1000)]),  # the next one is not in the image
        (space(LIST, (0x34, "40"), size=0x40), []),
    ],
)
def test_walk(image: bytes, want: list[tuple[int, int, int]]) -> None:
    assert [found[:3] for found in capabilities(image)] == want


@pytest.mark.parametrize(
    ("image", "offset", "words"),
    [
        (space(LIST, (0x34, "40"), (0x40, "0140")), 0x41, "0x41 leads back to 0x40"),
        (space(LIST, (0x34, "40"), (0x40, "0150"), (0x50, "0540")), 0x51, "0x51 leads back to 0x40"),
        (space((0x100, "01000210")), 0x100, "0x100 leads back to 0x100"),
    ],
)
def test_a_loop_has_a_place(image: bytes, offset: int, words: str) -> None:
    with pytest.raises(CapabilityError, match=words) as caught:
        capabilities(image)
    assert caught.value.offset == offset


@given(st.binary(min_size=64, max_size=512))
def test_any_bytes_are_described_or_a_loop(image: bytes) -> None:
    try:
        found = capabilities(image)
    except CapabilityError:
        return
    assert kind_of(image, found) is None or describe(image, found)["vendor"] == image[0] | image[1] << 8
    assert all(cap.offset < cap.end for cap in found)


def test_names() -> None:
    found = capabilities(space(LIST, (0x34, "40"), (0x40, "7f00"), (0x100, "1d000111"), (0x110, "ee0f0100")))
    names = ["capability 0x7f", "Downstream Port Containment", "extended capability 0xfee"]
    assert [cap.name for cap in found] == names


@pytest.mark.parametrize(("text", "words"), [("00", "1 bytes; allowed: 64 to 4096"), ("0" * 129, "odd number")])
def test_sizes_of_images(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_image(text)


@pytest.mark.parametrize(
    ("header", "express", "kind"),
    [
        ("00", "", "endpoint"), ("00", "0200", "endpoint"), ("80", "1200", "endpoint"), ("00", "9200", "rciep"),
        ("00", "a200", "event_collector"), ("01", "4201", "root_port"), ("81", "5200", "upstream_port"),
        ("01", "6201", "downstream_port"), ("01", "7200", "pcie_pci_bridge"), ("01", "8200", None), ("01", "", None),
        ("01", "0200", None), ("00", "4200", None), ("02", "", None),
    ],
)  # fmt: skip
def test_kinds(header: str, express: str, kind: str | None) -> None:
    parts = [LIST, (0x34, "40"), (0x40, f"1000 {express}")] if express else []
    image = space((0x0E, header), *parts)
    assert kind_of(image, capabilities(image)) == kind
