"""Random requests for the differential test: what hypothesis draws from."""

from __future__ import annotations

from hypothesis import strategies as st

from hypervisor_stub.xenstore.wire import Op
from tests.hypervisor_stub.xenstore.real.pair import DOM0, GUEST1, Request

# Few nodes, so that requests meet; both ways to name a guest's own; some that are not well formed.
NODES = (
    *("/shared", "/shared/a", "/shared/a/b", "/secret", "/secret/x", "/", "/local/domain/1"),
    *("/local/domain/1/data", "/local/domain/1/data/a", "/local/domain/1/device/pci/0", "/local/domain/1/device"),
    *("data", "data/a", "data/a/b", "device/pci/0/state", "name", "backend/x"),
)
BAD_PATHS = ("", "//", "/a/", "data/", "/a b", "a//b", "@introduceDomain", "@releaseDomain", "@releaseDomain/x")
SPECIAL = ("@introduceDomain", "@releaseDomain")
TOKENS = ("t", "u", "", "a token with blanks")
PERMS = ("n0", "r0", "b0", "w1", "n1", "r1", "b1", "r2", "x1", "n", "", "n0 ", "r1x")
VALUES = (b"", b"1", b"two", b"\0", b"x\0y\xff")


def strings(*words: str) -> bytes:
    """NUL-terminated strings."""
    return "".join(f"{word}\0" for word in words).encode()


nodes = st.one_of(st.sampled_from(NODES), st.sampled_from(NODES), st.sampled_from(NODES + BAD_PATHS))
watched = st.one_of(st.sampled_from(NODES), st.sampled_from(SPECIAL), st.sampled_from(BAD_PATHS[:6]))
one_path = nodes.map(strings)
perms = st.one_of(
    st.lists(st.sampled_from(PERMS[:8]), min_size=1, max_size=3), st.lists(st.sampled_from(PERMS), max_size=7)
)
watch = st.builds(strings, watched, st.sampled_from(TOKENS))
domids = st.sampled_from(("0", "1", "2", "3", "77", "-1", "x", "", "32752")).map(strings)
junk = st.one_of(
    st.binary(max_size=24), st.builds(lambda words: strings(*words), st.lists(st.text("ab0/\1", max_size=4)))
)

# type -> its payload; what stands twice is drawn twice as often
PAYLOADS: tuple[tuple[int, st.SearchStrategy[bytes]], ...] = (
    *[(Op.WRITE, st.builds(lambda path, value: strings(path) + value, nodes, st.sampled_from(VALUES)))] * 4,
    *[(Op.SET_PERMS, st.builds(lambda path, entries: strings(path, *entries), nodes, perms))] * 2,
    *[(Op.RM, one_path)] * 3,
    *[(Op.WATCH, watch)] * 3,
    *[(Op.TRANSACTION_START, st.just(b"\0"))] * 2,
    *[(Op.TRANSACTION_END, st.sampled_from((b"T\0", b"T\0", b"T\0", b"F\0", b"X\0", b"T", b"TT\0", b"")))] * 3,
    (Op.MKDIR, one_path),
    (Op.READ, one_path),
    (Op.DIRECTORY, one_path),
    (Op.GET_PERMS, one_path),
    (Op.UNWATCH, watch),
    (Op.DIRECTORY_PART, st.builds(strings, nodes, st.sampled_from(("0", "2", "5", "99", "x", "-1")))),
    (Op.GET_DOMAIN_PATH, domids),
    (Op.IS_DOMAIN_INTRODUCED, domids),
    (Op.RESUME, domids),
    (Op.RELEASE, st.sampled_from((b"2\0", b"77\0", b"0\0", b"x\0"))),
    (Op.INTRODUCE, st.sampled_from((b"2\0000\0005\0", b"2\0000\0000\0", b"2\0000\0", b"2\0000\0005"))),
    (Op.RESET_WATCHES, st.sampled_from((b"", b"\0", b"x"))),
)
# Where the daemon of 4.17 refuses without saying why, so that the client gets an error of some earlier request: a
# path without end, the permissions of a special path that the caller does not own. GET_PERMS of these is of 4.18.
ENDS_WITH_NUL = {Op.DIRECTORY, Op.READ, Op.GET_PERMS, Op.MKDIR, Op.RM}


def comparable(request: Request) -> bool:
    """Whether the daemon's answer depends on the request alone."""
    path = request.payload.partition(b"\0")[0].decode("latin-1")
    if path.startswith("@") and request.op in (Op.GET_PERMS, Op.SET_PERMS):
        return request.op == Op.SET_PERMS and request.who == DOM0 and path in SPECIAL
    whole = request.payload.count(b"\0") == 1 and request.payload.endswith(b"\0")
    return whole or request.op not in ENDS_WITH_NUL


def _request(who: str, row: tuple[int, bytes], tx: int) -> Request:
    return Request(who, row[0], row[1], tx)


rows = st.sampled_from(range(len(PAYLOADS))).flatmap(lambda i: st.tuples(st.just(PAYLOADS[i][0]), PAYLOADS[i][1]))
noise = st.tuples(st.sampled_from([int(op) for op, _ in PAYLOADS] + [15, 16, 20, 27, 0xFFFF]), junk)
who = st.sampled_from((DOM0, GUEST1))
transactions = st.sampled_from((0, 0, 0, 1, 1, 2, 3, -1))
requests = st.builds(_request, who, st.one_of(rows, rows, rows, rows, noise), transactions).filter(comparable)
conversations = st.lists(requests, min_size=8, max_size=40)
