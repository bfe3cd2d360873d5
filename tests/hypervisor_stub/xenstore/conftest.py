"""A store with one dom0 and one guest connection."""

from __future__ import annotations

import pytest

from hypervisor_stub.xenstore import XenStore
from tests.hypervisor_stub.xenstore.support import Client, NewClient


@pytest.fixture(name="store")
def _store() -> XenStore:
    return XenStore()


@pytest.fixture(name="dom0")
def _dom0(store: XenStore) -> Client:
    return Client(store, 0, privileged=True)


@pytest.fixture(name="guest")
def _guest(store: XenStore, dom0: Client) -> Client:
    """Guest 7, whose directory is made as libxl makes it: it owns ``device/pci/0`` and ``data`` (xen-pci.md 2.8)."""
    xs = dom0.xs
    xs.write(0, "/local/domain/7", b"")
    xs.set_perms(0, "/local/domain/7", ["n0", "r7"])
    xs.mkdir(0, "/local/domain/7/device/pci/0")
    xs.set_perms(0, "/local/domain/7/device/pci/0", ["n7", "r0"])
    xs.mkdir(0, "/local/domain/7/data")
    xs.set_perms(0, "/local/domain/7/data", ["n7"])
    return Client(store, 7, privileged=False)


@pytest.fixture(name="client")
def _client(store: XenStore) -> NewClient:
    """Further clients of the same store."""
    return lambda domid, privileged: Client(store, domid, privileged)
