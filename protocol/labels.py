"""The journal's vocabulary: every label with the names of its fields; one table per room, merged here.

``VOLATILE`` are fields that the environment draws (process ids, ports, addresses): they are written, but
left out when journals are compared.
"""

from __future__ import annotations

from protocol import labels_aer, labels_dpc, labels_fault, labels_guest, labels_hypervisor

LABELS: dict[str, tuple[str, ...]] = {
    "printk": ("level", "text"),
    "kernel.oops": ("error", "text", "where"),
    "party.start": ("pid",),
    "party.lost": ("reason",),
    "party.end": ("status",),
    # pciback
    "pciback.seize": (),
    "pciback.release": (),
    "pciback.export": ("vdevfn",),
    "pciback.unexport": (),
    "pciback.connect": ("gref", "port"),
    "pciback.disconnect": ("reason",),
    "pciback.call": ("phase", "state"),  # entry and return of a callback, as the kernel of the recordings calls it
    "pciback.return": ("phase", "result"),
    "pciback.ask": ("phase", "state"),
    "pciback.answer": ("phase", "answer", "situation"),
    "pciback.kill": (),
    # hardened recovery
    "recovery.restore": (),
    "recovery.check": ("clean", "text"),
    "recovery.outcome": ("outcome",),
    "recovery.round": ("round",),
    # hardware and its bus
    "hw.assign": ("domid",),
    "hw.deassign": (),
    "hw.block": (),
    "hw.inject": ("cor", "uncor"),
    "hw.touch": (),
    "sysfs.store": ("value", "result"),  # subject: the file; 0 or a negative errno
    "bench.config_read": ("samples_ns",),
    **labels_aer.LABELS,
    **labels_dpc.LABELS,
    **labels_hypervisor.LABELS,
    **labels_guest.LABELS,
    **labels_fault.LABELS,
}

VOLATILE: frozenset[tuple[str, str]] = frozenset(
    {("party.start", "pid"), ("pciback.connect", "gref"), ("pciback.connect", "port")} | labels_hypervisor.VOLATILE
)
