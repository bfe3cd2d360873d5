"""docs/SECURITY.md: every sentence names a test, and every test that it names exists."""

from __future__ import annotations

import ast
import re

import pytest

from protocol.limits import GUEST_LINKS, HANDSHAKE_MS, KIB, LINK_LIMITS, MIB
from tests.tidy.sources import ROOT, text, tree

PAGE = "docs/SECURITY.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """The table rows of the page that should name a test: those of tables with a column called test."""
    found: list[list[str]] = []
    inside = False
    for line in text(PAGE).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[-1] == "test":
            inside = True
        elif inside and not set(line) <= set("|- "):
            found.append(cells)
    return found


def test_every_sentence_names_a_test() -> None:
    assert len(rows()) > 30
    assert [cells[0] for cells in rows() if not NAMED.search(cells[-1]) and cells[-1] != "the same"] == []


@pytest.mark.parametrize(("name", "function"), sorted(set(NAMED.findall(text(PAGE)))))
def test_the_named_tests_exist(name: str, function: str) -> None:
    assert (ROOT / name).is_file()
    functions = [node.name for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef)]
    assert function in functions


@pytest.mark.parametrize("kind", GUEST_LINKS)
def test_the_bounds_are_those_of_the_code(kind: str) -> None:
    limit = LINK_LIMITS[kind]
    size = f"{limit.message * limit.queue / MIB:g} MiB"
    assert f"{limit.queue} messages of {limit.message // KIB} KiB: {size}" in text(PAGE)


def test_the_times_are_those_of_the_code() -> None:
    assert f"said nothing after {HANDSHAKE_MS // 1000} s" in text(PAGE)
