"""What the kernel says at boot about ``_OSC``, by which it takes control of PCI Express from the firmware (3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dom0_pciback.pci.ownership import host_native_aer, pci_aer_available, pcie_ports_disabled, requests_control
from protocol.topology import BootSpec

REQUIRED = ("ExtendedConfig", "ASPM", "ClockPM", "MSI")  # without all of these the kernel asks for nothing


class Control(NamedTuple):
    """A feature that the kernel may ask for, in the order in which it names them."""

    label: str
    asked: Callable[[BootSpec], bool]
    granted: Callable[[BootSpec], bool]


def _yes(boot: BootSpec) -> bool:
    return True


def _no(boot: BootSpec) -> bool:
    return False


# The machine is a q35: it never grants LTR. DPC is asked for only by a kernel with EDR (3.1).
CONTROLS = (
    Control("PCIeHotplug", _yes, lambda boot: boot.hotplug == "native"),
    Control("SHPCHotplug", _yes, _yes),
    Control("PME", _yes, _yes),
    Control("AER", pci_aer_available, host_native_aer),
    Control("PCIeCapability", _yes, _yes),
    Control("LTR", _yes, _no),
    Control("DPC", lambda boot: boot.edr and pci_aer_available(boot), lambda boot: boot.osc_dpc),
)


def osc_lines(boot: BootSpec) -> list[str]:
    """The lines of the boot log, without level."""
    supported = ["ExtendedConfig", "ASPM", "ClockPM", "Segments", *(["MSI"] if boot.msi else []), "HPX-Type3"]
    texts = [f"_OSC: OS supports {_list(supported)}"]
    if pcie_ports_disabled(boot):
        texts.append("PCIe port services disabled; not requesting _OSC control")
    elif not requests_control(boot):
        texts.append(f"_OSC: not requesting OS control; OS requires {_list(REQUIRED)}")
    else:
        asked = [control for control in CONTROLS if control.asked(boot)]
        refused = [control.label for control in asked if not control.granted(boot)]
        granted = [control.label for control in asked if control.granted(boot)]
        texts += [f"_OSC: platform does not support {_list(refused)}", f"_OSC: OS now controls {_list(granted)}"]
    return [f"acpi PNP0A08:00: {text}" for text in texts]


def _list(names: Iterable[str]) -> str:
    return f"[{' '.join(names)}]"
