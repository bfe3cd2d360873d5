"""The guest driver of the benchmarks: answers every phase at once, and times configuration reads."""

from __future__ import annotations

from domu_pcifront.driver import PciDriver
from protocol.ers import ChannelState, ErsResult


class BenchDriver(PciDriver):
    """``transfer(count)`` reads the vendor id ``count`` times and writes the times into the journal."""

    name = "bench"

    async def error_detected(self, state: ChannelState) -> ErsResult:
        """CAN_RECOVER, so that a recovery has three phases."""
        return ErsResult.CAN_RECOVER

    async def mmio_enabled(self) -> ErsResult:
        """RECOVERED."""
        return ErsResult.RECOVERED

    async def resume(self) -> None:
        """Nothing to start again."""

    async def transfer(self, count: int) -> int:
        """Time ``count`` configuration reads, one after the other."""
        read, now = self.dev.read_config, self.dev.kernel.now
        samples = []
        for _ in range(count):
            begin = now()
            await read(0, 4)
            samples.append(now() - begin)
        self.dev.trace("bench.config_read", samples)
        return count
