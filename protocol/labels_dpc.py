"""Journal labels of Downstream Port Containment. Subject: the ``DDDD:BB:DD.F`` text of the port."""

from __future__ import annotations

LABELS: dict[str, tuple[str, ...]] = {
    "hw.dpc_trigger": (),
    "hw.rp_pio": ("bits",),
    "dpc.irq": ("status",),  # DPC Status as dpc_irq read it
    "edr.ost": ("event", "value"),  # _OST of the port's ACPI node: 0xf, BDF << 16 | 0x80 or 0x81
}
