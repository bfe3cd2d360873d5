"""The published JSON Schemas are those of the forms, and say yes to what is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from xenaer.boot import PACKAGE, data_dir
from xenaer.schema import schema_text, schemas
from xenaer.yaml_lines import load

DOCS = PACKAGE.parent / "docs" / "schema"


@pytest.mark.parametrize("name", sorted(schemas()))
def test_published_schema_is_not_stale(name: str) -> None:
    """Make it anew with: xenaer schema --write docs/schema."""
    assert (DOCS / name).read_text() == schema_text(schemas()[name])


def validator(name: str) -> Any:
    schema = json.loads((DOCS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", sorted(data_dir("hosts").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_hosts_fit_the_schema(path: Path) -> None:
    assert list(validator("host").iter_errors(load(path).data)) == []


@pytest.mark.parametrize("path", sorted(data_dir("campaigns").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_campaigns_fit_the_schema(path: Path) -> None:
    assert list(validator("campaign").iter_errors(load(path).data)) == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("host", {"name": "x"}),
        ("host", {"name": "x", "hierarchy": [{"root_port": "nonsense"}]}),
        ("host", {"name": "x", "hierarchy": [{"root_port": "00:1c.0", "devices": [{"name": "a"}]}]}),
        ("campaign", {"name": "x", "steps": []}),
        ("campaign", {"name": "x", "steps": [{"sleep": {"ms": 1}, "touch": {"device": "a"}}]}),
    ],
)
def test_schema_refuses(name: str, data: object) -> None:
    assert list(validator(name).iter_errors(data))
