"""The worked listing of xen-pci.md 2.8, corrected by errata 8, written in the order of the real interleaving."""

from __future__ import annotations

from hypervisor_stub.xenstore import Connection
from tests.hypervisor_stub.xenstore.support import Client, NewClient, refused

BE = "/local/domain/0/backend/pci/7/0"
FE = "/local/domain/7/device/pci/0"
OPTS = "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict"

EXPECTED = """\
/local = ""   (n0)
/local/domain = ""   (n0)
/local/domain/7 = ""   (n0,r7)
/local/domain/7/device = ""   (n0,r7)
/local/domain/7/device/pci = ""   (n0,r7)
/local/domain/7/device/pci/0 = ""   (n7,r0)
/local/domain/7/device/pci/0/backend = "/local/domain/0/backend/pci/7/0"   (n7,r0)
/local/domain/7/device/pci/0/backend-id = "0"   (n7,r0)
/local/domain/7/device/pci/0/state = "4"   (n7,r0)
/local/domain/7/device/pci/0/pci-op-ref = "8"   (n7,r0)
/local/domain/7/device/pci/0/event-channel = "8"   (n7,r0)
/local/domain/7/device/pci/0/magic = "7"   (n7,r0)
/local/domain/0 = ""   (n0)
/local/domain/0/backend = ""   (n0)
/local/domain/0/backend/pci = ""   (n0)
/local/domain/0/backend/pci/7 = ""   (n0)
/local/domain/0/backend/pci/7/0 = ""   (n0,r7)
/local/domain/0/backend/pci/7/0/frontend = "/local/domain/7/device/pci/0"   (n0,r7)
/local/domain/0/backend/pci/7/0/frontend-id = "7"   (n0,r7)
/local/domain/0/backend/pci/7/0/online = "1"   (n0,r7)
/local/domain/0/backend/pci/7/0/state = "4"   (n0,r7)
/local/domain/0/backend/pci/7/0/domain = "guest1"   (n0,r7)
/local/domain/0/backend/pci/7/0/key-0 = "0000:03:00.0"   (n0,r7)
/local/domain/0/backend/pci/7/0/dev-0 = "0000:03:00.0"   (n0,r7)
/local/domain/0/backend/pci/7/0/opts-0 = "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict"   (n0,r7)
/local/domain/0/backend/pci/7/0/state-0 = "3"   (n0,r7)
/local/domain/0/backend/pci/7/0/num_devs = "2"   (n0,r7)
/local/domain/0/backend/pci/7/0/vdev-0 = "0000:00:00.00"   (n0,r7)
/local/domain/0/backend/pci/7/0/root-0 = "0000:00"   (n0,r7)
/local/domain/0/backend/pci/7/0/root_num = "1"   (n0,r7)
/local/domain/0/backend/pci/7/0/key-1 = "0000:03:00.1"   (n0,r7)
/local/domain/0/backend/pci/7/0/dev-1 = "0000:03:00.1"   (n0,r7)
/local/domain/0/backend/pci/7/0/opts-1 = "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict"   (n0,r7)
/local/domain/0/backend/pci/7/0/state-1 = "3"   (n0,r7)
/local/domain/0/backend/pci/7/0/vdev-1 = "0000:00:00.01"   (n0,r7)
/libxl = ""   (n0)
/libxl/pci = ""   (n0)
/libxl/pci/0000-03-00-0 = ""   (n0)
/libxl/pci/0000-03-00-0/domid = "7"   (n0)
/libxl/pci/0000-03-00-1 = ""   (n0)
/libxl/pci/0000-03-00-1/domid = "7"   (n0)
"""


def ls_fp(xs: Connection, path: str = "/") -> str:
    """What ``xenstore-ls -fp PATH`` prints: the children of PATH, depth first."""
    lines = ""
    for name in xs.directory(0, path):
        child = f"{path.rstrip('/')}/{name}"
        lines += f'{child} = "{xs.read(0, child).decode()}"   ({",".join(xs.get_perms(0, child))})\n'
        lines += ls_fp(xs, child)
    return lines


def put(xs: Connection, tx: int, base: str, **nodes: str) -> None:
    for name, value in nodes.items():
        xs.write(tx, f"{base}/{name}", value.encode())


def add_function(xs: Connection, tx: int, number: int, bdf: str, num_devs: int) -> None:
    for name, value in (("key", bdf), ("dev", bdf), ("opts", OPTS), ("state", "1")):
        xs.write(tx, f"{BE}/{name}-{number}", value.encode())
    put(xs, tx, BE, num_devs=str(num_devs))


def toolstack_create(xs: Connection) -> None:
    """Domain directory, then both ends and the first function in one transaction (T1)."""
    xs.mkdir(0, "/local/domain/7")
    xs.set_perms(0, "/local/domain/7", ["n0", "r7"])
    xs.mkdir(0, "/local/domain/7/device")
    tx = xs.transaction_start()
    for path, perms in ((BE, ["n0", "r7"]), (FE, ["n7", "r0"])):
        if path == BE:  # a parent must exist for RM to succeed
            xs.mkdir(tx, BE.rsplit("/", 1)[0])
        else:
            xs.mkdir(tx, FE.rsplit("/", 1)[0])
        xs.rm(tx, path)
        xs.mkdir(tx, path)
        xs.set_perms(tx, path, perms)
    put(xs, tx, BE, frontend=FE, **{"frontend-id": "7"}, online="1", state="1", domain="guest1")
    put(xs, tx, FE, backend=BE, **{"backend-id": "0"}, state="1")
    add_function(xs, tx, 0, "0000:03:00.0", 1)
    xs.transaction_end(tx, True)
    xs.write(0, "/libxl/pci/0000-03-00-0/domid", b"7")


def test_2_8_listing(dom0: Client, client: NewClient) -> None:
    toolstack, guest = dom0.xs, client(7, False).xs
    toolstack_create(toolstack)
    put(toolstack, 0, BE, **{"vdev-0": "0000:00:00.00", "root-0": "0000:00", "root_num": "1", "state-0": "3"})
    tx = guest.transaction_start()
    put(guest, tx, "device/pci/0", **{"pci-op-ref": "8", "event-channel": "8"}, magic="7")
    guest.transaction_end(tx, True)
    put(guest, 0, "device/pci/0", state="3")
    put(toolstack, 0, BE, state="4")
    put(guest, 0, "device/pci/0", state="4")
    tx = toolstack.transaction_start()
    add_function(toolstack, tx, 1, "0000:03:00.1", 2)
    toolstack.transaction_end(tx, True)
    put(toolstack, 0, BE, **{"vdev-1": "0000:00:00.01", "state-1": "3"})
    toolstack.write(0, "/libxl/pci/0000-03-00-1/domid", b"7")
    assert ls_fp(toolstack) == EXPECTED


def test_2_8_aer_state_is_readable_by_the_guest(dom0: Client, client: NewClient) -> None:
    toolstack_create(dom0.xs)
    dom0.xs.write(0, f"{BE}/aerState", b"aerfail")
    assert dom0.xs.directory(0, BE)[-1] == "aerState"
    assert dom0.xs.get_perms(0, f"{BE}/aerState") == ["n0", "r7"]
    assert client(7, False).xs.read(0, f"{BE}/aerState") == b"aerfail"


def test_2_8_guest_cannot_create_devices_for_itself(dom0: Client, client: NewClient) -> None:
    toolstack_create(dom0.xs)
    guest = client(7, False).xs
    assert refused(guest.write, 0, "device/pci/1/backend", b"") == "EACCES"
    assert refused(guest.write, 0, f"{BE}/state", b"6") == "EACCES"
    guest.rm(0, "device/pci/0")
    assert dom0.xs.directory(0, "/local/domain/7/device/pci") == []
