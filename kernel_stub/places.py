"""Where an exception was raised, for people: a driver's author looks for a line of his own, not for one of ours."""

from __future__ import annotations

import sys
import traceback

OURS = frozenset({"protocol", "kernel_stub", "hypervisor_stub", "dom0_pciback", "domu_pcifront", "xenaer"})
NOT_HIS = OURS | sys.stdlib_module_names


def place_of(error: BaseException) -> tuple[str, str]:
    """Function, and ``file:line``: the last place in a user's own code, or the last of all if there is none."""
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return "nowhere", "no file:0"
    frame, line = next((found for found in reversed(frames) if _is_his(found[0].f_globals)), frames[-1])
    code = frame.f_code
    return code.co_name, f"{code.co_filename.rsplit('/', 1)[-1]}:{line}"


def _is_his(module: dict[str, object]) -> bool:
    return str(module.get("__name__", "")).partition(".")[0] not in NOT_HIS
