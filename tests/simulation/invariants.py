"""What must hold whenever a system has come to rest, whatever happened before."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dom0_pciback.aer.stats import DEVICE_FILES
from kernel_stub.kernel import Kernel
from protocol.sharedinfo import PCIB_AERHANDLER
from xenaer.journal import Entry
from xenaer.simulation import SimSystem
from xenaer.simulation.invariants import findings

# What a task may wait for at rest: its next piece of work, and nothing else.
IDLE = ("xenwatch events", "errors of ", "time", "nothing, in ", "AER work of ")
ANSWERED = "answer-"
SEVERITY_FILE = {"CORRECTABLE": 0, "NONFATAL": 1, "FATAL": 2}


def violations(system: SimSystem) -> list[str]:
    """Every broken invariant as a text; empty if all hold."""
    return [f"{check.__name__}: {text}" for check in CHECKS for text in check(system)]


def _domids(system: SimSystem) -> set[int]:
    return {domain.domid for domain in system.hypervisor.machine.domains}


def _journal(system: SimSystem) -> list[Entry]:
    return system.records()[0]


def nobody_waits(system: SimSystem) -> Iterator[str]:
    """No task of dom0 or of the stub waits for a lock, an answer, or another task."""
    kernels: tuple[Kernel, ...] = (system.dom0.kernel, system.kernel)
    for kernel in kernels:
        for task in kernel.tasks:
            if task.waiting_on is None or not task.waiting_on.startswith(IDLE):
                yield f"{kernel.name}: {task}"


def nothing_of_the_dead(system: SimSystem) -> Iterator[str]:
    """No port, grant, page, connection or device bus of a domain that is gone."""
    living, machine, dom0 = _domids(system), system.hypervisor.machine, system.dom0
    ports = machine.event_channels._tables
    yield from (f"ports of domain {d}" for d in ports.keys() - living - {0})
    yield from (f"dom0 port {n} to domain {p.remote}" for n, p in ports.get(0, {}).items() if p.remote not in living)
    yield from (f"grants of domain {d}" for d in machine.grants._tables.keys() - living - {0})
    yield from (f"connection of domain {d}" for d in dom0.pciback.guests.keys() - living)
    bdfs = {p.dev.name: p.domid for p in dom0.pciback.slots.values() if p.domid is not None and p.domid not in living}
    yield from (f"{bdf} still belongs to domain {domid}" for bdf, domid in bdfs.items())
    listing = str(system.ctl("hypervisor", "xenstore-ls", ["/local/domain/0/backend/pci"]))
    yield from (f"node {row}" for row in listing.splitlines() if "aerState" in row and not living)


def the_killed_are_silent(system: SimSystem) -> Iterator[str]:
    """A guest that was reported for killing is not heard again, and none runs after its death."""
    owner: dict[str, str] = {}
    killed: set[str] = set()
    dead: set[str] = set()
    for e in _journal(system):
        label, subject = e["label"], e["subject"]
        if label == "pci.attach":
            owner[subject] = e["domain"]
        elif label == "pci.detach":
            owner.pop(subject, None)
        elif label == "kill.incident" and e["policy"] in ("destroy", "preserve"):
            killed.add(subject)
        elif label == "domain.died":
            dead.add(subject)
        elif label == "domain.create":
            killed.discard(subject)
            dead.discard(subject)
        elif label == "pciback.answer" and owner.get(subject) in killed and ANSWERED in e["situation"]:
            yield f"{owner[subject]} answered {e['phase']} for {subject} after its kill"
        elif label == "driver.callback" and e["party"] in dead:
            yield f"{e['party']} ran {e['phase']} after its death"


def one_reset_per_kill(system: SimSystem) -> Iterator[str]:
    """A kill resets each function of the domain exactly once."""
    resets: dict[tuple[str, int, str], int] = {}
    killed: dict[str, int] = {}  # name -> domain id of the incarnation that was reported
    for e in _journal(system):
        name = e["subject"]
        if e["label"] == "kill.report":
            killed[name] = e["domid"]
        elif e["label"] == "domain.create":
            killed.pop(name, None)
        elif e["label"] == "pci.attach":  # a preserved domain may get a device again
            resets = {key: n for key, n in resets.items() if key[2] != name}
        elif e["label"] == "kill.step" and e["step"] == "reset" and name in killed:
            key = (name, killed[name], e["bdf"])
            resets[key] = resets.get(key, 0) + 1
    yield from (f"domain {domid} ({name}): {bdf} reset {n} times" for (name, domid, bdf), n in resets.items() if n != 1)


def counters_equal_journal(system: SimSystem) -> Iterator[str]:
    """``aer_dev_*`` totals are the number of ``aer.error`` records with that severity."""
    told = [(e["subject"], str(e["severity"])) for e in _journal(system) if e["label"] == "aer.error"]
    for function in system.host.functions:
        if not function.aer:
            continue
        for severity, index in SEVERITY_FILE.items():
            file = list(DEVICE_FILES)[index]
            dev = next(d for d in system.dom0.core.devices.values() if d.name == function.bdf)
            total = int(system.dom0.aer.stats_text(dev, file).split()[-1])
            seen = sum(1 for subject, word in told if subject == function.bdf and word.upper() == severity)
            if total != seen:
                yield f"{function.bdf} {file}: {total}, the journal has {seen}"


def pages_at_rest(system: SimSystem) -> Iterator[str]:
    """The flags word of every live page is the AER handler bit and nothing else."""
    for domid, pdev in system.dom0.pciback.guests.items():
        if pdev.channel is not None and pdev.channel.page.data[0] != 1 << PCIB_AERHANDLER:
            yield f"flags of domain {domid}: {pdev.channel.page.data[0]:#x}"


def races(system: SimSystem) -> Iterator[str]:
    """No lost wake-up, dead page, answer of another phase, device with two owners or handed out without reset."""
    yield from findings(system)


CHECKS: tuple[Callable[[SimSystem], Iterator[str]], ...] = (
    nobody_waits,
    nothing_of_the_dead,
    the_killed_are_silent,
    one_reset_per_kill,
    counters_equal_journal,
    pages_at_rest,
    races,
)
