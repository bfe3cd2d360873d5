"""The dom0 process: ``Dom0`` on real sockets and the real clock."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from dom0_pciback.dom0 import Dom0
from dom0_pciback.sysfs_mount import Mounts
from kernel_stub.kernel import Kernel
from protocol.codec import Decoder, decode_channel
from protocol.journal_file import ConsoleJournal, JournalFile
from protocol.messages import DEVBUS, TO_DOM0
from protocol.transport_gate import Gate
from protocol.transport_keys import DOM0, KeyRing
from protocol.transport_loop import Loop, RealClock
from protocol.transport_zmq import NetEndpoints, identify, open_party_link

LOST = 3  # exit status: a party that this one cannot live without is gone


@dataclass(slots=True)
class Dom0Options:
    """``door``: address of the hypervisor stub. ``base``: where guests reach this process (ipc://DIR or
    tcp://HOST). ``run``: directory for the journal. ``epoch``: zero of the system's clock, ns. ``console``:
    show the kernel's log on standard output."""

    door: str
    base: str
    run: Path
    epoch: int
    console: bool = False


class Dom0Process:
    """Runs until the hypervisor stub says stop (status 0) or is gone (status 3)."""

    def __init__(self, options: Dom0Options) -> None:
        clock = RealClock(options.epoch)
        file = JournalFile(options.run / "journal" / "dom0.mpk")
        journal = ConsoleJournal(file, "dom0") if options.console else file
        self.kernel = Kernel("dom0", clock, journal)
        self.loop = Loop(self.kernel)
        decoders = {"channel": decode_channel, "devbus": Decoder(DEVBUS).decode}
        who = identify(options.run, DOM0, options.door)
        gate = Gate(self.loop, KeyRing(options.run) if who else None)
        endpoints = NetEndpoints(self.loop, options.base, decoders, gate, who.own if who else None)
        link = open_party_link(self.loop, options.door, Decoder(TO_DOM0).decode, who)
        self.dom0 = Dom0(self.kernel, clock, link, endpoints, pid=os.getpid())
        self.loop.refuse = self.dom0.refusals.refuse
        self.dom0.rpc.on_close = self._lost
        self.dom0.on_stop = self.loop.stop
        self.dom0.mount_sysfs = Mounts(self.loop, self.kernel, lambda: file.size).mount
        self.status = 0

    def _lost(self, reason: str) -> None:
        self.kernel.trace("party.lost", "hypervisor", reason)
        sys.stderr.write(f"dom0: the hypervisor stub is gone ({reason})\n")
        self.status = LOST
        self.loop.stop()

    def run(self) -> int:
        """The exit status."""
        try:
            self.loop.run()
        finally:
            self.kernel.trace("party.end", "dom0", self.status)
            self.kernel.journal.flush()
            self.loop.close()
        return self.status


def main(options: Dom0Options) -> int:
    """Run dom0; returns the exit status."""
    return Dom0Process(options).run()
