"""Cold start: nodes of xen-pci.md 2.8 in the order of xen-pci-errata.md 8, boot, and what can go wrong."""

from __future__ import annotations

from protocol.topology import TimingSpec
from tests.hypervisor_stub.fakes import CARD, CARD_1, SPARE, World, make_guest, make_host

OPTS = "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict"
BE = "/local/domain/0/backend/pci/1/0"

LISTING = f"""\
{BE[:-2]} = ""   (n0)
{BE} = ""   (n0,r1)
{BE}/frontend = "/local/domain/1/device/pci/0"   (n0,r1)
{BE}/frontend-id = "1"   (n0,r1)
{BE}/online = "1"   (n0,r1)
{BE}/state = "4"   (n0,r1)
{BE}/domain = "guest1"   (n0,r1)
{BE}/key-0 = "{CARD}"   (n0,r1)
{BE}/dev-0 = "{CARD}"   (n0,r1)
{BE}/opts-0 = "{OPTS}"   (n0,r1)
{BE}/state-0 = "3"   (n0,r1)
{BE}/num_devs = "2"   (n0,r1)
{BE}/vdev-0 = "0000:00:00.00"   (n0,r1)
{BE}/root-0 = "0000:00"   (n0,r1)
{BE}/root_num = "1"   (n0,r1)
{BE}/key-1 = "{CARD_1}"   (n0,r1)
{BE}/dev-1 = "{CARD_1}"   (n0,r1)
{BE}/opts-1 = "{OPTS}"   (n0,r1)
{BE}/state-1 = "3"   (n0,r1)
{BE}/vdev-1 = "0000:00:01.00"   (n0,r1)
"""


def test_listing_of_a_connected_guest() -> None:
    world = World(make_host(make_guest(devices=(CARD, CARD_1)))).booted()
    lines = world.ctl("xenstore-ls", "/local/domain/0/backend/pci").splitlines()
    # Where pciback's own nodes come between T1 and T2 is a matter of speed.
    assert sorted(lines) == sorted(LISTING.splitlines())
    by_toolstack = [line for line in LISTING.splitlines() if not any(n in line for n in ("/vdev-", "/root"))]
    assert [line for line in lines if line in by_toolstack] == by_toolstack
    assert world.ctl("xenstore-ls", "/local/domain/1/device") == (
        '/local/domain/1/device/pci = ""   (n0,r1)\n'
        '/local/domain/1/device/pci/0 = ""   (n1,r0)\n'
        '/local/domain/1/device/pci/0/backend = "/local/domain/0/backend/pci/1/0"   (n1,r0)\n'
        '/local/domain/1/device/pci/0/backend-id = "0"   (n1,r0)\n'
        '/local/domain/1/device/pci/0/state = "4"   (n1,r0)\n'
    )
    assert world.ctl("xenstore-ls", "/libxl/pci") == (
        '/libxl/pci/0000-03-00-0 = ""   (n0)\n'
        '/libxl/pci/0000-03-00-0/domid = "1"   (n0)\n'
        '/libxl/pci/0000-03-00-1 = ""   (n0)\n'
        '/libxl/pci/0000-03-00-1/domid = "1"   (n0)\n'
    )


def test_order_of_the_whole_tree() -> None:
    world = World().booted()
    top = [line.split()[0] for line in world.ctl("xenstore-ls").splitlines()]
    assert [path for path in top if path.count("/") == 1] == ["/tool", "/local", "/vm", "/libxl"]
    assert "/local/domain/1" in top


def test_hvm_gets_a_slot_and_no_connection() -> None:
    world = World(make_host(make_guest(type="hvm"))).connect_all()
    assert world.ctl("boot") == (("guest1", "started"),)
    assert world.read(f"{BE}/vdevfn-0") == "18"
    assert (world.read(f"{BE}/state"), world.read("/local/domain/1/device/pci/0/state")) == ("3", "1")
    order = [line.split(" ")[0].rpartition("/")[2] for line in world.ctl("xenstore-ls", BE).splitlines()]
    assert order[order.index("dev-0") :][:3] == ["dev-0", "vdevfn-0", "opts-0"]


def test_boot_connects_and_opens_the_device_bus_after_hello() -> None:
    world = World(make_host(make_guest(devices=(CARD, CARD_1)))).connect_all()
    assert world.ctl("boot") == (("guest1", "connected"),)
    assert world.guest().log == [("hello",), ("devbus_open", "devbus-1")]
    assert world.guest().config["domid"] == 1
    assert world.dom0.ops("hw_reset", "hw_assign") == [
        ("hw_reset", CARD),
        ("hw_assign", CARD),
        ("hw_reset", CARD_1),
        ("hw_assign", CARD_1),
    ]
    assert world.ctl("status")["ready"] is True


def test_boot_waits_no_longer_than_the_grace_time() -> None:
    host = make_host(timing=TimingSpec(connect_grace_ms=500))
    world = World(host, guests_answer=False).connect_all()
    assert world.ctl("boot") == (("guest1", "not connected: backend state 3, frontend state 1"),)
    assert world.ctl("status")["ready"] is False


def test_guests_that_do_not_start_by_themselves_are_left() -> None:
    world = World(make_host(make_guest(), make_guest("guest2", (), autostart=False))).connect_all()
    assert [row[0] for row in world.ctl("boot")] == ["guest1"]


def test_create_refuses_a_device_that_is_not_assignable() -> None:
    world = World(make_host(make_guest(devices=(CARD, SPARE)))).connect_all()
    ((_, text),) = world.ctl("boot")
    assert text.endswith("Domain 1:PCI device 0:4:0.0 is not assignable")
    assert world.console[-1].endswith("libxl__device_pci_add failed for PCI device 0:4:0.0 (rc -3)")
    assert not world.ctl("status")["domains"]
    assert world.read("/local/domain/0/backend/pci") is None
    assert world.read("/libxl/pci/0000-03-00-0/domid") is None
    assert world.supervisors["guest1"].guest is None


def test_create_twice() -> None:
    world = World().booted()
    code, _, err = world.xl("create guest1")
    assert code == 1
    assert err.endswith('Domain with name "guest1" already exists.\n')


def test_create_without_supervisor() -> None:
    world = World().connect_all()
    world.supervisors["guest1"].rpc.link.close()
    world.settle()
    code, _, err = world.xl("create guest1")
    assert code == 1
    assert "no supervisor is connected for guest1" in err


def test_failed_reset_before_attach_is_ignored() -> None:
    world = World().connect_all()
    world.dom0.broken_reset.add(CARD)
    assert world.ctl("boot") == (("guest1", "connected"),)
    assert any(f"write to /sys/bus/pci/devices/{CARD}/reset failed" in line for line in world.console)


def test_permissive_is_set_before_assignment() -> None:
    spec = make_guest()
    spec.devices[0].permissive = True
    world = World(make_host(spec)).booted()
    assert world.dom0.ops("pci_permissive", "hw_assign") == [("pci_permissive", CARD), ("hw_assign", CARD)]
    assert world.read(f"{BE}/opts-0") == OPTS.replace("permissive=0", "permissive=1")


def test_wait_ready_answers_once_everybody_is_connected() -> None:
    host = make_host(timing=TimingSpec(connect_grace_ms=500))
    assert World(host).booted().ctl("wait-ready") is True
    assert World(host, guests_answer=False).booted().ctl("wait-ready") is False
