"""Dumps of lspci: what is read, and that everything wrong is said with file, line and address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.xenaer.lspci_rig import DEVICE, MACHINE, bridge, dump, endpoint, imported, rows, space
from xenaer.host import HostError, read_host
from xenaer.lspci_dump import DumpError, parse_dump
from xenaer.lspci_import import import_dump
from xenaer.yaml_lines import InputError, parse

PLAIN = space(*DEVICE, (0x40, "0100"))
GOOD = f"00:02.0 some device\n{rows(PLAIN)}"


def without(text: str, *numbers: int) -> str:
    """The text without some of its lines (1 is the first)."""
    return "".join(line for at, line in enumerate(text.splitlines(keepends=True), 1) if at not in numbers)


# label, dump, line, address, words of the message
MISTAKES = [
    ("empty", "", None, "", ["no function", "sudo lspci -xxxx"]),
    ("something else", "hello\n-[0000:00]-+-00.0\n", None, "", ["no function"]),
    ("no bytes", "00:02.0 some device\n\tFlags: fast\n", 1, "0000:00:02.0", ["no configuration space", "-xxxx"]),
    ("rows of nobody", "00: 86 80\n", 1, "", ["without the address"]),
    ("after an empty line", GOOD + "\n100: 00 00\n", 19, "", ["without the address"]),
    ("64 bytes", "00:02.0 some device\n" + rows(PLAIN[:64]), 1, "0000:00:02.0", ["only the header", "sudo lspci"]),
    ("128 bytes", "00:02.0 some device\n" + rows(PLAIN[:128]), 1, "0000:00:02.0", ["only 128 bytes"]),
    ("first row missing", without(GOOD, 2), 2, "0000:00:02.0", ["rows 00 to 0f are missing before row 10"]),
    ("rows missing", without(GOOD, 5, 6), 5, "0000:00:02.0", ["rows 30 to 4f are missing before row 50"]),
    ("row twice", GOOD.replace("20: 00", "10: 00"), 4, "0000:00:02.0", ["row 10 again", "expected: row 20"]),
    ("short row", GOOD[:-4] + "\n", 17, "0000:00:02.0", ["row f0 has 15 bytes; allowed: 16"]),
    ("half a byte", GOOD[:-2] + "\n", 17, "0000:00:02.0", ["not a row of bytes"]),
    ("not hex", GOOD.replace("20: 00", "20: zz"), 4, "0000:00:02.0", ["not a row of bytes"]),
    ("too long", GOOD + "1000: " + "00 " * 16 + "\n", 18, "0000:00:02.0", ["beyond the 4096 bytes"]),
    ("two at one address", GOOD + "\n" + GOOD.replace("some", "my"), 19, "0000:00:02.0", ["two functions", "line 1"]),
    ("two, one with its domain", GOOD + "\n0000:" + GOOD, 19, "0000:00:02.0", ["two functions", "line 1"]),
    ("device number", GOOD.replace("00:02.0", "00:20.0"), 1, "", ["00:20.0", "device 00 to 1f"]),
    ("function number", GOOD.replace("00:02.0", "00:02.8"), 1, "", ["00:02.8", "function 0 to 7"]),
    ("loop", dump({"00:02.0": space(*DEVICE, (0x40, "0150"), (0x50, "0540"))}), 7, "0000:00:02.0",
     ["loop", "0x51 leads back to 0x40"]),
    ("loop of one", dump({"00:02.0": space(*DEVICE, (0x40, "0140"))}), 6, "0000:00:02.0", ["loop", "0x40"]),
    ("loop of extended capabilities",
     dump({"00:02.0": space(*DEVICE, (0x40, "1000 9200"), (0x100, "01000220"), (0x200, "03000110"), size=4096)}), 34,
     "0000:00:02.0", ["loop", "0x200 leads back to 0x100"]),
    ("same bus twice", dump({"00:1c.0": bridge("000101"), "00:1d.0": bridge("000101")}), 261, "0000:00:1d.0",
     ["buses 01 to 01 overlap 01 to 01 of 0000:00:1c.0", "line 1"]),
    ("overlap", dump({"00:1c.0": bridge("000104"), "00:1d.0": bridge("000406")}), 261, "0000:00:1d.0",
     ["04 to 06 overlap 01 to 04"]),
    ("more than the bridge above", dump({"00:1c.0": bridge("000102"), "01:00.0": bridge("010203", kind=5)}), 261,
     "0000:01:00.0", ["buses 02 to 03 are not within 01 to 02", "above it"]),
    ("outside of the bridge above",
     dump({"00:1c.0": bridge("000102"), "01:00.0": bridge("010909", kind=5)}), 261, "0000:01:00.0",
     ["buses 09 to 09 are not within 01 to 02"]),
    ("backwards", dump({"00:1c.0": bridge("000402")}), 3, "0000:00:1c.0", ["leads to buses 04 to 02"]),
    ("to itself", dump({"01:1c.0": bridge("010103")}), 3, "0000:01:1c.0", ["above its own bus 01"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "bdf", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistake_is_named(text: str, line: int | None, bdf: str, words: list[str]) -> None:
    with pytest.raises(DumpError) as caught:
        import_dump(text, "dump.txt", "host", {})
    begin = "dump.txt:" + (f"{line}: " if line is not None else " ") + (f"{bdf}: " if bdf else "")
    found = caught.value.problems
    assert any(item.startswith(begin) and all(word in item for word in words) for item in found), found


def test_all_mistakes_are_reported_at_once() -> None:
    text = GOOD.replace("20: 00", "10: 00") + "\n" + GOOD
    with pytest.raises(DumpError) as caught:
        parse_dump(text, "x")
    assert [item.split(":")[1] for item in caught.value.problems] == ["4", "5", "19"]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "0000:" + GOOD,
        GOOD.replace("some device", "Ethernet controller [0200]: Intel Corporation I210 [8086:10d3] (rev 03)"),
        GOOD.replace("device\n", "device\n\tFlags: bus master\n\tCapabilities: [40] Power Management version 3\n"),
        "$ lspci -xxx\n\n" + GOOD + "\n\n",
        GOOD.rstrip("\n"),
        GOOD.upper(),
        "00:02.0 some device\n\tFlags: fast\n\n" + GOOD,  # lspci -v and lspci -xxx, one after the other
    ],
    ids=["plain", "CRLF", "domain", "names", "-v", "around it", "no last newline", "capitals", "twice"],
)
def test_forms_of_a_dump(text: str) -> None:
    (found,) = parse_dump(text, "dump.txt")
    assert found.bdf == "0000:00:02.0"
    assert bytes(found.data) == PLAIN


def test_rows_may_be_missing_at_the_end() -> None:
    """A dump whose rows above 0x200 were cut."""
    machine = parse_dump(MACHINE.read_text(), "main-lspci.txt")
    assert len(machine) == 32
    assert {len(each.data) for each in machine} == {256, 512}


def test_a_partly_shown_capability_is_not_shown() -> None:
    port = space((0x100, "01000200"), size=0x120)
    whole = bridge("000101", size=0x120)[:0x100] + port[0x100:]
    _, host = imported(dump({"00:1c.0": whole, "01:00.0": endpoint()}))
    assert [function.aer for function in host.functions] == [False, False]
    _, host = imported(dump({"00:1c.0": whole.ljust(0x140, b"\0"), "01:00.0": endpoint()}))
    assert [function.aer for function in host.functions] == [True, False]


MACHINE_LINES = MACHINE.read_text().splitlines(keepends=True)
LINES = st.sampled_from([line for line in MACHINE_LINES if line[:1] in "0123456789abcdef"][:400])
NOISE = st.one_of(
    LINES, st.text(max_size=30), st.from_regex(r"\A[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f] x\n\Z"),
    st.from_regex(r"\A[0-9a-f]{1,3}: ([0-9a-f]{2} ){1,17}\n\Z"), st.just("\n"),
)  # fmt: skip


def problems_of(text: str) -> tuple[list[str], str]:
    """What is wrong with a dump, or the host file that it gives."""
    try:
        return [], import_dump(text, "dump.txt", "host", {}).text
    except DumpError as error:
        return error.problems, ""


def import_or_explain(text: str) -> None:
    """Either the problems are named, or a host file comes out that can be loaded."""
    problems, host = problems_of(text)
    assert all(item.startswith("dump.txt:") for item in problems)
    if not problems:
        read_host(parse(host, "host.yaml"))


@given(st.lists(NOISE, max_size=40).map("".join))
def test_any_text_is_imported_or_explained(text: str) -> None:
    import_or_explain(text)


@given(st.lists(st.tuples(st.integers(0, 0x11F), st.integers(0, 255)), max_size=12), st.integers(0, 31))
def test_any_bytes_are_imported_or_explained(changes: list[tuple[int, int]], which: int) -> None:
    """A real machine with some bytes of one function changed."""
    machine = parse_dump(MACHINE.read_text(), "main-lspci.txt")
    for offset, value in changes:
        if offset < len(machine[which].data):
            machine[which].data[offset] = value
    near = machine[max(0, which - 6) : which + 6]
    import_or_explain(dump({each.bdf: bytes(each.data) for each in near}))


@given(st.binary(min_size=256, max_size=600).map(lambda data: data[: len(data) // 16 * 16]))
def test_any_function_is_imported_or_explained(data: bytes) -> None:
    import_or_explain(dump({"00:1c.0": bridge("000101"), "01:00.0": data}))


def test_an_error_of_a_dump_is_an_input_error() -> None:
    assert issubclass(DumpError, InputError)
    assert not issubclass(DumpError, HostError)
