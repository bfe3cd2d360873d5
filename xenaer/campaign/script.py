"""Script files: read, checked against their host, ready to run.

The form is in ``xenaer.campaign.steps_form``; ``xenaer.campaign.play`` carries a script out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.bits import find_error
from protocol.ids import Sbdf
from protocol.labels import LABELS
from protocol.topology import HostSpec
from xenaer.campaign.steps_form import ScriptForm
from xenaer.form import Form
from xenaer.host import HostError, find_function, load_host
from xenaer.yaml_lines import Document, InputError, Place, closest, load, validate


class ScriptError(InputError):
    """A script is wrong; ``problems`` has one ``file:line:column: field: text`` for each mistake."""


@dataclass(slots=True)
class Script:
    """A checked script, the host it is for, and the text of the aer-inject files it names."""

    form: ScriptForm
    host: HostSpec
    path: Path
    texts: dict[str, str]


def load_script(path: str | Path, host: str | Path | None = None) -> Script:
    """Read and check a script and its host (``host`` instead of the one it names).

    Raises ScriptError or HostError with everything that is wrong.
    """
    try:
        document = load(Path(path))
        form, problems = validate(document, ScriptForm)
    except InputError as error:
        raise ScriptError(error.problems) from error
    spec = _load_host(document, form, Path(path), host, problems)
    if form is not None and spec is not None:
        script = Script(form, spec, Path(path), {})
        problems += check_script(document, script)
        if not problems:
            return script
    raise ScriptError(problems)


def _load_host(
    document: Document, form: ScriptForm | None, path: Path, option: str | Path | None, problems: list[str]
) -> HostSpec | None:
    if option is None and form is not None and form.host is None:
        problems.append(document.problem((), "key 'host' is missing; name a host file there or with --host"))
    named = path.parent / form.host if form is not None and form.host is not None else None
    source = Path(option) if option is not None else named
    if source is None:
        return None
    try:
        return load_host(source)
    except HostError as error:
        problems += error.problems
        return None


def check_script(document: Document, script: Script) -> list[str]:
    """What a script says about things that its host does not have, or that cannot be read."""
    checker = _Checker(document, script)
    for index, step in enumerate(script.form.steps):
        action = step.action
        checker.check(getattr(step, action), ("steps", index, action.replace("_", "-")))
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


def error_bits(name: str) -> tuple[int, int]:
    """An error name as (correctable bits, uncorrectable bits). Raises ValueError with the allowed names."""
    kind, bit = find_error(name)
    return (bit.mask, 0) if kind == "correctable" else (0, bit.mask)
