"""The guest's process: ``DomU`` on real sockets and the real clock; forked by its supervisor's zygote."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from domu_pcifront.domu import DomU
from domu_pcifront.event_channel import EventChannel
from domu_pcifront.program_process import ProgramProcess
from kernel_stub.kernel import EMERG, Kernel
from protocol.codec import Decoder, decode_channel
from protocol.journal_file import ConsoleJournal, JournalFile
from protocol.messages import DEVBUS, TO_DOMU
from protocol.transport_keys import Identity, pair_of
from protocol.transport_loop import Loop, RealClock, ZmqLink
from protocol.transport_zmq import NetEndpoints, open_party_link

LOST = 3
CRASH = 3  # SHUTDOWN_crash
_PARTY, _DEVBUS = Decoder(TO_DOMU).compiled(), Decoder(DEVBUS).compiled()  # before the zygote forks


class ProcessMachine:
    """``device.Machine``: what a driver does to a real process."""

    def __init__(self, process: DomUProcess) -> None:
        self.pid = os.getpid()
        self._process = process

    def spin(self) -> None:
        """Burn the processor; only SIGKILL ends it."""
        while True:
            pass

    def exit(self, status: int) -> None:
        """End the process now, without a word."""
        os._exit(status)

    def panic(self, text: str) -> None:
        """``panic()``: say so, report SHUTDOWN_crash, stand still."""
        self._process.kernel.printk(EMERG, f"Kernel panic - not syncing: {text}")
        self._process.domu.rpc.post("shutdown", CRASH)
        self.halt()

    def halt(self) -> None:
        """Stand still until SIGKILL."""
        while True:
            signal.pause()

    def start_program(self, words: Sequence[str], folder: str) -> ProgramProcess:
        """A child in this process's group, which its supervisor kills as a whole. Raises ProgramGoneError."""
        return ProgramProcess(words, folder)


class DomUProcess:
    """Runs until the guest shuts down (status 0) or loses dom0 or the hypervisor stub (status 3)."""

    def __init__(self, config: dict[str, Any]) -> None:
        clock = RealClock(config["epoch"])
        path = Path(config["run"]) / "journal" / f"{config['name']}@{config['domid']}.mpk"
        file = JournalFile(path, safe=True)  # a guest may be killed between any two records
        journal = ConsoleJournal(file, config["name"]) if config["console"] else file
        self.kernel = Kernel(config["name"], clock, journal, panic_on_oops=False)
        self.loop = Loop(self.kernel)
        decoders = {"channel": decode_channel, "devbus": _DEVBUS.decode}
        who = Identity(pair_of(config["token"]), config["stub"]) if config["stub"] else None
        endpoints = NetEndpoints(self.loop, "ipc://", decoders, own=who.own if who else None)
        link = open_party_link(self.loop, config["door"], _PARTY.decode, who)
        self.domu = DomU(self.kernel, link, endpoints, ProcessMachine(self), config["token"])
        self.domu.rpc.on_close = lambda reason: self._lost("hypervisor stub", reason)
        self.domu.on_channel = self._channel_up
        self.status = 0

    def _channel_up(self, events: EventChannel) -> None:
        """While a configuration operation polls, this process waits on the channel alone (FE-5)."""
        link = events.channel.link
        assert isinstance(link, ZmqLink)
        events.block = link.block

    def _lost(self, who: str, reason: str) -> None:
        self.kernel.trace("party.lost", "hypervisor", reason)
        sys.stderr.write(f"{self.kernel.name}: the {who} is gone ({reason})\n")
        self.status = LOST
        self.loop.stop()

    def run(self) -> int:
        """The exit status."""
        try:
            self.loop.run()
        finally:
            self.kernel.trace("party.end", self.kernel.name, self.status)
            self.kernel.journal.flush()
            self.loop.close()
        return self.status


def main(config: dict[str, Any]) -> None:
    """Run one guest incarnation and exit with its status."""
    sys.exit(DomUProcess(config).run())
