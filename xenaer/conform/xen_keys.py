"""Keys of a recorded Xen case: what a reproduction may read, and what it is compared in (golden/xen/README.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# what a reproduction may read
INPUTS = (
    "case", "title", "machine", "guest_new", "guest_config", "domid", "guest_driver", "guest_command", "pre", "before",
    "shared_page_before", "inject", "actions", "watched_s",
)  # fmt: skip
# what it is compared in, as paths into the file
OUTPUTS = (
    "summary.callbacks", "summary.pciback_steps", "summary.verdict", "summary.aerState",
    "summary.guest_in_xl_list_after", "summary.guest_state_after", "dom0_dmesg", "domU_console", "after.xenstore",
    "after.regs", "after.aer_stats",
)  # fmt: skip


def inputs(recorded: dict[str, Any]) -> dict[str, Any]:
    """The input keys of the file, without what the recorded machine answered to an injection."""
    given = {key: recorded[key] for key in INPUTS if key in recorded}
    if isinstance(given.get("inject"), dict):
        given["inject"] = {key: value for key, value in given["inject"].items() if key != "answer"}
    return given


def selected(emitted: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The emitted keys of ``fields``, nested as in a file."""
    found: dict[str, Any] = {}
    for key in fields:
        group, dot, name = key.partition(".")
        if dot:
            found.setdefault(group, {})[name] = emitted[group][name]
        else:
            found[key] = emitted[key]
    return found
