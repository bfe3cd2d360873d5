"""Puts a mutation in force: one module is compiled from a changed text, in this process alone, and no file is touched.

It must be there before the module is imported, so a mutant needs a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source
from types import CodeType, ModuleType

from xenaer.campaign.mutants.mutation import Mutation, MutationError


class MutatingLoader(SourceFileLoader):
    """Loads one module with a mutation in it; compiled code that lies beside the source is not looked at."""

    def __init__(self, fullname: str, path: str, mutation: Mutation) -> None:
        super().__init__(fullname, path)
        self.mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed text. Raises MutationError."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.mutation.applied(decode_source(self.get_data(path))).encode(), path)
        return code


class MutatingFinder(MetaPathFinder):
    """Finds the one module that the mutation is about, and leaves all others to those after it."""

    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, with our loader."""
        if fullname != self.mutation.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = MutatingLoader(fullname, spec.origin, self.mutation)
        return spec


def install(mutation: Mutation) -> None:
    """From now on the module is imported with the mutation in it. Raises MutationError if it has been imported."""
    if mutation.module in sys.modules:
        raise MutationError(f"mutation {mutation.label}: {mutation.module} is imported already")
    sys.meta_path.insert(0, MutatingFinder(mutation))
