"""Dumps for tests: small ones written by hand, those of hosts, and what the real lspci makes of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dom0_pciback.pcie.hierarchy import Hierarchy
from protocol.topology import HostSpec
from xenaer.host import read_host
from xenaer.lspci_import import Imported, import_dump
from xenaer.lspci_write import dump_lines
from xenaer.yaml_lines import parse

MACHINE = Path(__file__).parent / "data" / "main-lspci.txt"
OLDEST = (3, 9)  # the oldest pciutils that is supported


class StandingClock:
    """The moment after boot."""

    def now(self) -> int:
        return 0


def rows(data: bytes) -> str:
    """Bytes as rows of a dump."""
    return "".join(f"{at:02x}: {data[at : at + 16].hex(' ')}\n" for at in range(0, len(data), 16))


def space(*parts: tuple[int, str], size: int = 256) -> bytes:
    """A configuration space of zeros with ``parts`` (offset, hex) in it."""
    data = bytearray(size)
    for offset, text in parts:
        piece = bytes.fromhex(text)
        data[offset : offset + len(piece)] = piece
    return bytes(data)


DEVICE = ((0, "8680d310 0600 1000 00000002"), (0x34, "40"))  # an Ethernet controller with a capability list


def bridge(buses: str, kind: int = 4, size: int = 4096) -> bytes:
    """A port of the PCI Express type ``kind`` with its three bus numbers in hex."""
    express = (0x40, f"1000 {kind << 4 | 2:02x}00")
    return space((0, "361b0c00 0700 1000 00000406 00000100"), (0x18, buses), (0x34, "40"), express, size=size)


def endpoint(size: int = 4096) -> bytes:
    """A PCI Express endpoint without anything else."""
    return space(*DEVICE, (0x40, "1000 0200"), size=size)


def dump(functions: dict[str, bytes]) -> str:
    """The text of a dump."""
    return "\n".join(f"{bdf} some device\n{rows(data)}" for bdf, data in functions.items())


def imported(text: str, guests: dict[str, list[str]] | None = None) -> tuple[Imported, HostSpec]:
    """A dump as a host file, and that as a host."""
    result = import_dump(text, "dump.txt", "host", guests or {})
    return result, read_host(parse(result.text, "host.yaml"))


def hierarchy(host: HostSpec) -> Hierarchy:
    """The hardware of a host as firmware leaves it."""
    return Hierarchy(host, StandingClock())


def dump_of(hardware: Hierarchy) -> str:
    """What ``xenaer lspci`` writes of it."""
    spaces = {sbdf: bytes(function.config.data) for sbdf, function in hardware.functions.items()}
    return "\n".join(dump_lines(spaces)) + "\n"


def lspci(file: Path, *options: str) -> str:
    """What the real program says about a dump; it must not complain. Skips the test without it."""
    program = shutil.which("lspci")
    if program is None:
        pytest.skip("no lspci on this machine (package pciutils)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    found = re.search(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        pytest.skip(f"{version.strip()} is older than {OLDEST[0]}.{OLDEST[1]}")
    done = subprocess.run([program, "-F", str(file), *options], capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "libkmod" not in line]
    assert (done.returncode, complaints) == (0, [])
    return done.stdout
