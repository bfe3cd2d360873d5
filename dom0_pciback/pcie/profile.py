"""Where hardware models differ: one switch per behaviour, one instance per model.

``SPEC`` follows the PCI Express Base Specification as linux-aer.md 2 tells it and is the default.
``QEMU_11_1`` is the device model on which the reference recordings were made (errata section 4).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """Switches of the error path.

    ``overwrite_log``: a later error overwrites First Error Pointer and header log (4.2 item 3);
    ``ports_clear_log``: a port drops both at the next configuration write once the named bit is clear (4.2);
    ``swap_header``: header and prefix dwords are stored with their bytes reversed (linux-aer.md 2.1);
    ``strict_gates``: a message needs the Device Control enable everywhere, its source included (4.3, C3);
    ``missing_function_ur``: a request to a missing function is an Unsupported Request of the device there;
    ``surprise_down_freezes``: Surprise Down detected by a port takes its link down;
    ``multiple_header_capable``: ports show ``CAP`` bit 9 (4.1).
    """

    name: str
    overwrite_log: bool = False
    ports_clear_log: bool = False
    swap_header: bool = False
    strict_gates: bool = False
    missing_function_ur: bool = True
    surprise_down_freezes: bool = True
    multiple_header_capable: bool = False


SPEC = HardwareProfile("spec")

QEMU_11_1 = HardwareProfile(
    "qemu-11.1",
    overwrite_log=True,
    ports_clear_log=True,
    swap_header=True,
    strict_gates=True,
    missing_function_ur=False,
    surprise_down_freezes=False,
    multiple_header_capable=True,
)

PROFILES: dict[str, HardwareProfile] = {profile.name: profile for profile in (SPEC, QEMU_11_1)}
