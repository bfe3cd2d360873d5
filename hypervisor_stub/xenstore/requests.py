"""Wire requests: which one does what, who may ask, what it answers (xen-pci.md 8.5, the table of types).

A function takes (client, transaction, payload) and returns the payload of the reply, or raises XenStoreError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypervisor_stub.xenstore import arguments, controls
from hypervisor_stub.xenstore.connection import Connection
from hypervisor_stub.xenstore.errors import XenStoreError
from hypervisor_stub.xenstore.operations import PAYLOAD_MAX
from hypervisor_stub.xenstore.store import FEATURES, XenStore
from hypervisor_stub.xenstore.wire import Message, Op, text
from protocol.ids import DOM0

OK = b"OK\0"
DOMID_SELF = 0x7FF0  # whoever asks


class Client(NamedTuple):
    """Who asks. ``exists``: whether the hypervisor knows a domain id."""

    store: XenStore
    conn: Connection
    exists: Callable[[int], bool]


# -- nodes ---------------------------------------------------------------------------------------
def _directory(client: Client, tx: int, payload: bytes) -> bytes:
    names = b"".join(text(name) for name in client.conn.directory(tx, arguments.only(payload)))
    if len(names) > PAYLOAD_MAX:
        raise XenStoreError("E2BIG", f"{len(names)} bytes of names")
    return names


def _directory_part(client: Client, tx: int, payload: bytes) -> bytes:
    path, offset = arguments.exactly(payload, 2)
    generation, names = client.conn.directory_part(tx, path, arguments.number(offset))
    return text(generation) + names


def _read(client: Client, tx: int, payload: bytes) -> bytes:
    return client.conn.read(tx, arguments.only(payload))


def _write(client: Client, tx: int, payload: bytes) -> bytes:
    client.conn.write(tx, *arguments.path_and_value(payload))
    return OK


def _mkdir(client: Client, tx: int, payload: bytes) -> bytes:
    client.conn.mkdir(tx, arguments.only(payload))
    return OK


def _rm(client: Client, tx: int, payload: bytes) -> bytes:
    client.conn.rm(tx, arguments.only(payload))
    return OK


def _get_perms(client: Client, tx: int, payload: bytes) -> bytes:
    return b"".join(text(entry) for entry in client.conn.get_perms(tx, arguments.only(payload)))


def _set_perms(client: Client, tx: int, payload: bytes) -> bytes:
    path, *entries = arguments.strings(payload) or [""]
    client.conn.set_perms(tx, path, entries)
    return OK


# -- watches and transactions --------------------------------------------------------------------
def _watch(client: Client, tx: int, payload: bytes) -> bytes:
    words = arguments.exactly(payload, 2, 3)
    client.conn.watch(words[0], words[1], arguments.depth(words))
    return OK


def _unwatch(client: Client, tx: int, payload: bytes) -> bytes:
    client.conn.unwatch(*arguments.exactly(payload, 2))
    return OK


def _reset_watches(client: Client, tx: int, payload: bytes) -> bytes:
    client.conn.reset_watches()
    return OK


def _start(client: Client, tx: int, payload: bytes) -> bytes:
    return text(str(client.conn.transaction_start(tx)))


def _end(client: Client, tx: int, payload: bytes) -> bytes:
    word = arguments.only(payload)
    if word not in ("T", "F"):
        raise XenStoreError("EINVAL", f"{word[:20]!r} is neither T nor F")
    client.conn.transaction_end(tx, word == "T")
    return OK


# -- domains -------------------------------------------------------------------------------------
def _introduce(client: Client, tx: int, payload: bytes) -> bytes:
    words = arguments.strings(payload)
    if len(words) < 3 or arguments.number(words[2]) == 0:
        raise XenStoreError("EINVAL", "domid, frame and port")
    domid = arguments.number(words[0])
    if not client.exists(domid):
        raise XenStoreError("EINVAL", f"there is no domain {domid}")
    if client.store.is_domain_introduced(domid):
        client.store.reset_domain(domid)
    client.store.introduce_domain(domid)
    return OK


def _introduced(client: Client, payload: bytes) -> int:
    """A guest that is introduced. EINVAL for dom0, which nobody takes away, ENOENT for an unknown one."""
    domid = arguments.number(arguments.only(payload))
    if domid == DOM0:
        raise XenStoreError("EINVAL", "domain 0")
    if not client.store.is_domain_introduced(domid):
        raise XenStoreError("ENOENT", f"domain {domid}")
    return domid


def _release(client: Client, tx: int, payload: bytes) -> bytes:
    client.store.release_domain(_introduced(client, payload))
    return OK


def _resume(client: Client, tx: int, payload: bytes) -> bytes:
    _introduced(client, payload)
    return OK


def _set_target(client: Client, tx: int, payload: bytes) -> bytes:
    """A stub domain is to have its target's rights; there are no stub domains here."""
    words = arguments.strings(payload)
    if len(words) < 2:
        raise XenStoreError("EINVAL", "domid and target")
    for word in words[:2]:
        _introduced(client, text(word))
    raise XenStoreError("ENOSYS", "stub domains")


def _is_introduced(client: Client, tx: int, payload: bytes) -> bytes:
    domid = arguments.number(arguments.only(payload))
    known = domid in (DOM0, DOMID_SELF) or client.store.is_domain_introduced(domid)
    return b"T\0" if known else b"F\0"


def _domain_path(client: Client, tx: int, payload: bytes) -> bytes:
    return text(f"/local/domain/{arguments.number(arguments.only(payload))}")


def _get_feature(client: Client, tx: int, payload: bytes) -> bytes:
    if payload and not client.conn.caller.privileged:
        raise XenStoreError("EACCES", "another domain's features")
    if payload:
        arguments.only(payload)
    return text(str(int(FEATURES)))


def _control(client: Client, tx: int, payload: bytes) -> bytes:
    return controls.run(client.conn.quotas, arguments.strings(payload))


class Row(NamedTuple):
    """One type of request. ``privileged``: dom0 only. ``ids``: whether its transaction id means anything."""

    serve: Callable[[Client, int, bytes], bytes]
    privileged: bool = False
    ids: bool = True


REQUESTS: dict[int, Row] = {
    Op.CONTROL: Row(_control, privileged=True),
    Op.DIRECTORY: Row(_directory),
    Op.READ: Row(_read),
    Op.GET_PERMS: Row(_get_perms),
    Op.WATCH: Row(_watch, ids=False),
    Op.UNWATCH: Row(_unwatch, ids=False),
    Op.TRANSACTION_START: Row(_start),
    Op.TRANSACTION_END: Row(_end),
    Op.INTRODUCE: Row(_introduce, privileged=True),
    Op.RELEASE: Row(_release, privileged=True),
    Op.GET_DOMAIN_PATH: Row(_domain_path),
    Op.WRITE: Row(_write),
    Op.MKDIR: Row(_mkdir),
    Op.RM: Row(_rm),
    Op.SET_PERMS: Row(_set_perms),
    Op.IS_DOMAIN_INTRODUCED: Row(_is_introduced, privileged=True),
    Op.RESUME: Row(_resume, privileged=True),
    Op.SET_TARGET: Row(_set_target, privileged=True),
    Op.RESET_WATCHES: Row(_reset_watches),
    Op.DIRECTORY_PART: Row(_directory_part),
    Op.GET_FEATURE: Row(_get_feature),
}


def answer(client: Client, request: Message) -> Message:
    """Serve one request (XS-1): the reply has its type, or ERROR, and both of its ids."""
    op, req_id, tx_id, payload = request
    try:
        return Message(op, req_id, tx_id, _serve(client, op, tx_id, payload))
    except XenStoreError as error:
        return Message(Op.ERROR, req_id, tx_id, text(error.name))


def _serve(client: Client, op: int, tx_id: int, payload: bytes) -> bytes:
    row = REQUESTS.get(op)
    if row is None:
        raise XenStoreError("ENOSYS", f"type {op}")
    if row.privileged and not client.conn.caller.privileged:
        raise XenStoreError("EACCES", f"type {op}")
    if row.ids:
        client.conn.check_transaction(tx_id)
    return row.serve(client, tx_id, payload)
