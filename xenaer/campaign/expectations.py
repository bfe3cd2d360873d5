"""Holds a finished case against what its campaign expects of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from protocol.topology import HostSpec
from xenaer.campaign.case import Outcome
from xenaer.campaign.form import CampaignForm, CounterForm, ExpectationForm
from xenaer.campaign.steps.judge import counted, matches, show_entry, show_match
from xenaer.campaign.steps.point_form import MatchForm
from xenaer.campaign.steps.script import resolve_bdf, resolve_subject
from xenaer.campaign.steps.steps_form import LogForm
from xenaer.journal import Entry

BAD = frozenset(Outcome) - {
    Outcome.NO_EFFECT,
    Outcome.CORRECTED_LOGGED,
    Outcome.RECOVERED,
    Outcome.RECOVERED_AFTER_RESET,
    Outcome.GUEST_KILLED_REQUIRED,
}


@dataclass(slots=True)
class Ending:
    """What a case came to. ``entries`` gives its journal, ``counters`` the statistics files of a function."""

    host: HostSpec
    values: Mapping[str, Any]
    outcome: Outcome
    guests: Mapping[str, str]
    phases: Mapping[str, float]
    verified: Mapping[str, bool]
    entries: Callable[[], list[Entry]]
    counters: Callable[[str], Mapping[str, str]]


def applies(expected: ExpectationForm, values: Mapping[str, Any]) -> bool:
    """Is an expectation about the case with these values of the axes."""
    return all(_selected(values.get(name), wanted) for name, wanted in expected.where.items())


def _selected(value: Any, wanted: Any) -> bool:
    return bool(value in wanted) if isinstance(wanted, list) else bool(value == wanted)


def unmet(form: CampaignForm, ending: Ending) -> list[str]:
    """What does not hold, as texts. Without a word about outcomes, those that nobody wants are not allowed.

    Steps say themselves what they expect, so a script may end in any way that is not spoken of.
    """
    expectations = form.expect
    relevant = [expected for expected in expectations if applies(expected, ending.values)]
    problems = [text for expected in relevant for check in CHECKS for text in check(expected, ending)]
    spoken = form.steps is not None or any(expected.outcomes or expected.never for expected in relevant)
    if not spoken and ending.outcome in BAD:
        problems.insert(0, f"outcome {ending.outcome}")
    return problems


def _outcome(expected: ExpectationForm, ending: Ending) -> Iterator[str]:
    if expected.outcomes is not None and ending.outcome not in expected.outcomes:
        yield f"outcome {ending.outcome}; expected: {', '.join(expected.outcomes)}"
    if expected.never is not None and ending.outcome in expected.never:
        yield f"outcome {ending.outcome}, which must never be"


def _guests(expected: ExpectationForm, ending: Ending) -> Iterator[str]:
    for name, allowed in expected.guests.items():
        found = ending.guests.get(name, "untouched")
        if found not in allowed:
            yield f"guest {name} is {found}; expected: {', '.join(allowed)}"


def _times(expected: ExpectationForm, ending: Ending) -> Iterator[str]:
    for phase, budget in expected.within_ms.items():
        took = ending.phases.get(phase)
        if took is not None and took > budget:
            yield f"{phase} took {took:.3f} ms; allowed: {budget:g} ms"


def _verified(expected: ExpectationForm, ending: Ending) -> Iterator[str]:
    for name in expected.verified:
        if not ending.verified.get(name):
            yield f"the workload of {name} does not run"


def _log(expected: ExpectationForm, ending: Ending) -> Iterator[str]:
    for wanted, forms in ((True, expected.log), (False, expected.no_log)):
        for form in forms:
            line = next(_lines(form, ending), None)
            if wanted and line is None:
                yield f"no line /{form.line}/ of {form.party}"
            elif not wanted and line is not None:
                yield f"{form.party} says: {line.strip()[:90]}"


def _lines(form: LogForm, ending: Ending) -> Iterator[str]:
    pattern = re.compile(form.line)
    for item in ending.entries():
        if item["label"] == "printk" and item["party"] == form.party and pattern.search(str(item["text"])):
            yield str(item["text"])


def _records(expected: ExpectationForm, ending: Ending) -> Iterator[str]:
    for form in expected.record:
        good, text = counted(None, _matching(form, ending), show_match(form))
        if not good:
            yield text
    for form in expected.absent:
        found = _matching(form, ending)
        if found:
            yield f"there is {found[0]}"


def _matching(form: MatchForm, ending: Ending) -> list[str]:
    subject = resolve_subject(ending.host, form.subject)
    return [show_entry(item) for item in ending.entries() if matches(item, form, subject)]


def _counters(expected: ExpectationForm, ending: Ending) -> Iterator[str]:
    for form in expected.counters:
        found = _counter(form, ending)
        if found is None:
            yield f"{form.device} has no counter {form.name!r}"
        elif form.equals is not None and found != form.equals:
            yield f"{form.name} of {form.device} is {found}; expected: {form.equals}"
        elif form.at_least is not None and found < form.at_least:
            yield f"{form.name} of {form.device} is {found}; expected: at least {form.at_least}"


def _counter(form: CounterForm, ending: Ending) -> int | None:
    """Lines of the files are ``name value``; a file with one number goes by its own name."""
    for name, text in ending.counters(resolve_bdf(ending.host, form.device)).items():
        for line in text.splitlines():
            *words, value = line.split()
            if form.name == (" ".join(words) or name):
                return int(value)
    return None


Check = Callable[[ExpectationForm, Ending], Iterator[str]]
CHECKS: tuple[Check, ...] = (_outcome, _guests, _times, _verified, _log, _records, _counters)
