"""From what was seen to the keys of a recorded Xen case (golden/xen/README.md, "How to compare"; errata 3, 4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

from dom0_pciback.pciback.ask import OP_OF_PHASE
from dom0_pciback.pciback.profile import DEFAULT_RESULT
from protocol.ers import ChannelState, ErsResult, Phase
from xenaer.conform.xen_case import XenCase
from xenaer.conform.xen_perform import XenSeen

NS_PER_S = 1_000_000_000
DOM0_LINES = ("pcieport ", "pciback ", "xen-pciback ")  # R13: lines that begin so
GUEST_LINES = ("pcifront ", "aerprobe ")
NOT_RECORDED = re.compile(r"\S+ \S+: (?:save|restore) config 0x")  # R14: the recorder left them out
CALLBACK = re.compile(r"aerprobe \S+: aerprobe CB (.*)")
DOM0 = "dom0"


def emit(seen: XenSeen, case: XenCase) -> dict[str, Any]:
    """All compared keys of the case, as the recording has them."""
    guest = case.guest.name if case.guest is not None else None
    console = lines(seen, guest, GUEST_LINES)
    summary = {
        "verdict": verdicts(seen),
        "callbacks": [found[1] for _, text in console if (found := CALLBACK.fullmatch(text))],
        "pciback_steps": pciback_steps(seen),
        "aerState": [line for line in seen.xenstore if "/aerState " in line],
        "guest_in_xl_list_after": seen.state is not None,
        "guest_state_after": seen.state,
    }
    after = {"xenstore": seen.xenstore, "regs": seen.registers, "aer_stats": seen.counters}
    dmesg = [(time, text) for time, text in lines(seen, DOM0, DOM0_LINES) if not NOT_RECORDED.match(text)]
    return {
        "summary": summary,
        "dom0_dmesg": [stamped(seen, time, text) for time, text in dmesg],
        "domU_console": squeezed(seen, console),
        "after": after,
    }


# -- log lines -----------------------------------------------------------------------------------
def lines(seen: XenSeen, party: str | None, beginnings: tuple[str, ...]) -> list[tuple[int, str]]:
    """(time, text) of a party's log lines that begin with one of ``beginnings``."""
    found = [(record[0], str(record[5])) for who, record in seen.records if who == party and record[2] == "printk"]
    return [(time, text) for time, text in found if text.startswith(beginnings)]


def stamped(seen: XenSeen, time: int, text: str) -> str:
    """A line as the kernel prints it, seconds since the injection."""
    return f"[{(time - seen.begin) / NS_PER_S:12.6f}] {text}"


def squeezed(seen: XenSeen, found: Iterable[tuple[int, str]]) -> list[str]:
    """Runs of one message become one line with ``(xN)``, as in the recordings."""
    console = []
    for text, run in groupby(found, key=lambda line: line[1]):
        times = [time for time, _ in run]
        console.append(stamped(seen, times[0], text) + (f" (x{len(times)})" if len(times) > 1 else ""))
    return console


# -- steps -----------------------------------------------------------------------------------------
def verdicts(seen: XenSeen) -> list[str]:
    """``successful`` or ``failed`` of each recovery that has ended."""
    return [str(record[5]) for who, record in seen.records if who == DOM0 and record[2] == "recovery.end"]


def pciback_steps(seen: XenSeen) -> list[str]:
    """What pciback and the recovery did, in order, with arguments and results."""
    found: list[str] = []
    for who, record in seen.records:
        make = STEPS.get(record[2])
        if who == DOM0 and make is not None:
            found += make(*record[4:])
    return found


def _name(phase: str) -> str:
    return f"bk_error_{phase}" if phase == Phase.RESUME else f"bk_{phase}"


def _call(phase: str, state: int) -> list[str]:
    return [_name(phase) + (f" state={int(state)}" if phase == Phase.ERROR_DETECTED else "")]


def _return(phase: str, result: int) -> list[str]:
    return [] if phase == Phase.RESUME else [f"{_name(phase)}_ret ret={int(result)}"]


def _ask(phase: str, state: int) -> list[str]:
    step = Phase(phase)
    return [f"aer_op state={int(state)} cmd={int(OP_OF_PHASE[step])} dflt={int(DEFAULT_RESULT[step])}"]


def _answer(phase: str, answer: int, situation: str) -> list[str]:
    value = DEFAULT_RESULT[Phase(phase)] if situation == "timeout" else answer
    return [f"aer_op_ret ret={int(value)}"]


def _result(name: str) -> int:
    return int(ErsResult[name]) if name in ErsResult.__members__ else int(name)


STEPS: dict[str, Callable[..., list[str]]] = {
    "recovery.begin": lambda state: [f"recovery state={int(ChannelState[state])}"],
    "recovery.end": lambda result, verdict: [f"recovery_ret ret={_result(result)}"],
    "pciback.call": _call,
    "pciback.return": _return,
    "pciback.ask": _ask,
    "pciback.answer": _answer,
    "pciback.kill": lambda: ["kill_domain"],
    "aer.root_reset_begin": lambda: ["root_reset"],
    "aer.root_reset": lambda result: [f"root_reset_ret ret={_result(result)}"],
}
