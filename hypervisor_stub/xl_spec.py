"""How ``xl`` writes PCI devices: BDF and PCI_SPEC_STRING. Source: xen-pci.md 9.1. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from protocol.ids import Sbdf

_BDF = re.compile(
    r"(?:(?P<seg>[0-9a-fA-F]{1,4}):)?(?P<bus>[0-9a-fA-F]{1,2}):"
    r"(?P<dev>[0-9a-fA-F]{1,2})\.(?P<fn>[0-7]|\*)"
)
_HEX = re.compile(r"(?:0[xX])?[0-9a-fA-F]+")
_ATOI = re.compile(r"\s*([+-]?\d+)")
ALL_FUNCTIONS = 0xFF
SLOT_MAX = 0x1F


class SpecError(ValueError):
    """The text is malformed; ``str()`` is a line for the operator, or empty if there is none."""


@dataclass(slots=True)
class PciSpec:
    """A parsed device specification. ``function_mask`` is 0xff for ``.*``; ``vdevfn`` 0 means no slot given."""

    bdf: Sbdf | None = None
    function_mask: int = 0
    vdevfn: int = 0
    permissive: int = 0
    msitranslate: int = 0
    seize: int = 0
    power_mgmt: int = 0
    rdm_policy: str = "strict"
    name: str = ""

    @property
    def opts(self) -> str:
        """The text of ``opts-N`` (xen-pci.md 2.2)."""
        return (
            f"msitranslate={self.msitranslate},power_mgmt={self.power_mgmt},"
            f"permissive={self.permissive},rdm_policy={self.rdm_policy}"
        )


def atoi(text: str) -> int:
    """As C ``atoi``: leading blanks, a sign, digits; anything else is 0."""
    match = _ATOI.match(text)
    return int(match[1]) if match else 0


def parse_bdf(text: str) -> tuple[Sbdf, int]:
    """``[DDDD:]BB:SS.F`` to (address, function mask): ``F`` = ``*`` gives function 0 and mask 0xff.

    Raises SpecError. The limits are domain 0xffff, bus 0xff, slot 0x1f, function 7.
    """
    match = _BDF.fullmatch(text)
    if match is None or int(match["dev"], 16) > SLOT_MAX:
        raise SpecError("")
    whole = match["fn"] == "*"
    fn = 0 if whole else int(match["fn"])
    bdf = Sbdf(int(match["seg"] or "0", 16), int(match["bus"], 16), int(match["dev"], 16), fn)
    return bdf, ALL_FUNCTIONS if whole else 0


def _set_bdf(spec: PciSpec, text: str) -> None:
    spec.bdf, spec.function_mask = parse_bdf(text)


def _set_vslot(spec: PciSpec, text: str) -> None:
    if not _HEX.fullmatch(text) or int(text, 16) > SLOT_MAX:
        raise SpecError("")
    spec.vdevfn = int(text, 16) << 3


def _set_rdm_policy(spec: PciSpec, text: str) -> None:
    if text not in ("strict", "relaxed"):
        raise SpecError("")
    spec.rdm_policy = text


def _set_name(spec: PciSpec, text: str) -> None:
    if not text:
        raise SpecError("")
    spec.name = text


def _set_integer(field: str) -> Callable[[PciSpec, str], None]:
    return lambda spec, text: setattr(spec, field, atoi(text))


KEYS: dict[str, Callable[[PciSpec, str], None]] = {
    "bdf": _set_bdf,
    "vslot": _set_vslot,
    "permissive": _set_integer("permissive"),
    "msitranslate": _set_integer("msitranslate"),
    "seize": _set_integer("seize"),
    "power_mgmt": _set_integer("power_mgmt"),
    "rdm_policy": _set_rdm_policy,
    "name": _set_name,
}


def _positional(spec: PciSpec, text: str) -> None:
    bdf, at, vslot = text.partition("@")
    _set_bdf(spec, bdf)
    if at:
        _set_vslot(spec, vslot)


def _key_value(spec: PciSpec, text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise SpecError("")
    if key not in KEYS:
        raise SpecError(f"Unknown PCI_SPEC_STRING option: {key}")
    KEYS[key](spec, value)


def parse_spec(text: str) -> PciSpec:
    """``[<bdf>[@<vslot>],][<key>=<value>,...]``: exactly one of bdf and name must be there.

    A trailing comma is accepted. Raises SpecError.
    """
    spec = PciSpec()
    items = text.split(",")
    if items[-1] == "":
        items.pop()
    for number, item in enumerate(items):
        if number == 0 and "=" not in item:
            _positional(spec, item)
        else:
            _key_value(spec, item)
    if (spec.bdf is None) == (not spec.name):
        raise SpecError("")
    return spec
