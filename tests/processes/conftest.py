"""What a failed test's system said: the launcher's log and the end of the journal, beside the assertion."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.processes.running import Running, last_words


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add sections to the report of a failed test that uses a shared system (the others add a note)."""
    report = yield
    view: Any = item.funcargs.get("view") if report.failed else None
    if isinstance(view, Running):
        report.sections.append(("the system", last_words(view)))
    return report
