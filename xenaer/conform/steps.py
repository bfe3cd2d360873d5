"""What a case does to its machine, in words of its own: the grammar of errata section 3.

Parsing is apart from doing, so that a case that cannot be expressed is known before anything runs.
"""

from __future__ import annotations

import re
import shlex
from typing import Any, NamedTuple

from protocol.ids import Sbdf


class UnsupportedError(Exception):
    """A machine, a preparation or a step that cannot be expressed here; the text says which."""


class SetRegister(NamedTuple):
    """``setpci``: ``register`` is a name of ``protocol.register_names``."""

    sbdf: Sbdf
    register: str
    value: int


class SetLimit(NamedTuple):
    """A rate limit file: ``limiter`` is ``correctable`` or ``nonfatal``, ``field`` ``burst`` or ``interval_ms``."""

    sbdf: Sbdf
    limiter: str
    field: str
    value: int


class HardwareError(NamedTuple):
    """``pcie_aer_inject_error``: the hardware of ``name`` detects an error. Dwords as the monitor takes them."""

    name: str
    correctable: bool
    advisory: bool
    status: int
    header: tuple[int, int, int, int]
    prefixes: tuple[int, ...]


class Unplug(NamedTuple):
    """``device_del``."""

    name: str


class Stop(NamedTuple):
    """The machine stands still; what happens meanwhile interrupts at ``Continue``."""


class Continue(NamedTuple):
    """The machine goes on."""


class Sleep(NamedTuple):
    """Seconds of the machine's time."""

    seconds: float


class SoftwareError(NamedTuple):
    """One record for ``/dev/aer_inject``."""

    sbdf: Sbdf
    cor: int
    uncor: int
    header: tuple[int, int, int, int]


class Request(NamedTuple):
    """A write to sysfs: ``remove``, ``unbind`` or ``reset``; ``said`` is what the shell reports afterwards."""

    action: str
    sbdf: Sbdf
    said: str = ""
    background: bool = False
    method: str = ""


class Nothing(NamedTuple):
    """A command whose effects nobody compares."""


Step = (
    SetRegister | SetLimit | HardwareError | Unplug | Stop | Continue | Sleep | SoftwareError | Request | Nothing
)  # fmt: skip

SETPCI_REGISTERS = {
    "4": "command",
    "3e": "bridge_control",
    "cap_exp+8": "devctl",
    "ecap_aer+8": "aer_unc_mask",
    "ecap_aer+c": "aer_unc_severity",
    "ecap_aer+14": "aer_cor_mask",
    "ecap_aer+18": "aer_cap_ctl",
    "ecap_aer+2c": "aer_root_command",
}
_BDF = r"(?P<bdf>(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])"
_LIMIT = re.compile(
    rf"echo (?P<value>\S+) > /sys/bus/pci/devices/{_BDF}/aer/(?P<limiter>correctable|nonfatal)_ratelimit_"
    r"(?P<field>burst|interval_ms)$"
)
_BACKGROUND = (
    re.compile(rf"\(echo 1 > \S*/devices/{_BDF}/(?P<action>remove|reset); echo (?P<said>\w+) rc="),
    re.compile(rf"\(echo {_BDF} > \S*/drivers/\w+/(?P<action>unbind); echo (?P<said>\w+) rc="),
)
_FOREGROUND = re.compile(rf"echo 1 > \S*/devices/{_BDF}/(?P<action>remove|reset)\b")
_METHOD = re.compile(rf"echo (?P<method>\w+) > \S*/devices/{_BDF}/reset_method;.*/reset\b")
_LIMIT_LOOP = re.compile(rf"cd \S*/devices/{_BDF}/aer; (?P<commands>.*)$", re.DOTALL)


def parse_preparation(lines: list[str]) -> list[Step]:
    """The steps before the snapshot. Raises UnsupportedError."""
    return [step for line in lines for step in _preparation(line.strip())]


def _preparation(line: str) -> list[Step]:
    if line.startswith("setpci "):
        return _setpci(line)
    limit = _LIMIT.match(line)
    if limit is not None:
        return [SetLimit(_sbdf(limit["bdf"]), limit["limiter"], limit["field"], _int(limit["value"], line))]
    if line.startswith("sleep "):
        return [Sleep(float(line.split()[1]))]
    if line.startswith(":") or not line:
        return []
    raise UnsupportedError(f"preparation {line!r}")


def _setpci(line: str) -> list[Step]:
    words = shlex.split(line)
    if len(words) < 4 or words[1] != "-s":
        raise UnsupportedError(f"preparation {line!r}")
    steps: list[Step] = []
    for word in words[3:]:
        place, _, value = word.partition("=")
        name = SETPCI_REGISTERS.get(place.rpartition(".")[0].lower())
        if name is None or not value:
            raise UnsupportedError(f"preparation {line!r}: register {place!r}")
        steps.append(SetRegister(_sbdf(words[2]), name, _int("0x" + value, line)))
    return steps


def parse_injected(steps: list[dict[str, Any]]) -> list[Step]:
    """The steps of the case itself. Raises UnsupportedError."""
    return [_injected(step) for step in steps]


def _injected(step: dict[str, Any]) -> Step:
    if "monitor" in step:
        return _monitor(str(step["monitor"]))
    if step.get("qmp") in ("stop", "cont"):
        return Stop() if step["qmp"] == "stop" else Continue()
    if "sleep_s" in step and isinstance(step["sleep_s"], int | float):
        return Sleep(float(step["sleep_s"]))
    if "guest" in step:
        return _guest(str(step["guest"]))
    raise UnsupportedError(f"step {step!r}")


def _monitor(text: str) -> Step:
    words = text.split()
    if words[:1] == ["device_del"] and len(words) == 2:
        return Unplug(words[1])
    if words[:1] != ["pcie_aer_inject_error"]:
        raise UnsupportedError(f"monitor command {text!r}")
    flags = {word for word in words[1:] if word in ("-a", "-c")}
    name, *numbers = [word for word in words[1:] if word not in ("-a", "-c")]
    if not numbers:
        raise UnsupportedError(f"monitor command {text!r}: no status")
    status, *dwords = [_int(word, text) for word in numbers]
    header = (*dwords[:4], 0, 0, 0, 0)[:4]
    return HardwareError(name, "-c" in flags, "-a" in flags, status, header, tuple(dwords[4:]))  # type: ignore[arg-type]


def _guest(text: str) -> Step:
    words = text.split()
    if words[:2] == ["labtool", "aerinject"] and len(words) >= 5:
        cor, uncor, *header = [_int(word, text) for word in words[3:]]
        return SoftwareError(_sbdf(words[2]), cor, uncor, (*header, 0, 0, 0, 0)[:4])  # type: ignore[arg-type]
    for pattern in _BACKGROUND:
        found = pattern.match(text)
        if found is not None:
            return Request(found["action"], _sbdf(found["bdf"]), found["said"], background=True)
    method = _METHOD.match(text)
    if method is not None:
        return Request("reset", _sbdf(method["bdf"]), method=method["method"])
    found = _FOREGROUND.match(text)
    if found is not None:
        return Request(found["action"], _sbdf(found["bdf"]))
    if _LIMIT_LOOP.match(text):
        return Nothing()
    raise UnsupportedError(f"guest command {text!r}")


def _sbdf(text: str) -> Sbdf:
    try:
        return Sbdf.parse(text)
    except ValueError as error:
        raise UnsupportedError(str(error)) from None


def _int(text: str, line: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UnsupportedError(f"{line!r}: {text!r} is no number") from None
