"""The two kinds of recorded cases, told apart by their keys: of a Linux without Xen, and of a real Xen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xenaer.conform import case as linux
from xenaer.conform import xen_case as xen
from xenaer.conform import xen_keys
from xenaer.conform.compare import comparable
from xenaer.conform.run import Conformity, Outcome
from xenaer.conform.xen_compare import recorded_keys
from xenaer.conform.xen_run import XenConformity

OUTPUTS = (*linux.OUTPUTS, *xen_keys.OUTPUTS)


class Loaded(NamedTuple):
    """A case of either kind; ``comparable``: the file has answers."""

    name: str
    case: linux.Case | xen.XenCase
    comparable: bool


class Conform:
    """Loads and performs cases of both kinds. ``fields`` may name keys of both."""

    def __init__(self, fields: Sequence[str], interleavings: int) -> None:
        self._fields = [field for field in fields if field in linux.OUTPUTS]
        self._xen_fields = [field for field in fields if field in xen_keys.OUTPUTS]
        self._linux = Conformity(self._fields, interleavings)
        self._xen = XenConformity(self._xen_fields, interleavings)

    def load(self, path: Path) -> Loaded:
        """Read and check a case file. Raises CaseError."""
        data = linux.read_json(path)
        if xen.is_xen_case(data):
            found = xen.read_xen_case(path, data)
            answers = recorded_keys(data, self._xen_fields)
            return Loaded(found.name, found, bool(answers) or found.inject is None)  # which is unsupported anyway
        case = linux.read_case(path, data)
        self._linux.check_machine(case)
        return Loaded(case.name, case, comparable(case.recorded, self._fields))

    def run(self, loaded: Loaded) -> Outcome:
        """Perform and compare a case."""
        case = loaded.case
        return self._xen.run(case) if isinstance(case, xen.XenCase) else self._linux.run(case)

    def written(self, loaded: Loaded, emitted: dict[str, Any]) -> dict[str, Any]:
        """What goes into a file: the input keys of the case, and what the emulation gives."""
        case = loaded.case
        if isinstance(case, xen.XenCase):
            return xen_keys.inputs(case.recorded) | xen_keys.selected(emitted, self._xen_fields)
        inputs = {key: case.recorded[key] for key in linux.INPUTS if key in case.recorded}
        return inputs | {key: value for key, value in emitted.items() if key in self._fields}
