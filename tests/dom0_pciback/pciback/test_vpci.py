"""The topology that a guest sees (xen-pci.md 4.3, hostile requests X2 and X3)."""

from __future__ import annotations

from dom0_pciback.pciback.vpci import NO_SPACE, Passthrough, Topology, Vpci
from protocol.ids import Sbdf


def test_functions_of_one_slot_stay_together_and_keep_their_numbers() -> None:
    log: list[str] = []
    vpci = Vpci(log=lambda sbdf, text: log.append(f"{sbdf} {text}"))
    assert vpci.add(Sbdf(0, 3, 0, 0)) == 0x00
    assert vpci.add(Sbdf(0, 4, 0, 2)) == 0x0A
    assert vpci.add(Sbdf(0, 3, 0, 1)) == 0x01
    assert log == [
        "0000:03:00.0 vpci: assign to virtual slot 0",
        "0000:04:00.2 vpci: assign to virtual slot 1",
        "0000:03:00.1 vpci: assign to virtual slot 0 func 1",
    ]


def test_same_device_number_on_another_bus_or_segment_is_another_slot() -> None:
    vpci = Vpci()
    assert vpci.add(Sbdf(0, 3, 0, 0)) == 0x00
    assert vpci.add(Sbdf(1, 3, 0, 1)) == 0x09
    assert vpci.add(Sbdf(0, 3, 1, 1)) == 0x11


def test_a_virtual_function_at_function_0_stays_alone() -> None:
    vpci = Vpci()
    assert vpci.add(Sbdf(0, 3, 2, 0), is_virtfn=True) == 0x00
    assert vpci.add(Sbdf(0, 3, 2, 1), is_virtfn=True) == 0x09  # does not join the one above
    assert vpci.add(Sbdf(0, 3, 2, 2), is_virtfn=True) == 0x0A  # joins a virtual function that is not function 0
    other = Vpci()
    assert other.add(Sbdf(0, 3, 2, 1)) == 0x01
    assert other.add(Sbdf(0, 3, 2, 0), is_virtfn=True) == 0x08


def test_32_slots_then_ENOMEM_until_one_is_free() -> None:
    vpci = Vpci()
    assert [vpci.add(Sbdf(0, bus, 0, 0)) for bus in range(32)] == [slot << 3 for slot in range(32)]
    assert vpci.add(Sbdf(0, 40, 0, 0)) == -12
    assert vpci.add(Sbdf(0, 5, 0, 1)) == 5 << 3 | 1  # joining still works
    vpci.remove(Sbdf(0, 7, 0, 0))
    assert vpci.add(Sbdf(0, 40, 0, 0)) == 7 << 3
    assert NO_SPACE == "No more space on root virtual PCI bus"


def test_X2_lookup_is_for_segment_0_bus_0_only() -> None:
    vpci = Vpci()
    vpci.add(Sbdf(0, 3, 0, 0))
    assert vpci.lookup(0, 0, 0) == Sbdf(0, 3, 0, 0)
    assert vpci.lookup(1, 0, 0) is None
    assert vpci.lookup(0, 3, 0) is None
    assert vpci.lookup(0, 0, 1) is None


def test_X3_devfn_above_8_bits() -> None:
    linux, hardened = Vpci(hardened=False), Vpci()
    for vpci in (linux, hardened):
        vpci.add(Sbdf(0, 2, 0, 0))
        vpci.add(Sbdf(0, 3, 0, 0))
    assert linux.lookup(0, 0, 0x108) == Sbdf(0, 3, 0, 0)
    assert hardened.lookup(0, 0, 0x108) is None
    assert hardened.lookup(0, 0, 0x08) == Sbdf(0, 3, 0, 0)


def test_guest_address_and_removal() -> None:
    vpci = Vpci()
    vpci.add(Sbdf(0, 2, 0, 0))
    vpci.add(Sbdf(0, 3, 0, 1))
    assert vpci.guest_address(Sbdf(0, 3, 0, 1)) == (0, 0, 0x09)
    vpci.remove(Sbdf(0, 3, 0, 1))
    vpci.remove(Sbdf(0, 3, 0, 1))
    assert vpci.guest_address(Sbdf(0, 3, 0, 1)) is None
    assert vpci.lookup(0, 0, 0x09) is None
    assert vpci.roots() == [(0, 0)]


def test_D18_bridges() -> None:
    assert Vpci(hardened=False).add(Sbdf(0, 2, 0, 0), is_bridge=True) == 0
    assert Vpci(refuse_bridges=False).add(Sbdf(0, 2, 0, 0), is_bridge=True) == 0
    assert Vpci().add(Sbdf(0, 2, 0, 0), is_bridge=True) == -14


def test_passthrough_uses_the_machine_address() -> None:
    guest = Passthrough()
    assert guest.add(Sbdf(1, 3, 2, 1)) == 0x11
    assert guest.lookup(1, 3, 0x11) == Sbdf(1, 3, 2, 1)
    assert guest.lookup(0, 3, 0x11) is None
    assert guest.lookup(1, 3, 0x111) is None
    assert guest.guest_address(Sbdf(1, 3, 2, 1)) == (1, 3, 0x11)
    guest.remove(Sbdf(1, 3, 2, 1))
    assert guest.lookup(1, 3, 0x11) is None


def test_passthrough_roots_leave_out_what_is_below_an_exported_bridge() -> None:
    parents = {
        Sbdf(0, 3, 0, 0): Sbdf(0, 2, 0, 0),
        Sbdf(0, 2, 0, 0): Sbdf(0, 0, 1, 0),
        Sbdf(0, 5, 0, 0): Sbdf(0, 0, 2, 0),
        Sbdf(0, 5, 0, 1): Sbdf(0, 0, 2, 0),
    }
    guest = Passthrough(parents.get)
    for sbdf in (Sbdf(0, 3, 0, 0), Sbdf(0, 5, 0, 0), Sbdf(0, 5, 0, 1)):
        guest.add(sbdf)
    assert guest.roots() == [(0, 3), (0, 5)]
    guest.add(Sbdf(0, 0, 1, 0))
    assert guest.roots() == [(0, 5), (0, 0)]


def test_names_for_the_line_backend_is() -> None:
    kinds: list[Topology] = [Vpci(), Passthrough()]
    assert [topology.kind for topology in kinds] == ["vpci", "passthrough"]
