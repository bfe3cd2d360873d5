"""Steps that are played in order: checked against their host.

Their forms are in ``steps_form``; ``file`` reads them; ``play`` carries them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.bits import find_error
from protocol.ids import Sbdf
from protocol.labels import LABELS
from protocol.topology import HostSpec
from xenaer.campaign.steps_form import StepForm
from xenaer.form import Form
from xenaer.host import find_function
from xenaer.yaml_lines import Document, InputError, Place, closest


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
    return checker.problems


class _Checker:
    def __init__(self, document: Document, script: Script) -> None:
        self.document = document
        self.script = script
        self.problems: list[str] = []

    def check(self, form: Form, place: Place) -> None:
        """Check the fields of ``form`` that have a rule in ``_RULES``, and the forms inside it."""
        for name, value in self._given(form):
            inner = (*place, name.rstrip("_"))
            if isinstance(value, Form):
                self.check(value, inner)
                continue
            rule = _RULES.get(name)
            if rule is None:
                continue
            try:
                rule(self.script, value)
            except ValueError as error:
                self.problems.append(self.document.problem(inner, str(error)))

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


def _check_errors(script: Script, names: list[str]) -> None:
    for name in names:
        error_bits(name)


def _check_party(script: Script, name: str) -> None:
    if name not in ("dom0", "hypervisor"):
        _check_guest(script, name)


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


_RULES: dict[str, Any] = {
    "guest": _check_guest,
    "connected": _check_guest,
    "gone": _check_guest,
    "device": _check_device,
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
