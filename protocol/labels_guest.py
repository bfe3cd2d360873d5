"""What a guest's drivers write into the journal. Subject: the guest's name of the device, ``0000:00:00.0``."""

from __future__ import annotations

LABELS: dict[str, tuple[str, ...]] = {
    "driver.call": ("phase", "state"),  # a handler is about to run; it may never come back
    "driver.callback": ("phase", "state", "answer"),  # state 0 outside error_detected
    "driver.probe": ("driver",),
    "driver.remove": ("driver",),
    "driver.reissue": ("count",),  # units of work that a reset lost and that are sent again
    "driver.workload": ("asked", "verified", "error"),  # error: empty if all were verified
}
