"""What no order of events may lead to; each check reads the journal or the system at rest.

Deadlock and lock order are in ``locks``. The texts are the same whatever the order, so that orders with the same
finding are counted together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from protocol.sharedinfo import PCIB_ACTIVE, PCIF_ACTIVE
from xenaer.journal import Entry
from xenaer.simulation.system import SimSystem

BUSES = ("bus", "dpc")  # methods whose subject is the port
SERVED, CONNECTS = "schedule aer frontend job", "Installing PCI frontend"
LATE_S = 60.0  # nothing but a lost wake-up keeps an answer so long from who waits for it
SLACK_S = 1.0  # an answer that came so long before the end of a wait was not late


def findings(system: SimSystem) -> list[str]:
    """Every broken invariant as a text; empty if all hold."""
    entries = system.records()[0]
    return list(dict.fromkeys(text for check in CHECKS for text in check(system, entries)))


def _questions(entries: list[Entry]) -> Iterator[tuple[Entry, Entry | None, list[Entry]]]:
    """Each question of pciback, its end, and what happened in between."""
    for index, entry in enumerate(entries):
        if entry["label"] != "pciback.ask":
            continue
        between: list[Entry] = []
        end = None
        for later in entries[index + 1 :]:
            if later["label"] == "pciback.answer" and later["subject"] == entry["subject"]:
                end = later
                break
            between.append(later)
        yield entry, end, between


def owners(entries: list[Entry]) -> dict[str, str]:
    """The last guest of each function."""
    return {str(e["subject"]): str(e["domain"]) for e in entries if e["label"] == "pci.attach"}


def dom0_lives(system: SimSystem, entries: list[Entry]) -> Iterator[str]:
    """No task of dom0 dies of a bug."""
    dead = {str(e["subject"]) for e in entries if e["label"] == "kernel.oops" and e["party"] == "dom0"}
    yield from (f"dom0 crashes in {name}" for name in sorted(dead))


class _Guests:
    """What guests are doing, entry by entry: only one that runs and is idle must notice a request."""

    STOPS = ("domain.pause", "domain.shutdown", "domain.died", "domain.destroy")

    def __init__(self) -> None:
        self.idle: set[str] = set()

    def see(self, e: Entry) -> None:
        """One more entry."""
        label, subject, party = e["label"], str(e["subject"]), str(e["party"])
        if label in self.STOPS:
            self.idle.discard(subject)
        elif label == "driver.callback":
            self.idle.add(party)
        elif label == "domain.unpause" or (label == "printk" and CONNECTS in str(e["text"])):
            self.idle.add(party if label == "printk" else subject)
        elif label == "printk" and SERVED in str(e["text"]):
            self.idle.discard(party)


def no_lost_wakeup(system: SimSystem, entries: list[Entry]) -> Iterator[str]:
    """A request that an idle guest never looked at, an answer that pciback never looked at (D5, D7)."""
    owner, guests = owners(entries), _Guests()
    waiting: dict[str, tuple[str, float]] = {}  # function -> guest that was idle when it was asked, and when
    answered: dict[str, float] = {}  # guest -> when it answered last
    for e in entries:
        label, subject = e["label"], str(e["subject"])
        guests.see(e)
        if label == "driver.callback":
            answered[str(e["party"])] = float(e["t"])
        elif label == "pciback.ask" and owner.get(subject) in guests.idle:
            waiting[subject] = owner[subject], float(e["t"])
        elif label == "pciback.answer" and subject in waiting:
            name, since = waiting.pop(subject)
            mute, patience = e["situation"] == "timeout", e["t"] - since
            if mute and patience > SLACK_S and name in guests.idle and answered.get(name, since) <= since:
                yield "lost wake-up: the guest does not notice a request"
            if since < answered.get(name, since) < e["t"] - (SLACK_S if mute else LATE_S):
                yield "lost wake-up: pciback does not notice an answer"


def channels_at_rest(system: SimSystem, entries: list[Entry]) -> Iterator[str]:
    """No event waits for its end for ever, no flag stays set (D4)."""
    for pdev in system.dom0.pciback.guests.values():
        if pdev.channel is None or pdev.worker is None or pdev.lost or pdev.stopped:
            continue
        events = pdev.worker.events
        if events.eoi_pending and not events.op_active:
            yield "lost wake-up: an event never gets its end, the channel is masked"
        if pdev.channel.page.data[0] & (1 << PCIF_ACTIVE) and not events.eoi_pending and not events._delayed:
            yield "lost wake-up: a configuration request is never served"
        if events.op_pending and not pdev.channel.page.data[0] & 1 << PCIB_ACTIVE and events.answered.waiters:
            yield "lost wake-up: pciback does not notice an answer"


def no_dead_page(system: SimSystem, entries: list[Entry]) -> Iterator[str]:
    """Nobody waits on a page that is unmapped (D2)."""
    owner = owners(entries)
    for ask, _end, between in _questions(entries):
        name = owner.get(str(ask["subject"]), "")
        if any(e["label"] == "pciback.disconnect" and e["subject"] == name for e in between):
            yield "use of a dead page: it is unmapped while a question waits on it"


def no_wrong_phase(system: SimSystem, entries: list[Entry]) -> Iterator[str]:
    """An answer is that of the phase that was asked (D10): the guest worked on this one, not only on another."""
    owner = owners(entries)
    for ask, end, between in _questions(entries):
        if end is None or not str(end["situation"]).startswith("answer-"):
            continue
        name = owner.get(str(ask["subject"]), "")
        phases = {e["phase"] for e in between if e["label"] == "driver.callback" and e["party"] == name}
        if phases and ask["phase"] not in phases:
            yield "answer taken for the wrong phase"


def one_owner(system: SimSystem, entries: list[Entry]) -> Iterator[str]:
    """A function belongs to one domain at a time, and is put back before the next one gets it."""
    assigned: dict[str, object] = {}
    exported: set[str] = set()
    for e in entries:
        label, bdf = e["label"], str(e["subject"])
        if label == "hw.assign":
            if assigned.get(bdf) not in (None, e["domid"]):
                yield f"device given to two guests: {bdf}"
            assigned[bdf] = e["domid"]
        elif label == "hw.deassign":
            assigned.pop(bdf, None)
        elif label == "pciback.export":
            if bdf in exported:
                yield f"device given to two guests: {bdf} is exported twice"
            exported.add(bdf)
        elif label == "pciback.unexport":
            exported.discard(bdf)


def reset_between_owners(system: SimSystem, entries: list[Entry]) -> Iterator[str]:
    """A function that a guest has had is reset, with success, before the next one gets it (D25).

    After a reset that failed an FLR proves nothing: from a dead function the kernel reads that it is ready at once.
    """
    parent = {f.bdf: f.parent for f in system.host.functions}
    used: dict[str, bool] = {}  # function -> has been reset since its guest left off
    dead: set[str] = set()
    for e in entries:
        label, subject = e["label"], str(e["subject"])
        if label == "hw.assign":
            if used.get(subject) is False:
                yield f"device handed out without reset: {subject}"
            used[subject] = False
        elif label == "pci.reset":
            for bdf in used:
                if subject == bdf or (e["method"] in BUSES and parent.get(bdf) == subject):
                    if e["result"]:
                        dead.add(bdf)
                    elif e["method"] in BUSES:
                        dead.discard(bdf)
                    used[bdf] = bdf not in dead


Check = Callable[[SimSystem, list[Entry]], Iterator[str]]
CHECKS: tuple[Check, ...] = (
    dom0_lives, no_lost_wakeup, channels_at_rest, no_dead_page, no_wrong_phase, one_owner, reset_between_owners,
)  # fmt: skip
