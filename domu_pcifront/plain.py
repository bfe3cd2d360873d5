"""Driver code without ``async``: a plain function runs in a greenlet of its own and may wait all the same.

``call`` runs the function; when it uses ``dev.sync``, ``wait`` hands the awaitable to the coroutine that
called, which awaits it and comes back with the result. To the kernel it is one task, in either world.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from greenlet import getcurrent, greenlet


class NotInHandlerError(RuntimeError):
    """``dev.sync`` was used where nothing can wait: in a coroutine, in an interrupt handler, at top level."""


class _Handler(greenlet):
    """The greenlet of one plain function; its parent is whoever runs the calling coroutine."""


_is_async = cache(inspect.iscoroutinefunction)  # the answer never changes, and asking is slow


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function``, a coroutine function or a plain one, and return its result; its exceptions pass."""
    if _is_async(getattr(function, "__func__", function)):
        return await function(*args)
    fiber = _Handler(function)
    result = fiber.switch(*args)
    while not fiber.dead:
        try:
            value = await result
        except BaseException as error:  # GeneratorExit too: the function's ``finally`` must run
            fiber.parent = getcurrent()
            result = fiber.throw(error)
        else:
            fiber.parent = getcurrent()
            result = fiber.switch(value)
    return await result if inspect.isawaitable(result) else result


def wait(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """From a plain function that ``call`` runs: wait for ``function(*args)``. Raises NotInHandlerError elsewhere."""
    fiber = getcurrent()
    if not isinstance(fiber, _Handler) or fiber.parent is None:
        name = getattr(function, "__name__", "this")
        raise NotInHandlerError(
            f"dev.sync.{name}() works in plain driver methods only; in an 'async def' use 'await dev.{name}()'"
        )
    return fiber.parent.switch(function(*args))
