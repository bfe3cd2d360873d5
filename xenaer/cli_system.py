"""Commands on a running system: up, down, status, inject, touch, dmesg, trace, xl and their like."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from protocol.bits import find_error
from protocol.ids import Sbdf
from xenaer.campaign.steps.play import xl_result
from xenaer.cli_base import RunOption, StopError, connect, out, parse_header, shipped
from xenaer.control import Control, ControlError, read_system, run_dir
from xenaer.host import load_host
from xenaer.journal import Entry, JournalSet, dmesg_line, line, party_of, text_line

FOLLOW_S = 0.1
XL_TIMEOUT_S = 400.0  # an attach waits for a guest that may be in a recovery of up to 300 s (H25)
PASS_ON: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    "add_help_option": False,
}


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    for command in (up, down, status, inject, touch, aer_inject, dpc_trigger, rp_pio, dmesg, trace, xenstore_ls):
        app.command(command.__name__.replace("_", "-"))(command)
    app.command("xl", **PASS_ON)(xl)


def up(
    host: Annotated[str, typer.Argument(help="host file, or name of a shipped one")] = "one-nic",
    run: RunOption = None,
    transport: Annotated[str, typer.Option(help="ipc or tcp")] = "ipc",
    curve: Annotated[bool, typer.Option("--curve/--no-curve", help="keys for every connection over tcp")] = True,
    foreground: Annotated[bool, typer.Option("--foreground", help="stay until interrupted, then stop it")] = False,
) -> None:
    """Start a system."""
    if transport not in ("ipc", "tcp"):
        raise StopError(f"--transport {transport!r} is not allowed; allowed: ipc, tcp")
    spec = load_host(shipped("hosts", host))
    from xenaer import local  # noqa: PLC0415

    folder = run_dir(run)
    if foreground:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end that comes while it starts counts too
    local.up(spec, folder, transport if curve or transport == "ipc" else "tcp-plain")
    try:
        out(f"{spec.name} is up: {len(spec.functions)} functions, {len(spec.guests)} guests, run directory {folder}")
        if foreground:
            signal.pause()
    except KeyboardInterrupt:
        out("stopping")
    finally:
        if foreground:
            local.down(folder)


def down(run: RunOption = None) -> None:
    """Stop the system."""
    from xenaer import local  # noqa: PLC0415

    folder = run_dir(run)
    read_system(folder)
    local.down(folder)


def status(run: RunOption = None) -> None:
    """Show the running system and its domains."""
    folder = run_dir(run)
    system = read_system(folder)
    with connect(run) as control:
        out(f"host {system.host}, launcher {system.pid}, {system.address}, run directory {folder}")
        run_xl(control, ["list"])
    for path in xenstore_sockets(folder):
        out(f"export XENSTORED_PATH={path}")


def xenstore_sockets(folder: Path) -> list[Path]:
    """Where real clients of XenStore find the system in ``folder``: dom0's socket, then those of the guests."""
    base = folder.absolute() / "xenstored"
    return [*base.glob("socket"), *sorted(base.glob("guest-*/socket"))]


def inject(
    bdf: Annotated[str, typer.Argument(help="address of the device")],
    errors: Annotated[list[str], typer.Argument(help="error names: of the kernel log, aer-inject, lspci or QEMU")],
    header: Annotated[str, typer.Option(help="four words of TLP header log")] = "0 0 0 0",
    run: RunOption = None,
) -> None:
    """Make a device report errors."""
    words = parse_header(header)
    address = parse_bdf(bdf)
    cor = uncor = 0
    for name in errors:
        kind, bit = named_error(name)
        cor, uncor = (cor | bit.mask, uncor) if kind == "correctable" else (cor, uncor | bit.mask)
    with connect(run) as control:
        ask_dom0(control, "inject", [address, cor, uncor, words])


def touch(bdf: Annotated[str, typer.Argument(help="address to read from")], run: RunOption = None) -> None:
    """Read configuration space of a function; a missing one answers Unsupported Request."""
    address = parse_bdf(bdf)
    with connect(run) as control:
        ask_dom0(control, "touch", [address])


def aer_inject(
    files: Annotated[list[Path] | None, typer.Argument(help="aer-inject files; without, standard input")] = None,
    software: Annotated[bool, typer.Option("--software", help="by dom0's aer_inject module, not in hardware")] = False,
    run: RunOption = None,
) -> None:
    """Inject the records of aer-inject files."""
    texts = [(read_text(file), str(file)) for file in files or []] or [(sys.stdin.read(), "<stdin>")]
    with connect(run) as control:
        for text, name in texts:
            ask_dom0(control, "aer-inject", [text, name, software])


def dpc_trigger(port: Annotated[str, typer.Argument(help="address of a port with DPC")], run: RunOption = None) -> None:
    """Contain a port by its software trigger."""
    address = parse_bdf(port)
    with connect(run) as control:
        ask_dom0(control, "dpc-trigger", [address])


def rp_pio(
    port: Annotated[str, typer.Argument(help="address of a root port with DPC")],
    bits: Annotated[str, typer.Argument(help="bits of the RP PIO status, e.g. 0x10000")],
    header: Annotated[str, typer.Option(help="four words of TLP header log")] = "0 0 0 0",
    run: RunOption = None,
) -> None:
    """Make requests of the root complex fail below a root port."""
    words = parse_header(header)
    address, status = parse_bdf(port), parse_word(bits)
    with connect(run) as control:
        ask_dom0(control, "rp-pio", [address, status, words])


def ask_dom0(control: Control, verb: str, args: list[Any]) -> None:
    """Have dom0's hardware do something; what it refuses was asked for wrongly. Raises StopError."""
    try:
        control.ctl("dom0", verb, args)
    except ControlError as error:
        raise StopError(str(error)) from None


def xl(context: typer.Context, run: RunOption = None) -> None:
    """The toolstack's words: list, create, destroy, pci-attach, pci-detach, pci-list, ..."""
    with connect(run) as control:
        code = run_xl(control, list(context.args))
    raise typer.Exit(code)


def run_xl(control: Control, argv: list[str]) -> int:
    """One xl command; prints what it prints, returns its exit status."""
    code, text, problem = xl_result(control.ctl("hypervisor", "xl", argv, timeout_s=XL_TIMEOUT_S))
    sys.stdout.write(text)
    sys.stdout.flush()
    sys.stderr.write(problem)
    return code


def xenstore_ls(
    path: Annotated[str, typer.Argument(help="where to begin")] = "/",
    run: RunOption = None,
) -> None:
    """Show the tree of XenStore."""
    with connect(run) as control:
        sys.stdout.write(str(control.ctl("hypervisor", "xenstore-ls", [path])))


def dmesg(
    domain: Annotated[str, typer.Argument(help="dom0 or a guest")] = "dom0",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on with what appears")] = False,
    decode: Annotated[bool, typer.Option("-x", "--decode", help="show facility and level as words")] = False,
    raw: Annotated[bool, typer.Option("-r", "--raw", help="show the level as a number")] = False,
    run: RunOption = None,
) -> None:
    """The kernel log of a domain."""
    folder = run_dir(run)
    files = [Path(file) for file in read_system(folder).journals] + list((folder / "journal").glob("*.mpk"))
    domains = sorted({party_of(file) for file in files if not party_of(file).startswith(("hypervisor", "supervisor"))})
    if domain not in domains:
        raise StopError(f"no domain {domain!r} in this system; allowed: {', '.join(domains)}")
    form = "x" if decode else "r" if raw else ""
    for item in entries(folder, follow):
        if item["label"] == "printk" and item["party"] == domain:
            out(dmesg_line(item, form))


def trace(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on with what appears")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False,
    run: RunOption = None,
) -> None:
    """The journal of all parties, merged by time."""
    folder = run_dir(run)
    read_system(folder)
    show: Callable[[Entry], str] = line if json else text_line
    for item in entries(folder, follow):
        out(show(item))


def entries(folder: Path, follow: bool) -> Iterator[Entry]:
    """Journal records of the system in ``folder``; with ``follow`` until it ends."""
    journals = JournalSet(folder / "journal", [Path(file) for file in read_system(folder).journals])
    yield from journals.read()
    while follow:
        sys.stdout.flush()
        time.sleep(FOLLOW_S)
        ended = not (folder / "system.json").exists()
        yield from journals.read()
        if ended:
            return


def parse_bdf(text: str) -> str:
    """A PCI address in its full form. Raises StopError."""
    try:
        return str(Sbdf.parse(text))
    except ValueError as error:
        raise StopError(str(error)) from None


def parse_word(text: str) -> int:
    """A number of 32 bits in C notation. Raises StopError."""
    number = int(text, 0) if re.fullmatch(r"0[xX][0-9a-fA-F]+|0|[1-9][0-9]*", text) else -1
    if not 0 <= number <= 0xFFFFFFFF:
        raise StopError(f"{text!r} is not a number of 32 bits, e.g. 0x10000")
    return number


def named_error(name: str) -> tuple[str, Any]:
    """``find_error`` with a user's mistake as StopError."""
    try:
        return find_error(name)
    except ValueError as error:
        raise StopError(str(error)) from None


def read_text(path: Path) -> str:
    """Content of a text file. Raises StopError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise StopError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise StopError(f"{path}: not a text file (UTF-8)") from None
