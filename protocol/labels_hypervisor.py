"""What the hypervisor stub writes into the journal. Subjects are domain names or SBDF texts."""

from __future__ import annotations

LABELS: dict[str, tuple[str, ...]] = {
    "party.hello": ("role",),
    # life cycle; subject: domain name
    "domain.create": ("domid", "type"),
    "domain.start": ("pid",),
    "domain.pause": (),
    "domain.unpause": (),
    "domain.shutdown": ("reason",),
    "domain.died": ("pid", "status"),
    "domain.restart": (),
    "domain.destroy": ("domid",),
    # toolstack; subject: SBDF
    "pci.attach": ("domain",),
    "pci.detach": ("domain",),
    "pci.step": ("step", "result"),
    "pci.faulty": ("reason",),
    "pci.clean": (),
    # KILL-1..10; subject: domain name
    "kill.report": ("domid",),
    "kill.incident": ("policy",),
    "kill.refused": ("reason",),
    "kill.zombie": ("domid",),
    "kill.step": ("step", "bdf", "result"),
    # event channels and grants; subject: domain name
    "evtchn.alloc": ("remote", "port"),
    "evtchn.bind": ("remote", "port"),
    "evtchn.close": ("port",),
    "grant.access": ("remote", "gref"),
    "grant.end": ("gref",),
    "grant.map": ("granter", "gref"),
    "grant.unmap": ("granter", "gref"),
}

VOLATILE: set[tuple[str, str]] = {
    ("domain.start", "pid"),
    ("domain.died", "pid"),
    ("evtchn.alloc", "port"),
    ("evtchn.bind", "port"),
    ("evtchn.close", "port"),
    ("grant.access", "gref"),
    ("grant.end", "gref"),
    ("grant.map", "gref"),
    ("grant.unmap", "gref"),
}
