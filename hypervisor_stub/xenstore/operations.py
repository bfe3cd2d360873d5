"""The node requests on a view: permissions, quotas, inheritance, what fires (XS-4 to XS-9, XS-13).

All take absolute paths, check everything before they change anything, and raise XenStoreError.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor_stub.xenstore.errors import XenStoreError
from hypervisor_stub.xenstore.paths import SPECIAL_PATHS, child_of, name_of, parent_of
from hypervisor_stub.xenstore.perms import OWNER, READ, WRITE, Caller, Perms
from hypervisor_stub.xenstore.tree import Node, View

PAYLOAD_MAX = 4096  # bytes of one message


def lookup(view: View, caller: Caller, path: str, needed: int) -> Node:
    """The node, if ``caller`` has the rights ``needed`` on it; else ENOENT or EACCES (XS-6)."""
    node = view.get(path)
    if node is None:
        raise _missing(view, caller, path, needed)
    _require(caller, node, path, needed)
    return node


def _missing(view: View, caller: Caller, path: str, needed: int) -> XenStoreError:
    """The error for a missing node: the truth only for who has one of the rights on the nearest existing ancestor."""
    if caller.privileged:
        return XenStoreError("ENOENT", path)
    _, ancestor, _ = _nearest(view, path)
    return XenStoreError("ENOENT" if caller.may_some(ancestor.perms, needed) else "EACCES", path)


def _nearest(view: View, path: str) -> tuple[str, Node, list[str]]:
    """Nearest existing proper ancestor with its path, and the missing paths below it, topmost first."""
    missing = [path]
    ancestor_path = parent_of(path)
    while (ancestor := view.get(ancestor_path)) is None:
        missing.append(ancestor_path)
        ancestor_path = parent_of(ancestor_path)
    missing.reverse()
    return ancestor_path, ancestor, missing


def _require(caller: Caller, node: Node, path: str, needed: int) -> None:
    if not caller.may(node.perms, needed):
        raise XenStoreError("EACCES", path)


def _check_size(caller: Caller, size: int, path: str) -> None:
    if not caller.privileged and size >= caller.quotas.node_size:
        raise XenStoreError("ENOSPC", f"{path}: node size")


def read(view: View, caller: Caller, path: str) -> bytes:
    """READ: the value."""
    return lookup(view, caller, path, READ).value


def write(view: View, caller: Caller, path: str, value: bytes) -> None:
    """WRITE: set the value; creates the node and missing parents (XS-4). Fires even for an equal value (XS-9)."""
    node = view.get(path)
    if node is None:
        _create(view, caller, path, value)
        return
    _require(caller, node, path, WRITE)
    growth = len(value) - len(node.value)
    _check_size(caller, node.size() + growth, path)
    view.ledger.charge(node.perms.owner, 0, growth, enforce=not caller.privileged)
    node.value = value
    view.touch(path, node)
    view.changed(path, False, node.perms, node.perms)


def mkdir(view: View, caller: Caller, path: str) -> None:
    """MKDIR: create with an empty value; nothing happens and nothing fires if it exists."""
    node = view.get(path)
    if node is None:
        _create(view, caller, path, b"")
    else:
        _require(caller, node, path, WRITE)


def _create(view: View, caller: Caller, path: str, value: bytes) -> None:
    """Add ``path`` and its missing parents below the nearest existing one (XS-4); only ``path`` fires (XS-9)."""
    parent_path, parent, missing = _nearest(view, path)
    _require(caller, parent, path, WRITE)
    perms = parent.perms if caller.privileged else parent.perms.owned_by(caller.domid)
    nodes = [Node(b"", perms) for _ in missing[:-1]]
    nodes.append(Node(value, perms))
    _check_size(caller, parent.size() + len(name_of(missing[0])) + 1, parent_path)
    _check_size(caller, nodes[-1].size(), path)
    memory = sum(len(p) + node.own_size() for p, node in zip(missing, nodes, strict=True))
    view.ledger.charge(perms.owner, len(nodes), memory, enforce=not caller.privileged)
    for child_path, child in zip(missing, nodes, strict=True):
        parent.add_child(name_of(child_path))
        view.touch(parent_path, parent)
        view.put(child_path, child)
        parent_path, parent = child_path, child
    view.changed(path, False, None, perms)


def rm(view: View, caller: Caller, path: str) -> None:
    """RM: delete the subtree; success also if only the parent exists (XS-5). EINVAL for the root."""
    node = view.get(path)
    if node is None:
        error = _missing(view, caller, path, WRITE)
        if error.name == "ENOENT" and view.get(parent_of(path)) is not None:
            return
        raise error
    _require(caller, node, path, WRITE)
    if path == "/":
        raise XenStoreError("EINVAL", "the root cannot be removed")
    doomed = _subtree(view, path, node)
    _unlink(view, path)
    for child_path, child in doomed:
        view.drop(child_path)
        view.ledger.charge(child.perms.owner, -1, -(len(child_path) + child.own_size()), enforce=False)
        view.changed(child_path, child_path != path, child.perms, None)


def _subtree(view: View, path: str, node: Node) -> list[tuple[str, Node]]:
    """The node and all below it, children before parents: the order in which a removal fires."""
    found, stack = [], [(path, node)]
    while stack:
        top_path, top = stack.pop()
        found.append((top_path, top))
        children = ((child_of(top_path, name)) for name in top.children)
        stack.extend((p, child) for p in children if (child := view.get(p)) is not None)
    found.reverse()
    return found


def _unlink(view: View, path: str) -> None:
    """Take ``path`` out of its parent. A transaction may see them apart, if somebody else removed the parent."""
    parent_path = parent_of(path)
    parent = view.get(parent_path)
    if parent is not None and name_of(path) in parent.children:
        parent.drop_child(name_of(path))
        view.touch(parent_path, parent)


def directory(view: View, caller: Caller, path: str) -> list[str]:
    """DIRECTORY: names of the children in order of creation. (E2BIG is for who has to fit it into a message.)"""
    return list(lookup(view, caller, path, READ).children)


def directory_part(view: View, caller: Caller, path: str, offset: int) -> tuple[str, bytes]:
    """DIRECTORY_PART: (generation as text, names from byte ``offset``), fitting one message (XS-16).

    The chunk ends at a name boundary; the last one ends with one additional NUL. EINVAL for a negative offset.
    """
    if offset < 0:
        raise XenStoreError("EINVAL", f"offset {offset}")
    node = lookup(view, caller, path, READ)
    generation = str(node.generation)
    names = "".join(f"{name}\0" for name in node.children).encode()
    room = PAYLOAD_MAX - len(generation) - 2  # the generation's NUL and the one that ends the last chunk
    rest = names[offset:]
    if len(rest) <= room:
        return generation, rest + b"\0"
    return generation, rest[: rest.rfind(b"\0", 0, room) + 1]


def get_perms(view: View, caller: Caller, path: str) -> list[str]:
    """GET_PERMS: e.g. ``["n0", "r7"]``."""
    return lookup(view, caller, path, READ).perms.texts()


def parse_perms(caller: Caller, texts: Sequence[str]) -> Perms:
    """The list of SET_PERMS; its length is looked at first (XS-13)."""
    if not caller.privileged and len(texts) > caller.quotas.permissions:
        raise XenStoreError("ENOSPC", f"{len(texts)} permission entries")
    return Perms.parse(texts)


def set_perms(view: View, caller: Caller, path: str, perms: Perms) -> None:
    """SET_PERMS: needs ownership; EPERM if an unprivileged caller would change the owner (XS-7)."""
    node = lookup(view, caller, path, WRITE | OWNER)
    before = node.perms
    if not caller.privileged and perms.owner != before.owner:
        raise XenStoreError("EPERM", path)
    memory = len(path) + node.own_size()
    node.perms = perms
    view.ledger.charge(before.owner, -1, -memory, enforce=False)
    view.ledger.charge(perms.owner, 1, len(path) + node.own_size(), enforce=False)
    view.touch(path, node)
    if path not in SPECIAL_PATHS:
        view.changed(path, False, before, perms)
