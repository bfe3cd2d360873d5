"""Journal labels of dom0's PCI core and AER driver: label -> names of its fields.

The subject of every record is the ``DDDD:BB:DD.F`` text of the function that it is about. From them the form
of the recorded kernel traces follows (linux-aer-errata.md 2.1): ``recovery.begin``/``recovery.end`` are entry
and return of ``pcie_do_recovery``, ``recovery.vote`` is ``rep_*`` with ``merged=``, ``pci.callback`` is a
line of ``handlers``, written when the callback returns.
"""

from __future__ import annotations

LABELS: dict[str, tuple[str, ...]] = {
    "pci.bind": ("driver",),
    "pci.unbind": ("driver",),
    "pci.state": ("state",),  # channel state that pci_dev_set_io_state stored
    "pci.save": (),
    "pci.restore": (),
    "pci.reset": ("method", "result"),  # flr, af_flr, pm, bus, dpc; 0 or a negative errno
    "pci.remove": (),
    "pci.slot_reset": ("probe", "result"),  # of the slot below the subject; probe is 1 for "can you?"
    "pciehp.reset_slot": ("probe", "result"),
    "pciehp.bus_reset": ("result",),
    "uevent": ("action", "event", "online", "driver", "path"),  # event and online of a "change" only
    "pci.callback": ("driver", "callback", "state", "answer"),  # state and answer "" where there is none
    "uevent.nvme": ("action", "path"),  # of a controller below the subject
    "aer.irq": ("status", "source"),  # Root Error Status and Error Source Identification as aer_irq read them
    "aer.lost": ("status", "source"),  # the FIFO was full (T28)
    "aer.error": ("severity", "status", "header"),  # trace event aer_event; header: dwords of the TLP log
    "aer.root_reset_begin": (),
    "aer.root_reset": ("result",),  # subject: the port whose secondary bus was reset
    "recovery.begin": ("state",),
    "recovery.uevent": ("vote",),  # pci_uevent_ers was called, also for votes that send none
    "recovery.phase": ("phase",),  # subject: the bridge whose devices are walked
    "recovery.detected": ("state", "merged"),  # report_frozen_detected, report_normal_detected
    "recovery.vote": ("phase", "vote", "merged"),
    "recovery.report": ("phase",),  # resume and perm_failure, which have no vote; written at entry
    "recovery.end": ("result", "verdict"),
}
