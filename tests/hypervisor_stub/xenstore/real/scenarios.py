"""Fixed conversations for the differential test: limits and orders that chance does not reach, and the differences."""

from __future__ import annotations

from typing import NamedTuple

from hypervisor_stub.xenstore.wire import Op
from tests.hypervisor_stub.xenstore.real.drawn import strings
from tests.hypervisor_stub.xenstore.real.pair import DOM0, GUEST1, Request


def dom0(op: int, *words: str, value: bytes = b"", tx: int = 0) -> Request:
    """A request of dom0."""
    return Request(DOM0, op, strings(*words) + value, tx)


def guest(op: int, *words: str, value: bytes = b"", tx: int = 0) -> Request:
    """A request of the guest."""
    return Request(GUEST1, op, strings(*words) + value, tx)


def sized(path: str, *sizes: int) -> list[Request]:
    """The guest writes values of these sizes."""
    return [guest(Op.WRITE, path, value=b"v" * size) for size in sizes]


def introduce(domid: int) -> Request:
    """INTRODUCE by dom0."""
    return dom0(Op.INTRODUCE, str(domid), "0", "5")


LONG = "n" * 50
HOME = "/local/domain/1/data"

# label -> requests that both sides answer alike
SAME: dict[str, list[Request]] = {
    "transactions up to the quota": [guest(Op.TRANSACTION_START, "")] * 10,
    "transactions of dom0": [dom0(Op.TRANSACTION_START, "")] * 13,
    "watches up to the quota": [
        *(guest(Op.WATCH, "data", str(number)) for number in range(128)),
        guest(Op.UNWATCH, "data", "3"),
        guest(Op.WATCH, "data", "x"),
        dom0(Op.WRITE, f"{HOME}/q"),
    ],
    "size of a node": [*sized("data/a", 2000, 2014, 2015, 2016, 2017, 2048), dom0(Op.WRITE, "/a", value=b"v" * 4000)],
    "size of a new node": sized("data/a", 2016) + sized("data/b", 2015),
    "size of a node with three entries": [dom0(Op.SET_PERMS, HOME, "n1", "r0", "r2"), *sized("data/a", 1999, 2000)],
    "size of a list of children": [guest(Op.MKDIR, f"data/{'c' * 40}{number}") for number in range(1000, 1060)],
    "permission entries": [
        *(guest(Op.SET_PERMS, "data", "n1", *["r0"] * count) for count in range(8)),
        *(dom0(Op.SET_PERMS, "/shared", "n1", *["r0"] * count) for count in range(8)),
    ],
    "length of a path": [
        guest(op, start + "x" * (size - len(start)), "t")
        for op in (Op.WRITE, Op.WATCH)
        for start in ("/shared/", "data/", f"{HOME}/")
        for size in (2032, 2047, 2048, 2049, 2064, 2065)
    ],
    "length of an event": [
        dom0(Op.WATCH, "/", "t" * 4000),
        *(dom0(Op.WRITE, "/" + "x" * size) for size in (92, 93, 94, 95, 200)),
    ],
    "nodes": [
        *[guest(Op.MKDIR, f"data/{a}/{b}") for a in range(40) for b in range(26)][:1000],
        *(guest(op, path) for op, path in ((Op.RM, "data/0"), (Op.MKDIR, "data/z"), (Op.RM, "data"))),
    ],
    "nodes of a transaction": [
        guest(Op.TRANSACTION_START, ""),
        *(guest(Op.READ, f"data/{number}", tx=1) for number in range(1030)),
        guest(Op.TRANSACTION_END, "T", tx=1),
    ],
    "a long directory": [
        *(dom0(Op.MKDIR, f"/shared/{LONG}{number}") for number in range(100, 200)),
        dom0(Op.DIRECTORY, "/shared"),
        *(dom0(Op.DIRECTORY_PART, "/shared", str(offset)) for offset in (0, 53, 54, 4050, 4104, 5399, 5400, 9999)),
    ],
    "removal of a tree": [
        dom0(Op.WATCH, "/", "all"),
        guest(Op.WATCH, "/", "what it may"),
        dom0(Op.WRITE, "/shared/a/b/c"),
        dom0(Op.WATCH, "/shared/a/b/c", "exact"),
        guest(Op.WATCH, "/shared/a", "subtree"),
        dom0(Op.RM, "/shared/a"),
        guest(Op.WRITE, "/shared/q/r/s"),
        dom0(Op.RM, "/shared"),
    ],
    "coming and going of a domain": [
        *(dom0(Op.WATCH, path, "t") for path in ("@introduceDomain", "@releaseDomain")),
        *(guest(Op.WATCH, path, "t") for path in ("@introduceDomain", "@releaseDomain")),
        *(introduce(2), introduce(2), dom0(Op.RELEASE, "2"), dom0(Op.RELEASE, "2")),
        dom0(Op.SET_PERMS, "@introduceDomain", "r0"),
        dom0(Op.SET_PERMS, "@releaseDomain", "n0", "r1"),
        *(introduce(2), dom0(Op.RESUME, "2"), dom0(Op.RELEASE, "2"), dom0(Op.RESUME, "2")),
    ],
    "introduced again": [
        guest(Op.WATCH, "data", "t"),
        guest(Op.TRANSACTION_START, ""),
        introduce(1),
        dom0(Op.WRITE, HOME),
        guest(Op.TRANSACTION_END, "T", tx=1),
    ],
    "rights of a dead domain": [
        introduce(2),
        dom0(Op.SET_PERMS, "/shared", "n0", "r2", "r1"),
        *(dom0(Op.RELEASE, "2"), dom0(Op.GET_PERMS, "/shared"), guest(Op.READ, "/shared")),
    ],
    "a message of the greatest length": [dom0(Op.WRITE, "/a", value=b"v" * 4093), dom0(Op.READ, "/" + "y" * 4094)],
    "control": [
        *(dom0(Op.CONTROL, word) for word in ("check", "quota", "none", "")),
        *(dom0(Op.CONTROL, "check", "twice"), Request(DOM0, Op.CONTROL, b"check"), guest(Op.CONTROL, "check")),
    ],
}


class Difference(NamedTuple):
    """The last of ``requests`` is answered ``real`` there and ``ours`` here; all before it alike. The subject is that
    of a row in docs/DIFFERENCES.md. ``real`` empty: the daemon answers with the error of some earlier request."""

    subject: str
    requests: list[Request]
    real: str
    ours: str


DIFFERENCES = (
    Difference("quota of transactions", [guest(Op.TRANSACTION_START, "")] * 11, "TRANSACTION_START", "ENOSPC"),
    Difference("quota of watches", [guest(Op.WATCH, "data", str(n)) for n in range(129)], "WATCH", "ENOSPC"),
    Difference("length of dom0's paths", [dom0(Op.WRITE, "/" + "x" * 2048)], "EINVAL", "WRITE"),
    Difference("owner that does not exist", [dom0(Op.SET_PERMS, "/shared", "n99")], "ENOENT", "SET_PERMS"),
    Difference("numbers in permissions", [dom0(Op.SET_PERMS, "/shared", "n0", "r0x7")], "SET_PERMS", "EINVAL"),
    Difference("nodes of a dead domain", [], "ENOENT", "GET_PERMS")._replace(
        requests=[
            introduce(2),
            dom0(Op.SET_PERMS, "/shared", "n2"),
            dom0(Op.RELEASE, "2"),
            dom0(Op.GET_PERMS, "/shared"),
        ]
    ),
    Difference("permissions of special paths", [dom0(Op.GET_PERMS, "@releaseDomain")], "EINVAL", "GET_PERMS"),
    Difference("permissions of special paths", [guest(Op.SET_PERMS, "@releaseDomain", "n0")], "", "EACCES"),
    Difference(
        "permissions of special paths",
        [dom0(Op.SET_PERMS, "@releaseDomain", "n1"), guest(Op.SET_PERMS, "@releaseDomain", "n0")],
        "SET_PERMS",
        "EPERM",
    ),
    Difference("other special paths", [dom0(Op.WATCH, "@other", "t")], "WATCH", "EINVAL"),
    Difference("path without end", [Request(DOM0, Op.READ, b"/shared")], "", "EINVAL"),
    Difference("depth of a watch", [dom0(Op.WATCH, "/shared", "t", "1")], "EINVAL", "WATCH"),
    Difference("features", [dom0(Op.GET_FEATURE)], "ENOSYS", "GET_FEATURE"),
    Difference("stub domains", [introduce(2), dom0(Op.SET_TARGET, "2", "1")], "SET_TARGET", "ENOSYS"),
    Difference("commands of CONTROL", [dom0(Op.CONTROL, "log", "on")], "CONTROL", "EINVAL"),
)
