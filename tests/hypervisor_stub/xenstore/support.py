"""What the tests of the store share: a client that remembers its events, and the name of a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hypervisor_stub.xenstore import Connection, XenStore, XenStoreError


class Client:
    """A connection and the events it got."""

    def __init__(self, store: XenStore, domid: int, privileged: bool) -> None:
        self.events: list[tuple[str, str]] = []
        self.xs: Connection = store.connect(domid, lambda p, t: self.events.append((p, t)), privileged=privileged)

    def taken(self) -> list[tuple[str, str]]:
        """Events since the last call."""
        events, self.events = self.events, []
        return events


NewClient = Callable[[int, bool], Client]  # domain, privileged


def refused(call: Callable[..., Any], *args: Any) -> str:
    """Name of the error that ``call`` raises."""
    with pytest.raises(XenStoreError) as caught:
        call(*args)
    return caught.value.name
