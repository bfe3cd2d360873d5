"""JSON Schemas of the files that people write, for editors and other programs; made from the forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from xenaer.campaign.steps_form import ScriptForm
from xenaer.host_form import HostForm

FORMS: dict[str, type[BaseModel]] = {"host": HostForm, "script": ScriptForm}


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
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
