"""XenStore nodes of a domain itself. Source: xen-pci.md 2.8 (permissions); xen-pci-errata.md 8 (order, tree)."""

from __future__ import annotations

from hypervisor_stub.domains import Domain
from hypervisor_stub.toolstack_store import ToolstackStore

DOM0_MEMORY_MB = 4096
DOM0_VCPUS = 4
_GUEST_OWNED = ("control/shutdown", "control/feature-poweroff", "control/feature-reboot", "data", "drivers", "error")


def write_dom0(xs: ToolstackStore) -> None:
    """The tree as it is before the first guest: /tool, /local, /vm, /libxl."""
    xs.make_dir("/tool", ["n0"])
    for node, value in (("domid", 0), ("name", "Domain-0")):
        xs.write(f"/local/domain/0/{node}", value)
    for path in ("/vm", "/libxl"):
        xs.make_dir(path, ["n0"])


def write_domain(xs: ToolstackStore, domain: Domain) -> None:
    """``libxl__domain_make``: the guest may read its directory and owns only a few nodes in it."""
    domid, home, vm = domain.domid, f"/local/domain/{domain.domid}", f"/vm/{domain.uuid}"
    readable, owned = ["n0", f"r{domid}"], [f"n{domid}", "r0"]

    def body(tx: int) -> None:
        xs.fresh_dir(home, readable, tx)
        xs.fresh_dir(vm, readable, tx)
        xs.fresh_dir(f"/libxl/{domid}", ["n0"], tx)
        for path, value in (
            (f"{home}/vm", vm),
            (f"{home}/name", domain.name),
            (f"{vm}/name", domain.name),
            (f"{vm}/uuid", domain.uuid),
            (f"{home}/domid", domid),
            (f"{home}/memory/target", domain.spec.memory_mb * 1024),
            (f"/libxl/{domid}/type", domain.spec.type),
        ):
            xs.write(path, value, tx)
        for node in ("control", "device"):
            xs.make_dir(f"{home}/{node}", readable, tx)
        for node in _GUEST_OWNED:
            xs.make_dir(f"{home}/{node}", owned, tx)

    xs.transaction(body)


def remove_domain(xs: ToolstackStore, domain: Domain) -> None:
    """Everything that ``write_domain`` made."""

    def body(tx: int) -> None:
        for path in (f"/local/domain/{domain.domid}", f"/vm/{domain.uuid}", f"/libxl/{domain.domid}"):
            xs.remove(path, tx)

    xs.transaction(body)


def request_shutdown(xs: ToolstackStore, domain: Domain, word: str) -> None:
    """Ask the guest's kernel: ``poweroff`` or ``reboot`` in ``control/shutdown``. A hung guest ignores it."""
    xs.write(f"/local/domain/{domain.domid}/control/shutdown", word)
