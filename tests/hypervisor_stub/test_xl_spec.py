"""BDF and PCI_SPEC_STRING of xen-pci.md 9.1."""

from __future__ import annotations

from typing import Any

import pytest

from hypervisor_stub.xl_spec import PciSpec, SpecError, atoi, parse_bdf, parse_spec
from protocol.ids import Sbdf

CARD = Sbdf(0, 3, 0, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("03:00.0", (CARD, 0)),
        ("0000:03:00.0", (CARD, 0)),
        ("ffff:ff:1f.7", (Sbdf(0xFFFF, 0xFF, 0x1F, 7), 0)),
        ("3:0.0", (CARD, 0)),
        ("03:00.*", (CARD, 0xFF)),
    ],
)
def test_bdf_accepted(text: str, expected: tuple[Sbdf, int]) -> None:
    assert parse_bdf(text) == expected


@pytest.mark.parametrize(
    "text", ["", "03:20.0", "03:00.8", "10000:03:00.0", "100:00.0", "03:00", "g3:00.0", "03:00.0 "]
)
def test_bdf_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_bdf(text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("03:00.0", {}),
        ("03:00.0,", {}),
        ("03:00.0@1f", {"vdevfn": 0xF8}),
        ("03:00.0@3,permissive=1", {"vdevfn": 0x18, "permissive": 1}),
        ("bdf=03:00.0,vslot=2", {"vdevfn": 0x10}),
        ("03:00.0,permissive=yes", {"permissive": 0}),
        ("03:00.0,seize= 7x", {"seize": 7}),
        ("03:00.0,msitranslate=1,power_mgmt=1", {"msitranslate": 1, "power_mgmt": 1}),
        ("03:00.0,rdm_policy=relaxed", {"rdm_policy": "relaxed"}),
        ("name=nic0,seize=1", {"bdf": None, "name": "nic0", "seize": 1}),
    ],
)
def test_spec_accepted(text: str, fields: dict[str, Any]) -> None:
    expected = PciSpec(bdf=CARD)
    for name, value in fields.items():
        setattr(expected, name, value)
    assert parse_spec(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ""),
        (",", ""),
        ("permissive=1", ""),
        ("03:00.0,name=nic0", ""),
        ("03:00.0@20", ""),
        ("03:00.0,vslot=", ""),
        ("nonsense", ""),
        ("03:00.0,,permissive=1", ""),
        ("03:00.0,rdm_policy=lax", ""),
        ("name=", ""),
        ("03:00.0,colour=red", "Unknown PCI_SPEC_STRING option: colour"),
    ],
)
def test_spec_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(("text", "value"), [("12", 12), ("-3x", -3), (" +4", 4), ("", 0), ("abc", 0)])
def test_atoi(text: str, value: int) -> None:
    assert atoi(text) == value


def test_opts_text() -> None:
    assert PciSpec(permissive=1).opts == "msitranslate=0,power_mgmt=0,permissive=1,rdm_policy=strict"
