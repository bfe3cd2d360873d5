"""``xl``: columns, messages and exit codes, byte for byte (xen-pci.md 9)."""

from __future__ import annotations

import pytest

from tests.hypervisor_stub.fakes import CARD, CARD_1, SPARE, World, make_guest, make_host

HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
DOM0 = "Domain-0                                     0  4096     4     r-----      56.3\n"


@pytest.fixture
def world() -> World:
    return World(make_host(make_guest(memory_mb=1024, vcpus=2))).booted()


def test_list(world: World) -> None:
    world.hypervisor.cpu_seconds = lambda domain: 3.14 if domain else 56.3
    guest = "guest1                                       1  1024     2     -b----       3.1\n"
    assert world.xl("list") == (0, HEADER + DOM0 + guest, "")
    assert world.xl("list guest1") == (0, HEADER + guest, "")
    assert world.xl("list 1") == (0, HEADER + guest, "")
    assert world.xl("list Domain-0") == (0, HEADER + DOM0, "")


@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("domid guest1", 0, "1\n", ""),
        ("domid nobody", 1, "", "nobody is an invalid domain identifier (rc=-6)\n"),
        ("destroy 9", 1, "", "9 is an invalid domain identifier (rc=-6)\n"),
        ("destroy 0", 1, "", "Not destroying domain 0; use -f to force.\nThis can't be undone.\n"),
        ("shutdown guest1", 0, "", "Shutting down domain 1\n"),
        ("reboot 1", 0, "", "Rebooting domain 1\n"),
        ("pause guest1", 0, "", ""),
        ("pci-list guest1", 0, f"Vdev Device\n00.0 {CARD}\n", ""),
        ("pci-assignable-list", 0, f"{CARD_1} \n", ""),
        ("pci-attach guest1 nonsense", 2, "", 'pci-attach: malformed PCI_SPEC_STRING "nonsense"\n'),
        (
            "pci-attach guest1 03:00.1,x=1",
            2,
            "",
            'Unknown PCI_SPEC_STRING option: x\npci-attach: malformed PCI_SPEC_STRING "03:00.1,x=1"\n',
        ),
        ("pci-detach -f guest1 1:2", 2, "", 'pci-detach: malformed PCI_SPEC_STRING "1:2"\n'),
        ("pci-assignable-add 3", 2, "", 'pci-assignable-add: malformed BDF "3"\n'),
        ("pci-assignable-remove 3", 2, "", "pci-assignable-remove: malformed BDF '3'\n"),
        (f"pci-assignable-add -n {'x' * 65} 04:00.0", 2, "", "Name too long\n"),
        ("pci-assignable-add -n ü 04:00.0", 2, "", "Names may only include printable characters\n"),
        ("frobnicate", 1, "", "command not implemented\n"),
        ("list -z", 2, "", "option `z' not supported.\n"),
        (
            "pci-attach guest1",
            2,
            "",
            "'xl pci-attach' requires at least 2 arguments.\n\n"
            "Usage: xl [-vfN] pci-attach <Domain> <PCI_SPEC_STRING>\n",
        ),
        ("create nobody", 1, "", "nobody: no such guest in the host file; it has: guest1\n"),
    ],
)
def test_words(world: World, line: str, code: int, out: str, err: str) -> None:
    assert world.xl(line) == (code, out, err)


def test_destroy_of_domain_0_by_force_is_refused(world: World) -> None:
    code, _, err = world.xl("destroy -f 0")
    assert code == 1
    assert err.endswith("destroy failed (rc=-3)\n")


def test_create_after_destroy(world: World) -> None:
    assert world.xl("destroy guest1") == (0, "", "")
    assert world.xl("create guest1") == (0, "Parsing config from guest1\n", "")
    assert world.xl("domid guest1") == (0, "2\n", "")


def test_pause_and_unpause(world: World) -> None:
    world.xl("pause guest1")
    world.xl("pause guest1")
    assert "--p---" in world.xl("list")[1]
    world.xl("unpause guest1")
    assert "-b----" in world.xl("list")[1]
    assert world.supervisors["guest1"].signals == ["pause", "unpause"]


def test_pci_list_slot_hardened_real_linux_always_zero() -> None:
    for profile, second in (("hardened", "01.0"), ("linux", "00.0")):
        world = World(make_host(make_guest(devices=(CARD, CARD_1)), profile=profile)).booted()
        assert world.xl("pci-list guest1")[1] == f"Vdev Device\n00.0 {CARD}\n{second} {CARD_1}\n"


def test_pci_list_of_a_guest_without_devices() -> None:
    assert World(make_host(make_guest(devices=()))).booted().xl("pci-list guest1") == (0, "", "")


def test_pci_attach_with_vslot(world: World) -> None:
    assert world.xl("pci-attach guest1 03:00.1@5") == (0, "", "")
    assert world.xl("pci-list guest1")[1] == f"Vdev Device\n00.0 {CARD}\n05.0 {CARD_1}\n"


def test_assignable_add_remove_with_name(world: World) -> None:
    assert world.xl(f"pci-assignable-add -n nic0 {SPARE}") == (0, "", "")
    assert world.xl("pci-assignable-list -n")[1] == f"{CARD_1} \n{SPARE} nic0\n"
    assert world.read("/libxl/pci/0000-04-00-0/driver_path") == "/sys/bus/pci/drivers/nvme"
    code, out, err = world.xl("pci-assignable-remove -r nic0")
    assert (code, out) == (0, "")
    assert err.endswith("Rebinding to driver at /sys/bus/pci/drivers/nvme\n")
    assert world.dom0.drivers[SPARE] == "nvme"


def test_assignable_add_twice_warns_and_succeeds(world: World) -> None:
    code, _, err = world.xl("pci-assignable-add 03:00.1")
    assert code == 0
    assert err.startswith("libxl: warning: libxl_pci.c:")
    assert err.endswith(f"{CARD_1} already assigned to pciback\n")


def test_assignable_add_without_driver(world: World) -> None:
    world.dom0.drivers[SPARE] = ""
    code, _, err = world.xl("pci-assignable-add 04:00.0")
    assert code == 0
    assert err.endswith(f"{SPARE} not bound to a driver, will not be rebound.\n")


def test_assignable_add_that_cannot_bind_or_quarantine(world: World) -> None:
    world.dom0.drivers[SPARE] = "busy"
    assert world.xl("pci-assignable-add 04:00.0")[2].endswith("Couldn't bind device to pciback!\n")
    world.dom0.drivers[SPARE] = "nvme"
    world.dom0.not_ours.add(SPARE)
    code, _, err = world.xl("pci-assignable-add 04:00.0")
    assert code == 1
    assert err.endswith(f"failed to quarantine {SPARE}\n")


def test_assignable_list_without_pciback(world: World) -> None:
    world.dom0.drivers.clear()
    code, out, err = world.xl("pci-assignable-list")
    assert (code, out) == (0, "")
    assert err.endswith("Looks like pciback driver not loaded\n")


def test_assignable_add_of_nothing(world: World) -> None:
    code, _, err = world.xl("pci-assignable-add 05:00.0")
    assert code == 1
    assert err.endswith("Couldn't lstat /sys/bus/pci/devices/0000:05:00.0: No such file or directory\n")


def test_assignable_remove_of_an_assigned_device(world: World) -> None:
    code, _, err = world.xl("pci-assignable-remove 03:00.0")
    assert code == 1
    assert err.endswith(f"failed to de-quarantine {CARD}\n")


def test_assignable_remove_without_known_driver(world: World) -> None:
    code, _, err = world.xl("pci-assignable-remove -r 03:00.1")
    assert code == 0
    assert err.endswith("Couldn't find path for original driver; not rebinding\n")
    assert world.dom0.drivers[CARD_1] == ""


def test_attach_by_name_with_seize(world: World) -> None:
    world.xl(f"pci-assignable-add -n nic0 {SPARE}")
    assert world.xl("pci-attach guest1 name=nic0") == (0, "", "")
    assert world.read("/local/domain/0/backend/pci/1/0/name-1") == "nic0"
    assert world.xl("pci-attach guest1 name=other")[0] == 1


def test_attach_with_seize(world: World) -> None:
    assert world.xl("pci-attach guest1 04:00.0,seize=1") == (0, "", "")
    assert world.dom0.drivers[SPARE] == "pciback"


def test_dmesg_and_clear(world: World) -> None:
    lines = world.xl("dmesg -c")[1].splitlines()
    assert lines
    assert all(line.startswith("(XEN) ") for line in lines)
    assert world.xl("dmesg")[1] == ""
