"""The project's files, parsed once for all tests of this folder."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protocol", "kernel_stub", "hypervisor_stub", "dom0_pciback", "domu_pcifront", "xenaer")
FOLDERS = (*PACKAGES, "tests")
RECORDINGS = tuple(ROOT / "tests" / "recorded" / kind for kind in ("linux", "xen"))  # kept as they were made
PLAIN_TEXT = (".yaml", ".yml", ".md", ".toml", ".json", ".aer", ".txt")


@cache
def modules(folders: tuple[str, ...] = FOLDERS) -> tuple[str, ...]:
    """Paths of all Python files below ``folders``, relative to the root, with forward slashes."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in found))


@cache
def texts() -> tuple[str, ...]:
    """Paths of all files that people read: sources, scripts, settings, documents, data in text form."""
    found = {ROOT / name for name in modules()}
    products = {"LICENSE", *(ROOT / ".gitignore").read_text(encoding="utf-8").split()}  # the demonstration's journal
    found |= {path for path in ROOT.glob("*") if path.is_file() and path.name not in products}
    for folder in (*FOLDERS, "docs", "hosts", "campaigns"):
        found |= {path for path in (ROOT / folder).rglob("*") if path.suffix in PLAIN_TEXT}
    for folder in ("scripts", ".ci"):
        found |= {path for path in (ROOT / folder).rglob("*") if path.is_file()}
    found |= {path for path in (ROOT / "examples").iterdir() if path.suffix in (*PLAIN_TEXT, ".c", ".py")}
    kept = (path for path in found if "__pycache__" not in path.parts and not _recorded(path))
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in kept))


def _recorded(path: Path) -> bool:
    return any(folder in path.parents for folder in RECORDINGS)


@cache
def text(name: str) -> str:
    """The text of a file; bytes that are no UTF-8 are replaced."""
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


@cache
def tree(name: str) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(text(name), filename=name)


def report(violations: list[str]) -> str:
    """One line per violation, for an assertion's message."""
    return f"{len(violations)} violation(s):\n" + "\n".join(violations)
