"""The digest of a case's journal: equal for two runs exactly if every record is, with its time since the beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgpack

from protocol.ports import Record
from xenaer.campaign.case import HASH_BYTES

_pack = msgpack.Packer(default=str).pack


def pack_journal(records: Sequence[tuple[str, Record]], begin_ns: int) -> bytes:
    """The journal of a case as it is stored and hashed, in msgpack.

    A record is (ns since ``begin_ns``, party, task, label, subject, fields...). Enumerations become their plain values,
    what msgpack does not know becomes its text.
    """
    result: bytes = _pack([(record[0] - begin_ns, party, *record[1:]) for party, record in records])
    return result


def digest_of(journal: bytes) -> str:
    """Hash of a packed journal, in hexadecimal."""
    return hashlib.blake2b(journal, digest_size=HASH_BYTES).hexdigest()


def journal_hash(records: Sequence[tuple[str, Record]], begin: int = 0) -> str:
    """The digest of the records from ``begin`` on, times counted from the first of them."""
    case = records[begin:] if begin else records
    return digest_of(pack_journal(case, case[0][1][0] if case else 0))
