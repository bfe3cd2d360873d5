"""A host for tests of drivers: started, broken and looked at from plain Python, in virtual time or as processes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from protocol.topology import HostSpec
from xenaer.boot import data_dir
from xenaer.campaign.form import DriverForm, VariantForm
from xenaer.campaign.steps.judge import list_state, recovery_outcome
from xenaer.campaign.steps.play import xl
from xenaer.campaign.steps.script import error_bits, resolve_bdf
from xenaer.campaign.steps.system import System
from xenaer.campaign.variant import apply_variant
from xenaer.host import find_function, load_host
from xenaer.journal import Entry
from xenaer.story import Story

WORLDS = ("simulated", "processes")
SETTLE_MS = 2_000.0  # a recovery with a reset, in virtual time; a mute guest takes longer: settle(ms=400_000)
POLL_MS = 20.0


class XenHost:
    """A running host. ``host``: a file, the name of a shipped one, or a HostSpec.

    ``drivers`` puts other drivers in: device name to a class of ``PciDriver``, its ``module:Class``, or an external
    program (``program:./mydriver --flag``, from the working directory). A class that is
    no member of its module (one defined inside a test) is found all the same, in the world ``simulated`` only.
    Raises HostError, ValueError.
    """

    def __init__(
        self,
        host: str | Path | HostSpec = "one-nic",
        *,
        world: str = "simulated",
        drivers: Mapping[str, Any] | None = None,
        profile: str | None = None,
        defects: Sequence[str] | None = None,
    ) -> None:
        if world not in WORLDS:
            raise ValueError(f"no world {world!r}; allowed: {', '.join(WORLDS)}")
        self.world = world
        self.host = _variant(_load(host), drivers or {}, profile, defects)
        self.entries: list[Entry] = []
        self._cursor: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.system: System = self._start()

    def _start(self) -> System:
        if self.world == "simulated":
            from xenaer.simulation.system import SimSystem  # noqa: PLC0415 - loads all roles

            return SimSystem(self.host)
        from xenaer import local  # noqa: PLC0415

        self._folder = tempfile.TemporaryDirectory(prefix="xenaer-", ignore_cleanup_errors=True)
        local.up(self.host, Path(self._folder.name), "ipc", mine=True)
        return local.ProcessSystem(Path(self._folder.name))

    def __enter__(self) -> XenHost:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        self.system.close()
        if self._folder is not None:
            from xenaer import local  # noqa: PLC0415

            local.down(Path(self._folder.name))
            self._folder.cleanup()
            self._folder = None

    # -- what happens ------------------------------------------------------------------------------
    def inject(self, device: str, *errors: str, settle_ms: float = SETTLE_MS) -> str:
        """The hardware of ``device`` detects ``errors`` (names as in the log); how its recovery ended."""
        bits = [error_bits(name) for name in errors]
        cor, uncor = (sum({pair[index] for pair in bits}) for index in (0, 1))
        begin = len(self.journal())
        self.system.ctl("dom0", "inject", [self.bdf(device), cor, uncor, [0, 0, 0, 0]])
        self.settle(settle_ms)
        return recovery_outcome(self.journal()[begin:], self.bdf(device), self.host)

    def settle(self, ms: float = SETTLE_MS) -> None:
        """Let so much time pass; among processes, no longer than until nothing happens any more."""
        if self.world == "simulated":
            self.system.advance(ms)
            return
        waited, known = 0.0, -1
        while waited < ms and (known != len(self.journal()) or self._busy()):
            known = len(self.entries)
            self.system.advance(POLL_MS)
            waited += POLL_MS

    def _busy(self) -> bool:
        story = Story(self.host, lambda line: None)
        story.feed(self.entries)
        return story.busy

    def workload(self, guest: str, units: int = 4) -> dict[str, int]:
        """Traffic through all devices of a guest: device to verified units. Raises ControlError: it does not run."""
        return dict(self.system.ctl(guest, "workload", [-1, units]))

    def xl(self, *words: str) -> str:
        """An ``xl`` command; what it printed. Raises ControlError, ValueError if it failed."""
        status, out, err = xl(self.system, [self._word(word) for word in words])
        if status:
            raise ValueError((err or out).strip() or f"xl {' '.join(words)}: status {status}")
        return out

    def _word(self, word: str) -> str:
        named = next((f.bdf for f in self.host.functions if f.name and f.name == word), None)
        return named or word

    # -- what is seen ------------------------------------------------------------------------------
    def bdf(self, device: str) -> str:
        """Address of a device called by name or address. Raises ValueError."""
        return resolve_bdf(self.host, device)

    def journal(self) -> list[Entry]:
        """All records so far."""
        new, self._cursor = self.system.records(self._cursor)
        self.entries += new
        return self.entries

    def log(self, party: str = "dom0") -> list[str]:
        """The kernel log of dom0 or of a guest."""
        return [str(e["text"]) for e in self.journal() if e["label"] == "printk" and e["party"] == party]

    def calls(self, guest: str) -> list[tuple[str, str]]:
        """(phase, answer) of every error handler that was called in a guest, in order."""
        found = [e for e in self.journal() if e["label"] == "driver.callback" and e["party"] == guest]
        return [(str(e["phase"]), str(e["answer"])) for e in found]

    def state(self, guest: str) -> str:
        """``running``, ``paused``, ``shutdown`` or ``absent``."""
        status, out, _ = xl(self.system, ["list", guest])
        return list_state(out, guest) if status == 0 else "absent"

    def story(self) -> str:
        """What has happened, as text for people."""
        return story_text(self.host, self.journal())


def story_text(host: HostSpec, entries: list[Entry]) -> str:
    """Recoveries and kills as ladders, dom0 on the left and the guest on the right."""
    lines: list[str] = []
    story = Story(host, lambda line: lines.append(line.plain.rstrip()))
    story.feed(entries)
    return "\n".join(lines)


def _load(host: str | Path | HostSpec) -> HostSpec:
    if isinstance(host, HostSpec):
        return host
    shipped = data_dir("hosts") / f"{host}.yaml"
    return load_host(shipped if shipped.exists() and not Path(host).exists() else host)


def _variant(
    host: HostSpec, drivers: Mapping[str, Any], profile: str | None, defects: Sequence[str] | None
) -> HostSpec:
    given = {"profile": profile, "defects": None if defects is None else list(defects)}
    form = VariantForm.model_validate({key: value for key, value in given.items() if value is not None})
    for device, driver in drivers.items():
        bdf = find_function(host, device).bdf
        guest = next((g.name for g in host.guests if bdf in [entry.bdf for entry in g.devices]), None)
        if guest is None:
            raise ValueError(f"no guest has {device}")
        name = driver if isinstance(driver, str) else register(driver)
        form.drivers.append(DriverForm.model_validate({"guest": guest, "device": device, "driver": name}))
    return apply_variant(replace(host), form, Path.cwd())


def register(driver: type) -> str:
    """The ``module:Class`` under which a driver's class is found, also if it stands inside a function."""
    module = sys.modules[driver.__module__]
    if getattr(module, driver.__name__, None) is not driver:
        setattr(module, driver.__name__, driver)
    return f"{driver.__module__}:{driver.__name__}"
