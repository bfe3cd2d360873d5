"""Actions of steps as orders: whom to ask for what, and what the answer means. One table; both worlds carry it out."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from errno import errorcode
from functools import reduce
from operator import or_
from typing import Any

from protocol.ers import ErsResult
from protocol.ids import Sbdf
from protocol.topology import HostSpec
from xenaer.campaign.steps.fault_forms import (
    ChannelFaultForm,
    DeviceForm,
    DriverFaultForm,
    GoneForm,
    HotplugForm,
    InjectForm,
    ProcessForm,
    ResetFaultForm,
    SlowStartForm,
    StormForm,
)
from xenaer.campaign.steps.script import error_bits, resolve_bdf
from xenaer.campaign.steps.steps_form import AerInjectForm, GuestDeviceForm, GuestForm, TouchForm, WorkloadForm
from xenaer.campaign.steps.system import Call, System
from xenaer.control import ControlError

XL_WORDS: dict[str, tuple[str, ...]] = {
    "create": ("create",),
    "destroy": ("destroy",),
    "kill": ("destroy", "-f"),
    "shutdown": ("shutdown",),
    "reboot": ("reboot",),
    "pause": ("pause",),
    "unpause": ("unpause",),
    "attach": ("pci-attach",),
    "detach": ("pci-detach",),
}
DOM0, STUB = "dom0", "hypervisor"
INVALID_VOTE, LATE_MS, SLOW_MS = 99, 100.0, 10_000
ANY_DEVICE = -1


class StepError(Exception):
    """A step did not do what it should; the text says what happened instead."""


@dataclass(frozen=True, slots=True)
class Context:
    """What orders need to know. ``devfn``: the number under which a guest has a device (raises StepError)."""

    host: HostSpec
    texts: Mapping[str, str]
    devfn: Callable[[str, str], int]

    def bdf(self, device: str) -> str:
        """Address of a device called by name or address."""
        return resolve_bdf(self.host, device)


def _ignore(answer: Any) -> None:
    """The answer says nothing."""


@dataclass(frozen=True, slots=True)
class Order:
    """Ask ``target`` for ``verb``. ``told`` makes a text of the answer (None: ``text``) and raises StepError."""

    target: str
    verb: str
    args: list[Any]
    text: str = ""
    told: Callable[[Any], str | None] = _ignore

    @property
    def kills(self) -> str:
        """The party whose process ends by this: none."""
        return ""

    def do(self, system: System) -> str:
        """Carry out, and wait for the answer. Raises ControlError, StepError."""
        return self.means(system.ctl(self.target, self.verb, self.args))

    def start(self, system: System, *, at_once: bool) -> Call:
        """Begin. Raises ControlError."""
        return system.start(self.target, self.verb, self.args, at_once=at_once)

    def means(self, answer: Any) -> str:
        """The answer as a text. Raises StepError."""
        told = self.told(answer)
        return self.text if told is None else told


@dataclass(frozen=True, slots=True)
class Done:
    """``system.Call`` of something that is over at once."""

    done: bool = True

    def result(self) -> None:
        """There is nothing to tell."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal for a process, as an order."""

    form: ProcessForm
    text: str

    @property
    def kills(self) -> str:
        """See ``Order``."""
        return self.form.target if self.form.does == "kill" else ""

    def do(self, system: System) -> str:
        """See ``Order``."""
        system.signal(self.form.target, self.form.does, self.form.for_ms)
        return self.text

    def start(self, system: System, *, at_once: bool) -> Call:
        """See ``Order``."""
        self.do(system)
        return Done()

    def means(self, answer: Any) -> str:
        """See ``Order``."""
        return self.text


def make_order(action: str, form: Any, context: Context) -> Order | Signal:
    """The order that a step means. Raises StepError, ValueError."""
    if action in XL_WORDS:
        return _xl(action, form, context)
    return ORDERS[action](form, context)


# -- errors ------------------------------------------------------------------------------------------
def _bits(names: list[str] | None, cor: int | None = None, uncor: int | None = None) -> tuple[int, int]:
    """Names and raw bits together, as (correctable, uncorrectable)."""
    found = [error_bits(name) for name in names or ()]
    return reduce(or_, (bits[0] for bits in found), cor or 0), reduce(or_, (bits[1] for bits in found), uncor or 0)


def _addresses(form: InjectForm | StormForm, context: Context) -> list[str]:
    given = form.devices if form.devices is not None else [str(form.device)]
    return [context.bdf(device) for device in given]


def _inject(form: InjectForm, context: Context) -> Order:
    cor, uncor = _bits(form.errors, form.correctable, form.uncorrectable)
    bdfs = _addresses(form, context)
    raw = (("correctable", cor), ("uncorrectable", uncor))
    shown = form.errors or [f"{name} {bits:#x}" for name, bits in raw if bits]
    text = f"{', '.join(shown)} at {', '.join(bdfs)}"
    if len(bdfs) == 1 and not form.masked:
        return Order(DOM0, "inject", [bdfs[0], cor, uncor, list(form.header)], text)
    errors = [[bdf, cor, uncor, list(form.header)] for bdf in bdfs]
    return Order(DOM0, "inject-all", [errors, form.masked], text + (", masked" if form.masked else ""))


def _storm(form: StormForm, context: Context) -> Order:
    mix = form.mix or dict.fromkeys(form.errors or (), 1)
    kinds = [(bdf, name) for bdf in _addresses(form, context) for name in mix]
    errors = [[bdf, *_bits([name]), [0, 0, 0, 0]] for bdf, name in kinds]
    weights = [mix[name] for _, name in kinds]
    picks = bytes(random.Random(form.seed).choices(range(len(kinds)), weights, k=form.count))
    interval_ns = int(1e9 / form.rate_per_s)
    return Order(
        DOM0, "storm", [errors, picks, interval_ns], told=lambda injected: f"{injected} of {form.count} errors injected"
    )


def _touch(form: TouchForm, context: Context) -> Order:
    address = Sbdf.parse(context.bdf(form.device))
    if form.function is not None:
        address = address._replace(function=form.function)
    return Order(DOM0, "touch", [str(address)], f"read of {address}")


def _aer_inject(form: AerInjectForm, context: Context) -> Order:
    text = context.texts[form.file] if form.file is not None else form.text
    return Order(DOM0, "aer-inject", [text, form.file or "<text>"], form.file or "injected")


# -- devices -----------------------------------------------------------------------------------------
def _gone(form: GoneForm, context: Context) -> Order:
    bdf = context.bdf(form.device)
    return Order(DOM0, "gone", [bdf, form.how], f"{bdf} is gone: {form.how}")


def _back(form: DeviceForm, context: Context) -> Order:
    bdf = context.bdf(form.device)
    return Order(DOM0, "back", [bdf], f"{bdf} is back")


def _reset_fault(form: ResetFaultForm, context: Context) -> Order:
    bdf = context.bdf(form.device)
    ready_ms = (form.ready_ms or SLOW_MS) if form.how == "slow" else 0
    return Order(DOM0, "reset-fault", [bdf, form.how, ready_ms, [form.vendor, form.id]], f"resets of {bdf}: {form.how}")


def _hotplug(form: HotplugForm, context: Context) -> Order:
    bdf = context.bdf(form.device)
    return Order(DOM0, "hotplug", [bdf, form.does], f"{form.does} {bdf}")


def _sysfs_reset(form: DeviceForm, context: Context) -> Order:
    bdf = context.bdf(form.device)

    def told(written: Any) -> None:
        if int(written) < 0:
            raise StepError(f"reset of {bdf}: {errorcode.get(-int(written), written)}")

    return Order(DOM0, "sysfs-write", [f"/sys/bus/pci/devices/{bdf}/reset", "1"], f"reset of {bdf}", told)


# -- guests and processes ------------------------------------------------------------------------------
def _driver(form: DriverFaultForm, context: Context) -> Order:
    devfn = ANY_DEVICE if form.device is None else context.devfn(form.guest, form.device)
    vote = INVALID_VOTE if form.vote is None else form.vote
    number = int(ErsResult[vote]) if isinstance(vote, str) else vote
    ms = LATE_MS if form.ms is None else form.ms
    args = [devfn, form.phase, form.does, number, ms, form.times]
    return Order(form.guest, "driver-fault", args, f"armed: {form.does} in {form.phase}")


def _process(form: ProcessForm, context: Context) -> Signal:
    how = {"kill": "killed", "stop": "stopped"}[form.does]
    if form.for_ms is not None:
        how += f" for {form.for_ms:g} ms"
    return Signal(form, f"{form.target} is {how}")


def _slow_start(form: SlowStartForm, context: Context) -> Order:
    return Order(STUB, "slow-start", [form.guest, form.ms], told=str)


def _stop(form: GuestForm, context: Context) -> Order:
    return Order(STUB, "stop-guest", [form.guest], told=str)


def _channel(form: ChannelFaultForm, context: Context) -> Order:
    args = [form.guest, form.which, form.does, form.direction, form.ms, form.count]
    return Order(DOM0, "channel-fault", args, f"armed: {form.does}, {form.which} of {form.guest}, {form.direction}")


def _workload(form: WorkloadForm, context: Context) -> Order:
    devfn = ANY_DEVICE if form.device is None else context.devfn(form.guest, form.device)

    def told(answer: Any) -> str:
        result = dict(answer)
        text = ", ".join(f"{name}: {done} of {form.count} verified" for name, done in result.items())
        if not result or any(done != form.count for done in result.values()):
            raise StepError(text or f"{form.guest} has no device that carries traffic")
        return text

    return Order(form.guest, "workload", [devfn, form.count], told=told)


def _xl(action: str, form: GuestForm | GuestDeviceForm, context: Context) -> Order:
    argv = [*XL_WORDS[action], form.guest]
    if isinstance(form, GuestDeviceForm):
        argv.append(context.bdf(form.device))

    def told(answer: Any) -> None:
        status, out, err = xl_result(answer)
        if status != 0:
            raise StepError((err or out).strip().replace("\n", "; ") or f"xl {action}: status {status}")

    return Order(STUB, "xl", argv, f"xl {' '.join(argv)}", told)


def xl_result(answer: Any) -> tuple[int, str, str]:
    """The hypervisor stub's answer to ``xl`` as (status, out, err). Raises ControlError if it is none."""
    try:
        status, out, err = answer
        return int(status), str(out), str(err)
    except (TypeError, ValueError):
        raise ControlError(f"not an answer to xl: {answer!r}") from None


ORDERS: dict[str, Callable[[Any, Context], Order | Signal]] = {
    "inject": _inject,
    "storm": _storm,
    "touch": _touch,
    "aer_inject": _aer_inject,
    "gone": _gone,
    "back": _back,
    "reset_fault": _reset_fault,
    "hotplug": _hotplug,
    "sysfs_reset": _sysfs_reset,
    "driver": _driver,
    "process": _process,
    "slow_start": _slow_start,
    "stop": _stop,
    "channel": _channel,
    "workload": _workload,
}
