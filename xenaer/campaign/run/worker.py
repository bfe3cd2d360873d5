"""What a worker of a pool does: it takes a call, makes it, answers, until its pool has ended."""

from __future__ import annotations

import pickle
import socket
import traceback
from typing import Any

from xenaer.campaign.run import heartbeat
from xenaer.campaign.run.wire import framed, wait_message

READY, RESULT, ERROR = b"i", b"r", b"e"  # first byte of what a worker says


class WorkerTaskError(Exception):
    """A call in a worker raised something that cannot be sent; the text says what."""


def serve(sock: socket.socket, memory: heartbeat.Memory) -> None:
    """Answer calls until the pool has closed its end. The first message is what to call at the start, or None."""
    heartbeat.attach(memory)
    first = wait_message(sock)
    if first is None:
        return
    answer = _answer(first)
    sock.sendall(framed(READY if answer[:1] == RESULT else answer))
    while (data := wait_message(sock)) is not None:
        memory.clear()
        sock.sendall(framed(_answer(data)))


def _answer(data: bytes) -> bytes:
    try:
        call = pickle.loads(data)
        result = None
        if call is not None:
            function, args, kwargs = call
            result = function(*args, **kwargs)
        return RESULT + pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # whatever a call raises is an answer to it
        return ERROR + _packed(error)


def _packed(error: BaseException) -> bytes:
    """The exception, with its traceback as a note: the frames themselves stay here."""
    text = "".join(traceback.format_exception(error))
    error.add_note(f"in a worker:\n{text}")
    error.__cause__ = error.__context__ = None
    try:
        data = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        pickle.loads(data)
    except Exception:  # making one again runs its own code, which may raise anything; then a substitute tells of it
        substitute: Any = WorkerTaskError(f"{type(error).__name__}: {error}")
        substitute.add_note(f"in a worker:\n{text}")
        return pickle.dumps(substitute, pickle.HIGHEST_PROTOCOL)
    return data
