"""Functions that play cases in the tests of the campaign's engine; a worker finds them by name.

A recipe here is a short program: ``{"do": WORD, ...}``. Every result depends on recipe and payload alone.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xenaer.campaign.case import CaseResult, Effect, Outcome, Recipe, Task, case_id, recipe_stratum, recipe_text


def play(payload: bytes, tasks: list[Task]) -> list[CaseResult]:
    """Play cases as their recipes say."""
    return [_play(payload, task) for task in tasks]


def _play(payload: bytes, task: Task) -> CaseResult:
    word = task.recipe.get("do", "pass")
    DEEDS[word](task.recipe)
    text = recipe_text(task.recipe)
    digest = hashlib.blake2b(payload + text.encode(), digest_size=16).hexdigest()
    good = word != "fail"
    value = int(digest[:4], 16)
    return CaseResult(
        number=task.number,
        case_id=case_id(task.number, text),
        stratum=recipe_stratum(task.recipe),
        outcome=Outcome.RECOVERED if good else Outcome.LOST,
        good=good,
        text="" if good else "the guest was lost",
        problems=[] if good else ["expected recovered", "found lost & <gone>\x00"],
        effect=Effect(injected=True, device=bool(value & 1), core=bool(value & 2)),
        guests={"domu2": "untouched", "domu1": "recovered"},
        phases={"error_detected": value / 7, "total": value / 3},
        coverage=frozenset({f"row/{value % 7}", "row/all"}),
        digest=digest,
        journal=digest.encode() * 4 if task.keep or not good else None,
        feedback={"value": value, "new": [value % 3]},
    )


# -- what a recipe may do --------------------------------------------------------------------------
def _pass(recipe: Recipe) -> None:
    """Nothing else."""


def _spin(recipe: Recipe) -> None:
    """Work for ``ms`` milliseconds of processor time."""
    end_s = time.process_time() + recipe["ms"] / 1000
    while time.process_time() < end_s:
        pass


def _hang(recipe: Recipe) -> None:
    """Never return, and let nothing in between."""
    while True:
        time.sleep(1000)


def _die_once(recipe: Recipe) -> None:
    """Die, unless ``mark`` says that this happened already."""
    mark = Path(recipe["mark"])
    if not mark.exists():
        mark.touch()
        die()


def _raise(recipe: Recipe) -> None:
    raise ValueError("the driver's own mistake")


def _exit(recipe: Recipe) -> None:
    sys.exit(3)


def _count(recipe: Recipe) -> None:
    """Leave a line in ``file`` for every time that the case is played."""
    with Path(recipe["file"]).open("a") as file:
        file.write("x\n")


DEEDS: dict[str, Callable[[Recipe], None]] = {
    "pass": _pass,
    "fail": _pass,
    "spin": _spin,
    "sleep": lambda recipe: time.sleep(recipe["ms"] / 1000),
    "hang": _hang,
    "die": lambda recipe: die(),
    "die-once": _die_once,
    "raise": _raise,
    "exit": _exit,
    "count": _count,
}


# -- calls for a pool ------------------------------------------------------------------------------
def double(number: int) -> int:
    """Twice ``number``."""
    return 2 * number


def pid_after(seconds: float) -> int:
    """The worker's process id, after a while."""
    time.sleep(seconds)
    return os.getpid()


class AwkwardError(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("awkward")
        self.reason: Any = lambda: None


def raise_awkward() -> None:
    """Raise what cannot be sent."""
    raise AwkwardError


_marks: list[bool] = []


def mark() -> None:
    """Remember in this process that this was called."""
    _marks.append(True)


def marked() -> bool:
    """Whether ``mark`` was called in this process, once."""
    return _marks == [True]


def die() -> None:
    """SIGKILL for this process."""
    os.kill(os.getpid(), signal.SIGKILL)
