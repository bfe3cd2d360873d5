"""Where hardware models differ: one switch per behaviour, one instance per model.

``SPEC`` follows the PCI Express Base Specification as linux-aer.md 2 tells it and is the default.
``QEMU_11_1`` and ``QEMU_7_2`` are the device models on which the reference recordings were made (errata section 4);
only hosts that describe those machines ask for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """Switches of the error path; numbers are those of the errata, section 4.

    ``overwrite_log``: a later error overwrites First Error Pointer and header log (4.2 item 3);
    ``ports_clear_log``: a port drops both at the next configuration write once the named bit is clear (4.2);
    ``swap_header``: header and prefix dwords are stored with their bytes reversed (linux-aer.md 2.1);
    ``strict_gates``: a message needs the Device Control enable everywhere, its source included (4.3, C3);
    ``serr_gate``: and Command.SERR# as well, which an ERR_COR never has (4.3, version 7.2);
    ``missing_function_ur``: a request to a missing function is an Unsupported Request of the device there;
    ``surprise_down_freezes``: Surprise Down detected by a port takes its link down;
    ``multiple_header_capable``: ports show ``CAP`` bit 9 (4.1);
    ``masked_by_default``: the uncorrectable bits 22 and 25 are masked (4.1);
    ``bridge_keeps_control``: a bus reset leaves Device Control of a PCI Express to PCI bridge (C6);
    ``reset_clears_slot_events``: a bus reset clears bits 0, 3, 4 of Slot Status (4.4);
    ``command_completed``: every write of Slot Control sets Slot Status bit 4 (4.4);
    ``idle_link_shows_capability``: a root port whose link carries nothing shows the link's capability until
    something wakes it (4.5); ``dll_active_needs_hotplug``: Data Link Layer Link Active is shown only while
    the operating system serves the slot (README finding 35);
    ``unclaimed_reads_zero``: a memory read that nobody answers gives zeros (xen-pci-errata.md 4.2, ``mmio4``).
    """

    name: str
    overwrite_log: bool = False
    ports_clear_log: bool = False
    swap_header: bool = False
    strict_gates: bool = False
    serr_gate: bool = False
    missing_function_ur: bool = True
    surprise_down_freezes: bool = True
    multiple_header_capable: bool = False
    masked_by_default: bool = True
    bridge_keeps_control: bool = False
    reset_clears_slot_events: bool = False
    command_completed: bool = False
    idle_link_shows_capability: bool = False
    dll_active_needs_hotplug: bool = False
    unclaimed_reads_zero: bool = False


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
    bridge_keeps_control=True,
    reset_clears_slot_events=True,
    command_completed=True,
    idle_link_shows_capability=True,
    dll_active_needs_hotplug=True,
    unclaimed_reads_zero=True,
)
QEMU_7_2 = replace(QEMU_11_1, name="qemu-7.2", serr_gate=True, masked_by_default=False)

PROFILES: dict[str, HardwareProfile] = {profile.name: profile for profile in (SPEC, QEMU_11_1, QEMU_7_2)}
