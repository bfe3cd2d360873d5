"""The mutant's process from outside: it is told what to hunt, watched, and killed when a case does not come back."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgpack

from xenaer.campaign.case import ID_DIGITS, Outcome
from xenaer.campaign.form import MutantsForm
from xenaer.campaign.run.heartbeat import Memory
from xenaer.campaign.run.wire import unframed

BOOT = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['path']; "
    "from xenaer.campaign.mutants.child import main; main(order)"
)
POLL_S = 0.2
START_LIMIT_S = 120.0  # without any sign of a case
READ_SIZE = 1 << 18
STANDARD_ERROR = 2


@dataclass(slots=True)
class Hunted:
    """What came of a mutant. ``found`` as ``hunt`` says it, None: nothing; ``broken``: why nothing can be said."""

    found: dict[str, Any] | None = None
    played: dict[str, int] = field(default_factory=dict)
    broken: str = ""


def hunted(label: str, file: Path, form: MutantsForm) -> Hunted:
    """Have a process of its own hunt the mutant ``label``; it has ended when this returns."""
    memory, (answers, theirs) = Memory.make(), os.pipe()
    try:
        with tempfile.TemporaryFile() as errors:
            order = {
                "path": sys.path, "mutant": label, "file": str(file), "form": form.model_dump(mode="json"),
                "parent": os.getpid(), "memory": memory.fd, "answers": theirs,
            }  # fmt: skip
            child = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(order)],
                pass_fds=[memory.fd, theirs], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
            )  # fmt: skip
            os.close(theirs)
            try:
                return _Watch(child, memory, answers, errors).until_it_ends()
            finally:
                child.kill()
                child.wait()
    finally:
        os.close(answers)
        memory.close()


class _Watch:
    """The same guard as a pool has of its workers."""

    def __init__(self, child: subprocess.Popen[bytes], memory: Memory, answers: int, errors: IO[bytes]) -> None:
        self._child = child
        self._memory = memory
        self._answers = answers
        self._errors = errors
        self._data = bytearray()
        self._campaign = ""
        self._limit_s = START_LIMIT_S
        self._idle_since_s = time.monotonic()
        self._result: Hunted | None = None

    def until_it_ends(self) -> Hunted:
        """Listen until the last word, the end of the process, or the end of patience."""
        while self._result is None:
            if select.select([self._answers], [], [], POLL_S)[0]:
                data = os.read(self._answers, READ_SIZE)
                if not data:
                    return self._last_words()
                self._data += data
                self._listen()
            elif (overdue := self._overdue()) is not None:
                return overdue
        return self._result

    def _listen(self) -> None:
        messages, used = unframed(self._data)
        del self._data[:used]
        for message in map(msgpack.unpackb, messages):
            if "campaign" in message:
                self._campaign, self._limit_s = message["campaign"], message["limit_s"]
                self._idle_since_s = time.monotonic()
            else:
                self._result = Hunted(message["found"], message["played"])

    def _overdue(self) -> Hunted | None:
        beat, now_s = self._memory.beat(), time.monotonic()
        if beat is None:
            late = now_s - self._idle_since_s > START_LIMIT_S
            return Hunted(broken=f"nothing was heard of it for {START_LIMIT_S:g} s") if late else None
        self._idle_since_s = now_s
        if now_s - beat.begin_s <= self._limit_s * beat.runs:
            return None
        return self._ended(Outcome.HANG, beat.number, f"no result within {self._limit_s:g} s of real time")

    def _last_words(self) -> Hunted:
        """It has ended without a result: in a case, which is a harness error of that, or elsewhere."""
        status, beat = self._child.wait(), self._memory.beat()
        if beat is not None:
            text = f"the worker ended with exit status {status}"
            return self._ended(Outcome.HARNESS_ERROR, beat.number, text)
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return Hunted(broken=f"it ended with exit status {status}: {said[-1] if said else 'without a word'}")

    def _ended(self, outcome: Outcome, number: int, text: str) -> Hunted:
        return Hunted({
            "campaign": self._campaign, "how": "case", "case": f"{number:0{ID_DIGITS}}", "outcome": outcome.value,
            "problem": text, "text": text, "digest": "", "journal": None, "guests": {},
        })  # fmt: skip
