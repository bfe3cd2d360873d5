"""Who plays the cases, by name: ``local``, or ``dask://HOST:PORT`` for workers of Dask distributed on any machines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from xenaer.campaign.run.dispatch import Crew, ExecutorError
from xenaer.campaign.run.pool import SupervisedPool

LOCAL = "local"
DASK = "dask://"
MODULES = ("xenaer.campaign.run.playing",)


class LocalCrew(Crew):
    """Processes of this machine."""

    def __init__(self, pool: SupervisedPool) -> None:
        super().__init__(pool, pool.workers)
        self._pool = pool

    def close(self, now: bool = False) -> None:
        """See ``Crew``."""
        if now:
            self._pool.kill()
        else:
            self._pool.shutdown()


@contextmanager
def open_crew(
    name: str, jobs: int | None = None, *, case_limit_s: float, preload: Sequence[str] = (), per_core: int = 1
) -> Iterator[Crew]:
    """The crew called ``name``, ended at once at the end. ``jobs``: workers (local), default ``per_core`` a processor.

    ``case_limit_s``: real time after which a case is a ``hang``. ``preload``: modules that workers import before
    they are forked. Raises ExecutorError.
    """
    crew = _open(name, jobs, case_limit_s, (*MODULES, *preload), per_core)
    try:
        yield crew
    finally:
        crew.close(now=True)


def _open(name: str, jobs: int | None, limit_s: float, preload: tuple[str, ...], per_core: int) -> Crew:
    if name == LOCAL:
        workers = len(os.sched_getaffinity(0)) * per_core if jobs is None else jobs
        return LocalCrew(SupervisedPool(workers, preload=preload, case_limit_s=limit_s))
    if not name.startswith(DASK) or name == DASK:
        raise ExecutorError(f"executor {name!r}: expected {LOCAL} or {DASK}HOST:PORT")
    if jobs is not None:
        raise ExecutorError(f"executor {name!r}: how many work there is the cluster's business; leave out --jobs")
    try:
        from xenaer.campaign.run.dask_crew import DaskCrew  # noqa: PLC0415 - an extra, and slow to load
    except ModuleNotFoundError as error:
        if error.name not in ("distributed", "dask"):
            raise
        raise ExecutorError(f"executor {name!r} needs Dask distributed: pip install 'xenaer[dask]'") from None
    return DaskCrew(name.removeprefix(DASK), limit_s, preload)
