"""JSON Schemas of the files that people write, for editors and other programs; made from the forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from xenaer.campaign.form import CampaignForm, DriverForm, VariantForm
from xenaer.campaign.steps.steps_form import StepForm
from xenaer.host_form import HostForm

FORMS: dict[str, type[BaseModel]] = {"host": HostForm, "campaign": CampaignForm}

# What the templates of a campaign are, once their axes have been put in.
TEMPLATES: dict[str, Any] = {
    "profile": VariantForm.model_fields["profile"].annotation,
    "defects": VariantForm.model_fields["defects"].annotation,
    "drivers": list[DriverForm],
    "faults": list[StepForm],
}
AXIS = {"type": "string", "pattern": r"^\$|\$\{", "description": "value of an axis"}


def schemas() -> dict[str, dict[str, Any]]:
    """File name to JSON Schema (2020-12), for everything people write."""
    return {f"{title}.schema.json": _schema(model, f"xenaer {title} file") for title, model in FORMS.items()}


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as it is stored."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write all schemas to ``folder``; returns the files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in schemas().items():
        (folder / name).write_text(schema_text(schema), encoding="utf-8")
        written.append(folder / name)
    return written


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    for name, inner in TEMPLATES.items():
        if schema["properties"].get(name, {}).pop("x-template", False):
            _make_template(schema, name, inner)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _make_template(schema: dict[str, Any], name: str, inner: Any) -> None:
    """Describe the property ``name`` as ``inner`` in which ``$axis`` may stand for any value."""
    suffix = "Template"
    found = TypeAdapter(inner).json_schema(by_alias=True, ref_template="#/$defs/{model}" + suffix)
    for title, definition in found.pop("$defs", {}).items():
        schema["$defs"][title + suffix] = _templated(definition)
    schema["properties"][name] |= _templated(found)


def _templated(schema: Any) -> Any:
    """A schema whose values may also be an axis; what a mapping has to have at all stays as it is."""
    if isinstance(schema, list):
        return [_templated(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _TEMPLATED.get(key, _same)(part) for key, part in schema.items()}


def _same(part: Any) -> Any:
    return part


def _either(schema: Any) -> Any:
    shown = {key: schema[key] for key in ("description", "title", "default") if key in schema}
    return {**shown, "anyOf": [_templated(schema), AXIS]}


_TEMPLATED: dict[str, Callable[[Any], Any]] = {
    "properties": lambda part: {name: _either(value) for name, value in part.items()},
    "items": lambda part: _either(part),
    "additionalProperties": lambda part: _either(part) if isinstance(part, dict) else part,
}
