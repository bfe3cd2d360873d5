"""The operator's command: every mistake of a person is one line on standard error, never a traceback.

Exit statuses: 0 it worked, 1 the system refused or a script failed, 2 the command or an input file is wrong.
The commands are in ``cli_system`` (a running system), ``cli_sysfs`` (its sysfs tree), ``cli_script`` (scripts,
files, processes), ``cli_campaign`` (campaigns) and ``cli_lspci`` (dumps of configuration space).
"""

from __future__ import annotations

import os
import sys

import typer
from typer.main import get_command

from xenaer import cli_blast, cli_campaign, cli_conform, cli_lspci, cli_scenarios, cli_script, cli_sysfs, cli_system
from xenaer.cli_base import StopError
from xenaer.control import ControlError, NoSystemError
from xenaer.yaml_lines import InputError

BROKEN_PIPE = 141  # as a shell reports death by SIGPIPE
INTERRUPTED = 130

app = typer.Typer(
    name="xenaer",
    help="PCI Express error recovery through the Xen split driver, run without hardware.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli_system.register(app)
cli_script.register(app)
cli_campaign.register(app)
cli_blast.register(app)
cli_sysfs.register(app)
cli_conform.register(app)
cli_lspci.register(app)
cli_scenarios.register(app)

UsageProblem: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit status."""
    try:
        status = get_command(app).main(args=argv, prog_name="xenaer", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except (typer.Exit, SystemExit) as stop:
        return int(getattr(stop, "exit_code", getattr(stop, "code", 0)) or 0)
    except Exception as error:
        return _explain(error)
    return status if isinstance(status, int) else 0


def _explain(error: Exception) -> int:
    """One line (one per mistake of an input file) and the exit status; unknown exceptions go on."""
    if isinstance(error, InputError):
        return complain(error.problems, 2)
    if isinstance(error, UsageProblem):
        return complain([error.format_message()], 2)  # type: ignore[attr-defined]
    if isinstance(error, StopError):
        return complain([str(error)], error.status)
    if isinstance(error, ControlError):
        return complain([str(error)], 2 if isinstance(error, NoSystemError) else 1)
    if isinstance(error, OSError) and error.filename is not None:
        return complain([f"{error.filename}: {(error.strerror or str(error)).lower()}"], 2)
    if type(error).__name__ == "LocalError":  # of xenaer.local, which is loaded only when it is used
        return complain([str(error)], 1)
    raise error


def complain(texts: list[str], status: int) -> int:
    """Print ``xenaer: text`` for each text on standard error; returns ``status``."""
    for text in texts:
        print(f"xenaer: {' '.join(text.split())}", file=sys.stderr)  # noqa: T201
    return status
