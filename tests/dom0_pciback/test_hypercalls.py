"""dom0_pciback.hypercalls: what the stub asks of dom0 (KILL-4, H19, H22, 9.5), and requests that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_stub.rpc import RpcError
from protocol.ids import DOM0, DOMID_IO, Sbdf
from protocol.layout_header import COMMAND_MEMORY, HEADER
from tests.dom0_pciback.pciback.host import CARD, CARD_1, SPARE, Host, make_host

PORT = "0000:00:01.0"


@pytest.fixture
def host() -> Host:
    return Host(make_host(CARD, SPARE))


def owner(host: Host, bdf: str) -> int:
    return host.psdev(bdf).core.kernel is host.dom0.kernel and iommu(host).owner(Sbdf.parse(bdf))


def iommu(host: Host) -> Any:
    return host.dom0.rpc.handlers["hw_assign"].__self__.iommu  # type: ignore[attr-defined]


def test_hw_assign_gives_one_bus_per_domain(host: Host) -> None:
    domid = host.guest.domid
    assert owner(host, CARD) == owner(host, SPARE) == domid
    assert owner(host, CARD_1) == DOM0
    assert len(set(host.guest.devbus_addresses)) == 1
    assert host.dom0_call("hw_assign", CARD_1, domid) == host.guest.devbus_addresses[0]


def test_hw_deassign_is_quarantine_and_the_bus_goes_with_the_last_function(host: Host) -> None:
    rpc = host.guest.open_devbus()
    host.dom0_call("hw_deassign", CARD)
    host.settle()
    assert owner(host, CARD) == DOMID_IO
    assert rpc.closed is None
    host.dom0_call("hw_deassign", SPARE)
    host.settle()
    assert rpc.closed is not None


def test_kill_4_3_hw_block_dma(host: Host) -> None:
    sbdf, domid = Sbdf.parse(CARD), host.guest.domid
    assert iommu(host).allows(sbdf, domid)
    host.dom0_call("hw_block_dma", CARD)
    assert not iommu(host).allows(sbdf, domid)


def test_a_function_is_given_away_only_when_pciback_has_it_back(host: Host) -> None:
    with pytest.raises(RpcError, match="still belongs to domain"):
        host.dom0_call("hw_assign", CARD, host.guest.domid + 1)
    assert owner(host, CARD) == host.guest.domid


def test_kill_4_5_hw_reset_uses_flr_and_restores(host: Host) -> None:
    access = host.psdev().access
    access.write(HEADER.COMMAND, 2, access.read(HEADER.COMMAND, 2) ^ COMMAND_MEMORY)
    assert host.dom0_call("hw_reset", CARD, [CARD]) == (True, "flr", "")
    assert host.dom0_call("hw_check", CARD) == (True, "")


def without_flr(*owners: str) -> Host:
    spec = make_host(*owners)
    for function in spec.functions:
        if function.bdf in (CARD, CARD_1):
            function.flr = False
    return Host(spec)


def test_9_5_without_flr_the_bus_is_reset_if_nobody_else_is_below() -> None:
    host = without_flr(CARD, CARD_1)
    done, method, _ = host.dom0_call("hw_reset", CARD, [CARD, CARD_1])
    assert done
    assert method in ("bus", "pm")


def test_hw_check_finds_a_device_that_is_not_well(host: Host) -> None:
    access = host.psdev().access
    access.write(HEADER.COMMAND, 2, access.read(HEADER.COMMAND, 2) ^ COMMAND_MEMORY)
    clean, text = host.dom0_call("hw_check", CARD)
    assert not clean
    assert text.startswith("Command is ")
    assert host.psdev().faulty == text
    host.dom0_call("hw_restore", CARD)
    assert host.dom0_call("hw_check", CARD) == (True, "")
    assert host.psdev().faulty == ""


def test_pci_slots_are_all_functions_with_their_drivers(host: Host) -> None:
    slots = dict(host.dom0_call("pci_slots"))
    assert slots.keys() == {function.bdf for function in host.spec.functions}
    assert (slots[SPARE], slots[PORT]) == ("pciback", "pcieport")


def test_pci_release_and_seize(host: Host) -> None:
    host.dom0_call("pci_release", CARD_1, "")
    assert dict(host.dom0_call("pci_slots"))[CARD_1] == ""
    assert list(host.dom0_call("pci_seize", CARD_1)) == [""]
    assert list(host.dom0_call("pci_seize", CARD_1)) == ["pciback"]
    assert dict(host.dom0_call("pci_slots"))[CARD_1] == "pciback"


def test_pci_release_to_a_driver_of_dom0(host: Host) -> None:
    with pytest.raises(RpcError, match="no driver 'ixgbe' in dom0; allowed: pcieport, pciback"):
        host.dom0_call("pci_release", CARD_1, "ixgbe")
    assert dict(host.dom0_call("pci_slots"))[CARD_1] == "pciback", "as it was"
    host.dom0_call("pci_release", CARD_1, "pciback")
    assert dict(host.dom0_call("pci_slots"))[CARD_1] == "pciback"


def test_pci_release_of_a_device_in_use_is_refused(host: Host) -> None:
    with pytest.raises(RpcError, match="in use"):
        host.dom0_call("pci_release", CARD, "")


def test_pci_permissive(host: Host) -> None:
    host.dom0_call("pci_permissive", CARD)
    assert host.psdev().conf.permissive


@pytest.mark.parametrize("bdf", ["nonsense", "0000:09:00.0", "", "0000:01:00.9"])
@pytest.mark.parametrize(
    ("op", "rest"),
    [
        ("hw_assign", (7,)), ("hw_deassign", ()), ("hw_block_dma", ()), ("hw_reset", ([],)), ("hw_restore", ()),
        ("hw_check", ()), ("pci_seize", ()), ("pci_release", ("",)), ("pci_permissive", ()),
    ],
)  # fmt: skip
def test_a_device_that_does_not_exist_is_an_error_and_no_oops(
    host: Host, op: str, rest: tuple[Any, ...], bdf: str
) -> None:
    with pytest.raises(RpcError):
        host.dom0_call(op, bdf, *rest)
    assert host.dom0_call("pci_slots")
    assert not host.world.traced("kernel.oops")


def test_a_port_is_not_assigned(host: Host) -> None:
    with pytest.raises(RpcError, match="not seized"):
        host.dom0_call("hw_assign", PORT, 7)
