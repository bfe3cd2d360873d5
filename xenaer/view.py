"""A running script on a console: the hierarchy, what happens as it happens, a summary.

On a terminal it is coloured and has a status line; when piped it is plain lines.
"""

from __future__ import annotations

import heapq
import math
import time
from types import TracebackType

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from protocol.topology import FunctionSpec, HostSpec
from xenaer.campaign.steps.judge import describe
from xenaer.campaign.steps.play import StepResult
from xenaer.campaign.steps.script import Script
from xenaer.campaign.steps.steps_form import PASSIVE, StepForm
from xenaer.journal import Entry
from xenaer.story import WIDTH, Story, ms, short

HOLD_S = 0.05
KIND_WORDS = {
    "root_port": "root port",
    "upstream_port": "switch",
    "downstream_port": "downstream port",
    "pcie_pci_bridge": "bridge",
    "rciep": "integrated endpoint",
    "event_collector": "event collector",
    "nic": "network device",
    "block": "block device",
    "plain": "device",
}


def hierarchy_lines(host: HostSpec) -> list[Text]:
    """The topology as a tree, with the guest and the guest's driver beside each device."""
    owner = {a.bdf: (guest.name, a.driver.driver) for guest in host.guests for a in guest.devices}
    lines: list[Text] = []

    def show(function: FunctionSpec, indent: str, branch: str) -> None:
        kind = KIND_WORDS[function.model if function.kind == "endpoint" else function.kind]
        line = Text()
        line.append(f"  {indent}{branch}", style="dim")
        line.append(f"{short(function.bdf)} ", style="bold" if function.kind == "endpoint" else "")
        line.append(f"{function.name or kind}", style="bold cyan" if function.name else "dim")
        if function.name:
            line.append(f"  {kind}", style="dim")
        if function.bdf in owner:
            guest, driver = owner[function.bdf]
            line.append(f"  → {guest}", style="green")
            line.append(f" ({driver or 'no driver'})", style="dim")
        lines.append(line)
        below = [f for f in host.functions if f.parent == function.bdf]
        inner = indent + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        for index, child in enumerate(below):
            show(child, inner, "└─ " if index == len(below) - 1 else "├─ ")

    for function in host.functions:
        if function.parent == "":
            show(function, "", "")
    idle = [guest.name for guest in host.guests if not guest.devices]
    if idle:
        lines.append(Text(f"  without a device: {', '.join(idle)}", style="dim"))
    return lines


def summary_table(story: Story) -> Table | None:
    """Recoveries and kills with their times; None if there were none."""
    if not story.recoveries and not story.kills:
        return None
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for title in ("", "device", "guest", "phases asked", "outcome"):
        table.add_column(title)
    table.add_column("time", justify="right")
    for recovery in story.recoveries:
        style = "green" if recovery.outcome == "recovered" else "red"
        phases = ", ".join(dict.fromkeys(recovery.phases)) or "-"
        took = ms(recovery.end - recovery.begin).strip() if recovery.end else "-"
        outcome = Text(recovery.outcome, style=style)
        table.add_row("error", short(recovery.bdf), recovery.guest or "-", phases, outcome, took)
    for kill in story.kills:
        took = ms(kill.end - kill.begin).strip() if kill.end else "-"
        table.add_row("kill", "-", kill.guest, f"{len(kill.steps)} steps", Text(kill.policy, style="red"), took)
    return table


def step_line(result: StepResult) -> Text:
    """A step as one line: actions bold, what was only looked at dim, failures red with the reason."""
    line = Text()
    line.append(f"{result.number:3} ", style="dim")
    line.append("✔ " if result.good else "✘ ", style="bold green" if result.good else "bold red")
    line.append(result.name, style=("dim" if result.action in PASSIVE else "bold") if result.good else "bold red")
    if result.text and result.action in ("workload", "touch", "inject", "attach"):
        line.append(f"  {result.text}", style="dim")
    elif not result.good:
        line.append(f": {result.text}", style="red")
    return line


class View:
    """A running script on a console; use it as a context manager around ``Runner.run``."""

    def __init__(self, script: Script, console: Console | None = None) -> None:
        self.console = console if console is not None else make_console()
        self.script = script
        self.story = Story(script.host, self.line)
        self._status: Status | None = None
        self._held: list[Text] = []  # expectations that held while a ladder is being drawn
        self._queue: list[tuple[float, int, float, Entry | StepResult]] = []  # journal time, serial, arrival, what
        self._serial = 0
        self._newest = 0.0

    def __enter__(self) -> View:
        script, host = self.script, self.script.host
        self.console.rule(f"xenaer · {script.name} · host {host.name}, profile {host.profile}", style="dim")
        if script.about:
            self.console.print(Text(script.about.strip(), style="italic"))
        self.console.print()
        for line in hierarchy_lines(host):
            self.line(line)
        self.console.print()
        if self.console.is_terminal:
            self._status = self.console.status("starting")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._tell(math.inf)
        self._release()
        if self._status is not None:
            self._status.stop()

    def records(self, entries: list[Entry]) -> None:
        """Records have arrived. They are told ``HOLD_S`` later, because another party's may still be on the way."""
        for item in entries:
            self._newest = max(self._newest, float(item["t"]))
            self._wait(float(item["t"]), item)
        self._tell(time.monotonic() - HOLD_S)

    def step(self, result: StepResult) -> None:
        """A step has ended; it is told after the records that were there."""
        self._wait(self._newest, result)

    def _wait(self, t: float, item: Entry | StepResult) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (t, self._serial, time.monotonic(), item))

    def _tell(self, arrived_before: float) -> None:
        """Tell, in the order of the journal's time, what arrived before that moment."""
        while self._queue and self._queue[0][2] <= arrived_before:
            item = heapq.heappop(self._queue)[3]
            if isinstance(item, StepResult):
                self._tell_step(item)
            else:
                self.story.feed([item])
            if not self.story.busy:
                self._release()

    def _tell_step(self, result: StepResult) -> None:
        """What was only looked at does not interrupt a ladder."""
        self._held.append(step_line(result))
        if not (result.good and result.action in PASSIVE):
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for text in held:
            self.story.interrupted()
            self.line(text)

    def line(self, text: Text) -> None:
        """Print one finished line, cut at the width."""
        self.console.print(text, overflow="ellipsis", no_wrap=True, crop=True)

    def begin(self, step: StepForm, number: int) -> None:
        """A step begins."""
        if self._status is not None:
            self._status.update(f"{step.name or describe(step)} …")

    def summary(self, results: list[StepResult], journal: str) -> None:
        """The end: figures, the verdict, and where the journal is."""
        self.console.print()
        self.console.rule("summary", style="dim")
        table = summary_table(self.story)
        if table is not None:
            self.console.print(table)
            self.console.print()
        good, total = sum(result.good for result in results), len(self.script.steps)
        verdict = Text(f"  {good} of {total} steps as expected", style="bold green" if good == total else "bold red")
        self.console.print(verdict)
        if journal:
            self.console.print(Text(f"  journal: {journal}", style="dim"), soft_wrap=True)


def make_console() -> Console:
    """A console on standard output, at most ``WIDTH`` columns wide; exactly that when it is no terminal."""
    console = Console(highlight=False)
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    return console
