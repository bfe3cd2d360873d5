"""Hot attach and detach (xen-pci.md 2.7, BUS-30, BUS-31) and the assignable list."""

from __future__ import annotations

import pytest

from tests.hypervisor_stub.fakes import CARD, CARD_1, SPARE, World, make_guest, make_host

BE = "/local/domain/0/backend/pci/1/0"
FE = "/local/domain/1/device/pci/0"
WAIT = 10_000_000_000


def states(world: World) -> tuple[str | None, str | None]:
    return world.read(f"{BE}/state"), world.read(f"{FE}/state")


def test_attach_to_a_connected_guest() -> None:
    world = World().booted()
    assert world.xl("pci-attach guest1 03:00.1") == (0, "", "")
    assert states(world) == ("4", "4")
    assert (world.read(f"{BE}/num_devs"), world.read(f"{BE}/vdev-1")) == ("2", "0000:00:01.00")
    assert world.guest().log.count(("devbus_open", "devbus-1")) == 1


def test_attach_of_the_first_device_makes_both_directories() -> None:
    world = World(make_host(make_guest(devices=()))).booted()
    assert world.xl("pci-attach guest1 03:00.0") == (0, "", "")
    assert world.read(f"{BE}/state-0") == "3"
    assert world.read(FE) == ""


def test_attach_what_another_guest_has() -> None:
    world = World().booted()
    code, out, err = world.xl("pci-attach guest1 03:00.0")
    assert (code, out) == (1, "")
    assert err.startswith("libxl: error: libxl_pci.c:")
    assert err.endswith("Domain 1:PCI device 0:3:0.0 is not assignable\n")


def test_attach_waits_ten_seconds_for_the_backend() -> None:
    world = World(guests_answer=False).connect_all()
    world.run(world.control.call("ctl", "hypervisor", "xl", ["create", "guest1"]))
    before = world.clock.time
    code, _, err = world.xl("pci-attach guest1 03:00.1")
    assert code == 1
    assert f"Backend {BE} not ready" in err
    assert err.endswith("unable to add device\n")
    assert world.clock.time - before == 10_000_000_000
    assert world.read("/libxl/pci/0000-03-00-1/domid") is None
    assert world.dom0.ops("hw_deassign") == [("hw_deassign", CARD_1)]


def test_attach_all_functions_of_a_slot() -> None:
    world = World(make_host(make_guest(devices=(SPARE,)))).connect_all()
    world.xl(f"pci-assignable-add {SPARE}")
    world.ctl("boot")
    assert world.xl("pci-attach guest1 03:00.*")[0] == 0
    assert world.xl("pci-list guest1")[1] == f"Vdev Device\n00.0 {SPARE}\n01.0 {CARD}\n02.0 {CARD_1}\n"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("linux", ["reset", "deassign", "unplug", "remove_entry"]),
        ("hardened", ["unplug", "block_dma", "reset", "restore", "check", "deassign", "remove_entry"]),
    ],
)
def test_bus_30_the_hardware_goes_before_the_guest_hears_of_it_in_linux_only(profile: str, expected: list[str]) -> None:
    world = World(make_host(make_guest(devices=(CARD, CARD_1)), profile=profile)).booted()
    world.dom0.calls.clear()
    assert world.xl("pci-detach guest1 03:00.0") == (0, "", "")
    assert [row[1] for row in world.traces("pci.step")] == expected
    assert world.dom0.ops("hw_reset", "hw_deassign") == [("hw_reset", CARD), ("hw_deassign", CARD)]
    assert states(world) == ("4", "4")


def test_detach_renumbers_and_frees() -> None:
    world = World(make_host(make_guest(devices=(CARD, CARD_1)))).booted()
    world.xl("pci-detach guest1 03:00.0")
    assert (world.read(f"{BE}/num_devs"), world.read(f"{BE}/dev-0")) == ("1", CARD_1)
    assert world.read(f"{BE}/vdev-0") == "0000:00:01.00"
    assert [world.read(f"{BE}/{stem}-1") for stem in ("state", "key", "dev", "vdev", "opts")] == [None] * 5
    assert world.xl("pci-assignable-list")[1] == f"{CARD} \n"


def test_detach_of_the_last_device_removes_the_directories() -> None:
    world = World().booted()
    world.xl("pci-detach guest1 03:00.0")
    missing = "xenstore-ls: xs_directory (/local/domain/1/device/pci): No such file or directory\n"
    assert world.ctl("xenstore-ls", "/local/domain/1/device/pci") == missing
    assert world.read("/local/domain/0/backend/pci") is None


def test_detach_keeps_the_backend_directory_of_others() -> None:
    world = World(make_host(make_guest(), make_guest("guest2", (CARD_1,)))).booted()
    world.xl("pci-detach guest1 03:00.0")
    assert world.read("/local/domain/0/backend/pci/1") is None
    assert world.read("/local/domain/0/backend/pci/2/0/state") == "4"


def test_bus_31_detach_from_a_mute_guest_linux_keeps_the_entry() -> None:
    world = World(make_host(profile="linux")).booted()
    world.guest().mute = True
    begin = world.clock.time
    code, _, err = world.xl("pci-detach guest1 03:00.0")
    assert code == 0
    assert world.clock.time - begin == WAIT
    assert f"Backend {BE} not ready" in err
    assert world.read(f"{BE}/dev-0") == CARD
    assert world.dom0.ops("hw_deassign") == [("hw_deassign", CARD)]


def test_bus_31_detach_from_a_mute_guest_hardened_takes_the_device() -> None:
    world = World().booted()
    world.guest().mute = True
    assert world.xl("pci-detach guest1 03:00.0")[0] == 0
    assert world.read(BE) is None
    assert f"{CARD} \n" in world.xl("pci-assignable-list")[1]


@pytest.mark.parametrize("profile", ["linux", "hardened"])
def test_bus_31_each_wait_for_a_mute_guest_costs_ten_seconds(profile: str) -> None:
    """The first one is for state 4, which the guest never leaves the backend in again."""
    world = World(make_host(make_guest(devices=(CARD, CARD_1)), profile=profile)).booted()
    world.guest().mute = True
    for number, bdf in enumerate((CARD, CARD_1)):
        begin = world.clock.time
        status = world.xl(f"pci-detach guest1 {bdf}")[0]
        assert world.clock.time - begin == WAIT
        assert world.read("/libxl/pci/0000-03-00-0/domid") is None
        assert (status == 0) == (profile == "linux" or number == 0), "hardened gives up: the guest never agreed"


def test_detach_of_something_else() -> None:
    world = World().booted()
    code, _, err = world.xl("pci-detach guest1 03:00.1")
    assert code == 1
    assert err.endswith("Domain 1:PCI device not attached to this domain\n")


def test_detach_before_connection_needs_no_handshake() -> None:
    world = World(guests_answer=False).connect_all()
    world.xl("create guest1")
    before = world.clock.time
    assert world.xl("pci-detach guest1 03:00.0")[0] == 0
    assert world.clock.time == before
    assert world.read(BE) is None


def test_detached_faulty_device_stays_hidden() -> None:
    world = World().booted()
    world.dom0.broken_reset.add(CARD)
    world.xl("pci-detach guest1 03:00.0")
    assert CARD not in world.xl("pci-assignable-list")[1]
    assert world.read("/libxl/pci/0000-03-00-0/fault") == "not ready 65535ms after FLR; giving up"


def test_destroy_during_an_attach_takes_the_device_once() -> None:
    world = World(guests_answer=False).connect_all()
    world.xl("create guest1")
    answers: list[int] = []

    async def attach() -> None:
        answers.append((await world.hypervisor.xl.xl(["pci-attach", "guest1", "03:00.1"]))[0])

    world.kernel.spawn(attach(), "attach")
    world.settle()
    assert world.xl("destroy guest1")[0] == 0
    world.pass_ms(10_000)
    assert answers == [1]
    assert world.dom0.ops("hw_deassign").count(("hw_deassign", CARD_1)) == 1
    assert world.xl("pci-assignable-list")[1] == f"{CARD} \n{CARD_1} \n"
