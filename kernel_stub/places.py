"""Where an exception was raised, for people: a driver's author looks for a line of his own, not for one of ours."""

from __future__ import annotations

import sys
import traceback
from types import FrameType

OURS = frozenset({"protocol", "kernel_stub", "hypervisor_stub", "dom0_pciback", "domu_pcifront", "xenaer"})
LONGEST = 500
NOT_HIS = OURS | sys.stdlib_module_names


class PlacedError(Exception):
    """What went wrong outside of Python: it names its place itself, as function and file."""

    def __init__(self, text: str, function: str, file: str) -> None:
        super().__init__(text)
        self.place = function, file


def said(error: BaseException) -> str:
    """What an exception says, if it can, as long as a line of a log may be."""
    try:
        text = str(error)
    except Exception as other:  # a user's exception may be wrong itself
        text = f"its text raised {type(other).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def place_of(error: BaseException) -> tuple[str, str]:
    """Function, and ``file:line``: the last place in a user's own code, or the last of all if there is none."""
    if isinstance(error, PlacedError):
        return error.place
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return "nowhere", "no file:0"
    return _shown(*next((found for found in reversed(frames) if _is_his(found[0])), frames[-1]))


def users_place(error: BaseException) -> str:
    """`` (file:line in function)`` of the last place in a user's own code; empty if there is none."""
    for found in reversed(list(traceback.walk_tb(error.__traceback__))):
        if _is_his(found[0]):
            name, line = _shown(*found)
            return f" ({line} in {name})"
    return ""


def _is_his(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] not in NOT_HIS


def _shown(frame: FrameType, line: int) -> tuple[str, str]:
    return frame.f_code.co_name, f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{line}"
