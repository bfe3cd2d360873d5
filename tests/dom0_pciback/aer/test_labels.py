"""Every record that this room writes is declared, with the right number of fields and plain values."""

from __future__ import annotations

from protocol.ers import ErsResult
from protocol.labels_aer import LABELS
from tests.dom0_pciback.aer.rig import Rig, bind_lab

OF_BOOT = {"pci.save"}
OF_HOTPLUG = {"pci.remove", "pci.slot_reset", "pciehp.reset_slot", "pciehp.bus_reset", "uevent.nvme"}


def test_records_match_their_declaration() -> None:
    rig = Rig()
    bind_lab(rig, "05:00.0", det_normal=ErsResult.CAN_RECOVER, mmio=ErsResult.NEED_RESET, slot=ErsResult.RECOVERED)
    bind_lab(rig, "06:00.0", det_frozen=ErsResult.NEED_RESET)
    rig.inject("05:00.0", cor=1)
    rig.inject("05:00.0", uncor=0x8000)
    rig.inject("03:00.0", uncor=0x10)
    rig.call(rig.core.unbind(rig.dev("05:00.0")))
    records = [record for record in rig.journal.records if record[2] != "printk"]
    for _, _, label, subject, *fields in records:
        assert len(fields) == len(LABELS[label]), label
        assert subject.startswith("0000:")
        assert all(isinstance(field, str | int | list) for field in fields), (label, fields)
    assert {record[2] for record in records} == set(LABELS) - {"aer.lost", *OF_BOOT, *OF_HOTPLUG}
