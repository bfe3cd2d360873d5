"""Import rules of docs/ARCHITECTURE.md ("Rooms and their doors"): downwards only, and cores without I/O."""

from __future__ import annotations

import ast
from fnmatch import fnmatch

import pytest

from tests.tidy.sources import PACKAGES, modules, report, tree

# Higher may import lower; packages of the same rank may not import one another.
RANK = {
    "protocol": 0,
    "kernel_stub": 1,
    "hypervisor_stub": 2,
    "dom0_pciback": 2,
    "domu_pcifront": 2,
    "xenaer": 3,
}

OUTSIDE_WORLD = frozenset(
    {"zmq", "time", "random", "os", "socket", "threading", "asyncio", "subprocess", "select", "signal"}
    | {"multiprocessing", "selectors", "secrets", "uuid", "datetime", "ctypes", "mmap", "tempfile", "shutil"}
    | {"resource"}
)

# Who may touch the outside world, and why.
SHELLS = {
    "protocol/transport_loop.py": "the real links",
    "protocol/transport_zmq.py": "the real links",
    "protocol/transport_door.py": "the real links: the hypervisor stub's front door",
    "protocol/transport_monitor.py": "the real links: who comes and goes",
    "protocol/transport_account.py": "the real links: what their connections have sent",
    "protocol/transport_gate.py": "the real links: who may connect",
    "protocol/transport_keys.py": "the real links: keys and where they lie",
    "protocol/journal_file.py": "the journal on disk",
    "protocol/parent_death.py": "a process that ends with its parent",
    "hypervisor_stub/process.py": "shell of the hypervisor stub: sockets and the real clock",
    "hypervisor_stub/xenstore_sockets.py": "XenStore's Unix sockets",
    "dom0_pciback/process.py": "shell of dom0",
    "dom0_pciback/sysfs_files.py": "the sysfs tree as files in a directory",
    "dom0_pciback/sysfs_watch.py": "inotify: who writes to these files",
    "dom0_pciback/sysfs_mount.py": "keeps them current, in dom0's process",
    "domu_pcifront/process.py": "shell of a guest",
    "domu_pcifront/program_process.py": "an external program as a guest's driver: its process and two pipes",
    "hypervisor_stub/supervisor.py": "starts, kills and waits for a guest's process",
    "hypervisor_stub/zygote.py": "forks a guest's process from a loaded one",
    "xenaer/*.py": "the operator's side",
}
BACK_IN_CORE = ("xenaer/simulation/*",)  # virtual time: its clock is a number
SEEDED = {"xenaer/simulation/world.py": "draws delays and orders from the seed: random.Random, nothing else of it"}


def imports(name: str) -> list[tuple[int, str]]:
    """Line and full module name of every import in a file, also of those inside functions."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.lineno, node.module))
    return found


def is_shell(name: str) -> bool:
    """Whether the file may touch the outside world."""
    return any(fnmatch(name, pattern) for pattern in SHELLS) and not any(fnmatch(name, p) for p in BACK_IN_CORE)


def top(module: str) -> str:
    """The top-level package of a dotted name."""
    return module.partition(".")[0]


def upward(name: str) -> list[str]:
    """Imports of a package of higher or the same rank."""
    own = name.partition("/")[0]
    return [
        f"{name}:{line}: {own} imports {module}"
        for line, module in imports(name)
        if top(module) in RANK and top(module) != own and RANK[top(module)] >= RANK[own]
    ]


def test_imports_go_downwards_only() -> None:
    """xenaer > the three roles > kernel_stub > protocol; the roles do not know one another."""
    violations = [violation for name in modules(PACKAGES) for violation in upward(name)]
    assert not violations, report(violations)


def test_cores_do_no_input_or_output() -> None:
    """Sockets, clocks, processes, files and chance belong to the shells."""
    violations = [
        f"{name}:{line}: imports {module}"
        for name in modules(PACKAGES)
        if not is_shell(name)
        for line, module in imports(name)
        if top(module) in OUTSIDE_WORLD and not (module == "random" and name in SEEDED)
    ]
    assert not violations, report(violations)


@pytest.mark.parametrize("name", SEEDED)
def test_chance_comes_from_a_seed(name: str) -> None:
    """Only ``random.Random`` with a seed: the module's own functions share one generator that nobody seeds."""
    used = {
        node.attr: node
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random"
    }
    calls = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call) and node.func in used.values()]
    assert used.keys() == {"Random"}
    assert all(call.args for call in calls)


def test_cores_open_no_files() -> None:
    """A core gets its settings as values; ``open`` needs no import, so it is looked for by name."""
    violations = [
        f"{name}:{node.lineno}: calls {node.func.id}"
        for name in modules(PACKAGES)
        if not is_shell(name)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "input")
    ]
    assert not violations, report(violations)


def test_no_relative_imports() -> None:
    """Every import says where it goes, so that the two rules above can be read off it."""
    violations = [
        f"{name}:{node.lineno}"
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not violations, report(violations)


@pytest.mark.parametrize("pattern", SHELLS)
def test_table_of_shells_has_no_dead_rows(pattern: str) -> None:
    """A row for a file that is gone would silently allow a new one of that name."""
    assert any(fnmatch(name, pattern) for name in modules(PACKAGES))


def test_tests_outside_this_project_are_not_imported() -> None:
    """Packages never import tests."""
    violations = [
        f"{name}:{line}" for name in modules(PACKAGES) for line, module in imports(name) if top(module) == "tests"
    ]
    assert not violations, report(violations)
