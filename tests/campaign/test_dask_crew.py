"""dask_crew, dask_side: a real cluster, whose worker is killed in the middle, gives what the local executor gives."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.plays import play
from tests.campaign.rig import PAYLOAD, Listed, options, results_text, run, wait_until
from xenaer.campaign.case import Recipe
from xenaer.campaign.run.dispatch import ExecutorError
from xenaer.campaign.run.executors import open_crew
from xenaer.campaign.run.progress import Progress
from xenaer.campaign.run.run_folder import RunFolder
from xenaer.campaign.run.runner import CampaignRunner
from xenaer.launcher import free_port

distributed = pytest.importorskip("distributed", reason="needs the extra: pip install 'xenaer[dask]'")
pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("ignore")]  # of a library that is not ours

LIMIT_S = 2.0


def worker_pids(cluster: Any) -> list[int]:
    """Process ids of the cluster's workers."""
    return [nanny.pid for nanny in cluster.workers.values() if nanny.pid]


@pytest.fixture(name="cluster", scope="module")
def fixture_cluster() -> Iterator[Any]:
    """Two worker processes, each watched by a nanny."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


def test_a_killed_worker_of_a_cluster_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    recipes: list[Recipe] = [{"do": "spin", "ms": 4, "n": n} for n in range(400)]
    recipes[11] = {"do": "fail"}
    recipes[77] = {"do": "die"}
    recipes[150] = {"do": "hang"}
    victims = worker_pids(cluster)[:1]

    def kill(progress: Progress) -> None:
        """In the middle, once."""
        while progress.done >= 50 and victims:
            os.kill(victims.pop(), signal.SIGKILL)

    name = cluster.scheduler_address.replace("tcp://", "dask://")
    with open_crew(name, case_limit_s=LIMIT_S) as crew, RunFolder.create(options(executor=name), tmp_path) as folder:
        runner = CampaignRunner(Listed(recipes, 1000), play, PAYLOAD, crew, folder, on_progress=kill)
        summary = runner.run()
    assert not victims
    assert summary.outcomes == {"hang": 1, "harness-error": 1, "lost": 1, "recovered": 397}
    _, local = run(Listed(recipes, 1000), tmp_path, limit_s=LIMIT_S)
    assert results_text(folder.path) == results_text(local)
    wait_until(lambda: len(worker_pids(cluster)) == 2)


def test_a_cluster_without_workers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenaer.campaign.run.dask_crew.CONNECT_S", 0.5)
    cluster = distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0")
    name = cluster.scheduler_address.replace("tcp://", "dask://")
    with closing(cluster), pytest.raises(ExecutorError, match="has no workers"), open_crew(name, case_limit_s=1):
        pass


def test_workers_with_another_xenaer_are_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenaer.campaign.run.dask_crew.describe_here", lambda: "xenaer 9.9 on Python 3.99")
    name = cluster.scheduler_address.replace("tcp://", "dask://")
    expected = r"has xenaer .* on Python 3\.\d+, here is xenaer 9\.9 on Python 3\.99; they must be the same"
    with pytest.raises(ExecutorError, match=expected), open_crew(name, case_limit_s=1):
        pass


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:{port}", "connection refused"),
        ("no.such.host.invalid:1", "[a-z ]+"),
        ("127.0.0.1:99999", "[a-z0-9: -]+"),
        ("nowhere", "expected HOST:PORT"),
        (":::", "expected HOST:PORT"),
        ("host:", "expected HOST:PORT"),
    ],
)
def test_nobody_at_the_address_is_said(address: str, reason: str) -> None:
    name = "dask://" + address.format(port=free_port())
    expected = rf"^no Dask scheduler answers at \S+: {reason}"
    with pytest.raises(ExecutorError, match=expected) as caught, open_crew(name, case_limit_s=1):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [(b"", "nothing is said within 0.5 s"), (b"SSH-2.0-OpenSSH", "something else answers"), (None, "something else")],
)
def test_somebody_else_at_the_address_is_said(
    greeting: bytes | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xenaer.campaign.run.dask_crew.CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                if greeting is not None:
                    peer.sendall(greeting)
                    peer.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        name = f"dask://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ExecutorError, match=reason), open_crew(name, case_limit_s=1):
            pass
        thread.join()
