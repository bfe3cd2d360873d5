"""YAML with line numbers: a document as plain data, and for every place in it where it stands.

PyYAML's ``compose`` gives nodes with marks; this file turns them into dictionaries and lists, refuses
duplicate keys, and resolves plain scalars by the core schema of YAML 1.2: ``01:00.0`` stays text (YAML 1.1
reads it as a number of base 60) and ``on`` is a word.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Place = tuple[str | int, ...]
Mark = tuple[int, int]  # line and column, from 1
Model = TypeVar("Model", bound=BaseModel)

NODES_MAX = 100_000  # aliases multiply: a small file must not become a large document

_PLAIN: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"(?:|~|null|Null|NULL)"), lambda text: None),
    (re.compile(r"(?:true|True|TRUE)"), lambda text: True),
    (re.compile(r"(?:false|False|FALSE)"), lambda text: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 16)),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 8)),
    (re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"), float),
)


# What pydantic found -> what should have been there
_EXPECTED = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}


class InputError(Exception):
    """Something that a person wrote is wrong. ``problems``: one line of text for each thing found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(slots=True)
class Document:
    """A read file: ``data`` as plain Python values, ``marks`` from place to line and column (1 is the first)."""

    filename: str
    data: Any
    marks: dict[Place, Mark] = field(default_factory=dict)

    def mark(self, place: Place) -> Mark:
        """Where ``place`` stands, or the nearest place above that is written in the file."""
        while place and place not in self.marks:
            place = place[:-1]
        return self.marks.get(place, (1, 1))

    def problem(self, place: Place, text: str) -> str:
        """``file:line:column: field: text``, the form of every message about a file."""
        line, column = self.mark(place)
        where = show_place(place)
        return f"{self.filename}:{line}:{column}: {where + ': ' if where else ''}{text}"


def show_place(place: Place) -> str:
    """``hierarchy[0].devices[1].name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def closest(word: str, allowed: Iterable[str]) -> str:
    """``did you mean 'x'? allowed: x, y``: the second half of a message about an unknown word."""
    names = list(allowed)
    near = difflib.get_close_matches(str(word), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names) or 'nothing'}"


def load(path: Path) -> Document:
    """Read a YAML file. Raises InputError: no such file, not text, not YAML, empty, duplicate keys."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError([f"{path}: {(error.strerror or str(error)).lower()}"]) from error
    except UnicodeDecodeError as error:
        raise InputError([f"{path}: not a text file (UTF-8)"]) from error
    return parse(text, str(path))


def parse(text: str, filename: str) -> Document:
    """``load`` for text that is already in memory."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise InputError([_syntax(error, filename)]) from error
    if node is None:
        raise InputError([f"{filename}:1:1: the file is empty"])
    reader = _Reader(Document(filename, None))
    reader.document.data = reader.value(node, ())
    if reader.problems:
        raise InputError(reader.problems)
    return reader.document


def _syntax(error: yaml.YAMLError, filename: str) -> str:
    mark = getattr(error, "problem_mark", None)
    line, column = _mark(mark) if mark else (1, 1)
    text = getattr(error, "problem", None) or "a character that YAML does not allow"
    return f"{filename}:{line}:{column}: not YAML: {text}"


def _mark(mark: yaml.Mark) -> Mark:
    return mark.line + 1, mark.column + 1


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[str] = []
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.document.marks.setdefault(place, _mark(node.start_mark))
        self._count += 1
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open or self._count > NODES_MAX:
            self.problems.append(self.document.problem(place, "an alias that contains itself, or too many of them"))
            return None
        self._open.add(id(node))
        read = self._mapping if isinstance(node, yaml.MappingNode) else self._sequence
        result = read(node, place)
        self._open.discard(id(node))
        return result

    def _sequence(self, node: Any, place: Place) -> list[Any]:
        return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: Any, place: Place) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else str(key_node.value)
            inner = (*place, key)
            mark = line, column = _mark(key_node.start_mark)
            if key in result:
                where = f"{self.document.filename}:{line}:{column}: {show_place(inner)}"
                self.problems.append(f"{where}: key given twice, first in line {self.document.marks[inner][0]}")
                continue
            self.document.marks[inner] = mark
            result[key] = self.value(value_node, inner)
        return result


def _scalar(node: yaml.ScalarNode) -> Any:
    if node.style in ("'", '"', "|", ">") or node.tag == "tag:yaml.org,2002:str":
        return node.value
    for pattern, convert in _PLAIN:
        if pattern.fullmatch(node.value):
            return convert(node.value)
    return node.value


# -- holding a document against a model ----------------------------------------------------------
def validate(document: Document, model: type[Model]) -> tuple[Model | None, list[str]]:
    """The document as ``model``, and every problem found.

    A wrong value of an optional key is left out and the rest is held against the model again, so that the
    caller can look for mistakes of meaning in the same run. None: nothing can be made of it.
    """
    try:
        return model.model_validate(document.data), []
    except ValidationError as error:
        found = error.errors()
    problems = [_explain(document, model, item) for item in found]
    for item in found:
        _cut(document.data, item["loc"])
    try:
        return model.model_validate(document.data), problems
    except ValidationError:
        return None, problems


def _cut(data: Any, place: Place) -> None:
    """Remove the key at ``place``, if it is a key that is there."""
    for part in place[:-1]:
        try:
            data = data[part]
        except (LookupError, TypeError):
            return
    if isinstance(data, dict) and place:
        data.pop(place[-1], None)


def _explain(document: Document, model: type[BaseModel], item: Any) -> str:
    place, kind, value = item["loc"], item["type"], item["input"]
    context = item.get("ctx", {})
    if kind == "extra_forbidden":
        text = f"unknown key; {closest(place[-1], _allowed_keys(model, place[:-1]))}"
    elif kind == "missing":
        return document.problem(place[:-1], f"key {place[-1]!r} is missing")
    elif kind in ("literal_error", "enum"):
        words = re.findall(r"'([^']*)'", context["expected"])
        text = f"{value!r} is not allowed; {closest(value, words)}"
    elif kind == "value_error":
        text = str(context["error"])
    elif kind in _EXPECTED:
        text = f"should be {_EXPECTED[kind]}, not {_short(value)}"
    else:
        text = f"{item['msg'].removeprefix('Input ')}, not {_short(value)}"
    return document.problem(place, text)


def _short(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(value), repr(value)[:60])


def _allowed_keys(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that ``model`` allows at ``place`` (lists, and keys that anybody may choose, are passed through)."""
    for part in place:
        found = [f for name, f in model.model_fields.items() if part in (f.alias, name)]
        if found:
            model = _inner_model(found[0].annotation) or model
    return [f.alias or name for name, f in model.model_fields.items()]


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """The model inside ``list[Model]``, ``dict[str, Model]``, ``Model | None`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_inner_model(arg) for arg in getattr(annotation, "__args__", ()))
    return next((model for model in found if model is not None), None)
