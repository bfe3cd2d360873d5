"""Workers of Dask distributed as a crew. Needs ``pip install xenaer[dask]``, here and on every worker.

Dask calls functions in threads, and a thread that plays a driver which never returns cannot be ended. So each
worker process has a supervised pool of its own (``dask_side``), and only passes chunks on to it.
"""

from __future__ import annotations

import gc
import pickle
import socket
import time
from concurrent.futures import Future

from distributed import Client

from xenaer.campaign.case import Task
from xenaer.campaign.run.dask_side import SideOptions, describe, play_on_worker
from xenaer.campaign.run.dask_side import describe as describe_here
from xenaer.campaign.run.dispatch import Crew, ExecutorError
from xenaer.campaign.run.playing import PlayChunk, bare

CHUNK_S = 0.4  # a call costs 3 to 10 ms
CONNECT_S = 10.0
GREETING_BYTES, GREETING_MAX = 8, 1 << 20  # a scheduler speaks first; how long its message is, little-endian
REFRESH_S = 5.0  # workers come and go


class DaskCrew(Crew):
    """The workers of the scheduler at ``address`` (HOST:PORT). Raises ExecutorError."""

    def __init__(self, address: str, case_limit_s: float, preload: tuple[str, ...]) -> None:
        self._address = address
        self._client = self._connect()
        self._options = SideOptions(case_limit_s, preload)
        self._looked_s = 0.0
        try:
            self._check_workers()
            super().__init__(self._client.get_executor(pure=False), 1, CHUNK_S)
        except BaseException:
            self._client.close()
            raise

    def _connect(self) -> Client:
        reason = unreachable(self._address)
        if not reason:
            try:
                return Client(f"tcp://{self._address}", timeout=CONNECT_S, set_as_default=False)
            except Exception as error:  # its threads and timeouts fail in many ways, none of them of use here
                reason = str(error) or type(error).__name__
            # Half a client closes itself when it is collected, and waits for ever if that is while the next one starts.
            gc.collect()
        raise ExecutorError(f"no Dask scheduler answers at {self._address}: {reason}")

    def _check_workers(self) -> None:
        """There are workers, and they have the same xenaer; otherwise nothing that they say could be trusted."""
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_S)
            found = self._client.run(describe)
        except TimeoutError:
            raise ExecutorError(f"the Dask scheduler at {self._address} has no workers") from None
        except Exception as error:  # whatever a worker answers that cannot even load the question
            raise ExecutorError(f"a Dask worker of {self._address} has no usable xenaer: {error}") from None
        ours = describe_here()
        for worker, theirs in found.items():
            if theirs != ours:
                raise ExecutorError(f"Dask worker {worker} has {theirs}, here is {ours}; they must be the same")

    @property
    def slots(self) -> int:
        """Threads of all workers, as of a few seconds ago."""
        if time.monotonic() - self._looked_s > REFRESH_S:
            self._slots = max(1, sum(self._client.nthreads().values()))
            self._looked_s = time.monotonic()
        return self._slots

    def submit(self, play_chunk: PlayChunk, payload: bytes, tasks: list[Task]) -> Future[list[bytes]]:
        """See ``Crew``. What is to be called goes as bytes: only the pool's workers can, and need to, load it."""
        call = pickle.dumps((play_chunk, payload, bare(tasks)), pickle.HIGHEST_PROTOCOL)
        return self.executor.submit(play_on_worker, call, self._options)

    def close(self, now: bool = False) -> None:
        """See ``Crew``. Chunks that are being played are played to their end, by workers that nobody listens to."""
        self.executor.shutdown(wait=not now)
        self._client.close()


def unreachable(address: str) -> str:
    """Why there is no scheduler at ``address`` (HOST:PORT), or an empty text if something greets as one does.

    Asked before Dask is, whose client waits for ever for the words of something else.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return "expected HOST:PORT"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S) as sock:
            greeting = int.from_bytes(sock.recv(GREETING_BYTES, socket.MSG_WAITALL), "little")
    except TimeoutError:
        return f"nothing is said within {CONNECT_S:g} s"
    except (OSError, OverflowError, UnicodeError) as error:
        return str(getattr(error, "strerror", None) or error).lower()
    return "" if 0 < greeting < GREETING_MAX else "something else answers"
