"""Texts of the attributes of a function, letter for letter as ``drivers/pci/pci-sysfs.c`` prints them."""

from __future__ import annotations

from dom0_pciback.aer.ratelimit import RateLimit
from dom0_pciback.sysfs.subject import Subject
from protocol.layout_header import HEADER
from protocol.layout_pcie import EXP

LINK_SPEED, LINK_WIDTH, WIDTH_SHIFT = 0x0F, 0x3F0, 4  # the same fields in Link Capabilities and Link Status
SPEED_TEXT = {  # pci_speed_string, by the code of Link Status and of Link Capabilities
    1: "2.5 GT/s PCIe",
    2: "5.0 GT/s PCIe",
    3: "8.0 GT/s PCIe",
    4: "16.0 GT/s PCIe",
    5: "32.0 GT/s PCIe",
    6: "64.0 GT/s PCIe",
}
MAX_LEGACY_SPEED = 2  # without Link Capabilities 2 a device knows 2.5 and 5 GT/s (pcie_get_supported_speeds)


def uevent(subject: Subject) -> str:
    """``pci_uevent`` (4.7), with the driver before it."""
    dev, identity = subject.dev, subject.identity
    lines = [f"DRIVER={dev.driver.name}"] if dev.driver is not None else []
    vendor, device = identity.subsystem
    lines += [
        f"PCI_CLASS={dev.class_code:04X}",
        f"PCI_ID={dev.vendor:04X}:{dev.device:04X}",
        f"PCI_SUBSYS_ID={vendor:04X}:{device:04X}",
        f"PCI_SLOT_NAME={dev.name}",
        f"MODALIAS={_modalias(subject)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def modalias(subject: Subject) -> str:
    """``modalias_show``."""
    return f"{_modalias(subject)}\n"


def _modalias(subject: Subject) -> str:
    dev, code = subject.dev, subject.dev.class_code
    vendor, device = subject.identity.subsystem
    ids = f"v{dev.vendor:08X}d{dev.device:08X}sv{vendor:08X}sd{device:08X}"
    return f"pci:{ids}bc{code >> 16:02X}sc{code >> 8 & 0xFF:02X}i{code & 0xFF:02x}"


def irq(subject: Subject) -> str:
    """Vector of a root port's services; else the line that the firmware wrote into the function."""
    root = subject.aer.roots.get(subject.dev.sbdf)
    line = subject.core.read(subject.dev, HEADER.INTERRUPT_LINE, 1) if root is None else root.irq
    return f"{line}\n"


def enable(subject: Subject) -> str:
    """``enable_show``: how many have enabled the function."""
    return f"{subject.dev.enable_cnt}\n"


def reset_method(subject: Subject) -> str:
    """``reset_method_show``: methods in the order in which they are tried; empty if all were disabled."""
    chosen = subject.dev.reset_methods
    methods = subject.identity.reset_methods if chosen is None else chosen
    return " ".join(methods) + "\n" if methods else ""


def interval(limiter: RateLimit) -> str:
    """``*_ratelimit_interval_ms`` prints jiffies, whatever its name says (T34)."""
    return f"{limiter.interval}\n"


def current_link_speed(subject: Subject) -> str:
    """``current_link_speed_show``."""
    return f"{SPEED_TEXT.get(_link_status(subject) & LINK_SPEED, 'Unknown')}\n"


def current_link_width(subject: Subject) -> str:
    """``current_link_width_show``."""
    return f"{(_link_status(subject) & LINK_WIDTH) >> WIDTH_SHIFT}\n"


def max_link_speed(subject: Subject) -> str:
    """``pcie_get_speed_cap``."""
    return f"{SPEED_TEXT.get(max(supported_speeds(subject), default=0), 'Unknown')}\n"


def max_link_width(subject: Subject) -> str:
    """``pcie_get_width_cap``."""
    return f"{(subject.identity.lnkcap & LINK_WIDTH) >> WIDTH_SHIFT}\n"


def supported_speeds(subject: Subject) -> list[int]:
    """``pcie_get_supported_speeds``: codes; Link Capabilities 2 has a bit per speed, from bit 1 on."""
    vector = subject.identity.lnkcap2 >> 1
    if not vector:
        return list(range(1, min(subject.identity.lnkcap & LINK_SPEED, MAX_LEGACY_SPEED) + 1))
    return [code for code in SPEED_TEXT if vector >> code - 1 & 1]


def _link_status(subject: Subject) -> int:
    return subject.core.read(subject.dev, subject.dev.exp + EXP.LNKSTA, 2)
