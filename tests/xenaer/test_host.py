"""Host files: every mistake is named with file, line, field and what is allowed; the shipped hosts are good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protocol.ids import Sbdf
from protocol.topology import HOST, HostSpec
from xenaer.boot import data_dir
from xenaer.host import HostError, find_function, load_host

GOOD = """\
name: one
hierarchy:
  - root_port: "00:1c.0"
    devices:
      - nic: "01:00.0"
        name: nic0
guests:
  - name: net1
    devices:
      - {device: nic0, driver: xnic}
"""
TOP = "name: x\nhierarchy:\n"
PORT = TOP + '  - root_port: "00:1c.0"\n    devices:\n'
NIC = PORT + '      - {nic: "01:00.0", name: nic0}\n'
GUEST = NIC + "guests:\n  - name: g\n    devices:\n"

# label, text of the file, line, field, words that the message must have
MISTAKES = [
    ("empty", "", 1, "", ["empty"]),
    ("only a comment", "# nothing\n", 1, "", ["empty"]),
    ("not yaml", "name: [1\nx: 2\n", 2, "", ["not YAML"]),
    ("a list", "- 1\n", 1, "", ["should be a mapping, not a list"]),
    ("tab", "name:\n\t- x\n", 2, "", ["not YAML"]),
    ("two documents", "name: x\n---\nname: y\n", 2, "", ["not YAML"]),
    ("alias in itself", "name: &a [*a]\n", 1, "name[0]", ["alias"]),
    ("duplicate key", "name: x\nname: y\nhierarchy: []\n", 2, "name", ["twice", "line 1"]),
    ("unknown key", "name: x\nhierarchy: []\nguets: []\n", 3, "guets", ["'guests'", "allowed: name"]),
    ("unknown key below", NIC.replace("name: nic0", "nam: nic0"), 5, "hierarchy[0].devices[0].nam", ["'name'"]),
    ("missing key", "name: x\n", 1, "", ["'hierarchy' is missing"]),
    ("missing root port", TOP + "  - {devices: []}\n", 3, "hierarchy[0]", ["exactly one of root_port", "has none"]),
    ("unknown profile", NIC + "profile: hardend\n", 6, "profile", ["'hardened'", "allowed: hardened, linux"]),
    ("passthrough is yes or no", NIC + "passthrough: vpci\n", 6, "passthrough", ["true or false", "'vpci'"]),
    ("unknown kernel", NIC + "kernel: linux-9\n", 6, "kernel", ["allowed: linux-7.2"]),
    ("unknown defect", NIC + "defects: [D1, D99]\n", 6, "defects[1]", ["D99"]),
    ("wrong type", NIC + "seed: many\n", 6, "seed", ["a whole number", "'many'"]),
    ("bool is no number", NIC + "seed: true\n", 6, "seed", ["a whole number, not True"]),
    ("out of range", NIC + "timing: {aer_budget_ms: 0}\n", 6, "timing.aer_budget_ms", ["greater than or equal to 1"]),
    ("unknown timing", NIC + "timing: {aer_budget: 5}\n", 6, "timing.aer_budget", ["'aer_budget_ms'"]),
    ("not an address", PORT + "      - nic: eth0\n", 5, "hierarchy[0].devices[0].nic", ["SSSS:]BB:DD.F"]),
    ("function 8", PORT + "      - nic: 01:00.8\n", 5, "hierarchy[0].devices[0].nic", ["function 0..7"]),
    ("two kinds", PORT + "      - {nic: 01:00.0, block: 01:00.0}\n", 5, "hierarchy[0].devices[0]", ["exactly one"]),
    ("no kind", PORT + "      - name: a\n", 5, "hierarchy[0].devices[0]", ["exactly one", "has none"]),
    ("ports of a nic", PORT + "      - {nic: 01:00.0, ports: [{port: 02:00.0}]}\n", 5,
     "hierarchy[0].devices[0]", ["no ports"]),
    ("duplicate address", NIC + "      - nic: 01:00.0\n", 6, "hierarchy[0].devices[1].nic", ["twice", "line 5"]),
    ("duplicate name", NIC + "      - {nic: 01:00.1, name: nic0}\n", 6, "hierarchy[0].devices[1].name", ["used twice"]),
    ("DPC of a nic", NIC + "      - {nic: 01:00.1, dpc: true}\n", 6,
     "hierarchy[0].devices[1].dpc", ["root and downstream ports"]),
    ("DPC without AER", TOP + '  - {root_port: "00:1c.0", aer: false, dpc: true}\n', 3,
     "hierarchy[0].dpc", ["with AER"]),
    ("wrong bus", NIC + "      - nic: 02:00.0\n", 6, "hierarchy[0].devices[1].nic", ["wrong bus", "leads to bus 01"]),
    ("bus above", PORT + "      - nic: 00:00.0\n", 5, "hierarchy[0].devices[0].nic", ["wrong bus", "01 to ff"]),
    ("other segment", PORT + "      - nic: 1:01:00.0\n", 5, "hierarchy[0].devices[0].nic", ["segment", "0000"]),
    ("bus of another port", NIC + '  - root_port: 00:1d.0\n    devices: [{nic: 01:00.1}]\n', 7,
     "hierarchy[1].devices[0].nic", ["already below 0000:00:1c.0"]),
    ("device 1", PORT + "      - nic: 01:01.0\n", 5, "hierarchy[0].devices[0].nic", ["device 00"]),
    ("no function 0", PORT + "      - nic: 01:00.1\n", 5, "hierarchy[0].devices[0].nic", ["without function 0"]),
    ("root port below", NIC + "  - root_port: 01:02.0\n", 6, "hierarchy[1].root_port", ["not at the root"]),
    ("duplicate guest", NIC + "guests:\n  - name: a\n  - name: a\n", 8, "guests[1].name", ["there twice"]),
    ("reserved guest", NIC + "guests:\n  - name: dom0\n", 7, "guests[0].name", ["reserved"]),
    ("bad policy", NIC + "guests:\n  - {name: a, policy: kill}\n", 7, "guests[0].policy", ["destroy, poweroff"]),
    ("unknown device", GUEST + "      - {device: nic1}\n", 9, "guests[0].devices[0].device", ["'nic0'"]),
    ("address of nothing", GUEST + "      - {device: 02:00.0}\n", 9,
     "guests[0].devices[0].device", ["not in the hierarchy"]),
    ("assigned twice", GUEST + "      - device: nic0\n      - device: 01:00.0\n", 10,
     "guests[0].devices[1].device", ["assigned twice", "'g'"]),
    ("a port assigned", GUEST + "      - device: 00:1c.0\n", 9, "guests[0].devices[0].device", ["root_port"]),
    ("unknown dom0 driver", TOP + "  - root_port: '00:1c.0'\n    devices: [{nic: '01:00.0', dom0_driver: e1000}]\n", 4,
     "hierarchy[0].devices[0].dom0_driver", ["no driver 'e1000'", "did you mean 'e1000e'?"]),
    ("devices of an integrated endpoint", TOP + "  - {rciep: '00:02.0', devices: [{nic: '01:00.0'}]}\n", 3,
     "hierarchy[0]", ["a rciep has no devices", "allowed for: root_port"]),
    ("register of another size", TOP + "  - {rciep: '00:02.0', registers: {command: 0x10000}}\n", 3,
     "hierarchy[0].registers", ["command: 0x10000 has more than 16 bits"]),
    ("unknown register", TOP + "  - {rciep: '00:02.0', registers: {comand: 1}}\n", 3,
     "hierarchy[0].registers", ["no register 'comand'; did you mean 'command'?"]),
    ("express device on a conventional bus",
     TOP + "  - root_port: '00:1c.0'\n    devices: [{bridge: '01:00.0', devices: [{nic: '02:03.0'}]}]\n", 4,
     "hierarchy[0].devices[0].devices[0].nic", ["on a conventional bus", "pcie: false"]),
    ("unknown driver", GUEST + "      - {device: nic0, driver: xnik}\n", 9,
     "guests[0].devices[0].driver", ["xnik", "xnic"]),
    ("unknown option", GUEST + "      - device: nic0\n        driver: scripted\n        options: {anwers: {}}\n", 11,
     "guests[0].devices[0].options.anwers", ["unknown option 'anwers'", "allowed"]),
    ("options without driver", GUEST + "      - {device: nic0, driver: none, options: {a: 1}}\n", 9,
     "guests[0].devices[0].driver", ["options without a driver"]),
]  # fmt: skip


def problems(tmp_path: Path, text: str) -> tuple[str, list[str]]:
    """The file's name and what is wrong with it."""
    path = tmp_path / "host.yaml"
    path.write_text(text)
    with pytest.raises(HostError) as caught:
        load_host(path)
    return str(path), caught.value.problems


@pytest.mark.parametrize(("text", "line", "where", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistake_is_named(tmp_path: Path, text: str, line: int, where: str, words: list[str]) -> None:
    name, found = problems(tmp_path, text)
    begin = re.compile(rf"{re.escape(name)}:{line}:\d+: {re.escape(where + ': ' if where else '')}")
    assert any(begin.match(item) and all(word in item for word in words) for item in found), found
    assert not any("\n" in item for item in found)


def test_missing_file() -> None:
    with pytest.raises(HostError, match=r"nowhere\.yaml: no such file"):
        load_host("nowhere.yaml")


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(HostError, match="not a text file"):
        load_host(path)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = GUEST.replace("name: x", "name: x\nprofil: linux\nseed: no") + "      - {device: nic7}\n  - name: dom0\n"
    _, found = problems(tmp_path, text)
    assert [item.split(":")[1] for item in found] == ["3", "2", "11", "12"]


def test_overlapping_ranges(tmp_path: Path) -> None:
    text = TOP + (
        "  - root_port: 00:1c.0\n    devices:\n      - switch: 01:00.0\n        ports:\n"
        "          - {port: 02:00.0, devices: [{nic: 05:00.0}]}\n"
        "  - root_port: 00:1d.0\n    devices: [{nic: 03:00.0}]\n"
    )
    _, found = problems(tmp_path, text)
    assert len(found) == 1
    assert "bus 03 below 0000:00:1d.0 lies within the buses of 0000:00:1c.0 (01 to 05)" in found[0]


def test_aliases_do_not_explode(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    _, found = problems(tmp_path, "\n".join(rows) + "\n")
    assert "alias" in found[0]


def test_good_host(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    path.write_text(GOOD)
    host = load_host(path)
    assert [(f.bdf, f.kind, f.secondary, f.subordinate) for f in host.functions] == [
        ("0000:00:1c.0", "root_port", 1, 1),
        ("0000:01:00.0", "endpoint", 0, 0),
    ]
    assert host.guests[0].devices[0].bdf == "0000:01:00.0"
    assert host.guests[0].devices[0].driver.driver == "xnic"


@pytest.mark.parametrize(
    ("line", "wanted"), [("", False), ("passthrough: false\n", False), ("passthrough: true\n", True)]
)
def test_passthrough_is_asked_for_at_the_top(tmp_path: Path, line: str, wanted: bool) -> None:
    path = tmp_path / "host.yaml"
    path.write_text(GOOD + line)
    assert load_host(path).passthrough is wanted


@pytest.mark.parametrize("word", ["01:00.0", '"01:00.0"', "0000:01:00.0", "'01:00.0'"])
def test_an_address_needs_no_quotes(tmp_path: Path, word: str) -> None:
    """YAML 1.1 reads 01:00.0 as a number of base 60."""
    path = tmp_path / "host.yaml"
    path.write_text(GOOD.replace('"01:00.0"', word))
    assert load_host(path).functions[1].bdf == "0000:01:00.0"


def test_buses_of_ports(tmp_path: Path) -> None:
    """A port without devices gets a bus of its own, inside the range of the ports above it."""
    path = tmp_path / "host.yaml"
    path.write_text(
        TOP + "  - root_port: 00:1c.0\n    devices:\n      - switch: 01:00.0\n        ports:\n"
        "          - {port: 02:00.0, devices: [{nic: 03:00.0}]}\n          - {port: 02:01.0}\n"
        "  - root_port: 00:1d.0\n"
    )
    host = load_host(path)
    ranges = {f.bdf[5:]: (f.secondary, f.subordinate) for f in host.functions if f.kind != "endpoint"}
    assert ranges == {"00:1c.0": (1, 4), "01:00.0": (2, 4), "02:00.0": (3, 3), "02:01.0": (4, 4), "00:1d.0": (5, 5)}


# -- whole configuration spaces ----------------------------------------------------------------------
BRIDGE_IMAGE = "361b0c00 07001000 00000406 00000100" + 8 * "00" + "00010100" + 24 * "00" + "40000000" + 8 * "00"
ROOT_IMAGE = BRIDGE_IMAGE + "10004200"
CARD_IMAGE = "8680d310 06001000 03000002" + 40 * "00" + "40000000" + 8 * "00" + "10000200"
IMAGES = [
    ("odd", CARD_IMAGE[:-1], "{}", 7, "config", ["odd number of hexadecimal digits"]),
    ("short", "8680", "{}", 7, "config", ["2 bytes; allowed: 64 to 4096"]),
    ("long", "00" * 4097, "{}", 7, "config", ["4097 bytes"]),
    ("no hex", "zz", "{}", 7, "config", ["pattern"]),
    ("loop", CARD_IMAGE[:-8] + "10400200", "{}", 7, "config", ["loop", "0x41 leads back to 0x40"]),
    ("other kind", ROOT_IMAGE, "{}", 7, "config", ["of a root_port, not of an endpoint"]),
    ("contradiction", CARD_IMAGE, "{vendor: 0x8087}", 6, "vendor", ["0x8087, but", "says 0x8086"]),
    ("contradiction of truth", CARD_IMAGE, "{aer: true}", 6, "aer", ["True, but", "says False"]),
]


@pytest.mark.parametrize(
    ("image", "keys", "line", "where", "words"), [m[1:] for m in IMAGES], ids=[m[0] for m in IMAGES]
)
def test_mistakes_of_images(tmp_path: Path, image: str, keys: str, line: int, where: str, words: list[str]) -> None:
    inner = keys.strip("{}") or "slot: 0"
    _, found = problems(tmp_path, PORT + f'      - nic: "01:00.0"\n        {inner}\n        config: "{image}"\n')
    begin = re.compile(rf"host\.yaml:{line}:\d+: hierarchy\[0\]\.devices\[0\]\.{where}: ")
    assert any(begin.search(item) and all(word in item for word in words) for item in found), found


def test_an_image_tells_the_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    path.write_text(PORT + f'      - nic: "01:00.0"\n        revision: 3\n        config: "{CARD_IMAGE}"\n')
    card = load_host(path).functions[1]
    assert (card.vendor, card.device, card.class_code, card.revision) == (0x8086, 0x10D3, 0x020000, 3)
    assert (card.subsystem, card.pm, card.aer, card.flr, card.role_based) == ((0, 0), False, False, False, False)


@pytest.mark.parametrize(
    ("image", "devices", "words"),
    [
        (ROOT_IMAGE, '[{nic: "02:00.0"}]', "wrong bus: 0000:00:1c.0 leads to bus 01"),
        (ROOT_IMAGE, '[{switch: "01:00.0", ports: [{port: "02:00.0"}]}]', "bus 02 is below 0000:00:1c.0, whose"),
        (ROOT_IMAGE.replace("00010100", "00020100"), "[]", "buses 02 to 01 cannot be below a port on bus 00"),
        (ROOT_IMAGE, "[]", "below 0000:00:1c.0 is already below 0000:00:1b.0"),
        (CARD_IMAGE, "[]", "of an endpoint, not of a root_port"),
    ],
)
def test_bus_numbers_of_an_image_are_fixed(tmp_path: Path, image: str, devices: str, words: str) -> None:
    other = '  - {root_port: "00:1b.0", devices: [{plain: "01:00.0"}]}\n' if "already" in words else ""
    port = f'  - root_port: "00:1c.0"\n    config: "{image}"\n    devices: {devices}\n'
    _, found = problems(tmp_path, TOP + other + port)
    assert any(words in item for item in found), found


def test_a_root_has_no_endpoint_with_a_link(tmp_path: Path) -> None:
    _, found = problems(tmp_path, TOP + f'  - {{plain: "00:03.0", config: "{CARD_IMAGE}"}}\n')
    assert "of an endpoint, not of a conventional device" in found[0]


SHIPPED = sorted(data_dir("hosts").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_host_is_good(path: Path) -> None:
    host = load_host(path)
    assert host.name == path.stem
    assert HOST.validate_json(HOST.dump_json(host)) == host


def shipped(name: str) -> HostSpec:
    return load_host(data_dir("hosts") / f"{name}.yaml")


def test_sizes_of_shipped_hosts() -> None:
    large = shipped("large")
    assert sum(f.kind == "root_port" for f in large.functions) == 8
    assert sum(f.kind == "endpoint" for f in large.functions) == 24
    assert len(large.guests) == 16
    assert sorted(a.bdf for g in large.guests for a in g.devices) == sorted(
        f.bdf for f in large.functions if f.kind == "endpoint"
    )
    switch = shipped("switch")
    assert sum(f.kind == "endpoint" for f in switch.functions) == 4
    assert sorted(g.type for g in switch.guests) == ["hvm", "pv", "pv"]


def test_letter_host() -> None:
    """The letter: PCIe 1.0a devices, a good driver, a bad one, a guest that waits for a device."""
    letter = shipped("letter")
    endpoints = [f for f in letter.functions if f.kind == "endpoint"]
    assert [f.role_based for f in endpoints] == [False, False]
    assert len({f.parent for f in endpoints}) == 2
    assert [[a.driver.driver for a in g.devices] for g in letter.guests] == [["xnic"], ["silent"], []]
    assert (letter.guests[1].on_crash, letter.guests[2].autostart) == ("destroy", True)


def test_every_function_is_on_the_bus_of_its_port() -> None:
    for path in SHIPPED:
        host = load_host(path)
        for function in host.functions:
            port = host.function(function.parent)
            assert port is None or Sbdf.parse(function.bdf).bus == port.secondary


def test_find_function() -> None:
    host = shipped("one-nic")
    assert find_function(host, "nic0").bdf == find_function(host, "01:00.0").bdf == "0000:01:00.0"
    with pytest.raises(ValueError, match="allowed: nic0"):
        find_function(host, "nik0")
