"""The commands of CONTROL that make sense without a daemon: what can be asked, and the quotas (xen-pci.md XS-13)."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor_stub.xenstore.errors import XenStoreError
from hypervisor_stub.xenstore.quota import Quotas

# label, attribute of Quotas, text: as the real daemon prints them
QUOTA_LINES = (
    ("nodes", "nodes", "Nodes per domain"),
    ("watches", "watches", "Watches per domain"),
    ("transactions", "transactions", "Transactions per domain"),
    ("outstanding", "outstanding", "Outstanding requests per domain"),
    ("transaction-nodes", "transaction_nodes", "Max. number of accessed nodes per transaction"),
    ("memory", "memory_hard", "Total Xenstore memory per domain (error level)"),
    ("node-size", "node_size", "Max. size of a node"),
    ("path-max", "path", "Max. length of a node path"),
    ("permissions", "permissions", "Max. number of permissions per node"),
)


def _help(quotas: Quotas) -> bytes:
    return "".join(f"{name}\t\n" for name in COMMANDS).encode() + b"\0"


def _check(quotas: Quotas) -> bytes:
    return b"OK\0"  # a tree that is one dictionary cannot have lost nodes


def _quota(quotas: Quotas) -> bytes:
    lines = (f"{label:17}: {getattr(quotas, name):8} {meaning}\n" for label, name, meaning in QUOTA_LINES)
    return f"Quota settings:\n{''.join(lines)}".encode() + b"\0"


COMMANDS: dict[str, Callable[[Quotas], bytes]] = {"check": _check, "quota": _quota, "help": _help}


def run(quotas: Quotas, words: list[str]) -> bytes:
    """The reply to ``words``. XenStoreError EINVAL for an unknown command, or one with arguments."""
    if len(words) != 1 or words[0] not in COMMANDS:
        raise XenStoreError("EINVAL", f"control {words[:1]}")
    return COMMANDS[words[0]](quotas)
