"""Steps that are played in order: checked against their host.

Their forms are in ``steps_form``; ``file`` reads them; ``play`` carries them out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.bits import find_error
from protocol.ids import Sbdf
from protocol.labels import LABELS
from protocol.topology import COLLECTORS, FunctionSpec, HostSpec
from xenaer.campaign.steps.fault_forms import GoneForm, HotplugForm, ResetFaultForm
from xenaer.campaign.steps.steps_form import StepForm
from xenaer.form import Form
from xenaer.host import find_function
from xenaer.lock_names import KINDS, lock_exists
from xenaer.yaml_lines import Document, InputError, Place, closest

HOST_PARTIES = ("dom0", "hypervisor")


class ScriptError(InputError):
    """A script is wrong; ``problems`` has one ``file:line:column: field: text`` for each mistake."""


@dataclass(slots=True)
class Script:
    """Checked steps, the host they are for, and the text of the aer-inject files they name (relative to ``path``)."""

    name: str
    steps: list[StepForm]
    host: HostSpec
    path: Path
    texts: dict[str, str] = field(default_factory=dict)
    about: str = ""


def check_steps(document: Document, script: Script, key: str) -> list[str]:
    """What the steps below ``key`` say about things that their host does not have, or that cannot be read."""
    checker = _Checker(document, script)
    for index, step in enumerate(script.steps):
        action = step.action
        checker.check(getattr(step, action), (key, index, action.replace("_", "-")))
        if step.at is not None:
            checker.check(step.at, (key, index, "at"))
    return checker.problems


class _Checker:
    def __init__(self, document: Document, script: Script) -> None:
        self.document = document
        self.script = script
        self.problems: list[str] = []

    def check(self, form: Form, place: Place) -> None:
        """Check the fields of ``form`` that have a rule in ``_RULES``, and the forms inside it."""
        if (whole := FORM_RULES.get(type(form))) is not None:
            self._apply(whole, form, place)
        for name, value in self._given(form):
            inner = (*place, type(form).model_fields[name].alias or name)
            if isinstance(value, Form):
                self.check(value, inner)
                continue
            if (rule := _RULES.get(name)) is not None:
                self._apply(rule, value, inner)

    def _apply(self, rule: Callable[[Script, Any], None], value: Any, place: Place) -> None:
        try:
            rule(self.script, value)
        except ValueError as error:
            self.problems.append(self.document.problem(place, str(error)))

    @staticmethod
    def _given(form: Form) -> Iterator[tuple[str, Any]]:
        for name in type(form).model_fields:
            value = getattr(form, name)
            if value is not None:
                yield name, value


def _check_guest(script: Script, name: str) -> None:
    if script.host.guest(name) is None:
        names = [guest.name for guest in script.host.guests]
        raise ValueError(f"no guest {name!r} on host {script.host.name}; {closest(name, names)}")


def _check_device(script: Script, text: str) -> None:
    """A name must exist; an address may be that of a missing function."""
    if ":" in text:
        resolve_bdf(script.host, text)
    else:
        find_function(script.host, text)


def _check_errors(script: Script, names: Iterable[str]) -> None:
    for name in names:
        error_bits(name)


def _check_party(script: Script, name: str) -> None:
    if name not in HOST_PARTIES:
        _check_guest(script, name.removeprefix("supervisor-"))


def _check_target(script: Script, name: str) -> None:
    names = [*(guest.name for guest in script.host.guests), *HOST_PARTIES]
    if name not in names:
        raise ValueError(f"no process {name!r} on host {script.host.name}; {closest(name, names)}")


def _check_file(script: Script, name: str) -> None:
    path = script.path.parent / name
    try:
        script.texts[name] = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ValueError(f"cannot read {path}: {reason.lower()}") from None


def _check_regex(script: Script, text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None


def _check_label(script: Script, text: str) -> None:
    if not any(char in text for char in "*?[") and text not in LABELS:
        raise ValueError(f"no journal label {text!r}; {closest(text, sorted(LABELS))}")


def _check_devices(script: Script, names: list[str]) -> None:
    for name in names:
        _check_device(script, name)


def _check_lock(script: Script, name: str) -> None:
    if not lock_exists(name):
        known = dict.fromkeys(word for row in KINDS for word in row)
        raise ValueError(f"no lock {name!r}; {closest(name, known)}; an instance ends with its device or guest")


def _function(script: Script, device: str) -> FunctionSpec | None:
    """The function of a device; None for an address where there is none."""
    try:
        return script.host.function(resolve_bdf(script.host, device))
    except ValueError:  # told by the rule of the field
        return None


def _check_below(script: Script, device: str, what: str) -> FunctionSpec:
    """The port above a device. Raises ValueError if there is none."""
    function = _function(script, device)
    port = script.host.function(function.parent) if function is not None and function.parent else None
    if port is None:
        have = [f.name or f.bdf for f in script.host.functions if f.parent]
        raise ValueError(f"{what}: {device} has no link above it; {closest(device, have)}")
    return port


def _check_gone(script: Script, form: GoneForm) -> None:
    function = _function(script, form.device)
    if function is not None and form.how != "dead":
        _check_below(script, form.device, f"how: {form.how}")


def _check_hotplug(script: Script, form: HotplugForm) -> None:
    if _function(script, form.device) is None:
        return
    _check_below(script, form.device, "hotplug")
    if script.host.boot.hotplug == "none":
        raise ValueError(f"host {script.host.name} has no hotplug slots; its key boot.hotplug must be acpi or native")


def _check_reset(script: Script, form: ResetFaultForm) -> None:
    function = _function(script, form.device)
    if function is not None and function.kind in COLLECTORS:
        raise ValueError(f"{form.device} is a {function.kind}, which nothing resets; allowed: whatever is below a port")


FORM_RULES: dict[type[Form], Any] = {
    GoneForm: _check_gone,
    HotplugForm: _check_hotplug,
    ResetFaultForm: _check_reset,
}
_RULES: dict[str, Any] = {
    "guest": _check_guest,
    "connected": _check_guest,
    "gone": _check_guest,
    "device": _check_device,
    "devices": _check_devices,
    "mix": _check_errors,
    "target": _check_target,
    "lock": _check_lock,
    "errors": _check_errors,
    "party": _check_party,
    "file": _check_file,
    "line": _check_regex,
    "label": _check_label,
}


def resolve_bdf(host: HostSpec, text: str) -> str:
    """Address of a device called by name or address; an address need not exist. Raises ValueError."""
    return str(Sbdf.parse(text)) if ":" in text else find_function(host, text).bdf


def resolve_subject(host: HostSpec, text: str | None) -> str | None:
    """The subject of a record that a person names: a device by name or address, or any other text as it is."""
    named = next((f for f in host.functions if text and f.name == text), None)
    if named is not None:
        return named.bdf
    return str(Sbdf.parse(text)) if text is not None and re.fullmatch(r"[0-9a-fA-F:]+\.[0-7]", text) else text


def error_bits(name: str) -> tuple[int, int]:
    """An error name as (correctable bits, uncorrectable bits). Raises ValueError with the allowed names."""
    kind, bit = find_error(name)
    return (bit.mask, 0) if kind == "correctable" else (0, bit.mask)
