"""dom0's own drivers: those that a host file may name are those that there are."""

from __future__ import annotations

from dom0_pciback.native import NativeDom0
from kernel_stub.kernel import Kernel
from protocol.topology import NATIVE_DRIVERS
from tests.kernel_stub.world import ListJournal, ManualClock
from xenaer.boot import data_dir
from xenaer.host import load_host


def test_every_driver_that_a_host_may_name_exists_and_is_bound() -> None:
    host = load_host(data_dir("hosts") / "recorded" / "main.yaml")
    kernel = Kernel("dom0", ManualClock(), ListJournal())
    dom0 = NativeDom0(kernel, ManualClock(), host)
    kernel.spawn(dom0.start(), "init")
    kernel.run()
    assert set(dom0.core.drivers) == {"pcieport", *NATIVE_DRIVERS}
    bound = {dev.driver.name for dev in dom0.core.devices.values() if dev.driver is not None}
    assert bound == {"pcieport", "aerlab", "e1000e", "igb", "nvme", "virtio-pci"}
