"""The page itself: a template, its style, its scripts and the data in one file that needs nothing else."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "page"
SCRIPTS = ("base", "figures", "matrix", "blast", "sequence", "main")
UNSAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def render(data: dict[str, Any]) -> str:
    """The HTML file."""
    script = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    parts = {
        "title": html.escape(f"{data['about']['name']}: xenaer"),
        "style": _read("page.css"),
        "data": as_script(data),
        "script": f'"use strict";\n(() => {{\n{script}}})();\n',
    }
    found = []
    for number, piece in enumerate(_read("page.html").split("@@")):  # what is put in is not looked at again
        found.append(parts[piece] if number % 2 else piece)
    return "".join(found)


def as_script(data: Any) -> str:
    """JSON that may stand in a ``script`` element whatever it says: nothing in it can end the element.

    ASCII only, so that what no UTF-8 can hold (a guest's log line may be anything) does no harm.
    """
    return json.dumps(data, separators=(",", ":"), ensure_ascii=True).translate(UNSAFE)


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
