"""The control verbs by which a campaign breaks things in dom0: hardware that fails, messages that get lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from dom0_pciback.pcie import gone
from dom0_pciback.pcie.function import Function, ResetFault
from kernel_stub.faulty_link import Direction, Does, FaultyLink
from kernel_stub.kernel import MS
from protocol.ids import Sbdf
from protocol.ports import Link
from protocol.topology import COLLECTORS

if TYPE_CHECKING:
    from dom0_pciback.dom0 import Dom0
    from dom0_pciback.pci.slot import Slot

Header = tuple[int, int, int, int]
Error = tuple[str, int, int, Header]  # function, correctable bits, uncorrectable bits, TLP header
NEVER_READY = -1  # ms


class Faults:
    """Verbs for what breaks; installed beside those of ``dom0_pciback.control``. ValueError says what is wrong."""

    def __init__(self, dom0: Dom0) -> None:
        assert dom0.hierarchy is not None
        self.dom0 = dom0
        self.kernel = dom0.kernel
        self.core = dom0.core
        self.hierarchy = dom0.hierarchy

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Verb -> handler."""
        return {
            "inject-all": self.inject_all,
            "storm": self.storm,
            "gone": self.gone,
            "back": self.back,
            "reset-fault": self.reset_fault,
            "hotplug": self.hotplug,
            "channel-fault": self.channel_fault,
        }

    # -- errors --------------------------------------------------------------------------------
    def inject_all(self, errors: Sequence[Error], masked: bool = False) -> None:
        """Several functions detect errors in one instant; ``masked``: their mask bits are set first."""
        for bdf, cor, uncor, _ in errors:
            self._function(bdf)
            if masked:
                self.hierarchy.mask(Sbdf.parse(bdf), cor, uncor)
                self.kernel.trace("hw.mask", str(Sbdf.parse(bdf)), cor, uncor)
        with self.hierarchy.one_instant():
            for bdf, cor, uncor, header in errors:
                self.kernel.trace("hw.inject", str(Sbdf.parse(bdf)), cor, uncor)
                self.hierarchy.inject(Sbdf.parse(bdf), cor, uncor, header)

    async def storm(self, errors: Sequence[Error], picks: bytes, interval_ns: int) -> int:
        """One error after the other, ``picks`` says which; how many hit a function that was there.

        Who is late catches up, so that the rate holds.
        """
        kernel, injected = self.kernel, 0
        for error in errors:
            self._function(error[0])
        if max(picks, default=0) >= len(errors):
            raise ValueError(f"storm: pick {max(picks)} of {len(errors)} errors")
        kernel.trace("hw.storm", str(Sbdf.parse(errors[0][0])), len(picks), interval_ns)
        begin = kernel.now()
        for number, pick in enumerate(picks):
            if (wait := begin + number * interval_ns - kernel.now()) > 0:
                await kernel.sleep(wait)
            bdf, cor, uncor, header = errors[pick]
            sbdf = Sbdf.parse(bdf)
            if sbdf in self.hierarchy.functions:
                kernel.trace("hw.inject", str(sbdf), cor, uncor)
                self.hierarchy.inject(sbdf, cor, uncor, header)
                injected += 1
        kernel.trace("hw.storm_end", str(Sbdf.parse(errors[0][0])), injected)
        return injected

    # -- devices that are gone -----------------------------------------------------------------
    def gone(self, bdf: str, how: str) -> None:
        """The device is dead, its link breaks, or the card is pulled out."""
        function = self._function(bdf)
        if how != "dead":
            gone.link_above(function)
        self.kernel.trace("hw.gone", str(function.sbdf), how)
        if how == "dead":
            gone.die(function)
        elif how == "link-down":
            gone.cut_link(function)
        else:
            self._pull(function)

    def _pull(self, function: Function) -> None:
        slot = self._slot(gone.link_above(function))
        gone.pull(self.hierarchy, function, expected=slot is not None)
        if slot is not None:
            slot.pulled()

    def back(self, bdf: str) -> None:
        """The device is there again, as after power on."""
        sbdf = Sbdf.parse(bdf)
        out = self.hierarchy.taken_out(sbdf)
        gone.bring_back(self.hierarchy, sbdf)
        self.kernel.trace("hw.back", str(sbdf))
        slot = self._slot(out.parent) if out is not None else None
        if slot is not None:
            slot.filled()

    def _slot(self, port: Function | None) -> Slot | None:
        dev = self.core.devices.get(port.sbdf) if port is not None else None
        return dev.slot if dev is not None else None

    def hotplug(self, bdf: str, does: str) -> None:
        """An orderly removal is asked for (button, firmware), or the card is put in again."""
        sbdf = Sbdf.parse(bdf)
        function = self.hierarchy.functions.get(sbdf) or self.hierarchy.taken_out(sbdf)
        port = gone.link_above(function if function is not None else self._function(bdf))
        slot = self._slot(port)
        if slot is None:
            have = [dev.name for dev in self.core.devices.values() if dev.slot is not None]
            raise ValueError(f"{port.sbdf} has no hotplug slot; there are {', '.join(have) or 'none on this host'}")
        if does == "eject":
            self.kernel.trace("hw.hotplug", str(sbdf), does)
            slot.eject()
            return
        if self.hierarchy.taken_out(sbdf) is None:
            raise ValueError(f"{sbdf} is in its slot")
        self.kernel.trace("hw.hotplug", str(sbdf), does)
        gone.bring_back(self.hierarchy, sbdf)
        slot.filled()

    def reset_fault(self, bdf: str, how: str, ready_ms: int, ids: tuple[int, int]) -> None:
        """What goes wrong with the resets of a device from now on; ``none``: nothing any more."""
        function = self._function(bdf)
        if function.kind in COLLECTORS:
            raise ValueError(f"{function.sbdf} is a {function.kind}, which nothing resets")
        usual = function.spec.ready_ms
        plans = {
            "none": None,
            "slow": ResetFault(ready_ms),
            "fails": ResetFault(NEVER_READY),
            "other-device": ResetFault(usual, ids),
        }
        function.reset_fault = plans[how]
        self.kernel.trace("hw.reset_fault", str(function.sbdf), how, ready_ms)

    def _function(self, bdf: str) -> Function:
        function = self.hierarchy.functions.get(Sbdf.parse(bdf))
        if function is None:
            known = ", ".join(map(str, self.hierarchy.functions))
            raise ValueError(f"no PCI device {bdf}; there are {known}")
        return function

    # -- messages ------------------------------------------------------------------------------
    def channel_fault(self, guest: str, which: str, does: str, direction: str, ms: float, count: int) -> None:
        """The next messages of a guest's channel or device bus are struck, at dom0's end."""
        domid = max((domid for domid in self.dom0.pciback.guests if self._name(domid) == guest), default=None)
        if domid is None:
            names = sorted(map(self._name, self.dom0.pciback.guests))
            raise ValueError(f"{guest} is not connected to pciback; connected: {', '.join(names) or 'nobody'}")
        link = self._channel(domid, guest) if which == "channel" else self._devbus(domid, guest)
        link.arm(cast("Does", does), cast("Direction", direction), int(ms * MS), count)

    def _name(self, domid: int) -> str:
        return self.dom0.pciback.guest_name(domid)

    def _channel(self, domid: int, guest: str) -> FaultyLink:
        channel = self.dom0.pciback.guests[domid].channel
        if channel is None or channel.closed:
            raise ValueError(f"{guest} has no channel now")
        link = channel.link = self._around(channel.link, guest, "channel")
        return link

    def _devbus(self, domid: int, guest: str) -> FaultyLink:
        rpc = self.dom0.bus.link_of(domid)
        if rpc is None:
            raise ValueError(f"{guest} has no device bus now")
        link = rpc.link = self._around(rpc.link, guest, "devbus")
        return link

    def _around(self, link: Link, guest: str, which: str) -> FaultyLink:
        """The faulty link that is there already, or a new one around the healthy one."""
        if isinstance(link, FaultyLink):
            return link
        trace = self.kernel.trace
        return FaultyLink(
            self.kernel,
            link,
            lambda does, direction: trace("fault.message", guest, which, does, direction),
            stream=which == "channel",
        )
