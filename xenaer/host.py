"""Host files: YAML in, ``HostSpec`` out, and every mistake named with file, line, field and what is allowed.

The form is in ``xenaer.host_form``. This file decides what the values mean together: which bus lies below
which port, who is assigned to whom, which driver takes which options.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Any

from protocol.ids import Sbdf
from protocol.layout_pcie import SLOT_PORTS
from protocol.topology import (
    BRIDGES,
    DOM0_DRIVERS,
    AssignmentSpec,
    BootSpec,
    FunctionSpec,
    GuestDriverSpec,
    GuestSpec,
    HostSpec,
    TimingSpec,
)
from xenaer.host_form import (
    AT_THE_ROOT,
    BELOW_A_PORT,
    MODELS,
    AssignmentForm,
    DeviceForm,
    FunctionForm,
    GuestForm,
    HostForm,
    RootForm,
)
from xenaer.host_image import take_image
from xenaer.user_code import folder_of, search_beside
from xenaer.yaml_lines import Document, InputError, Place, closest, load, validate

RESERVED_NAMES = ("dom0", "Domain-0", "hypervisor", "supervisor", "control", "operator")
DEFAULT_DRIVER = {"nic": "xnic", "block": "xblk"}
# kind or model -> vendor and device ID: QEMU's devices of that sort, which lspci has names for
IDS: dict[str, tuple[int, int]] = {
    "root_port": (0x1B36, 0x000C),
    "upstream_port": (0x104C, 0x8232),
    "downstream_port": (0x104C, 0x8233),
    "pcie_pci_bridge": (0x1B36, 0x000E),
    "rciep": (0x1AF4, 0x1110),
    "event_collector": (0x1B36, 0x000C),
    "nic": (0x1AF4, 0x1041),
    "block": (0x1AF4, 0x1042),
    "plain": (0x1AF4, 0x1110),
}
_COMMON = (
    "flr", "role_based", "aer", "ready_ms", "link_dead_after_reset", "pm", "pm_reset", "class_code", "revision",
    "link_speed", "link_width", "link_reporting", "slot", "error_enables", "dpc", "ecrc", "registers", "config",
)  # fmt: skip
KINDS = {"switch": "upstream_port", "bridge": "pcie_pci_bridge", "port": "downstream_port"}  # key -> kind


class HostError(InputError):
    """A host file is wrong; ``problems`` has one ``file:line:column: field: text`` for each mistake."""


def load_host(path: str | Path) -> HostSpec:
    """Read and check a host file. Raises HostError with everything that is wrong with it."""
    search_beside(Path(path))
    try:
        return read_host(load(Path(path)))
    except InputError as error:
        raise HostError(error.problems) from error


def read_host(document: Document) -> HostSpec:
    """Check a host file that has been read. Raises HostError."""
    form, problems = validate(document, HostForm)
    if form is not None:
        reader = _Reader(document, form)
        spec = reader.read()
        problems += reader.problems
        if not problems:
            return spec
    raise HostError(problems)


class _Reader:
    """One pass over a host form; collects ``problems`` and goes on."""

    def __init__(self, document: Document, form: HostForm) -> None:
        self.document = document
        self.form = form
        self.problems: list[str] = []
        self.functions: dict[str, FunctionSpec] = {}
        self.places: dict[str, Place] = {}  # function -> where it is written
        self.names: dict[str, str] = {}
        self.buses: dict[tuple[int, int], str] = {}  # bus -> the port above it
        self.empty: list[FunctionSpec] = []

    def problem(self, place: Place, text: str) -> None:
        self.problems.append(self.document.problem(place, text))

    def read(self) -> HostSpec:
        form = self.form
        for index, entry in enumerate(form.hierarchy):
            self._root(entry, ("hierarchy", index))
        self._close_ranges()
        self._check_root_buses()
        self._check_function_zero()
        guests = _GuestReader(self).read()
        timing = TimingSpec(**{f.name: getattr(form.timing, f.name) for f in fields(TimingSpec)})
        return HostSpec(
            name=form.name, functions=list(self.functions.values()), guests=guests, profile=form.profile,
            kernel=form.kernel, defects=form.defects, timing=timing, seed=form.seed, hardware=form.hardware,
            boot=BootSpec(**form.boot.model_dump()), passthrough=form.passthrough,
        )  # fmt: skip

    # -- hierarchy -----------------------------------------------------------------------------
    def _root(self, form: RootForm, place: Place) -> None:
        key = next(kind for kind in AT_THE_ROOT if getattr(form, kind) is not None)
        function = self._add(form, (*place, key), "endpoint" if key == "plain" else key, "")
        if key == "root_port":
            self._below(function, form.devices, (*place, "devices"))
        elif key == "plain" and form.dom0_driver is None:
            function.dom0_driver = ""

    def _add(self, form: FunctionForm, place: Place, kind: Any, parent: str) -> FunctionSpec:
        """Make the function that is written at ``place``, whose last part is the key with the address."""
        model: Any = place[-1]
        bdf: str = getattr(form, model)
        function = FunctionSpec(bdf=bdf, kind=kind, parent=parent, **{key: getattr(form, key) for key in _COMMON})
        usual = "" if kind == "pcie_pci_bridge" else "pciback" if kind in ("endpoint", "rciep") else "pcieport"
        named = getattr(form, "dom0_driver", None)
        function.dom0_driver = usual if named is None else named
        if named is not None and named not in DOM0_DRIVERS:
            text = f"dom0 has no driver {named!r}; {closest(named, DOM0_DRIVERS)}"
            self.problem((*place[:-1], "dom0_driver"), text)
        function.model = model if model in MODELS else "plain"
        function.pcie = getattr(form, "pcie", model != "plain")  # at the root: a conventional device
        function.rciep_devices = sum(1 << number for number in set(getattr(form, "rciep_devices", ())))
        buses = getattr(form, "rciep_buses", None)
        function.rciep_buses = None if buses is None else (buses[0], buses[1])
        function.subsystem = None if form.subsystem is None else (form.subsystem[0], form.subsystem[1])
        vendor, device = IDS[model if kind == "endpoint" else kind]
        function.vendor = vendor if form.vendor is None else form.vendor
        function.device = device if form.device is None else form.device
        function.name = form.name or ""
        for key, text in take_image(function, form) if form.config else ():
            self.problem((*place[:-1], key), text)
        if form.dpc and (kind not in SLOT_PORTS or not form.aer):
            self.problem((*place[:-1], "dpc"), f"{bdf} cannot have DPC; allowed: root and downstream ports with AER")
        if bdf in self.functions:
            self.problem(place, f"{bdf} is there twice, first in line {self.document.mark(self.places[bdf])[0]}")
            return function
        self.functions[bdf], self.places[bdf] = function, place
        if form.name is not None:
            self._add_name(form.name, bdf, (*place[:-1], "name"))
        return function

    def _add_name(self, name: str, bdf: str, place: Place) -> None:
        if name in self.names:
            self.problem(place, f"name {name!r} is used twice, first for {self.names[name]}")
        self.names.setdefault(name, bdf)

    def _below(self, port: FunctionSpec, devices: list[DeviceForm], place: Place) -> None:
        """Add everything below one port; all of it must be device 00 of one bus that is the port's alone."""
        if not devices:
            self._empty(port)
            return
        for index, form in enumerate(devices):
            model = next(kind for kind in BELOW_A_PORT if getattr(form, kind) is not None)
            self._device(port, form, model, (*place, index, model))
        self._widen(port, port.secondary)

    def _device(self, port: FunctionSpec, form: DeviceForm, model: str, place: Place) -> None:
        bdf = getattr(form, model)
        self._take_bus(port, bdf, place)
        function = self._add(form, place, KINDS.get(model, "endpoint"), port.bdf)
        if port.kind == "pcie_pci_bridge":
            if function.pcie or model in KINDS:
                self.problem(place, f"{bdf} is on a conventional bus; allowed: devices with pcie: false")
        elif Sbdf.parse(bdf).device != 0:
            self.problem(place, f"{bdf}: only device 00 exists below a PCI Express port; allowed: its functions 0 to 7")
        if model == "switch":
            self._switch(function, form, (*place[:-1], "ports"))
        elif model == "bridge":
            self._below(function, form.devices, (*place[:-1], "devices"))
        self._widen(port, function.subordinate)

    def _switch(self, upstream: FunctionSpec, form: DeviceForm, place: Place) -> None:
        for index, entry in enumerate(form.ports):
            inner = (*place, index)
            self._take_bus(upstream, entry.port, (*inner, "port"))
            port = self._add(entry, (*inner, "port"), "downstream_port", upstream.bdf)
            self._below(port, entry.devices, (*inner, "devices"))
            self._widen(upstream, max(upstream.secondary, port.subordinate))
        if not form.ports:
            self._empty(upstream)

    def _widen(self, port: FunctionSpec, bus: int) -> None:
        """The range of ``port`` takes in ``bus``; the range that a configuration space has is fixed."""
        if port.config and 0 < port.subordinate < bus:
            text = f"bus {bus:02x} is below {port.bdf}, whose configuration space has buses up to"
            self.problem((*self.places[port.bdf][:-1], "config"), f"{text} {port.subordinate:02x}")
        port.subordinate = max(port.subordinate, bus)

    def _empty(self, port: FunctionSpec) -> None:
        """A port without devices: its configuration space says which bus is below, or any will do."""
        if not port.secondary:
            self.empty.append(port)
            return
        segment = Sbdf.parse(port.bdf).segment
        for bus in range(port.secondary, port.subordinate + 1):
            owner = self.buses.setdefault((segment, bus), port.bdf)
            if owner != port.bdf:
                self.problem(self.places[port.bdf], f"bus {bus:02x} below {port.bdf} is already below {owner}")

    def _take_bus(self, port: FunctionSpec, bdf: str, place: Place) -> None:
        """The bus of ``bdf`` becomes the secondary bus of ``port``, or something is wrong."""
        address, above = Sbdf.parse(bdf), Sbdf.parse(port.bdf)
        if port.secondary == 0:
            port.secondary = address.bus
        owner = self.buses.setdefault((address.segment, address.bus), port.bdf)
        if address.segment != above.segment:
            self.problem(place, f"{bdf} is not in the segment of the port above it; allowed: {above.segment:04x}")
        elif port.secondary != address.bus:
            self.problem(place, f"{bdf} is on the wrong bus: {port.bdf} leads to bus {port.secondary:02x}")
        elif address.bus <= above.bus:
            self.problem(place, f"{bdf} is on the wrong bus: below {port.bdf}; allowed: {above.bus + 1:02x} to ff")
        elif owner != port.bdf:
            self.problem(place, f"{bdf} is on the wrong bus: bus {address.bus:02x} is already below {owner}")

    def _close_ranges(self) -> None:
        """Give empty ports a bus of their own and check that no port's range has a foreign bus in it."""
        for port in self.empty:
            self._number_empty(port)
        for (segment, bus), owner in self.buses.items():
            other = next((p for p in self.functions.values() if self._intrudes(owner, segment, bus, p)), None)
            if other is not None:
                buses = f"{other.secondary:02x} to {other.subordinate:02x}"
                text = f"bus {bus:02x} below {owner} lies within the buses of {other.bdf} ({buses})"
                self.problem(self.places[owner], f"{text}, which is not above it")

    def _intrudes(self, owner: str, segment: int, bus: int, port: FunctionSpec) -> bool:
        """Lies a bus of ``owner`` in the range of ``port``, which does not lead to it."""
        inside = 0 < port.secondary <= bus <= port.subordinate and Sbdf.parse(port.bdf).segment == segment
        return inside and not self._is_below(owner, port.bdf)

    def _number_empty(self, port: FunctionSpec) -> None:
        segment = Sbdf.parse(port.bdf).segment
        root = port
        while root.parent in self.functions:
            root = self.functions[root.parent]
        taken = {bus for seg, bus in self.buses if seg == segment}
        taken |= {Sbdf.parse(bdf).bus for bdf in self.functions if Sbdf.parse(bdf).segment == segment}
        bus = root.subordinate + 1 if root is not port else max(taken) + 1
        if bus > 0xFF or bus in taken:
            self.problem(self.places[port.bdf], f"no bus number is free below {port.bdf}; leave a gap after it")
            return
        self.buses[segment, bus] = port.bdf
        port.secondary = port.subordinate = bus
        while port.parent in self.functions:
            port = self.functions[port.parent]
            self._widen(port, bus)

    def _is_below(self, bdf: str, port: str) -> bool:
        while bdf != port and bdf in self.functions:
            bdf = self.functions[bdf].parent
        return bdf == port

    def _check_root_buses(self) -> None:
        for bdf, function in self.functions.items():
            address = Sbdf.parse(bdf)
            if not function.parent and (address.segment, address.bus) in self.buses:
                owner = self.buses[address.segment, address.bus]
                self.problem(self.places[bdf], f"{bdf}: bus {address.bus:02x} lies below {owner}, not at the root")

    def _check_function_zero(self) -> None:
        present = defaultdict(set)
        for bdf, function in self.functions.items():
            if function.parent:
                present[Sbdf.parse(bdf)._replace(function=0)].add(bdf)
        for zero, found in present.items():
            if str(zero) not in found:
                first = min(found)
                self.problem(self.places[first], f"{first} without function 0: nothing would find it; add {zero}")


class _GuestReader:
    """The guests of a host: names, assignments, drivers and their options."""

    def __init__(self, host: _Reader) -> None:
        self.host = host
        self.assigned: dict[str, str] = {}
        self.problem = host.problem

    def read(self) -> list[GuestSpec]:
        seen: set[str] = set()
        guests = []
        for index, form in enumerate(self.host.form.guests):
            place = ("guests", index)
            if form.name in seen:
                self.problem((*place, "name"), f"guest {form.name!r} is there twice")
            if form.name in RESERVED_NAMES:
                self.problem((*place, "name"), f"{form.name!r} is reserved; not allowed: {', '.join(RESERVED_NAMES)}")
            seen.add(form.name)
            guests.append(self._guest(form, place))
        return guests

    def _guest(self, form: GuestForm, place: Place) -> GuestSpec:
        devices = []
        for index, entry in enumerate(form.devices):
            assignment = self._assignment(form, entry, (*place, "devices", index))
            if assignment is not None:
                devices.append(assignment)
        simple = form.model_dump(exclude={"devices"})
        return GuestSpec(devices=devices, **simple)

    def _assignment(self, guest: GuestForm, form: AssignmentForm, place: Place) -> AssignmentSpec | None:
        function = self._find(form.device, (*place, "device"))
        if function is None:
            return None
        if function.bdf in self.assigned:
            owner = self.assigned[function.bdf]
            self.problem((*place, "device"), f"{function.bdf} is assigned twice: guest {owner!r} has it already")
        self.assigned[function.bdf] = guest.name
        if function.kind in BRIDGES or function.kind == "event_collector":
            self.problem((*place, "device"), f"{function.bdf} is a {function.kind}; only endpoints can be assigned")
        driver = form.driver if form.driver is not None else DEFAULT_DRIVER.get(function.model, "")
        folder = folder_of(driver, Path(self.host.document.filename).parent)
        self._check_driver(GuestDriverSpec(driver, form.options, folder), place)
        return AssignmentSpec(function.bdf, GuestDriverSpec(driver, form.options, folder), form.permissive)

    def _find(self, text: str, place: Place) -> FunctionSpec | None:
        host = self.host
        if ":" not in text:
            if text not in host.names:
                self.problem(place, f"no device is called {text!r}; {closest(text, host.names)}")
                return None
            return host.functions[host.names[text]]
        try:
            bdf = str(Sbdf.parse(text))
        except ValueError as error:
            self.problem(place, str(error))
            return None
        if bdf not in host.functions:
            endpoints = [f.bdf for f in host.functions.values() if f.kind == "endpoint"]
            self.problem(place, f"{bdf} is not in the hierarchy; {closest(bdf, endpoints)}")
        return host.functions.get(bdf)

    def _check_driver(self, spec: GuestDriverSpec, place: Place) -> None:
        for text in check_driver(spec):
            named = next((key for key in spec.options if f"option {key}:" in text or f"option {key!r}" in text), None)
            self.problem((*place, "driver") if named is None else (*place, "options", named), text)


def check_driver(spec: GuestDriverSpec) -> list[str]:
    """What is wrong with a guest driver and its options: one text for each mistake, with what is allowed."""
    # Only here, because loading a driver loads what it needs.
    from domu_pcifront.driver import check_options  # noqa: PLC0415

    return check_options(spec.driver, spec.options, spec.folder)


def find_function(host: HostSpec, text: str) -> FunctionSpec:
    """The function that a person calls by name or address. Raises ValueError with what is allowed."""
    named = next((f for f in host.functions if f.name and f.name == text), None)
    if named is not None:
        return named
    found = host.function(str(Sbdf.parse(text))) if ":" in text else None
    if found is None:
        allowed = [f.name or f.bdf for f in host.functions if f.kind == "endpoint"]
        raise ValueError(f"no device {text!r} on host {host.name}; {closest(text, allowed)}")
    return found
