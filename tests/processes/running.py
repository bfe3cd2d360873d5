"""A running system as tests use it: real processes, judged by their journals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from protocol.layout_aer import AER
from protocol.topology import HostSpec
from xenaer import local
from xenaer.control import ControlError
from xenaer.journal import Entry
from xenaer.run_files import system_file

AER_AT = 0x100  # first extended capability
TRANSPORTS = ("ipc", "tcp")
PATIENCE_S = 20.0  # generous: nothing here asserts that something is fast
POLL_S = 0.01


class Running:
    """One system. ``mark`` remembers the time; the other methods look at what happened since a mark."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.system = local.ProcessSystem(run)
        self.entries: list[Entry] = []
        self.description: dict[str, Any] = json.loads(system_file(run).read_text())

    # -- acting --------------------------------------------------------------------------------
    def dom0(self, verb: str, *args: Any) -> Any:
        """A control verb of dom0."""
        return self.system.ctl("dom0", verb, list(args))

    def xl(self, *words: str) -> tuple[int, str, str]:
        """One xl command: exit status, standard output, standard error."""
        code, out, err = self.system.ctl("hypervisor", "xl", list(words))
        return code, out, err

    def xl_good(self, *words: str) -> str:
        """One xl command that must succeed; its output."""
        code, out, err = self.xl(*words)
        assert code == 0, err
        return out

    def work(self, name: str, count: int = 8) -> int:
        """The workload of a guest: how many units were verified. A wrong one raises ControlError."""
        verified: dict[str, int] = self.system.ctl(name, "workload", [-1, count])
        return sum(verified.values())

    def use(self, name: str) -> None:
        """A guest's devices serve it: its workload is verified to the last unit."""
        assert self.work(name, 8) >= 8

    def status(self, name: str) -> dict[str, Any] | None:
        """What the stub knows of a guest, None if there is none."""
        found = self.system.ctl("hypervisor", "status", [])["domains"]
        return next((domain for domain in found if domain["name"] == name), None)

    def pid(self, name: str) -> int:
        """Process id of a running guest."""
        status = self.status(name)
        assert status is not None, f"{name} does not run"
        return int(status["pid"])

    def config(self, bdf: str) -> bytes:
        """Configuration space of a function, without what only has a meaning while a status bit is set."""
        data = bytearray(self.dom0("config", bdf))
        if data[AER_AT : AER_AT + 2] == b"\x01\x00":  # first error pointer and header log stay as they were
            data[AER_AT + AER.CAP] &= 0xE0
            data[AER_AT + AER.HEADER_LOG : AER_AT + AER.HEADER_LOG + 16] = bytes(16)
        return bytes(data)

    # -- looking -------------------------------------------------------------------------------
    def mark(self) -> float:
        """The time now, as journals write it: in seconds since the system's start."""
        return (time.monotonic_ns() - int(self.description["epoch"])) / 1e9

    def refresh(self) -> None:
        """Read what the journals have gained."""
        fresh = self.system.records()[0]
        if fresh:
            self.entries = sorted(self.entries + fresh, key=lambda item: float(item["t"]))

    def find(self, mark: float, label: str, subject: str | None = None, **fields: Any) -> list[Entry]:
        """Records since ``mark``; ``fields`` may name ``party`` and ``task`` too."""
        self.refresh()
        return [
            item
            for item in self.entries
            if item["t"] >= mark
            and item["label"] == label
            and subject in (None, item["subject"])
            and all(item.get(key) == value for key, value in fields.items())
        ]

    def wait(self, mark: float, label: str, subject: str | None = None, /, **fields: Any) -> Entry:
        """The first such record; fails with the last of the journal if it does not come."""
        wanted = f"{label} {subject or ''} {fields}"
        self.until(lambda: bool(self.find(mark, label, subject, **fields)), wanted)
        return self.find(mark, label, subject, **fields)[0]

    def until(self, condition: Callable[[], bool], wanted: str) -> None:
        """Wait until ``condition`` holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"did not come: {wanted}\n{self.tail()}")
            time.sleep(POLL_S)

    def tail(self, count: int = 60) -> str:
        """The last records, for the message of a failed test."""
        self.refresh()
        return "\n".join(str(item) for item in self.entries[-count:])

    def log(self, mark: float, party: str) -> list[str]:
        """Kernel log of a party since ``mark``."""
        return [item["text"] for item in self.find(mark, "printk", party=party)]

    def outcome(self, mark: float, bdf: str) -> str:
        """How the next recovery ended for a function."""
        return str(self.wait(mark, "recovery.outcome", bdf)["outcome"])

    def verdicts(self, mark: float) -> list[str]:
        """Lines of dom0's log that say how recoveries ended."""
        return [text for text in self.log(mark, "dom0") if "device recovery" in text]

    def asked(self, mark: float, bdf: str) -> list[str]:
        """Phases that pciback put to the guest of a function, in order."""
        return [item["phase"] for item in self.find(mark, "pciback.ask", bdf)]

    def callbacks(self, mark: float, name: str, count: int) -> list[str]:
        """Error callbacks of a living guest's drivers, as soon as there are ``count``."""

        def called() -> list[str]:
            return [item["phase"] for item in self.find(mark, "driver.callback", party=name)]

        self.until(lambda: len(called()) >= count, f"{count} callbacks of {name}")
        return called()

    def steps(self, mark: float, name: str, bdf: str) -> dict[str, str]:
        """What the stub did with one device of a domain when it took the domain away, and how that went."""
        self.wait(mark, "domain.destroy", name)
        return {item["step"]: item["result"] for item in self.find(mark, "kill.step", name, bdf=bdf)}

    def wait_gone(self, name: str) -> None:
        """The domain does not exist any more."""
        self.until(lambda: self.status(name) is None, f"{name} gone")

    def wait_up(self, name: str, domid_above: int = 0) -> int:
        """The guest is connected, as a domain above ``domid_above``; its domain id."""

        def up() -> bool:
            status = self.status(name)
            return status is not None and status["domid"] > domid_above and (status["be"], status["fe"]) == (4, 4)

        self.until(up, f"{name} connected")
        status = self.status(name)
        assert status is not None
        return int(status["domid"])


@contextlib.contextmanager
def running(host: HostSpec, transport: str = "ipc") -> Iterator[Running]:
    """A fresh system; afterwards nothing of it is left, or the test fails."""
    with run_directory() as run:
        with started(host, run, transport) as view:
            yield view
        assert_nothing_left(run)


@contextlib.contextmanager
def started(host: HostSpec, run: Path, transport: str = "ipc") -> Iterator[Running]:
    """A system in a given run directory; whatever is left of it is ended afterwards."""
    local.up(host, run, transport)
    try:
        view = Running(run)
        try:
            yield view
        except Exception as error:
            error.add_note(last_words(view))
            raise
        finally:
            view.system.close()
    finally:
        local.down(run)


def last_words(view: Running) -> str:
    """For whoever reads about a failed test: the launcher's log, and the journal's end."""
    log = view.run / "launcher.log"
    return f"{log.read_text() if log.exists() else 'no launcher.log'}\n{view.tail()}"


@contextlib.contextmanager
def run_directory() -> Iterator[Path]:
    """A run directory with a short path."""
    run = Path(tempfile.mkdtemp(prefix="xnr-"))
    try:
        yield run
    finally:
        shutil.rmtree(run, ignore_errors=True)


def processes_of(run: Path) -> list[int]:
    """Processes that have the run directory in their command line (forked ones inherit it) or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(run).encode() in text:
                    found.append(int(entry.name))
    return found


def assert_nothing_left(run: Path) -> None:
    """No process of the system lives, no socket file is there."""
    assert processes_of(run) == []
    assert [path for path in run.rglob("*") if path.is_socket()] == []


def refused(view: Running, name: str) -> str:
    """A guest whose workload must fail: the text that says why."""
    try:
        view.work(name)
    except ControlError as error:
        return str(error)
    raise AssertionError(f"the workload of {name} succeeded")
