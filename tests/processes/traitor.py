"""A guest driver that attacks: what code inside a guest can do with the connections that its guest has.

``workload`` with count N carries out attack N of ``ATTACKS``; the result is how often it has succeeded. With the
option ``file`` it also betrays its guest's secrets, so that a test can play that guest from outside.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from domu_pcifront.domu import DomU
from domu_pcifront.driver import PciDriver
from domu_pcifront.options import Option
from domu_pcifront.process import DomUProcess
from kernel_stub.kernel import MS
from kernel_stub.rpc import Rpc, RpcError
from protocol.ers import ChannelState, ErsResult

FLOOD = 4_000  # messages; what surely fits into the queue of the guest's own socket
PAUSE_EVERY = 500


def local(name: str, kind: type) -> Any:
    """A local variable of some function that has called this one: an attacker sees all of its process."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if isinstance(frame.f_locals.get(name), kind):
            return frame.f_locals[name]
        frame = frame.f_back
    raise LookupError(name)


class Traitor(PciDriver):
    """Answers as a good driver does, meanwhile."""

    name = "traitor"
    OPTIONS: ClassVar = {"file": Option(lambda value: "", "", "where the guest's secrets go")}

    async def probe(self) -> None:
        """Tell everything."""
        if self.options["file"]:
            config = local("config", dict)
            told = {key: value.decode() if isinstance(value, bytes) else value for key, value in config.items()}
            Path(self.options["file"]).write_text(json.dumps(told))

    async def error_detected(self, state: ChannelState) -> ErsResult:
        """CAN_RECOVER."""
        return ErsResult.CAN_RECOVER

    async def mmio_enabled(self) -> ErsResult:
        """RECOVERED."""
        return ErsResult.RECOVERED

    async def resume(self) -> None:
        """Nothing to start again."""

    async def transfer(self, count: int) -> int:
        """Attack number ``count``."""
        return int(await ATTACKS[count](self, local("self", DomUProcess).domu))

    async def hypercalls(self, domu: DomU) -> int:
        """More requests than its share, none of which is waited for."""
        return await self._flood(
            domu, lambda n: domu.rpc.link.send(("xs_write", n + 1_000_000, 0, "data/x", bytes(2000)))
        )

    async def doorbells(self, domu: DomU) -> int:
        """Event channel notifications without any request (X13)."""
        assert domu.pcifront is not None
        assert domu.pcifront.ops is not None
        return await self._flood(domu, lambda n: domu.pcifront.ops.channel.notify())

    async def registers(self, domu: DomU) -> int:
        """Reads and writes of registers of devices that it has and has not."""
        return await self._flood(domu, lambda n: self.dev.devbus.mmio_write(n & 0xFF, n & 7, 4 * n & 0xFFFF, 4, n))

    async def states(self, domu: DomU) -> int:
        """X30: its frontend's state flaps."""
        path = "device/pci/0/state"
        return await self._flood(
            domu, lambda n: domu.rpc.link.send(("xs_write", n + 1_000_000, 0, path, b"%d" % (3, 6)[n & 1])), 4_000
        )

    async def everything(self, domu: DomU) -> int:
        """Registers, configuration space and XenStore, until it is killed."""
        number = 0
        while True:
            number += 1
            self.dev.devbus.mmio_write(0, 0, 4 * number & 0xFF, 4, number)
            domu.rpc.link.send(("xs_write", number, 0, "data/x", b"%d" % number))
            await self.dev.write_config(0x04, 2, number & 0x7)
            await self.dev.kernel.sleep(MS // 2)

    async def others(self, domu: DomU) -> int:
        """Ports, pages, nodes and requests that are not its own."""
        other = 3 - domu.domid  # there are two domains, 1 and 2
        tries: list[tuple[Any, ...]] = [
            ("grant_map", other, 8), ("grant_map", 0, 8), ("grant_unmap", other, 8), ("grant_end", 4000),
            ("evtchn_bind", other, 8, "ipc:///x"), ("evtchn_bind", 0, 8, "ipc:///x"), ("evtchn_close", 4000),
            ("xs_write", 0, f"/local/domain/{other}/data/x", b"1"), ("xs_rm", 0, f"/local/domain/{other}"),
            ("xs_read", 0, f"/local/domain/{other}/device/pci/0/state"), ("xs_write", 7, "data/x", b""),
            ("xs_write", 0, f"/local/domain/0/backend/pci/{other}/0/aerState", b"aerfail"),
            ("xs_write", 0, "/libxl/pci/0000-02-00-0/fault", b"x"), ("ctl", "hypervisor", "stop", []),
            ("hello", "control", ""), ("died", other, 1, 0),
        ]  # fmt: skip
        return sum([await self._allowed(domu.rpc, *each) for each in tries])

    async def _allowed(self, rpc: Rpc, *request: Any) -> bool:
        try:
            await rpc.call(*request, deadline=self.dev.kernel.now() + 2_000 * MS)
        except RpcError:
            return False
        return True

    async def _flood(self, domu: DomU, send: Any, count: int = FLOOD) -> int:
        for number in range(count):
            send(number)
            if number % PAUSE_EVERY == 0:
                await self.dev.kernel.sleep(MS)
        await domu.rpc.call("xs_read", 0, "name")  # by the answer all of it has been taken
        return 0


ATTACKS: dict[int, Any] = {
    1: Traitor.hypercalls,
    2: Traitor.doorbells,
    3: Traitor.registers,
    4: Traitor.states,
    5: Traitor.others,
    6: Traitor.everything,
}
