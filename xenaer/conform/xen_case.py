"""A recorded case of a real Xen: its form, and every mistake in a file named (golden/xen/README.md, "Input keys")."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from domu_pcifront.driver import check_options
from protocol.ids import Sbdf
from xenaer.conform.case import CaseError
from xenaer.conform.xen_commands import Command, Inject, parse_monitor, parse_shell
from xenaer.conform.xen_registers import parse_counters, parse_registers
from xenaer.conform.xen_words import NO_GUEST, GuestPlan, Node, parse_driver, parse_guest, parse_node
from xenaer.yaml_lines import closest

MARKS = ("inject", "guest_driver", "guest_config")  # keys that no other kind of case has
NEEDED = ("case", "before")
SHAPES: dict[str, type | tuple[type, ...]] = {
    "case": str, "guest_config": list, "guest_driver": str, "domid": str, "pre": dict, "before": dict, "inject": dict,
    "actions": list, "watched_s": (int, float), "summary": dict, "after": dict, "dom0_dmesg": list,
    "domU_console": list,
}  # fmt: skip
SECONDS_MAX = 86_400
WATCHED_S = 10.0  # of a case that does not say how long it was watched
_BACKEND = re.compile(r"/local/domain/0/backend/pci/(\d+)")
_DOMID = re.compile(r"/local/domain/([1-9]\d*)/device")

Counters = dict[Sbdf, dict[str, Any]]
Registers = list[tuple[Sbdf, dict[str, tuple[int, ...]]]]
Parsed = TypeVar("Parsed")


@dataclass(slots=True)
class XenCase:
    """The input keys of a case, and ``recorded``, the whole file. ``guest`` None: nobody has the devices."""

    path: Path
    name: str
    guest: GuestPlan | None = None
    driver: str = ""
    options: dict[str, int] = field(default_factory=dict)
    domid: int = 1
    pre: list[Command] = field(default_factory=list)
    inject: Inject | None = None
    actions: list[tuple[float, list[Command]]] = field(default_factory=list)
    watched_s: float = WATCHED_S
    nodes: list[Node] = field(default_factory=list)
    registers: Registers = field(default_factory=list)
    counters: Counters = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict)

    @property
    def port(self) -> Sbdf:
        """The port above the function of the injection: the recording lists it first."""
        return self.registers[0][0]


def is_xen_case(data: Any) -> bool:
    """The file is a recording of a real Xen."""
    return isinstance(data, dict) and any(key in data for key in MARKS)


def read_xen_case(path: Path, data: dict[str, Any]) -> XenCase:
    """Check a case file. Raises CaseError with everything that is wrong with it."""
    return _Reader(path, data).read()


class _Reader:
    """One pass over a case; collects ``problems`` and goes on."""

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path = path
        self.data = data
        self.problems: list[str] = []

    def problem(self, key: str, text: str) -> None:
        self.problems.append(f"{self.path}: {key}: {text}")

    def read(self) -> XenCase:
        self._check_shapes()
        if self.problems:
            raise CaseError(self.problems)
        case = XenCase(self.path, self.data["case"], recorded=self.data)
        self._guest(case)
        self._before(case)
        self._events(case)
        if self.problems:
            raise CaseError(self.problems)
        return case

    def _check_shapes(self) -> None:
        for key, shape in SHAPES.items():
            if self.data.get(key) is not None and not isinstance(self.data[key], shape):
                self.problem(key, f"must be {_name(shape)}, is {self.data[key]!r:.60}")
        for key in NEEDED:
            if key not in self.data and "inject" in self.data:
                self.problem(key, "is missing")

    def _try(self, key: str, parse: Callable[[Any], Parsed], value: Any) -> Parsed | None:
        try:
            return parse(value)
        except ValueError as error:
            self.problem(key, str(error))
        except (TypeError, AttributeError):
            self.problem(key, f"must be text, is {value!r:.60}")
        return None

    # -- parts ---------------------------------------------------------------------------------
    def _guest(self, case: XenCase) -> None:
        text = self.data.get("guest_driver", "")
        if self.data.get("guest_config") and text != NO_GUEST:
            case.guest = self._try("guest_config", parse_guest, self.data["guest_config"])
        parsed = self._try("guest_driver", parse_driver, text)
        if parsed is not None:
            case.driver, case.options = parsed
            for problem in check_options(case.driver, case.options):
                self.problem("guest_driver", problem)

    def _before(self, case: XenCase) -> None:
        before = self.data.get("before") or {}
        for line in self._lines(before, "xenstore"):
            node = self._try("before.xenstore", parse_node, line)
            if node is not None:
                case.nodes.append(node)
        for line in self._lines(before, "regs"):
            found = self._try("before.regs", parse_registers, line)
            if found is not None:
                case.registers.append(found)
        for line in self._lines(before, "aer_stats"):
            counter = self._try("before.aer_stats", parse_counters, line)
            if counter is not None:
                case.counters.setdefault(counter[0], {})[counter[1]] = counter[2]
        case.domid = self._domid(case.nodes)

    def _lines(self, before: dict[str, Any], key: str) -> list[str]:
        value = before.get(key, [])
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            self.problem(f"before.{key}", "must be a list of text")
            return []
        return value

    def _domid(self, nodes: list[Node]) -> int:
        """As the case says, or as its listing shows the guest's own directory."""
        given = self.data.get("domid")
        if given is not None:
            if not given.isdecimal() or not int(given):
                self.problem("domid", f"must be a number above 0, is {given!r}")
                return 1
            return int(given)
        found = [match for node in nodes if (match := _DOMID.match(node.path))]
        return int(found[0][1]) if found else 1

    def _events(self, case: XenCase) -> None:
        name = case.guest.name if case.guest is not None else ""
        inject = self.data.get("inject") or {}
        if "monitor" in inject:
            case.inject = self._try("inject.monitor", parse_monitor, inject["monitor"])
        pre = (self.data.get("pre") or {}).get("cmd", "")
        case.pre = self._try("pre.cmd", lambda text: parse_shell(text, name), pre) or []
        for index, action in enumerate(self.data.get("actions") or []):
            self._action(case, f"actions[{index}]", action, name)
        case.watched_s = self._seconds("watched_s", self.data.get("watched_s", WATCHED_S))
        if case.inject is not None and not case.registers:
            self.problem("before.regs", "is missing: its first line names the port")

    def _action(self, case: XenCase, key: str, action: Any, guest: str) -> None:
        if not isinstance(action, dict) or not isinstance(action.get("at_s"), int | float):
            self.problem(key, "needs at_s, kind and cmd")
            return
        if action.get("kind") == "monitor":
            inject = self._try(f"{key}.cmd", parse_monitor, action.get("cmd"))
            commands: list[Command] = [inject] if inject is not None else []
        elif action.get("kind") == "dom0 shell":
            commands = self._try(f"{key}.cmd", lambda text: parse_shell(text, guest), action.get("cmd")) or []
        else:
            self.problem(f"{key}.kind", f"unknown; {closest(str(action.get('kind')), ('monitor', 'dom0 shell'))}")
            return
        case.actions.append((self._seconds(f"{key}.at_s", action["at_s"]), commands))

    def _seconds(self, key: str, value: float) -> float:
        if not 0 <= value <= SECONDS_MAX:
            self.problem(key, f"must be from 0 to {SECONDS_MAX} seconds, is {value}")
            return 0.0
        return float(value)


def leftover_domains(case: XenCase) -> list[Node]:
    """Nodes of other domains' back-end directories: what earlier cases left."""
    return [n for n in case.nodes if (m := _BACKEND.match(n.path)) and int(m[1]) != case.domid]


def _name(shape: Any) -> str:
    return {dict: "an object", list: "a list", str: "text"}.get(shape, "a number")
