"""The bit tables against the reference data, and the lookups by name."""

import json
from pathlib import Path

import pytest

from protocol import bits
from protocol.bits import BY_KIND, Bit, Kind, allowed_names, bits_of, find_error

REFERENCE = json.loads((Path(__file__).parent / "data" / "aer-bits.json").read_text())
KINDS: list[Kind] = ["correctable", "uncorrectable"]
ROWS = [(kind, int(number)) for kind in KINDS for number in REFERENCE[kind]["bits"]]
LOGGED = {True: (True, False), False: (False, False), "if-capable": (False, True)}


@pytest.mark.parametrize(("kind", "number"), ROWS)
def test_bit_equals_reference(kind: Kind, number: int) -> None:
    want, bit = REFERENCE[kind]["bits"][str(number)], BY_KIND[kind][number]
    assert bit.mask == int(want["mask_value"], 16)
    assert (bit.macro, bit.name) == (want["kernel_macro"], want["kernel_short_name"])
    assert (bit.inject, bit.qemu, bit.trace) == (
        want["aer_inject_keyword"],
        want["qemu_keyword"],
        want["trace_event_name"],
    )
    assert (bit.layer, bit.agent) == (want["layer"], want["agent"])
    assert (bit.header_logged, bit.header_if_capable) == LOGGED[want["header_logged"]]
    assert bit.title == want["pci_spec_name"].split(" (")[0]
    assert bit.fatal == (want["default_severity"] == "fatal")
    if want["default_masked"] is not None:
        assert bit.masked_by_default == want["default_masked"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_is_missing_or_added(kind: Kind) -> None:
    assert sorted(BY_KIND[kind]) == sorted(map(int, REFERENCE[kind]["bits"]))
    assert not set(BY_KIND[kind]) & set(REFERENCE[kind]["unnamed_bits"])


def test_defaults_derived_from_rows() -> None:
    assert int(REFERENCE["uncorrectable"]["default_severity_register"], 16) == bits.UNCOR_FATAL
    assert int(REFERENCE["uncorrectable"]["default_mask_register_qemu_11_1"], 16) == bits.UNCOR_MASKED
    assert int(REFERENCE["correctable"]["default_mask_register"], 16) == bits.COR_MASKED


@pytest.mark.parametrize(
    ("constant", "macro"),
    [
        (bits.SURPRISE_DOWN, "PCI_ERR_UNC_SURPDN"),
        (bits.COMPLETION_TIMEOUT, "PCI_ERR_UNC_COMP_TIME"),
        (bits.COMPLETER_ABORT, "PCI_ERR_UNC_COMP_ABORT"),
        (bits.UNSUPPORTED_REQUEST, "PCI_ERR_UNC_UNSUP"),
        (bits.ADVISORY_NONFATAL, "PCI_ERR_COR_ADV_NFAT"),
    ],
)
def test_named_numbers_point_at_their_rows(constant: int, macro: str) -> None:
    assert find_error(macro)[1].number == constant


@pytest.mark.parametrize(
    ("name", "kind", "number"),
    [
        ("COMP_ABORT", "uncorrectable", 15),
        ("cmpltabrt", "uncorrectable", 15),
        ("PCI_ERR_UNC_COMP_ABORT", "uncorrectable", 15),
        ("TRAIN", "uncorrectable", 0),
        ("SDN", "uncorrectable", 5),
        (" SDES ", "uncorrectable", 5),
        ("ADV_NONFATAL", "correctable", 13),
        ("AdvNonFatalErr", "correctable", 13),
        ("Rollover", "correctable", 8),
    ],
)
def test_find_error_takes_every_tools_name(name: str, kind: str, number: int) -> None:
    found, bit = find_error(name)
    assert (found, bit.number) == (kind, number)


def test_every_name_finds_its_own_row() -> None:
    for kind, table in BY_KIND.items():
        for bit in table.values():
            assert {find_error(name.lower()) for name in bit.names()} == {(kind, bit)}


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'NOPE' is not an AER error; known: RCVR, .*XLAT_BLK"):
        find_error("NOPE")


def test_allowed_names_of_one_kind() -> None:
    assert allowed_names("correctable")[:3] == ["RCVR", "BAD_TLP", "BAD_DLLP"]
    assert len(allowed_names()) == len(bits.COR) + len(bits.UNCOR)


def test_what_is_no_register_has_no_bits() -> None:
    """A journal that was tampered with may say so: it must end all the same."""
    assert list(bits_of("correctable", -1)) == []


def test_bits_of_lowest_first_and_reserved_as_none() -> None:
    found: list[tuple[int, Bit | None]] = list(bits_of("uncorrectable", 1 << 20 | 1 << 4 | 1 << 1))
    assert found == [(1, None), (4, bits.UNCOR_BY_NUMBER[4]), (20, bits.UNCOR_BY_NUMBER[20])]
