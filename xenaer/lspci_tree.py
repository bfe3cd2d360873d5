"""Who is below whom in a dump, and what of it can be in a host.

Bus numbers of bridges decide, as they do for hardware. What contradicts itself is an error; what is sound but not
modelled is left out, together with what is below it, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from protocol.capabilities import Capability, CapabilityError, capabilities, find, peek
from protocol.config_image import describe, kind_of
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import HEADER, TYPE1
from protocol.layout_pcie import EXP, EXP_FLAGS_TYPE_SHIFT, ROOTS
from xenaer.host_image import with_article
from xenaer.lspci_dump import ROW, Dumped, DumpError

DEVICE, BRIDGE, CARDBUS = 0, 1, 2  # header types; the last two have bus numbers at the same place
CONVENTIONAL = "conventional device"

# kind of the function above ("" for none) -> kinds that may be below it
MAY_BE_BELOW: dict[str, tuple[str, ...]] = {
    "": ("root_port", "rciep", "event_collector", CONVENTIONAL),
    "root_port": ("endpoint", "upstream_port", "pcie_pci_bridge", CONVENTIONAL),
    "downstream_port": ("endpoint", "upstream_port", "pcie_pci_bridge", CONVENTIONAL),
    "upstream_port": ("downstream_port",),
    "pcie_pci_bridge": (CONVENTIONAL,),
}
LINKS = ("root_port", "downstream_port")  # below them only device 00 exists


@dataclass(slots=True)
class Node:
    """A function of a dump: its bytes as far as they can be used, and what they say."""

    dumped: Dumped
    image: bytes
    found: list[Capability]
    kind: str | None = None  # with "conventional device" for an endpoint without Express capability
    fields: dict[str, Any] = field(default_factory=dict)
    above: Node | None = None
    below: list[Node] = field(default_factory=list)
    reason: str = ""  # why it is left out

    @property
    def address(self) -> Sbdf:
        """Where it is."""
        return self.dumped.address

    @property
    def header(self) -> int:
        """Header type without the multifunction bit."""
        return self.image[HEADER.HEADER_TYPE] & 0x7F

    @property
    def buses(self) -> range:
        """Buses that a bridge leads to; empty for what is no bridge or has no numbers yet."""
        if self.header not in (BRIDGE, CARDBUS) or not self.image[TYPE1.SECONDARY_BUS]:
            return range(0)
        return range(self.image[TYPE1.SECONDARY_BUS], self.image[TYPE1.SUBORDINATE_BUS] + 1)

    def leads_to(self, address: Sbdf) -> bool:
        """Whether ``address`` is on one of its buses."""
        return self.address.segment == address.segment and address.bus in self.buses


def make_tree(dump: list[Dumped], filename: str) -> list[Node]:
    """All functions in the order of their addresses, each with what is above and below. Raises DumpError."""
    problems: list[str] = []
    nodes = [node for dumped in dump if (node := _read(dumped, filename, problems)) is not None]
    bridges = [node for node in nodes if node.header in (BRIDGE, CARDBUS) and not _is_dead(node)]
    problems += [f"{filename}:{line}: {bdf}: {text}" for line, bdf, text in _check_buses(bridges)]
    if problems:
        raise DumpError(problems)
    by_bus = {(node.address.segment, node.buses[0]): node for node in bridges if node.buses}
    kept: set[Sbdf] = set()
    for node in nodes:
        node.above = by_bus.get(node.address[:2])
        node.reason = _reason(node, bridges, kept)
        if not node.reason:
            kept.add(node.address)
            if node.above is not None:
                node.above.below.append(node)
    return nodes


def _read(dumped: Dumped, filename: str, problems: list[str]) -> Node | None:
    image = bytes(dumped.data)
    if image[: HEADER.HEADER_TYPE].count(0xFF) == HEADER.HEADER_TYPE:
        return Node(dumped, image, [])
    if image[HEADER.HEADER_TYPE] & 0x7F not in (DEVICE, BRIDGE):  # whose capability list begins elsewhere
        return Node(dumped, image, [], fields=describe(image, []))
    try:
        image, found = _usable(image, capabilities(image))
    except CapabilityError as error:
        problems.append(f"{filename}:{dumped.line_of(error.offset)}: {dumped.bdf}: {error}")
        return None
    kind, fields = kind_of(image, found), describe(image, found)
    if kind == "endpoint" and not fields["pcie"]:
        kind = CONVENTIONAL
    return Node(dumped, image, found, kind, fields)


def _usable(image: bytes, found: list[Capability]) -> tuple[bytes, list[Capability]]:
    """Cut the image before an AER capability that the dump shows only in part."""
    aer = find(found, AER.cap_id, extended=True)
    if aer is None:
        return image, found
    needed = AER.PREFIX_LOG if kind_of(image, found) in ROOTS else AER.ROOT_COMMAND
    if aer.offset + needed <= len(image):
        return image, found
    image = image[: aer.offset]
    return image, capabilities(image)


# -- bus numbers -----------------------------------------------------------------------------------
def _check_buses(bridges: list[Node]) -> Iterator[tuple[int, str, str]]:
    """Line, address and text of everything that no tree of buses can be."""
    ordered = sorted((node for node in bridges if node.image[TYPE1.SECONDARY_BUS]), key=lambda node: node.address)
    for index, node in enumerate(ordered):
        line, bus = node.dumped.line_of(ROW), node.address.bus
        first, last = node.image[TYPE1.SECONDARY_BUS], node.image[TYPE1.SUBORDINATE_BUS]
        if not bus < first <= last:
            text = f"leads to buses {first:02x} to {last:02x}; allowed: a range above its own bus {bus:02x}"
            yield line, node.dumped.bdf, text
            continue
        for other in ordered[:index]:
            if problem := _overlap(other, node):
                yield line, node.dumped.bdf, f"{problem} (line {other.dumped.line})"


def _overlap(other: Node, node: Node) -> str:
    """What is wrong between two bridges, of which ``other`` has the lower address."""
    shared = set(other.buses) & set(node.buses)
    if other.leads_to(node.address):
        missing = len(shared) < len(node.buses)
        return f"buses {_range(node)} are not within {_range(other)} of {other.dumped.bdf} above it" if missing else ""
    if other.address.segment != node.address.segment or not shared:
        return ""
    return f"buses {_range(node)} overlap {_range(other)} of {other.dumped.bdf}, which is not above it"


def _range(node: Node) -> str:
    return f"{node.buses[0]:02x} to {node.buses[-1]:02x}"


# -- what can be in a host -------------------------------------------------------------------------
def _is_dead(node: Node) -> bool:
    return not node.fields


class _Place(NamedTuple):
    """A function, all bridges of the dump, and the functions with lower addresses that are not left out."""

    node: Node
    bridges: list[Node]
    kept: set[Sbdf]


def _reason(node: Node, bridges: list[Node], kept: set[Sbdf]) -> str:
    """Why a function is left out, or nothing."""
    place = _Place(node, bridges, kept)
    return next((text for rule in RULES if (text := rule(place))), "")


def _unreadable(place: _Place) -> str:
    node = place.node
    if node.address.segment > 0xFFFF:
        return "its domain number has more than four digits"
    if _is_dead(node):
        return "it answers with all ones: switched off, or gone"
    return "it is a virtual function (SR-IOV)" if node.fields["vendor"] == 0xFFFF else ""


def _orphaned(place: _Place) -> str:
    node, above = place.node, place.node.above
    if above is None and any(bridge.leads_to(node.address) for bridge in place.bridges):
        return f"the bridge that leads to bus {node.address.bus:02x} is missing from the dump"
    return f"{above.dumped.bdf} above it is left out" if above is not None and above.reason else ""


def _misplaced(place: _Place) -> str:
    node, above = place.node, place.node.above
    allowed = MAY_BE_BELOW[above.kind or "" if above is not None else ""]
    if node.kind in allowed:
        return ""
    where = f"below {above.dumped.bdf}" if above is not None else "on a root bus"
    return f"it is {_what(node)} {where}; a host has there only: {', '.join(allowed)}"


def _misnumbered(place: _Place) -> str:
    node, address = place.node, place.node.address
    if node.above is not None and node.above.kind in LINKS and address.device:
        return f"device {address.device:02x} below a PCI Express port (ARI) is not modelled"
    if node.above is not None and address.function and address._replace(function=0) not in place.kept:
        return "function 0 of its device is missing from the dump, or left out"
    return "it is a bridge without bus numbers" if node.header == BRIDGE and not node.buses else ""


RULES: tuple[Callable[[_Place], str], ...] = (_unreadable, _orphaned, _misplaced, _misnumbered)


def _what(node: Node) -> str:
    """Its kind in words, also if a host has none such."""
    if node.kind is not None:
        return with_article(node.kind) if node.kind != "endpoint" else "a PCI Express endpoint"
    exp = find(node.found, EXP.cap_id)
    if exp is not None:
        number = peek(node.image, exp.offset + EXP.FLAGS, 2) >> EXP_FLAGS_TYPE_SHIFT & 0xF
        return f"a PCI Express function of type {number:#x} with header type {node.header}"
    names = {BRIDGE: "a conventional PCI bridge", CARDBUS: "a CardBus bridge"}
    return names.get(node.header, f"a function with header type {node.header:#04x}")
