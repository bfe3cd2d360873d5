"""``xenaer blast-radius``: which guests die if this port reports an error, for a machine of your own."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from xenaer.cli_base import out, shipped


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("blast-radius")(blast_radius)


def blast_radius(
    source: Annotated[str, typer.Argument(help="dump of lspci -xxxx, host file, or name of a shipped host")],
    guests: Annotated[Path | None, typer.Option("--guests", help="with a dump: YAML, guest name to addresses")] = None,
    json: Annotated[bool, typer.Option("--json", help="as JSON Lines")] = False,
) -> None:
    """For every function that can report an error, and every severity: which guests recover, and which die."""
    from xenaer.campaign import blast  # noqa: PLC0415 - loads all roles

    host, told = blast.load_source(shipped("hosts", source), guests)
    for remark in (*told, *blast.remarks(host)):
        out(f"# {remark}")
    for found in blast.blasts(host):
        out(json_module.dumps(asdict(found)) if json else found.line())
