"""House rules that no linter checks: sizes, docstrings, marks of unfinished work, traces of one machine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.tidy.sources import PACKAGES, modules, report, text, texts, tree

FUNCTION_LINES = 60
MEDIAN_FUNCTION_LINES = 8
FILE_LINES = 450
LINE_LENGTH = 120
LONG_DATA = (".json", ".txt", ".aer")

# Files that are one table; their length follows the specification.
TABLES = frozenset(
    {
        "protocol/bits.py",
        "protocol/registers.py",
    }
)

UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work|workspace|mnt|opt/pypi)/[\w.-]+")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(name: str) -> Iterator[Function]:
    """All functions and methods of a file, nested ones too."""
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: Function) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def public(name: str) -> Iterator[tuple[str, ast.AST]]:
    """Functions and classes of a module, and methods of its public classes, whose names have no underscore."""
    for node in tree(name).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            yield from (
                (f"{node.name}.{item.name}", item)
                for item in node.body
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_")
            )
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node


def is_silent(handler: ast.ExceptHandler) -> bool:
    """``except:`` without a type, or ``except Exception`` whose body does nothing."""
    broad = handler.type is None or (
        isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")
    )
    idle = all(isinstance(node, ast.Pass | ast.Continue) for node in handler.body)
    return handler.type is None or (broad and idle) or all(isinstance(node, ast.Pass) for node in handler.body)


def lines(name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines of a file."""
    return enumerate(text(name).splitlines(), 1)


def test_functions_are_short() -> None:
    violations = [
        f"{name}:{node.lineno}: {node.name} has {length(node)} lines"
        for name in modules()
        for node in functions(name)
        if length(node) > FUNCTION_LINES
    ]
    assert not violations, report(violations)


def test_the_median_function_is_small() -> None:
    sizes = sorted(length(node) for name in modules(PACKAGES) for node in functions(name))
    assert sizes[len(sizes) // 2] <= MEDIAN_FUNCTION_LINES


def test_files_are_short() -> None:
    violations = [
        f"{name}: {text(name).count(chr(10))} lines"
        for name in modules()
        if name not in TABLES and text(name).count("\n") > FILE_LINES
    ]
    assert not violations, report(violations)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_tables_are_tables(name: str) -> None:
    """What is allowed to be long as a table holds almost no code."""
    assert sum(length(node) for node in functions(name)) < FUNCTION_LINES


def test_lines_are_short() -> None:
    """In what ruff does not read: scripts, settings, hosts, campaigns."""
    violations = [
        f"{name}:{number}: {len(line)} characters"
        for name in texts()
        if not name.endswith((*LONG_DATA, ".py", ".md"))
        for number, line in lines(name)
        if len(line) > LINE_LENGTH
    ]
    assert not violations, report(violations)


def test_nothing_is_marked_as_unfinished() -> None:
    violations = [
        f"{name}:{number}: {line.strip()}"
        for name in texts()
        for number, line in lines(name)
        if UNFINISHED.search(line)
    ]
    assert not violations, report(violations)


def test_no_traces_of_one_machine() -> None:
    violations = [
        f"{name}:{number}: {line.strip()}"
        for name in texts()
        for number, line in lines(name)
        if MACHINE_PATH.search(line)
    ]
    assert not violations, report(violations)


def test_errors_are_not_swallowed() -> None:
    violations = [
        f"{name}:{node.lineno}"
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ExceptHandler) and is_silent(node)
    ]
    assert not violations, report(violations)


def test_public_names_have_docstrings() -> None:
    violations = [
        f"{name}:{getattr(node, 'lineno', 0)}: {label}"
        for name in modules(PACKAGES)
        for label, node in public(name)
        if isinstance(node, Function | ast.ClassDef) and ast.get_docstring(node) is None
    ]
    assert not violations, report(violations)


def test_modules_have_docstrings() -> None:
    """Also those of the tests: the first line says which rules a file covers."""
    violations = [name for name in modules() if text(name).strip() and ast.get_docstring(tree(name)) is None]
    assert not violations, report(violations)


def test_only_the_operators_side_prints() -> None:
    violations = [
        f"{name}:{node.lineno}"
        for name in modules()
        if not name.startswith("xenaer/")
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not violations, report(violations)


@pytest.mark.parametrize(
    ("source", "silent"),
    [
        ("try:\n  x()\nexcept:\n  y()", True),
        ("try:\n  x()\nexcept KeyError:\n  pass", True),
        ("try:\n  x()\nexcept Exception:\n  continue", True),
        ("try:\n  x()\nexcept KeyError:\n  y()", False),
        ("try:\n  x()\nexcept KeyError:\n  continue", False),
    ],
)
def test_the_rule_about_swallowed_errors_can_fail(source: str, silent: bool) -> None:
    loop = f"for _ in z:\n  {source.replace(chr(10), chr(10) + '  ')}"
    handlers = [node for node in ast.walk(ast.parse(loop)) if isinstance(node, ast.ExceptHandler)]
    assert [is_silent(handler) for handler in handlers] == [silent]
