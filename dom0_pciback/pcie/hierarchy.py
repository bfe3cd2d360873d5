"""The whole PCI Express hierarchy of the host, as dom0's root complex reaches it.

Kernel code uses ``read``, ``write`` and the ``interrupt`` of a root port or event collector; nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter

from dom0_pciback.pcie import build, containment, errors, resets, tlp
from dom0_pciback.pcie.collector import EventCollector
from dom0_pciback.pcie.config_space import ALL_ONES, check_access
from dom0_pciback.pcie.function import Function
from dom0_pciback.pcie.port import PORTS, Port, RootPort
from dom0_pciback.pcie.profile import PROFILES, HardwareProfile
from protocol.bits import COR_ALL, UNCOR_ALL, UNSUPPORTED_REQUEST, bits_of
from protocol.ids import Sbdf
from protocol.layout_aer import AER
from protocol.layout_header import BRIDGE_CTL_BUS_RESET, TYPE1
from protocol.layout_pcie import EXP, EXP_DEVCAP_FLR, EXP_DEVCTL_FLR, EXP_SLTSTA_COMMAND_COMPLETED, SLOT_PORTS
from protocol.ports import Clock
from protocol.topology import FunctionSpec, HostSpec

_BUS_RESET = BRIDGE_CTL_BUS_RESET << 16  # Bridge Control is the upper half of dword 0x3c
_BUS_NUMBERS = int(TYPE1.PRIMARY_BUS)
_BRIDGE_CONTROL = int(TYPE1.BRIDGE_CONTROL) & ~3


class Hierarchy:
    """All functions of a host and the paths between them.

    ``functions`` is in enumeration order: depth first, a bridge before what is below it. ``interrupt`` is called
    with a root port or event collector whose AER interrupt condition became true, ``on_reset`` with every
    function that a reset hits; both are called synchronously, out of the access or error that caused them.
    """

    __slots__ = (
        "_bus_ports", "_taken_out", "clock", "functions", "interrupt", "native_hotplug", "on_reset", "profile",
    )  # fmt: skip

    def __init__(self, host: HostSpec, clock: Clock, profile: HardwareProfile | None = None) -> None:
        self.clock = clock
        self.profile = PROFILES[host.hardware] if profile is None else profile
        self.native_hotplug = host.boot.hotplug == "native"
        self.interrupt: Callable[[Function], None] = lambda root: None
        self.on_reset: Callable[[Function], None] = lambda function: None
        self.functions: dict[Sbdf, Function] = {}
        self._bus_ports: dict[tuple[int, int], Port] = {}
        self._taken_out: dict[Sbdf, Function] = {}
        self._enumerate(host.functions)
        build.boot(list(self.functions.values()))

    # -- construction --------------------------------------------------------------------------
    def _enumerate(self, specs: list[FunctionSpec]) -> None:
        by_parent: dict[str, list[FunctionSpec]] = {}
        for spec in specs:
            parent = str(Sbdf.parse(spec.parent)) if spec.parent else ""
            by_parent.setdefault(parent, []).append(spec)
        self._add_below(None, by_parent)
        if len(self.functions) != len(specs):
            raise ValueError("the host lists a function twice, or one whose parent is missing")

    def _add_below(self, parent: Function | None, by_parent: dict[str, list[FunctionSpec]]) -> None:
        siblings = by_parent.get(str(parent.sbdf) if parent else "", ())
        addressed = sorted(((Sbdf.parse(spec.bdf), spec) for spec in siblings), key=itemgetter(0))
        devices = [sbdf[:3] for sbdf, _ in addressed]
        for sbdf, spec in addressed:
            function = build.make_function(spec, parent, self, multifunction=devices.count(sbdf[:3]) > 1)
            self.functions[function.sbdf] = function
            if parent is not None:
                parent.children.append(function)
            self._hook(function)
            self._add_below(function, by_parent)

    def _hook(self, function: Function) -> None:
        """Hang on each register what a write to it sets going."""
        hooks = function.config.hooks
        if function.exp:
            hooks[function.exp + EXP.DEVCTL] = lambda old, new, value: self._device_control(function, value)
        if self.profile.command_completed and function.kind in SLOT_PORTS:
            hooks[function.exp + EXP.SLTCTL] = lambda old, new, value: self._slot_control(function, value)
        if function.aer:
            hooks[function.aer + AER.UNCOR_STATUS] = lambda old, new, value: errors.rearm_log(function)
        if isinstance(function, Port):
            self._bus_ports[function.sbdf.segment, function.spec.secondary] = function
            hooks[_BUS_NUMBERS] = lambda old, new, value: function.refresh()
            hooks[_BRIDGE_CONTROL] = lambda old, new, value: self._bridge_control(function, old, new)
        if isinstance(function, RootPort | EventCollector) and function.aer:
            hooks[function.aer + AER.ROOT_COMMAND] = lambda old, new, value: function.aer_interrupt.update()
            hooks[function.aer + AER.ROOT_STATUS] = lambda old, new, value: function.aer_interrupt.update()
        if isinstance(function, Port) and function.dpc:
            containment.hang_hooks(function)

    def _device_control(self, function: Function, value: int) -> None:
        if value & EXP_DEVCTL_FLR and function.config.peek(function.exp + EXP.DEVCAP, 4) & EXP_DEVCAP_FLR:
            resets.function_level_reset(function)

    def _slot_control(self, port: Function, value: int) -> None:
        """Slot Status is the other half of the dword: only a write that reaches Slot Control counts."""
        if value & 0xFFFF:
            port.config.set_bits(port.exp + EXP.SLTSTA, 2, EXP_SLTSTA_COMMAND_COMPLETED)

    def _bridge_control(self, port: Port, old: int, new: int) -> None:
        if new & ~old & _BUS_RESET:
            resets.assert_bus_reset(port)
        elif old & ~new & _BUS_RESET:
            resets.deassert_bus_reset(port)

    def wake(self, sbdf: Sbdf) -> None:
        """The kernel takes a function out of its idle state (``pm_runtime_get_sync``)."""
        function = self.functions.get(sbdf)
        if isinstance(function, Port):
            function.wake()

    def unplug(self, sbdf: Sbdf) -> None:
        """Take a function, and everything below it, out of its slot; nothing if it is not there."""
        function = self.functions.pop(sbdf, None)
        if function is None:
            return
        self._taken_out[sbdf] = function
        for each in function.below():
            self.functions.pop(each.sbdf, None)
        if isinstance(function.parent, Port):
            function.parent.children.remove(function)
            function.parent.slot_changed()

    def plug(self, sbdf: Sbdf) -> None:
        """Put a function that was taken out, and everything below it, into its slot again; it has had no power.

        Raises ValueError if it was not taken out.
        """
        function = self._taken_out.pop(sbdf, None)
        if function is None:
            out = ", ".join(map(str, self._taken_out)) or "nothing"
            raise ValueError(f"{sbdf} was not taken out; what was: {out}")
        for each in (function, *function.below()):
            resets.power_on(each)
        if isinstance(function.parent, Port):
            siblings = function.parent.children
            siblings.append(function)
            siblings.sort(key=lambda each: each.sbdf)
            function.parent.slot_filled()
        self._put_in_order(function)

    def _put_in_order(self, added: Function) -> None:
        """``functions`` is depth first again, with ``added`` and what is below it."""
        roots = [each for each in (*self.functions.values(), added) if each.parent is None]
        roots.sort(key=lambda each: each.sbdf)
        ordered = {each.sbdf: each for root in roots for each in (root, *root.below())}
        self.functions.clear()
        self.functions.update(ordered)

    def taken_out_below(self, sbdf: Sbdf) -> list[Sbdf]:
        """What was taken out of the slot of a port."""
        return [each.sbdf for each in self._taken_out.values() if each.parent is not None and each.parent.sbdf == sbdf]

    def taken_out(self, sbdf: Sbdf) -> Function | None:
        """The function that was taken out at this address, None if none was."""
        return self._taken_out.get(sbdf)

    # -- requests ------------------------------------------------------------------------------
    def read(self, sbdf: Sbdf, offset: int, size: int) -> int:
        """Configuration read of 1, 2 or 4 bytes; all ones if nothing answers.

        Raises ValueError for an access that is not aligned or out of 0..4095.
        """
        function = self.functions.get(sbdf)
        if function is None:
            self._unclaimed(sbdf, tlp.CFG_READ, offset, size)
            return ALL_ONES[size]
        if function.reachable_at and self.clock.now() < function.reachable_at:
            check_access(offset, size)
            return ALL_ONES[size]
        return function.config.read(offset, size)

    def write(self, sbdf: Sbdf, offset: int, size: int, value: int) -> None:
        """Configuration write of 1, 2 or 4 bytes; lost if nothing answers. Raises ValueError as ``read`` does."""
        function = self.functions.get(sbdf)
        if function is None:
            self._unclaimed(sbdf, tlp.CFG_WRITE, offset, size)
            return
        if function.reachable_at and self.clock.now() < function.reachable_at:
            check_access(offset, size)
            return
        function.config.write(offset, size, value)
        if self.profile.ports_clear_log and function.kind in PORTS and function.aer:
            errors.drop_stale_log(function)

    def _unclaimed(self, sbdf: Sbdf, fmt_type: int, offset: int, size: int) -> None:
        """A request to a function that does not exist: an Unsupported Request of the device that receives it.

        Below a root or downstream port that is the device on the link, by its lowest function; on the inner bus
        of a switch, where no such device exists, the upstream port, which still has it as a Type 1 request.
        """
        check_access(offset, size)
        port = self._bus_ports.get((sbdf.segment, sbdf.bus))
        if not self.profile.missing_function_ur or port is None or not port.link.up or not port.routes(sbdf.bus):
            return
        same = [child for child in port.children if child.sbdf[:3] == sbdf[:3]]
        on_link = port.children if port.kind in SLOT_PORTS else []
        receiver = next(iter(same or on_link), port)
        if receiver.accessible() and (receiver is not port or port.kind not in SLOT_PORTS):
            header = tlp.config_request(fmt_type + (receiver is port), sbdf, offset, size)
            errors.detect_uncorrectable(receiver, UNSUPPORTED_REQUEST, header=header, advisory=True)

    # -- errors --------------------------------------------------------------------------------
    @contextmanager
    def one_instant(self) -> Iterator[None]:
        """What happens inside happens at once: the processor sees no interrupt before all of it has happened.

        So a root port may have received several messages when it is read for the first time.
        """
        interrupt, waiting = self.interrupt, dict[Function, None]()
        self.interrupt = lambda root: waiting.setdefault(root)
        try:
            yield
        finally:
            self.interrupt = interrupt
            for root in waiting:
                interrupt(root)

    def mask(self, sbdf: Sbdf, correctable_bits: int, uncorrectable_bits: int) -> None:
        """Set mask bits of a function, as its firmware might. Raises ValueError for one without AER."""
        function = self.functions.get(sbdf)
        if function is None or not function.aer:
            raise ValueError(f"{sbdf}: {'no AER capability' if function else 'there is no such function'}")
        function.config.set_bits(function.aer + AER.COR_MASK, 4, correctable_bits)
        function.config.set_bits(function.aer + AER.UNCOR_MASK, 4, uncorrectable_bits)

    def inject(
        self,
        sbdf: Sbdf,
        correctable_bits: int,
        uncorrectable_bits: int,
        header: tuple[int, int, int, int] = errors.NO_HEADER,
        advisory: bool = False,
        prefixes: tuple[int, ...] = (),
    ) -> None:
        """The hardware of a function detects each error set in the two status words, correctable ones first.

        Within a word the lowest bit comes first. A function in reset detects nothing. ``advisory``: the
        uncorrectable ones happen in a role-based situation. ``prefixes``: up to four dwords. Raises ValueError
        for an unknown function, for no bit at all, for bits that are reserved, for a header that is not four dwords.
        """
        function = self.functions.get(sbdf)
        if function is None:
            raise ValueError(f"{sbdf}: there is no such function")
        if not correctable_bits and not uncorrectable_bits:
            raise ValueError(f"{sbdf}: no error bit is set")
        if correctable_bits & ~COR_ALL or uncorrectable_bits & ~UNCOR_ALL:
            raise ValueError(
                f"{sbdf}: reserved error bits: correctable {correctable_bits & ~COR_ALL:#x}, "
                f"uncorrectable {uncorrectable_bits & ~UNCOR_ALL:#x}"
            )
        if header is not errors.NO_HEADER and (len(header) != 4 or not all(0 <= dword < 1 << 32 for dword in header)):
            raise ValueError(f"{sbdf}: the TLP header is four dwords of 32 bits")
        for number, _ in bits_of("correctable", correctable_bits):
            errors.detect_correctable(function, number)
        for number, _ in bits_of("uncorrectable", uncorrectable_bits):
            errors.detect_uncorrectable(function, number, header=header, prefixes=prefixes, advisory=advisory)
