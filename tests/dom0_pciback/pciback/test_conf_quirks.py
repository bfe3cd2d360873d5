"""The syntax of quirks (xen-pci.md 6.7)."""

from __future__ import annotations

import pytest

from dom0_pciback.pciback.conf_quirks import Quirk, parse_quirk
from protocol.ids import Sbdf


def test_a_quirk_names_device_register_size_and_mask() -> None:
    assert parse_quirk("0000:03:00.1-4c:2:00ff\n") == Quirk(Sbdf(0, 3, 0, 1), 0x4C, 2, 0xFF)


@pytest.mark.parametrize(
    "text",
    ["", "0000:03:00.1-4c:2", "03:00.1-4c:3:ff", "03:00.1-1000:4:0", "03:00.1-4c:1:100", "03:00.1-4d:2:0", "x-4c:1:0"],
)
def test_a_wrong_quirk_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"quirk|size|register|mask|PCI address"):
        parse_quirk(text)
