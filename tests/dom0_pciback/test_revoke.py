"""Revocation comes first: a guest that keeps sending after a kill or a detach has no effect any more (KILL-4).

Its process is not ended here: what it was is played by a guest that goes on for ever, as a child that it has
left behind, or messages that were under way, would.
"""

from __future__ import annotations

from typing import Any

import pytest

from dom0_pciback.pciback.conf_space import ConfSpace
from dom0_pciback.pcie.device_bus import DeviceBus, FunctionBusMaster
from dom0_pciback.pcie.iommu import Iommu
from hypervisor_stub.machine import Machine
from hypervisor_stub.xenstore.connection import Connection
from kernel_stub.rpc import RpcError
from protocol.device_regs import Reg
from protocol.ids import Sbdf
from protocol.layout_header import COMMAND_MASTER, COMMAND_MEMORY, HEADER
from protocol.sharedinfo import PCIF_ACTIVE, PciOp
from tests.dom0_pciback.pciback import host as rig
from tests.dom0_pciback.pciback.host import CARD, SPARE, Host, make_host

INTERVAL = 1_000_000  # ns between two rounds of the guest's messages
KINDS = {"mmio", "config", "xenstore", "dma", "msi"}


class Immortal(rig.Runner):
    """Tells of the death of a guest that goes on all the same."""

    def end(self, pid: int, status: int) -> None:
        if self.guests.pop(pid, None) is not None:
            self.on_death(pid, status)


class Effects:
    """What has had an effect, in order, with the moments of revocation in between."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self.sent = 0
        for cls, name, word in (
            (Machine, "revoke", "stub revokes"),
            (Iommu, "revoke", "dom0 revokes"),
            (ConfSpace, "write", "config"),
            (ConfSpace, "read", "config"),
        ):
            self._note(patch, cls, name, word)
        write = Connection.write

        def xs_write(conn: Connection, *args: Any) -> None:
            write(conn, *args)
            if conn.domid:
                self.seen.append("xenstore")

        patch.setattr(Connection, "write", xs_write)

    def _note(self, patch: pytest.MonkeyPatch, cls: type, name: str, word: str) -> None:
        real = getattr(cls, name)

        def noted(*args: Any) -> Any:
            self.seen.append(word)
            return real(*args)

        patch.setattr(cls, name, noted)

    def watch_device(self, bus: DeviceBus, sbdf: Sbdf) -> None:
        """Registers of one device."""
        model: Any = bus.models[sbdf]
        real = model.mmio_write

        def mmio_write(*args: Any) -> None:
            self.seen.append("mmio")
            real(*args)

        model.mmio_write = mmio_write

    def after(self, moment: str) -> set[str]:
        """What had an effect after the last such moment."""
        last = len(self.seen) - 1 - self.seen[::-1].index(moment)
        return set(self.seen[last:]) & KINDS

    def before(self, moment: str) -> set[str]:
        """What had one before the first."""
        return set(self.seen[: self.seen.index(moment)]) & KINDS


@pytest.fixture
def effects(monkeypatch: pytest.MonkeyPatch) -> Effects:
    monkeypatch.setattr(rig, "Runner", Immortal)
    return Effects(monkeypatch)


def sender(host: Host, effects: Effects) -> None:
    """Let the guest send everything that a guest can send, and its device do what it can do, for ever."""
    guest = host.guest
    channel, devbus = guest.connect(), guest.open_devbus()
    op(channel, HEADER.COMMAND, COMMAND_MEMORY | COMMAND_MASTER)
    host.settle()
    bus: DeviceBus = host.dom0.rpc.handlers["hw_assign"].__self__.bus  # type: ignore[attr-defined]
    sbdf = Sbdf.parse(CARD)
    effects.watch_device(bus, sbdf)
    devbus.events["dma_write"] = lambda *args: effects.seen.append("dma")
    devbus.events["msi"] = lambda *args: effects.seen.append("msi")
    guest.kernel.spawn(send_for_ever(guest, channel, devbus, effects), "attack")
    host.dom0.kernel.spawn(device_for_ever(host, FunctionBusMaster(bus, bus.functions[sbdf]), devbus), "device")


def op(channel: Any, offset: int, value: int) -> None:
    """One configuration write, by the page."""
    channel.page.write_op((PciOp.CONF_WRITE, 0, 0, 0, 0, offset, 2, value, 0))
    channel.page.set_bit(PCIF_ACTIVE)
    channel.notify()


async def send_for_ever(guest: Any, channel: Any, devbus: Any, effects: Effects) -> None:
    while True:
        effects.sent += 1
        devbus.post("mmio_write", 0, 0, Reg.MASK, 4, effects.sent & 0xFF)
        if not channel.closed:
            op(channel, HEADER.COMMAND, COMMAND_MEMORY | COMMAND_MASTER)
        guest.rpc.link.send(("xs_write", effects.sent, 0, "data/x", b"%d" % effects.sent))
        await guest.kernel.sleep(INTERVAL)


async def device_for_ever(host: Host, master: FunctionBusMaster, devbus: Any) -> None:
    while True:
        master.write(0x1000, b"data")
        host.psdev().enable_msi()
        master.msi(0)
        await host.dom0.kernel.sleep(INTERVAL)


def destroy(host: Host) -> None:
    assert host.xl("destroy guest1")[0] == 0


def aerfail(host: Host) -> None:
    """pciback reports that the recovery failed, and the stub kills."""
    host.write(f"/local/domain/0/backend/pci/{host.guest.domid}/0/aerState", "aerfail")
    host.settle(2_000)


@pytest.mark.parametrize("profile", ["hardened", "linux"])
@pytest.mark.parametrize("kill", [aerfail, destroy])
def test_after_a_kill_nothing_of_the_guest_takes_effect(effects: Effects, kill: Any, profile: str) -> None:
    host = Host(make_host(CARD, SPARE, profile=profile))
    sender(host, effects)
    host.settle(20)
    assert set(effects.seen) >= KINDS - {"msi" if not host.psdev().dev.msi else ""}
    effects.seen.clear()
    host.settle(20)
    sent = effects.sent
    kill(host)
    assert effects.sent > sent + 10, "it goes on sending"
    assert effects.before("stub revokes") >= {"mmio", "config", "xenstore", "dma"}
    assert effects.after("dom0 revokes") == set()
    xenstore = effects.seen[effects.seen.index("stub revokes") :].count("xenstore")
    assert xenstore == 0
    assert host.hypervisor.machine.refusals.counts["dying"] > 0


def test_after_a_detach_the_guest_does_not_reach_the_device(effects: Effects) -> None:
    """It does not take part in the detach either."""
    host = Host(make_host(CARD, SPARE))
    sender(host, effects)
    host.settle(20)
    assert host.xl("pci-detach guest1 01:00.0")[0] == 0
    domain = host.hypervisor.machine.domains.by_name("guest1")
    assert domain is not None
    assert CARD not in domain.functions
    effects.seen.clear()
    sent = effects.sent
    host.settle(50)
    assert effects.sent > sent + 10, "it goes on sending"
    assert set(effects.seen) & KINDS <= {"xenstore"}, "only its own directory is left to it"


def test_a_new_hello_with_the_token_of_a_dying_domain_is_refused(effects: Effects) -> None:
    host = Host(make_host(CARD))
    domain = host.hypervisor.machine.domains.by_name("guest1")
    assert domain is not None
    host.hypervisor.machine.revoke(domain)
    domain.rpc = None
    again = rig.ScriptedGuest(host, domain.domid, domain.token, "again")
    with pytest.raises(RpcError, match="is being destroyed"):
        again.call("hello", "domu", domain.token)
