"""What a fault leaves in the journal when it strikes, beside everything that follows from it.

Subjects: a function's ``DDDD:BB:DD.F``, a guest's name for messages, the guest's own name of its device for drivers.
"""

from __future__ import annotations

LABELS: dict[str, tuple[str, ...]] = {
    "hw.mask": ("cor", "uncor"),  # mask bits that were set
    "hw.storm": ("count", "interval_ns"),  # subject: the first of its functions
    "hw.storm_end": ("injected",),
    "hw.gone": ("how",),  # dead, link-down, removed
    "hw.back": (),
    "hw.reset_fault": ("how", "ready_ms"),
    "hw.hotplug": ("does",),  # eject, insert; subject: the function that was named
    "fault.message": ("which", "does", "direction"),  # one message of a guest's link was hit
    "fault.driver": ("phase", "does"),  # a guest's driver misbehaves
}
