"""Scenarios for defects of xen-pci.md 7.3 that no line of 7.5 or of section 10 shows; named after the defect."""

from __future__ import annotations

from typing import Any

from protocol.topology import BootSpec, HostSpec
from xenaer.scenarios.hosts import guest, host
from xenaer.scenarios.interleavings import LATER, MUTE, one, two
from xenaer.scenarios.scenario import MakeHost, Scenario

BEFORE_FIXES = "linux-2.6.27"  # D16 and D17 are long mended in later kernels


def old(*devices: str, **options: Any) -> MakeHost:
    """One guest on a host whose dom0 and guests have a kernel of old."""
    return lambda: host(guest("g1", "".join(devices), **options), kernel=BEFORE_FIXES)


def slots(**options: Any) -> MakeHost:
    """One guest on a host whose slots the firmware serves."""
    return lambda: host(guest("g1", "A", **options), boot=BootSpec(hotplug="acpi"))


def hostiles(*names: str) -> MakeHost:
    """Hostile guests, each with a device."""
    return lambda: host(*(guest(name, device) for name, device in zip(names, "AC", strict=False)))


def mixed(first: dict[str, Any], second: dict[str, Any]) -> MakeHost:
    """One guest with A and B, whose drivers have different options."""

    def make() -> HostSpec:
        both, other = guest("g1", "AB", **first), guest("g1", "B", **second)
        both.devices[1] = other.devices[0]
        return host(both)

    return make


# fmt: off
ROWS: tuple[Scenario, ...] = (
    Scenario("D8", "a vote that is none beside a valid one", mixed({"ed": 3}, {"ed": 77}), "inject A nonfatal; run"),
    Scenario("D12", "an export that fails", one(), "xl pci-attach g1 K; run; owner K"),
    Scenario("D13", "a device of an HVM guest is given back to dom0", one(spec={"type": "hvm"}),
        "xl destroy g1; run 1000; xl pci-assignable-remove A; run"),
    Scenario("D14", "a handler that is not there", one(missing=["mmio_enabled"]), "inject A nonfatal; run"),
    Scenario("D16", "the frontend misses Connected", old("A", spec=LATER),
        "begin; until grant.map *; freeze g1; start pci-attach g1 C; run 3000; thaw g1; run; remember g1"),
    Scenario("D17", "two devices at once", old("A", "C"), "remember g1; inject C nonfatal; run"),
    Scenario("D18", "a bridge for a guest", one(), "xl pci-attach g1 K; run; remember g1"),
    Scenario("D19", "quirks of two devices with the same ids", one(devices="AB"),
        "quirk B e4:4:ffffffff; quirk A e4:4:ffffffff; xl pci-detach g1 A; quirks; run"),
    Scenario("D20", "an error while a detached device still waits for its lock", two({"ed": 3}, {}, ("A", "B")),
        "inject A nonfatal; until pciback.answer A; run 10; start pci-detach g1 A; run"),
    Scenario("D24", "the next guest of a permissive device", two({"permissive": True}, {}, ("A", "C")),
        "xl pci-detach g1 A; run; xl pci-attach g2 A; run; config g2 8 108 4 5000; run; config g2 8 108 4; run"),
    Scenario("D25", "the reset of a device fails when its guest ends", one(),
        "last-reset A; xl destroy g1; run 200000"),
    Scenario("S6", "a reset by sysfs while the guest is asked", one(ed_ms=50),
        "inject A nonfatal; until pciback.ask; run 10; sysfs-reset A; run"),
    Scenario("S8", "an error of the neighbour while a device is being reset by sysfs", two({}, {}, ("A", "B")),
        "sysfs-reset A; run 10; inject B nonfatal; run"),
    Scenario("S7", "the slot is emptied while the guest is asked", slots(ed_ms=50),
        "inject A nonfatal; until pciback.ask; run 10; eject A; run"),
    Scenario("S5", "the next guest of a device whose reset failed", two({}, {}, ("A", "C")),
        "last-reset A; xl destroy g1; run 200000; xl pci-attach g2 A; run 200000"),
    Scenario("D26", "the backend closes in the middle of a reconfiguration", one(),
        "start pci-attach g1 K; run 20000; remember g1; state g1"),
    Scenario("S1", "a second error while the first is treated", one(ed_ms=1_000),
        "inject A nonfatal; run 500; inject A other; run"),
    Scenario("S2", "a fatal error during a non-fatal recovery", one(ed_ms=1_000),
        "inject A nonfatal; run 500; inject A fatal; run"),
    Scenario("S3", "an error of a device that nobody has", one(), "inject C nonfatal; run"),
    Scenario("S9", "writes and reads nodes that are not its own", hostiles("h1", "h2"),
        "call h1 xs_write 0 /local/domain/0/backend/pci/1/0/aerState aerfail*1; call h1 xs_write 0 name other*1; "
        "call h1 xs_write 0 /local/domain/2/device/pci/0/state 5*1; "
        "call h1 xs_read 0 /local/domain/2/device/pci/0/state; call h1 xs_read 0 /libxl/2/type; "
        "call h1 xs_read 0 name; run 1000; state h1; state h2"),
    Scenario("S10", "maps pages and binds ports that are another's", hostiles("h1", "h2"),
        "call h1 grant_map 2 8; call h1 grant_end 8; call h2 evtchn_alloc 3; call h1 evtchn_bind 2 9 nowhere; "
        "call h1 evtchn_bind 2 8 nowhere; run 1000; state h1; state h2"),
    Scenario("S11", "switches MSI on past dom0, and moves its command register", hostiles("h1"),
        "op h1 0 0 0 0 0 34 1; reply h1; op h1 1 0 0 0 0 52 2 181; reply h1; op h1 0 0 0 0 0 52 2; reply h1; "
        "op h1 1 0 0 0 0 4 2 0; reply h1; op h1 0 0 0 0 0 4 2; reply h1; op h1 1 0 0 0 0 4 2 6; reply h1; "
        "op h1 0 0 0 0 0 4 2; reply h1"),
    Scenario("S4", "a mute guest below the port of another guest", two(MUTE, {}, ("A", "B")),
        "inject A fatal; run"),
)
# fmt: on
