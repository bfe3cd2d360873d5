"""The block that kernels of 2008 print for an erroneous device (``aerdrv_errprint.c``); lines without device name."""

from __future__ import annotations

from dom0_pciback.aer.info import ErrorRecord
from dom0_pciback.pci.core import PciCore
from dom0_pciback.pci.device import PciDev

NAME_WIDTH = 22


def print_box(core: PciCore, dev: PciDev, record: ErrorRecord) -> None:
    """Print the error of one device; only the lowest bit of the status is named."""
    words, severity = record.reporting.words, record.severity
    received = "Multiple" if record.multi else "First"
    lines = ["+------ PCI-Express Device Error ------+", f"Error Severity\t\t: {words.severities[severity]}"]
    if record.status:
        lines += [
            f"PCIE Bus Error type\t: {words.layer(severity, record.status)}",
            f"{_lowest_bit(record)}\t: {received}",
            f"{words.agent(severity, record.status)}\t\t: {dev.rid:04x}",
            f"VendorID={dev.vendor:04x}h, DeviceID={dev.device:04x}h, Bus={dev.sbdf.bus:02x}h, "
            f"Device={dev.sbdf.device:02x}h, Function={dev.sbdf.function:02x}h",
        ]
    else:
        lines += [
            "PCIE Bus Error type\t: (Unaccessible)",
            f"Unaccessible Received\t: {received}",
            f"Unregistered Agent ID\t: {dev.rid:04x}",
        ]
    if record.tlp is not None:
        lines += ["TLP Header:", " ".join(f"{dword:08x}" for dword in record.tlp.dwords[:4])]
    for line in lines:
        core.kernel.printk(record.level, line)


def _lowest_bit(record: ErrorRecord) -> str:
    bit = (record.status & -record.status).bit_length() - 1
    name = record.reporting.words.bit_names(record.severity).get(bit)
    return f"Unknown Error Bit {bit:2d}  " if name is None else f"{name:<{NAME_WIDTH}}"
