"""A recorded case: its form, and every mistake in a file named (golden README, "Format of a case")."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dom0_pciback.drivers.aerlab import VARIANTS, Answers
from protocol.ids import Sbdf
from protocol.register_names import REGISTERS
from xenaer.yaml_lines import InputError, closest

# what a reproduction may read, what it is compared in, and what else a recording contains
INPUTS = (
    "case",
    "group",
    "machine",
    "severity",
    "where",
    "note",
    "devices",
    "votes",
    "preparation",
    "start",
    "injected",
)
OUTPUTS = (
    "handlers", "core_calls", "recovery", "dmesg", "dmesg_text", "aer_event", "uevents", "counters", "registers",
    "device_changes", "left_without_state", "final_line",
)  # fmt: skip
REMARKS = ("settled", "trace", "trace_cut", "timing", "format")
NEEDED = ("case", "group", "machine", "devices", "preparation", "injected")
FORMAT = 1  # of a file that says so
ANSWERS = tuple(each.name for each in fields(Answers))

SHAPES: dict[str, type | tuple[type, ...]] = {
    "case": str, "group": str, "machine": str, "devices": dict, "preparation": list, "injected": list, "start": dict,
    "handlers": list, "core_calls": list, "recovery": list, "dmesg": list, "dmesg_text": list, "aer_event": list,
    "uevents": list, "counters": dict, "registers": dict, "device_changes": dict, "left_without_state": list,
    "final_line": str,
}  # fmt: skip

Registers = dict[str, Any]


class CaseError(InputError):
    """A case file is wrong; ``problems`` has one ``file: key: text`` for each mistake."""


@dataclass(slots=True)
class DeviceOf:
    """A recording device of a case: its driver ("" for none) and its answers."""

    sbdf: Sbdf
    driver: str
    answers: Answers


@dataclass(slots=True)
class Case:
    """The input keys of a case, and ``recorded``, the whole file."""

    path: Path
    name: str
    group: str
    machine: str
    devices: list[DeviceOf]
    preparation: list[str]
    injected: list[dict[str, Any]]
    before: dict[Sbdf, Registers] = field(default_factory=dict)
    counters: dict[Sbdf, dict[str, Any]] = field(default_factory=dict)
    start: dict[Sbdf, Registers | str] = field(default_factory=dict)
    recorded: dict[str, Any] = field(default_factory=dict)


def load_case(path: Path) -> Case:
    """Read and check a case file. Raises CaseError with everything that is wrong with it."""
    return read_case(path, read_json(path))


def read_json(path: Path) -> Any:
    """What a file says, of whatever kind. Raises CaseError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaseError([f"{path}: {(error.strerror or str(error)).lower()}"]) from None
    except UnicodeDecodeError as error:
        raise CaseError([f"{path}: not UTF-8 text, at byte {error.start}"]) from None
    except json.JSONDecodeError as error:
        raise CaseError([f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}"]) from None
    except RecursionError:
        raise CaseError([f"{path}: not a case: nested too deeply"]) from None


def read_case(path: Path, data: Any) -> Case:
    """Check what a file says. Raises CaseError with everything that is wrong with it."""
    return _Reader(path, data).read()


class _Reader:
    """One pass over a case; collects ``problems`` and goes on."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path = path
        self.data = data
        self.problems: list[str] = []

    def problem(self, key: str, text: str) -> None:
        self.problems.append(f"{self.path}: {key}: {text}")

    def read(self) -> Case:
        if not isinstance(self.data, dict):
            raise CaseError([f"{self.path}: a case is a JSON object, not {_word(self.data)}"])
        self._check_keys()
        if self.problems:
            raise CaseError(self.problems)
        data = self.data
        case = Case(
            self.path, data["case"], data["group"], data["machine"], self._devices(), self._preparation(),
            self._injected(), recorded=data,
        )  # fmt: skip
        registers = self._by_function("registers")
        case.before = {sbdf: self._registers(f"registers.{sbdf}.before", entry) for sbdf, entry in registers.items()}
        case.counters = self._by_function("counters")
        case.start = {sbdf: self._start(sbdf, entry) for sbdf, entry in self._map("start").items()}
        if self.problems:
            raise CaseError(self.problems)
        return case

    def _check_keys(self) -> None:
        known = (*INPUTS, *OUTPUTS, *REMARKS)
        version = self.data.get("format", FORMAT)
        if version != FORMAT:
            self.problem("format", f"version {version!r} of a case file; this program reads version {FORMAT}")
            return
        for key, value in self.data.items():
            if key not in known:
                self.problem(key, f"unknown key; {closest(key, known)}")
            elif key in SHAPES and not isinstance(value, SHAPES[key]):
                self.problem(key, f"must be {_name(SHAPES[key])}, is {_word(value)}")
        for key in NEEDED:
            if key not in self.data:
                self.problem(key, "is missing")

    # -- parts ---------------------------------------------------------------------------------
    def _devices(self) -> list[DeviceOf]:
        found = []
        for name, entry in self.data["devices"].items():
            where = f"devices.{name}"
            if not isinstance(entry, dict) or not isinstance(entry.get("bdf"), str):
                self.problem(where, "needs a bdf")
                continue
            sbdf = self._sbdf(where, entry["bdf"])
            driver = entry.get("driver", "aerlab") or ""
            if driver and driver not in VARIANTS:
                self.problem(f"{where}.driver", f"no recording driver {driver!r}; {closest(str(driver), VARIANTS)}")
            answers = {key: value for key, value in entry.items() if key not in ("bdf", "driver")}
            for key, value in answers.items():
                if key not in ANSWERS:
                    self.problem(f"{where}.{key}", f"unknown; {closest(key, ANSWERS)}")
                elif not isinstance(value, int):
                    self.problem(f"{where}.{key}", f"must be a number, is {_word(value)}")
            if sbdf is not None and not self.problems:
                found.append(DeviceOf(sbdf, driver, Answers(**answers)))
        return found

    def _preparation(self) -> list[str]:
        for index, line in enumerate(self.data["preparation"]):
            if not isinstance(line, str):
                self.problem(f"preparation[{index}]", f"must be text, is {_word(line)}")
        return list(self.data["preparation"])

    def _injected(self) -> list[dict[str, Any]]:
        for index, step in enumerate(self.data["injected"]):
            if not isinstance(step, dict):
                self.problem(f"injected[{index}]", f"must be an object, is {_word(step)}")
        return list(self.data["injected"])

    def _map(self, key: str) -> dict[Sbdf, Any]:
        found: dict[Sbdf, Any] = {}
        for bdf, entry in self.data.get(key, {}).items():
            sbdf = self._sbdf(f"{key}.{bdf}", bdf)
            if sbdf is not None:
                found[sbdf] = entry
        return found

    def _by_function(self, key: str) -> dict[Sbdf, Any]:
        found = {}
        for sbdf, entry in self._map(key).items():
            before = entry.get("before") if isinstance(entry, dict) else None
            if isinstance(before, dict):
                found[sbdf] = before
            else:
                self.problem(f"{key}.{sbdf}", "needs an object 'before'")
        return found

    def _start(self, sbdf: Sbdf, entry: Any) -> Registers | str:
        if entry == "absent":
            return "absent"
        if not isinstance(entry, dict):
            self.problem(f"start.{sbdf}", f"must be an object or 'absent', is {_word(entry)}")
            return {}
        kept = {key: value for key, value in entry.items() if not key.endswith("_suppressed")}
        self._registers(f"start.{sbdf}", kept)
        return entry

    def _registers(self, where: str, entry: Registers) -> Registers:
        for key, value in entry.items():
            if key in ("aer_header_log", "id", "buses"):
                continue
            if key not in REGISTERS:
                self.problem(f"{where}.{key}", f"no such register; {closest(key, REGISTERS)}")
            elif number(value) is None:
                self.problem(f"{where}.{key}", f"must be a hexadecimal number, is {value!r}")
        return entry

    def _sbdf(self, where: str, text: str) -> Sbdf | None:
        try:
            return Sbdf.parse(text)
        except ValueError as error:
            self.problem(where, str(error))
            return None


def number(value: Any) -> int | None:
    """The value of ``0x...`` text; None if it is something else."""
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        return None


def _word(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "true or false"}.get(type(value), repr(value))


def _name(shape: Any) -> str:
    return {dict: "an object", list: "a list", str: "text"}[shape]
