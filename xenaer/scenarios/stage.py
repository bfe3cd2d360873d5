"""The stage of a scenario: a simulated system, and what an operator, the hardware and chance may do to it.

Devices are letters of ``hosts.PLACES``, guests are names; one whose name begins with ``h`` is a ``HostileDomU``.
Everything is text, because the steps of scenarios are.
"""

from __future__ import annotations

from typing import Any

from dom0_pciback.pci.reset import reset_function
from domu_pcifront.domu import DomU
from domu_pcifront.pci_op import PciOps
from kernel_stub.kernel import MS
from protocol.channel import Channel
from protocol.ids import Sbdf
from protocol.sharedinfo import PciOp
from protocol.topology import HostSpec
from protocol.xenbus import BACKEND_ROOT, backend_dir, frontend_dir
from xenaer.scenarios.hostile import HostileDomU, Offer
from xenaer.scenarios.hosts import PORTS, letter, place
from xenaer.simulation import SimSystem
from xenaer.simulation.links import SimLink

COMP_ABORT, UNX_COMP, MALF_TLP, DLP, BAD_TLP = 1 << 15, 1 << 16, 1 << 18, 1 << 4, 1 << 6
ERRORS = {"nonfatal": (0, COMP_ABORT), "other": (0, UNX_COMP), "fatal": (0, MALF_TLP), "cor": (BAD_TLP, 0)}
SETTLE_MS = 1_300_000  # four phases of a mute guest, and what follows
UNTIL_MS = 400_000  # no event of a scenario is awaited longer
SEIZE_MS = 3_000


class Stage:
    """A system; ``replies`` and ``notes`` are what the steps brought to light."""

    def __init__(self, host: HostSpec, seed: int = 1, offers: dict[str, Offer] | None = None) -> None:
        self.host = host
        self.offers = offers or {}
        self.system = SimSystem(host, seed, boot=False)
        self.system.parts.domu_of = self._class_of
        self.aerfail: list[str] = []
        self.replies: list[str] = []
        self.notes: list[str] = []
        self.system.advance(SEIZE_MS)
        xs = self.system.hypervisor.machine.xs
        xs.watch(BACKEND_ROOT, "scenario", self._store_changed)
        self.mark = 0

    def boot(self) -> None:
        """Start the guests, as ``xenaer up`` does."""
        self.system.ctl("hypervisor", "boot", [])
        self.system.advance(200)
        self.mark = len(self.system.parts.records)

    def _class_of(self, name: str) -> type[DomU]:
        if not name.startswith("h"):
            return DomU
        return type("HostileDomU", (HostileDomU,), {"offer": self.offers.get(name, {})})

    def _store_changed(self, path: str) -> None:
        if path.endswith("/aerState") and self.system.hypervisor.machine.xs.read(path) == "aerfail":
            self.aerfail.append(path)

    # -- time ------------------------------------------------------------------------------------
    def run(self, ms: str = str(SETTLE_MS)) -> None:
        """Let time pass."""
        self.system.advance(float(ms))

    def until(self, label: str, subject: str = "", count: str = "1", ms: str = str(UNTIL_MS)) -> None:
        """Wait until the journal has ``count`` more records with this label and subject (``*``: any)."""
        records, begin = self.system.parts.records, len(self.system.parts.records)
        wanted = "" if subject == "*" else place(subject)
        seen, found = begin, 0
        world = self.system.world
        deadline = world.now() + int(ms) * MS

        def enough() -> bool:
            nonlocal seen, found
            while seen < len(records):
                record = records[seen][1]
                seen += 1
                found += record[2] == label and wanted in ("", record[3])
            return found >= int(count)

        if not world.run_until(enough, deadline):
            self.notes.append(f"no {label}")

    def until_node(self, name: str, path: str, value: str) -> None:
        """Wait until a node of a guest's frontend directory has this value."""
        read = self.system.hypervisor.machine.xs.read
        full = f"{frontend_dir(self.domid(name))}/{path}"
        world = self.system.world
        if not world.run_until(lambda: read(full) == value, world.now() + UNTIL_MS * MS):
            self.notes.append(f"{path} is never {value}")

    # -- hardware and operator -------------------------------------------------------------------
    def inject(self, device: str, error: str) -> None:
        """The hardware of a device detects an error."""
        cor, uncor = ERRORS[error]
        assert self.system.dom0.hierarchy is not None
        self.system.dom0.hierarchy.inject(Sbdf.parse(place(device)), cor, uncor)

    def xl(self, *words: str) -> None:
        """An ``xl`` command, to its end; one that fails is noted."""
        status, _, _ = self.system.ctl("hypervisor", "xl", [place(word) for word in words])
        if status:
            self.notes.append(f"xl {' '.join(words)}: status {status}")

    def start(self, *words: str) -> None:
        """An ``xl`` command in the background."""
        control = self.system.hypervisor.control
        arguments = [place(word) for word in words]
        self.system.kernel.spawn(control.ctl("hypervisor", "xl", arguments), f"xl {' '.join(words)}")

    def last_reset(self, device: str) -> None:
        """The next reset of a device is its last: it never answers again."""
        self.psdev(device)
        assert self.system.dom0.hierarchy is not None
        self.system.dom0.hierarchy.functions[Sbdf.parse(place(device))].spec.ready_ms = -1

    def slow_reset(self, device: str, ms: str) -> None:
        """From now on the device needs so long after a reset."""
        assert self.system.dom0.hierarchy is not None
        self.system.dom0.hierarchy.functions[Sbdf.parse(place(device))].spec.ready_ms = int(ms)

    def sysfs_reset(self, device: str) -> None:
        """``echo 1 > reset`` of a device in dom0, in the background."""
        core = self.system.dom0.core
        core.kernel.spawn(reset_function(core, core.devices[Sbdf.parse(place(device))]), "sysfs reset")

    def eject(self, device: str) -> None:
        """The firmware wants the slot above a device to be emptied."""
        port = self.system.dom0.core.devices[Sbdf.parse(PORTS[device])]
        assert port.slot is not None
        port.slot.eject()

    def psdev(self, device: str) -> Any:
        """pciback's view of a device."""
        return self.system.dom0.pciback.slots[Sbdf.parse(place(device))]

    def quirk(self, device: str, text: str) -> None:
        """``echo ... > quirks`` in dom0."""
        self.system.dom0.pciback.add_quirk(f"{place(device)}-{text}")

    def store(self, word: str, path: str, value: str = "") -> None:
        """``xenstore-write`` or ``xenstore-rm`` in dom0; ``{g1}`` is the backend directory of a guest."""
        xs = self.system.hypervisor.machine.xs
        for guest in self.host.guests:
            path = path.replace("{" + guest.name + "}", backend_dir(self.domid(guest.name)))
        if word == "rm":
            xs.transaction(lambda tx: xs.remove(path, tx))
        else:
            xs.write(path, value)

    def owner(self, device: str) -> None:
        """Note who has a device now."""
        self.notes.append(f"{device} belongs to {self.psdev(device).domid or 'nobody'}")

    def quirks(self) -> None:
        """Note whose quirks are listed."""
        self.notes.append(f"quirks of {[letter(str(quirk.sbdf)) for quirk in self.system.dom0.pciback.quirks]}")

    def conflict(self, name: str, count: str) -> None:
        """The toolstack writes to the backend's directory again and again, while somebody else has a transaction."""
        path = f"{backend_dir(self.domid(name))}/state"
        xs = self.system.hypervisor.machine.xs
        for _ in range(int(count)):
            xs.write(path, xs.read(path) or "")
            self.system.advance(0.02)

    def scan(self, name: str, count: str) -> None:
        """A well-behaved guest reads one device number after the other, in the background."""
        domu = self.sim_guest(name).domu
        domu.kernel.spawn(_read_many(domu.pcifront.ops, int(count)), "scan")

    def begin(self) -> None:
        """``xl create`` of every guest that does not start by itself, in the background."""
        for guest in self.host.guests:
            if not guest.autostart:
                self.start("create", guest.name)

    # -- guests ----------------------------------------------------------------------------------
    def sim_guest(self, name: str) -> Any:
        """The last incarnation of a guest."""
        return self.system.parts.guests[name]

    def domid(self, name: str) -> int:
        """Domain id of the last incarnation."""
        return int(self.sim_guest(name).domu.domid)

    def channel(self, name: str) -> Channel:
        """The guest's end of its channel."""
        domu = self.sim_guest(name).domu
        if isinstance(domu, HostileDomU):
            assert domu.channel is not None
            return domu.channel
        assert domu.pcifront.ops is not None
        channel: Channel = domu.pcifront.ops.channel
        return channel

    def kill(self, name: str) -> None:
        """The process of a guest ends without a word."""
        self.sim_guest(name).end(9)

    def freeze(self, name: str) -> None:
        """The guest gets no processor."""
        self.sim_guest(name).freeze(on=True)

    def thaw(self, name: str) -> None:
        """The guest goes on."""
        self.sim_guest(name).freeze(on=False)

    def _link(self, which: str) -> SimLink:
        """``g1.in`` and ``g1.out``: the guest's channel, towards it and away from it; ``dom0.in``: from the stub."""
        name, _, direction = which.partition(".")
        link = self.system.dom0.rpc.link if name == "dom0" else self.channel(name).link
        assert isinstance(link, SimLink)
        peer = link if direction == "in" else link.peer
        assert peer is not None
        return peer

    def hold(self, which: str) -> None:
        """Messages of a link wait."""
        self._link(which).hold(on=True)

    def release(self, which: str) -> None:
        """They arrive, all at once."""
        self._link(which).hold(on=False)

    def config(self, name: str, devfn: str, offset: str, size: str, value: str = "") -> None:
        """A configuration read or write of a well-behaved guest, in the background; its answer is a reply."""
        domu = self.sim_guest(name).domu
        ops = domu.pcifront.ops
        cmd = PciOp.CONF_WRITE if value else PciOp.CONF_READ
        numbers = int(devfn, 16), int(offset, 16), int(size), int(value or "0", 16)

        async def body() -> None:
            err, found = await ops.do_pci_op(cmd, *numbers)
            self.replies.append(f"{offset}: {err} {found:x}")

        domu.kernel.spawn(body(), "config access")

    def remember(self, name: str) -> None:
        """Note which devices the guest has."""
        self.notes.append(f"{name} has {sorted(self.sim_guest(name).domu.bus.devices)}")


async def _read_many(ops: PciOps, count: int) -> None:
    for number in range(count):
        await ops.read(number & 0xFF, 0, 4)
