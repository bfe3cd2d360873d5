"""Commands for dumps of configuration space: import (a machine's dump as a host file) and lspci (a host's dump)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from protocol.ids import Sbdf
from xenaer.cli_base import RunOption, StopError, connect, out, shipped
from xenaer.cli_system import parse_bdf
from xenaer.form import NAME_PATTERN
from xenaer.host import RESERVED_NAMES, load_host
from xenaer.lspci_import import GuestError, host_name, import_dump
from xenaer.lspci_write import dump_lines


class _Epoch:
    """A clock that stands at the moment after boot."""

    def now(self) -> int:
        return 0


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command("import")(import_)
    app.command("lspci")(lspci)


def import_(
    file: Annotated[str, typer.Argument(help="dump made with 'sudo lspci -xxxx' or -vvvxxxx; - is standard input")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="file instead of standard output")] = None,
    guest: Annotated[
        list[str] | None, typer.Option("--guest", help="NAME=BDF[,BDF...]: a guest with these devices; repeatable")
    ] = None,
) -> None:
    """Make a host file of a real machine's lspci dump; what could not be taken over is said on standard error."""
    shown = "<stdin>" if file == "-" else file
    text = (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode("utf-8", "replace")
    guests = parse_guests(guest or [])
    try:
        host = import_dump(text, shown, host_name("stdin" if file == "-" else Path(file).stem), guests)
    except GuestError as error:
        raise StopError(f"--guest: {error}") from None
    for remark in host.remarks:
        sys.stderr.write(f"xenaer: {remark}\n")
    if output is None:
        sys.stdout.write(host.text)
    else:
        output.write_text(host.text, encoding="utf-8")


def parse_guests(words: list[str]) -> dict[str, list[str]]:
    """``NAME=BDF,BDF`` as names and full addresses. Raises StopError."""
    guests: dict[str, list[str]] = {}
    for word in words:
        name, equals, devices = word.partition("=")
        if not equals or not devices:
            raise StopError(f"--guest {word!r}; expected NAME=BDF[,BDF...], e.g. net1=01:00.0")
        if not re.match(NAME_PATTERN, name):
            raise StopError(f"--guest {name!r} is no name; allowed: a letter, then letters, digits and _ . + -")
        if name in RESERVED_NAMES:
            raise StopError(f"--guest {name!r} is reserved; not allowed: {', '.join(RESERVED_NAMES)}")
        guests.setdefault(name, []).extend(parse_bdf(device) for device in devices.split(","))
    return guests


def lspci(
    bdf: Annotated[str | None, typer.Argument(help="address of one function [default: all]")] = None,
    host: Annotated[str | None, typer.Option("--host", help="host file or shipped host, instead of a system")] = None,
    run: RunOption = None,
) -> None:
    """Write configuration space in the form of 'lspci -xxxx', for 'lspci -F' and other programs that read dumps."""
    address = parse_bdf(bdf) if bdf is not None else None
    spaces = _of_system(run, address) if host is None else _of_host(host)
    if address is not None:
        spaces = {sbdf: data for sbdf, data in spaces.items() if str(sbdf) == address}
        if not spaces:
            raise StopError(f"{address}: there is no such function in {host}")
    for line in dump_lines(spaces):
        out(line)


def _of_system(run: Path | None, address: str | None) -> dict[Sbdf, bytes]:
    """As dom0 of the running system reads it now."""
    with connect(run) as control:
        addresses = control.ctl("dom0", "functions", []) if address is None else [address]
        return {Sbdf.parse(bdf): bytes(control.ctl("dom0", "config", [bdf])) for bdf in addresses}


def _of_host(host: str) -> dict[Sbdf, bytes]:
    """As firmware leaves it."""
    from dom0_pciback.pcie.hierarchy import Hierarchy  # noqa: PLC0415

    functions = Hierarchy(load_host(shipped("hosts", host)), _Epoch()).functions
    return {sbdf: bytes(function.config.data) for sbdf, function in functions.items()}
