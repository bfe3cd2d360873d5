"""What runs inside a worker of Dask: one supervised pool per process, to which chunks are passed on."""

from __future__ import annotations

import pickle
import platform
import threading
from dataclasses import dataclass

from xenaer.boot import activate

activate()

from xenaer.campaign.run.playing import play_tasks  # noqa: E402 - the roles are found only now
from xenaer.campaign.run.pool import SupervisedPool  # noqa: E402
from xenaer.version import version  # noqa: E402


@dataclass(frozen=True)
class SideOptions:
    """What the pool of a worker is like, see ``SupervisedPool``."""

    case_limit_s: float
    preload: tuple[str, ...]


_pools: dict[SideOptions, SupervisedPool] = {}
_lock = threading.Lock()  # Dask calls from several threads


def describe() -> str:
    """What must be the same on all machines."""
    return f"xenaer {version()} on Python {'.'.join(platform.python_version_tuple()[:2])}"


def play_on_worker(call: bytes, options: SideOptions) -> list[bytes]:
    """Play the chunk in ``call`` in this process's pool. Raises WorkerDiedError, CaseHangError, PoolBrokenError."""
    return _pool(options).submit(play_packed, call).result()


def play_packed(call: bytes) -> list[bytes]:
    """``play_tasks`` with pickled arguments."""
    play_chunk, payload, tasks = pickle.loads(call)
    return play_tasks(play_chunk, payload, tasks)


def _pool(options: SideOptions) -> SupervisedPool:
    from distributed import get_worker  # noqa: PLC0415 - the other way round this module needs no Dask

    with _lock:
        if options not in _pools:
            threads = get_worker().state.nthreads
            _pools[options] = SupervisedPool(threads, preload=options.preload, case_limit_s=options.case_limit_s)
        return _pools[options]
