"""The digest of a case's journal: equal for two runs exactly if every record is, with its time since the beginning."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgpack

from protocol.ports import Record
from xenaer.campaign.case import HASH_BYTES

_pack = msgpack.Packer(default=str).pack


def case_records(records: Sequence[tuple[str, Record]], begin: int = 0) -> list[tuple[Any, ...]]:
    """(time since the first record in ns, party, task, label, subject, fields...) of a case."""
    case = records[begin:] if begin else records
    start = case[0][1][0] if case else 0
    return [(record[0] - start, party, *record[1:]) for party, record in case]


def packed(records: Sequence[tuple[str, Record]], begin: int = 0) -> bytes:
    """The journal of a case as it is stored and hashed: msgpack, enumerations as their plain values."""
    result: bytes = _pack(case_records(records, begin))
    return result


def digest(data: bytes) -> str:
    """Hash of a packed journal, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()


def journal_hash(records: Sequence[tuple[str, Record]], begin: int = 0) -> str:
    """The digest of the records from ``begin`` on."""
    return digest(packed(records, begin))
