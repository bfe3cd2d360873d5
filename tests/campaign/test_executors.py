"""executors: who plays is said by name, and what cannot be is said too."""

from __future__ import annotations

import os
import sys

import pytest

from tests.campaign.plays import play
from xenaer.campaign.case import Task
from xenaer.campaign.run.dispatch import ExecutorError
from xenaer.campaign.run.executors import open_crew


@pytest.mark.processes
def test_local_has_one_worker_per_processor() -> None:
    with open_crew("local", case_limit_s=5) as crew:
        assert crew.slots == len(os.sched_getaffinity(0))
        assert len(crew.submit(play, b"", [Task(1, {}), Task(2, {})]).result()) == 2
    with open_crew("local", 3, case_limit_s=5) as crew:
        assert crew.slots == 3


@pytest.mark.parametrize("name", ["", "locl", "dask", "dask://", "tcp://host:1"])
def test_an_unknown_executor_is_said_with_what_there_is(name: str) -> None:
    expected = rf"executor '{name}': expected local or dask://HOST:PORT"
    with pytest.raises(ExecutorError, match=expected), open_crew(name, case_limit_s=5):
        pass


def test_jobs_of_a_cluster_are_not_ours() -> None:
    with pytest.raises(ExecutorError, match="leave out --jobs"), open_crew("dask://host:1", 2, case_limit_s=5):
        pass


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "xenaer.campaign.run.dask_crew", raising=False)
    with (
        pytest.raises(ExecutorError, match=r"pip install 'xenaer\[dask\]'"),
        open_crew("dask://host:1", case_limit_s=5),
    ):
        pass
