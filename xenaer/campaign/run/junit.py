"""``junit.xml``: a run for the tools that show test results.

One test case per case as long as they are not too many for such tools, else one per stratum. A case that is not
good is a failure; a ``harness-error`` is an error: it says nothing about what was tested.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape, quoteattr

from xenaer.campaign.case import Outcome
from xenaer.campaign.run.run_folder import RunFolder, explained
from xenaer.campaign.run.store import ResultStore
from xenaer.campaign.run.summary import Summary

JUNIT = "junit.xml"
CASES_MAX = 10_000
EXAMPLES = 20  # failing cases that are named in one stratum's text
# What XML 1.0 has no way to write.
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(folder: RunFolder, summary: Summary, cases_max: int = CASES_MAX) -> None:
    """Write ``junit.xml`` into a run's directory. Raises RunFolderError."""
    draft = folder.path / f".{JUNIT}.new"
    with explained(folder.path / JUNIT):
        try:
            with draft.open("w", encoding="utf-8") as file:
                _write(file, folder, summary, cases_max)
            draft.replace(folder.path / JUNIT)
        except BaseException:
            Path.unlink(draft, missing_ok=True)
            raise


def _write(file: IO[str], folder: RunFolder, summary: Summary, cases_max: int) -> None:
    name = folder.options.name
    single = summary.cases <= cases_max
    groups = [_totals(folder.store, stratum, single) for stratum in sorted(summary.strata)]
    tests, failures, errors = (sum(group[index] for group in groups) for index in range(3))
    head = f"name={_quoted(name)} tests='{tests}' failures='{failures}' errors='{errors}'"
    file.write("<?xml version='1.0' encoding='UTF-8'?>\n")
    file.write(f"<testsuites {head}>\n")
    for stratum, (count, failing, erring) in zip(sorted(summary.strata), groups, strict=True):
        suite = f"{name}.{stratum}" if stratum else name
        file.write(f"  <testsuite name={_quoted(suite)} tests='{count}' failures='{failing}' errors='{erring}'")
        file.write(f" skipped='0' time='{_seconds(folder.store, stratum):.3f}'")
        file.write(f" timestamp='{folder.options.begun.removesuffix('Z')}'>\n")
        lines = _single(folder.store, name, stratum) if single else _whole(folder.store, name, stratum, summary)
        file.writelines(f"    {line}\n" for line in lines)
        file.write("  </testsuite>\n")
    file.write("</testsuites>\n")


def _totals(store: ResultStore, stratum: str, single: bool) -> tuple[int, int, int]:
    """Test cases, failures and errors of a stratum."""
    query = (
        "SELECT count(*), sum(good = 0 AND outcome != ?), sum(good = 0 AND outcome = ?) FROM cases WHERE stratum = ?"
    )
    error = Outcome.HARNESS_ERROR.value
    cases, failures, errors = (int(str(value)) for value in next(store.query(query, [error, error, stratum])))
    if single:
        return cases, failures, errors
    return 1, int(failures > 0), int(errors > 0 and not failures)


def _seconds(store: ResultStore, stratum: str) -> float:
    return float(str(next(store.query("SELECT sum(wall_s) FROM cases WHERE stratum = ?", [stratum]))[0]))


def _single(store: ResultStore, name: str, stratum: str) -> Iterator[str]:
    """One test case per case of a stratum."""
    for case in store.results("stratum = ?", [stratum]):
        head = f"<testcase classname={_quoted(_class(name, stratum))} name={_quoted(case.case_id)}"
        head += f" time='{case.wall_s:.6f}'"
        if case.good:
            yield f"{head}/>"
        else:
            body = "\n".join(case.problems) or case.text
            yield f"{head}>{_problem(case.outcome.value, case.text, body)}</testcase>"


def _whole(store: ResultStore, name: str, stratum: str, summary: Summary) -> Iterator[str]:
    """One test case for all cases of a stratum."""
    head = f"<testcase classname={_quoted(_class(name, stratum))} name={_quoted(stratum or 'all')}"
    head += f" time='{_seconds(store, stratum):.6f}'"
    _, failures, errors = _totals(store, stratum, single=False)
    if not failures and not errors:
        yield f"{head}/>"
        return
    counted = ", ".join(f"{outcome} {count}" for outcome, count in sorted(summary.strata[stratum].items()))
    failing = store.results("stratum = ? AND good = 0", [stratum], EXAMPLES)
    body = "\n".join(f"{case.case_id} {case.outcome.value}: {case.text}" for case in failing)
    kind = Outcome.LOST.value if failures else Outcome.HARNESS_ERROR.value
    yield f"{head}>{_problem(kind, counted, body, plain=True)}</testcase>"


def _problem(outcome: str, message: str, body: str, *, plain: bool = False) -> str:
    tag = "error" if outcome == Outcome.HARNESS_ERROR.value else "failure"
    kind = "stratum" if plain else outcome
    return f"<{tag} message={_quoted(message)} type={_quoted(kind)}>{escape(_writable(body))}</{tag}>"


def _class(name: str, stratum: str) -> str:
    return f"{name}.{stratum}" if stratum else name


def _quoted(text: str) -> str:
    return quoteattr(_writable(text))


def _writable(text: str) -> str:
    return UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
