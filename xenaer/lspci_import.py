"""From the dump of a real machine to a host file: ``xenaer import``.

The host file has each function's configuration space as it was dumped, and beside it, for people, the facts that
differ from the usual ones. Whatever could not be taken over is a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from protocol.capabilities import Capability, find, peek
from protocol.layout_aer import AER
from protocol.layout_dpc import DPC
from protocol.layout_header import HEADER, bar_offset
from protocol.layout_msi import MSI
from protocol.layout_pcie import EXP
from protocol.layout_pm import PM
from protocol.register_names import REGISTERS
from protocol.topology import BRIDGES
from xenaer.form import NAME_PATTERN
from xenaer.host_form import FunctionForm
from xenaer.host_image import with_article
from xenaer.lspci_dump import CONVENTIONAL_BYTES, parse_dump
from xenaer.lspci_tree import CONVENTIONAL, Node, make_tree

MODELLED = {(layout.cap_id, layout.extended) for layout in (PM, MSI, EXP, AER, DPC)}
CLASS_MODELS = {0x01: "block", 0x02: "nic"}  # by base class; everything else is plain
KEYS = {"upstream_port": "switch", "pcie_pci_bridge": "bridge", "downstream_port": "port"}  # of a host file, by kind
BELOW_KEYS = {"upstream_port": "ports"}  # other ports and bridges have devices
FACTS = (
    "vendor", "device", "class_code", "revision", "subsystem", "pm", "pcie", "aer", "flr", "role_based",
    "link_speed", "link_width", "link_reporting", "slot", "dpc", "ecrc",
)  # fmt: skip
HEX_FACTS = {"vendor": 4, "device": 4, "class_code": 6}  # digits
ROWS = ("aer_unc_status", "aer_unc_mask", "aer_unc_severity", "aer_cor_status", "aer_cor_mask")
LINE_BYTES, GROUP_BYTES = 32, 4


class Imported(NamedTuple):
    """A host file and what could not be put into it."""

    text: str
    remarks: list[str]


class GuestError(ValueError):
    """A guest cannot have the devices that are wanted for it."""


def import_dump(text: str, filename: str, name: str, guests: Mapping[str, Sequence[str]]) -> Imported:
    """The host ``name`` of a dump; ``guests`` maps names to addresses. Raises DumpError, GuestError."""
    nodes = make_tree(parse_dump(text, filename), filename)
    assigned = _assigned(nodes, guests)
    lines = [
        f"# Imported from {_comment(filename)}. config is the configuration space of a function as the machine had it;",
        "# the keys beside it repeat what it says.",
        f"name: {name}",
        "",
        "hierarchy:" if any(_is_root(node) for node in nodes) else "hierarchy: []",
    ]
    for node in nodes:
        if _is_root(node):
            lines += _function(node, "  ", assigned)
    return Imported("\n".join([*lines, *_guests(guests)]) + "\n", list(_remarks(nodes, filename)))


def host_name(stem: str) -> str:
    """A name that a host file allows, made of a file's name."""
    kept = re.sub(r"[^A-Za-z0-9_.+-]", "-", stem)[:63]
    return kept if re.match(NAME_PATTERN, kept) else "imported"


def _is_root(node: Node) -> bool:
    return node.above is None and not node.reason


# -- guests ----------------------------------------------------------------------------------------
def _assigned(nodes: list[Node], guests: Mapping[str, Sequence[str]]) -> set[str]:
    """Addresses that guests get. Raises GuestError for one that cannot be assigned."""
    known = {node.dumped.bdf: node for node in nodes}
    owners: dict[str, str] = {}
    for guest, devices in guests.items():
        for bdf in devices:
            node = known.get(bdf)
            if node is None or node.reason:
                why = "it is not in the dump" if node is None else f"it is left out: {node.reason}"
                raise GuestError(f"guest {guest!r} cannot have {bdf}: {why}")
            if node.kind in BRIDGES or node.kind == "event_collector":
                raise GuestError(
                    f"guest {guest!r} cannot have {bdf}: it is {with_article(node.kind or '')}; allowed: endpoints"
                )
            if bdf in owners:
                raise GuestError(f"guest {guest!r} cannot have {bdf}: guest {owners[bdf]!r} has it already")
            owners[bdf] = guest
    return set(owners)


def _guests(guests: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if guests:
        yield from ("", "guests:")
    for name, devices in guests.items():
        yield from (f"  - name: {name}", "    devices:")
        yield from (f'      - {{device: "{bdf}"}}' for bdf in devices)


# -- functions -------------------------------------------------------------------------------------
def model_of(node: Node) -> str:
    """What an endpoint does: by its class, if the emulated devices of that class can be in its place."""
    wanted = CLASS_MODELS.get(node.fields["class_code"] >> 16, "plain")
    return wanted if wanted != "plain" and not _lacks(node) else "plain"


def _lacks(node: Node) -> str:
    """What the emulated devices need and this function has not."""
    bar = peek(node.image, bar_offset(0), 4)
    if bar & 1 or not bar & ~0xF:
        return "memory in BAR 0"
    return "" if find(node.found, MSI.cap_id) is not None else "MSI"


def _key(node: Node) -> str:
    if node.kind in (CONVENTIONAL, "endpoint"):
        return "plain" if node.above is None else model_of(node)
    assert node.kind is not None
    return KEYS.get(node.kind, node.kind)


def _function(node: Node, indent: str, assigned: set[str]) -> Iterator[str]:
    """The lines of one function and of everything below it."""
    inner = indent + "  "
    yield f"{indent}# {_comment(node.dumped.title)}"
    yield f'{indent}- {_key(node)}: "{node.dumped.bdf}"'
    for key, value in _facts(node).items():
        yield f"{inner}{key}: {value}"
    registers = _registers(node)
    if registers:
        yield f"{inner}registers: {{{', '.join(f'{name}: {value}' for name, value in registers.items())}}}"
    if node.kind not in BRIDGES and node.kind != "event_collector" and node.dumped.bdf not in assigned:
        yield f'{inner}dom0_driver: ""'
    elif node.dumped.bdf in assigned:
        yield f"{inner}dom0_driver: pciback"
    yield f"{inner}config: |"
    yield from (f"{inner}  {line}" for line in hex_lines(node.image))
    if node.below:
        yield f"{inner}{BELOW_KEYS.get(node.kind or '', 'devices')}:"
    for child in node.below:
        yield from _function(child, inner + "  ", assigned)


def _facts(node: Node) -> dict[str, str]:
    """Keys and values in which the function differs from the usual, or that everybody wants to see."""
    told = dict(node.fields)
    if node.above is None:
        del told["pcie"]  # no key of functions on a root bus
    if node.kind == CONVENTIONAL:
        del told["aer"]
    facts = {}
    for key in FACTS:
        usual = FunctionForm.model_fields[key].default if key in FunctionForm.model_fields else True
        value = told.get(key)
        if value is not None and value != usual and _fits(key, value):
            facts[key] = _show(key, value)
    return facts


def _fits(key: str, value: Any) -> bool:
    """Whether a host file allows the value; one that is beyond its limits stands in the image alone."""
    return (key != "link_speed" or value <= 7) and (key != "link_width" or value <= 32)


def _show(key: str, value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'0x{part:04x}' for part in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"0x{value:0{HEX_FACTS[key]}x}" if key in HEX_FACTS else str(value)


def _registers(node: Node) -> dict[str, str]:
    """AER registers that differ from the usual values (linux-aer.md 1.6)."""
    aer = find(node.found, AER.cap_id, extended=True)
    if aer is None or not node.fields["aer"]:
        return {}
    registers = {}
    for name in ROWS:
        named = REGISTERS[name]
        value = peek(node.image, aer.offset + named.register, named.size)
        if value != named.register.reset:
            registers[name] = f"0x{value:0{named.digits}x}"
    return registers


def hex_lines(image: bytes) -> Iterator[str]:
    """The image in groups of four bytes, without the rows of zeros at its end; the header is always there."""
    end = max(len(image.rstrip(b"\0")), HEADER.length)
    for start in range(0, end, LINE_BYTES):
        yield image[start : start + LINE_BYTES].hex(" ", GROUP_BYTES)


def _comment(text: str) -> str:
    return "".join(char for char in text if char.isprintable())


# -- remarks ---------------------------------------------------------------------------------------
def _remarks(nodes: list[Node], filename: str) -> Iterator[str]:
    """One line for each function that is left out, then one for each thing that is missing or not modelled."""
    for node in nodes:
        if node.reason:
            yield f"{filename}:{node.dumped.line}: {node.dumped.bdf}: left out: {node.reason}"
    groups: dict[str, list[str]] = {}
    for node in nodes:
        for text in [] if node.reason else dict.fromkeys(_about(node)):
            groups.setdefault(text, []).append(node.dumped.bdf)
    for text, addresses in groups.items():
        yield f"{filename}: {text}: {', '.join(addresses)}"


def _about(node: Node) -> Iterator[str]:
    if node.fields["pcie"] and len(node.dumped.data) <= CONVENTIONAL_BYTES:
        yield "only 256 bytes are shown, so AER and other extended capabilities could not be read, and are left out"
    elif node.fields["pcie"] and not node.fields["aer"]:
        yield "no AER capability"
    wanted = CLASS_MODELS.get(node.fields["class_code"] >> 16)
    if wanted and node.above is not None and node.kind in ("endpoint", CONVENTIONAL) and _lacks(node):
        yield f"plain, without a data path, since the emulated {wanted} device needs {_lacks(node)}"
    for capability in node.found:
        if not _is_modelled(capability, node):
            yield f"{capability.name} is there to be read, but not modelled"


def _is_modelled(capability: Capability, node: Node) -> bool:
    first = find(node.found, capability.cap_id, extended=capability.extended)
    return capability is first and (capability.cap_id, capability.extended) in MODELLED
