"""Random transactional requests of two connections against a naive model (XS-4, XS-5, XS-11, XS-12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hypervisor_stub.xenstore import Connection, XenStore, XenStoreError

NAMES = ("a", "b")
PATHS = [f"/{x}" for x in NAMES] + [f"/{x}/{y}" for x in NAMES for y in NAMES] + ["/a/a/a", "/a/a/b"]


ModelNode = tuple[int, bytes, tuple[str, ...]]
Answer = str | tuple[bytes, tuple[str, ...]] | None


def parent(path: str) -> str:
    return path.rsplit("/", 1)[0] or "/"


def name(path: str) -> str:
    return path.rsplit("/", 1)[1]


class Model:
    """Every node a tuple (version, value, names of children) in a dict."""

    def __init__(self) -> None:
        self.nodes: dict[str, ModelNode] = {"/": (0, b"", ())}
        self.clock = 0


class Session:
    """A transaction: copies each node it looks at, and conflicts if one of them has another version at the end."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.base: dict[str, ModelNode | None] = {}
        self.nodes: dict[str, ModelNode | None] = {}

    def look(self, path: str) -> ModelNode | None:
        if path not in self.base:
            self.base[path] = self.nodes[path] = self.model.nodes.get(path)
        return self.nodes[path]

    def store(self, path: str, value: bytes, children: tuple[str, ...]) -> None:
        self.model.clock += 1
        self.nodes[path] = (self.model.clock, value, children)

    def read(self, path: str) -> Answer:
        node = self.look(path)
        return node[1:] if node else "ENOENT"

    def write(self, path: str, value: bytes) -> Answer:
        node = self.look(path)
        if node is not None:
            self.store(path, value, node[2])
            return None
        if self.look(parent(path)) is None:
            self.write(parent(path), b"")
        above = self.look(parent(path))
        assert above is not None
        self.store(parent(path), above[1], (*above[2], name(path)))
        self.store(path, value, ())
        return None

    def mkdir(self, path: str) -> Answer:
        return self.write(path, b"") if self.look(path) is None else None

    def rm(self, path: str) -> Answer:
        if self.look(path) is None:
            return None if self.look(parent(path)) else "ENOENT"
        self._delete(path)
        above = self.look(parent(path))
        if above is not None and name(path) in above[2]:
            self.store(parent(path), above[1], tuple(n for n in above[2] if n != name(path)))
        return None

    def _delete(self, path: str) -> None:
        node = self.look(path)
        for child in node[2] if node else ():
            self._delete(f"{path}/{child}")
        self.nodes[path] = None

    def end(self, commit: bool) -> Answer:
        if not commit:
            return None
        now = self.model.nodes
        if any(now.get(path) != seen for path, seen in self.base.items()):
            return "EAGAIN"
        for path, node in self.nodes.items():
            if node is None:
                now.pop(path, None)
            else:
                now[path] = node
        return None


OPS = st.lists(
    st.tuples(
        st.sampled_from((0, 1)),
        st.sampled_from(("start", "commit", "commit", "abort", "read", "write", "write", "mkdir", "rm")),
        st.sampled_from(PATHS),
        st.sampled_from((True, True, False)),  # inside the open transaction, if there is one
    ),
    max_size=40,
)


def attempt(call: Callable[..., Any], *args: Any) -> Any:
    """The result, or the name of the error."""
    try:
        return call(*args)
    except XenStoreError as error:
        return error.name


def request(xs: Connection, tx: int, op: str, path: str, value: bytes) -> Answer:
    """One request to the store, answered in the model's terms."""
    if op == "read":
        read = attempt(xs.read, tx, path)
        return read if isinstance(read, str) else (read, tuple(xs.directory(tx, path)))
    result: Answer = attempt(xs.write, tx, path, value) if op == "write" else attempt(getattr(xs, op), tx, path)
    return result


def expected(session: Session, op: str, path: str, value: bytes) -> Answer:
    """The same request to the model."""
    result: Answer = session.write(path, value) if op == "write" else getattr(session, op)(path)
    return result


def tree_of(xs: Connection, path: str = "/") -> dict[str, tuple[bytes, tuple[str, ...]]]:
    found = {path: (xs.read(0, path), tuple(xs.directory(0, path)))}
    for child in xs.directory(0, path):
        found |= tree_of(xs, f"{path.rstrip('/')}/{child}")
    return found


class Pair:
    """Two clients of a store, the model, and the transaction each client may have open."""

    def __init__(self) -> None:
        store = XenStore()
        self.clients = [store.connect(0, lambda p, t: None, privileged=True) for _ in range(2)]
        self.model = Model()
        self.open: list[tuple[int, Session] | None] = [None, None]

    def step(self, who: int, op: str, path: str, inside: bool, value: bytes) -> None:
        xs, transaction = self.clients[who], self.open[who]
        if op in ("start", "commit", "abort"):
            if (op == "start") == (transaction is None):
                self.border(who, op)
        elif transaction is not None and inside:
            assert request(xs, transaction[0], op, path, value) == expected(transaction[1], op, path, value)
        else:
            single = Session(self.model)
            assert request(xs, 0, op, path, value) == expected(single, op, path, value)
            assert single.end(True) is None

    def border(self, who: int, op: str) -> None:
        xs, transaction = self.clients[who], self.open[who]
        if transaction is None:
            self.open[who] = (xs.transaction_start(), Session(self.model))
            return
        self.open[who] = None
        before = tree_of(xs)
        result = attempt(xs.transaction_end, transaction[0], op == "commit")
        assert result == transaction[1].end(op == "commit")
        if op == "abort" or result == "EAGAIN":
            assert tree_of(xs) == before


@settings(max_examples=200, deadline=None)
@given(ops=OPS)
def test_xs11_equals_the_model(ops: list[tuple[int, str, str, bool]]) -> None:
    pair = Pair()
    for number, (who, op, path, inside) in enumerate(ops):
        pair.step(who, op, path, inside, str(number).encode())
        assert tree_of(pair.clients[0]) == {path: node[1:] for path, node in pair.model.nodes.items()}
