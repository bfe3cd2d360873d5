"""Who may do DMA: xen-pci.md 5.3, KILL-4.3."""

from dom0_pciback.pcie.iommu import Iommu, bus_master_ok
from protocol.ids import DOM0, DOMID_IO, Sbdf
from protocol.layout_header import HEADER
from tests.dom0_pciback.pcie.rig import DOWN, NIC, Rig

DEVICE = Sbdf.parse(NIC)


def test_unassigned_function_belongs_to_dom0() -> None:
    iommu = Iommu()
    assert (iommu.owner(DEVICE), iommu.allows(DEVICE, DOM0), iommu.allows(DEVICE, 3)) == (DOM0, True, False)


def test_assigned_function_reaches_its_domain_only() -> None:
    iommu = Iommu()
    iommu.assign(DEVICE, 3)
    assert [iommu.allows(DEVICE, domid) for domid in (DOM0, 3, 4)] == [False, True, False]


def test_quarantined_function_reaches_nothing() -> None:
    iommu = Iommu()
    iommu.assign(DEVICE, 3)
    iommu.deassign(DEVICE)
    assert iommu.owner(DEVICE) == DOMID_IO
    assert not any(iommu.allows(DEVICE, domid) for domid in (DOM0, 3, DOMID_IO))


def test_block_beats_assignment_until_lifted_or_given_away() -> None:
    iommu = Iommu()
    iommu.assign(DEVICE, 3)
    iommu.block(DEVICE)
    assert (iommu.allows(DEVICE, 3), iommu.owner(DEVICE)) == (False, 3)
    iommu.unblock(DEVICE)
    assert iommu.allows(DEVICE, 3)
    iommu.block(DEVICE)
    iommu.assign(DEVICE, 4)
    assert iommu.allows(DEVICE, 4)


def test_bus_master_needs_command_and_reachability(rig: Rig) -> None:
    nic = rig.function(NIC)
    assert not bus_master_ok(nic)
    rig.set(NIC, HEADER.COMMAND, 0x0107)
    assert bus_master_ok(nic)
    rig.port(DOWN).link.freeze()
    assert not bus_master_ok(nic)
