"""The XenStore: a tree of small values with permissions, watches, transactions and quotas (xen-pci.md 8.5)."""

from hypervisor_stub.xenstore.connection import Connection
from hypervisor_stub.xenstore.errors import ERROR_NAMES, XenStoreError
from hypervisor_stub.xenstore.operations import PAYLOAD_MAX
from hypervisor_stub.xenstore.paths import INTRODUCE_DOMAIN, RELEASE_DOMAIN
from hypervisor_stub.xenstore.quota import Quotas, Usage
from hypervisor_stub.xenstore.store import FEATURES, Feature, XenStore

__all__ = [
    "ERROR_NAMES",
    "FEATURES",
    "INTRODUCE_DOMAIN",
    "PAYLOAD_MAX",
    "RELEASE_DOMAIN",
    "Connection",
    "Feature",
    "Quotas",
    "Usage",
    "XenStore",
    "XenStoreError",
]
