"""How locks are called: those of the kernel (xen-pci.md 7.1), and their instances here."""

from __future__ import annotations

# The kernel's lock -> how its instances are called here. The spin locks of 7.1 (pcistub_devices_lock, psdev.lock,
# device_ids_lock) are held over no wait: between two waits of a task nothing else runs, which is what they are for.
# sh_info_lock has interrupts off and is held over a poll, so it is a lock here too.
KINDS: tuple[tuple[str, str], ...] = (
    ("dev_lock", "dev_lock of guest"),
    ("reset lock", "reset lock of"),  # hardened only (H22)
    ("device_lock", "device_lock of"),
    ("pcistub_sem", "pcistub_sem"),
    ("aer_op slot", "aer_op slot of"),  # hardened only (ORD-7)
    ("sh_info_lock", "sh_info_lock"),
    ("rescan_remove", "pci_lock_rescan_remove"),
    ("rescan_remove", "pci_rescan_remove_lock"),
)


def kind(lock: str) -> str:
    """The kernel's name of a lock."""
    return next((name for name, prefix in KINDS if lock.startswith(prefix)), lock)


def lock_exists(name: str) -> bool:
    """Is this a kind of lock, an instance of one, or a pattern that may be."""
    patterned = any(char in name for char in "*?[")
    return patterned or any(name == word or name.startswith(prefix) for word, prefix in KINDS)
