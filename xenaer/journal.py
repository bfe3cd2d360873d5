"""Reads the journals of all parties: merged by time, as JSON Lines, as kernel logs, or made comparable.

A record of a party is ``(time ns, task, label, subject, field, ...)``; here it becomes a dictionary with
the field names of ``protocol.labels``.
"""

from __future__ import annotations

import heapq
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from protocol.journal_file import read_journal
from protocol.labels import LABELS, VOLATILE
from protocol.ports import Record

Entry = dict[str, Any]
Strand = tuple[str, str, str]
HEAD = (int, str, str, str)  # time, task, label, subject: how a record begins
FIXED = ("t", "party", "task", "label", "subject")
PRINTK_FIELDS = len(HEAD) + 2
SHARED_TASKS = frozenset({"xenwatch", "irq"})  # they serve events of many devices, in the order of arrival
DRAWN = re.compile(r"\b(gnt_ref=|evtchn=)\d+")  # numbers in log lines that the environment draws
ECHOES = re.compile(r": (fe state changed \d+|Connected\? \d|Reconfiguring device \.\.\.)$")
# Echoes that may be missing, because the read found a later state already. Nothing follows from Initialising;
# what a reconfiguration does is told by other records.
UNSEEN = ("fe state changed 1", "Reconfiguring device ...")
_DEVICE_PREFIX = re.compile(r"\S+ (\S+): ")  # ``driver device: text``

_NO_FIELDS: tuple[str, ...] = ()


def entry(party: str, record: Record) -> Entry:
    """A record as a dictionary: ``t`` in seconds, party, task, label, subject, then its fields by name.

    Fields that ``LABELS`` does not name are called ``field0``, ``field1``, ...
    """
    time_ns, task, label, subject, *values = record
    result: Entry = {"t": time_ns / 1e9, "party": party, "task": task, "label": label, "subject": subject}
    names = LABELS.get(label, _NO_FIELDS)
    for index, value in enumerate(values):
        result[names[index] if index < len(names) else f"field{index}"] = value
    return result


def is_record(record: Record) -> bool:
    """Begins as a record does. A guest writes its own journal, and may write anything there."""
    return tuple(map(type, record[: len(HEAD)])) == HEAD and (record[2] != "printk" or len(record) == PRINTK_FIELDS)


class JournalSet:
    """The journals of one system. ``read`` gives what has appeared since the last call, in time order.

    With ``folder``, journals of parties that start later are found too.
    """

    def __init__(self, folder: Path | None = None, files: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {path.resolve(): 0 for path in files}

    def read(self) -> list[Entry]:
        """New records of all parties, merged by time."""
        if self._folder is not None:
            for path in sorted(self._folder.glob("*.mpk")):
                self._offsets.setdefault(path.resolve(), 0)
        strands = []
        for path, offset in self._offsets.items():
            records, self._offsets[path] = read_journal(path, offset)
            strands.append([entry(party_of(path), record) for record in records if is_record(record)])
        return merge(strands)


def party_of(path: Path) -> str:
    """Whose journal a file is: ``dom0.mpk``, or ``guest@7.mpk`` for an incarnation of a guest."""
    return path.stem.partition("@")[0]


def merge(journals: Iterable[list[Entry]]) -> list[Entry]:
    """Several parties' records in one list by time; records of one party keep their order."""
    return list(heapq.merge(*journals, key=lambda item: item["t"]))


def line(item: Entry) -> str:
    """One record as a line of JSON."""
    return json.dumps(item, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, (bytes, bytearray)) else str(value)


def read_lines(path: Path) -> Iterator[Entry]:
    """The records of a JSON Lines file. Raises ValueError that names the line, OSError."""
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                item = json.loads(text)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON: {error}") from None
            yield item


def fields_of(item: Entry) -> Entry:
    """The fields of a record, without time, party, task, label and subject."""
    return {key: value for key, value in item.items() if key not in FIXED}


def text_line(item: Entry) -> str:
    """One record for people: time, party, label, subject, fields."""
    fields = " ".join(f"{key}={_plain(value)}" for key, value in fields_of(item).items())
    return f"{item['t']:12.6f} {item['party']:<12} {item['label']:<20} {item['subject']:<14} {fields}".rstrip()


# -- kernel log ------------------------------------------------------------------------------------
LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")


def dmesg(items: Iterable[Entry], party: str, form: str = "") -> Iterator[str]:
    """The kernel log of one domain as ``dmesg`` prints it; ``form``: ``x`` decoded levels, ``r`` raw ones."""
    for item in items:
        if item["label"] == "printk" and item["party"] == party:
            yield dmesg_line(item, form)


def dmesg_line(item: Entry, form: str = "") -> str:
    """``[   12.345678] text``; with ``x`` ``kern  :err   : [...] text``; with ``r`` ``<3>[...] text``."""
    text = f"[{item['t']:12.6f}] {item['text']}"
    level = int(item["level"])
    if form == "x":
        return f"{'kern':<6}:{LEVELS[level] if 0 <= level < len(LEVELS) else level:<6}: {text}"
    return f"<{level}>{text}" if form == "r" else text


# -- comparing worlds ------------------------------------------------------------------------------
def strands(items: Iterable[Entry]) -> dict[Strand, list[Any]]:
    """The sequences that two worlds must have in common: per party, task and subject.

    Times are left out, and so is what the environment draws (``protocol.labels.VOLATILE``, ``DRAWN``). Lines that
    tell what a XenStore read happened to find (``ECHOES``) are a sorted set in a strand of their own.
    """
    result: dict[Strand, list[Any]] = defaultdict(list)
    echoes: dict[Strand, set[str]] = defaultdict(set)
    for item in items:
        strand = item["party"], item["task"], _subject(item)
        if item["label"] != "printk":
            result[strand].append((item["label"], *_compared(item)))
        elif ECHOES.search(item["text"]) is None:
            result[strand].append(("printk", item["level"], DRAWN.sub(r"\1*", item["text"])))
        elif not item["text"].endswith(UNSEEN):
            echoes[(*strand[:2], f"{strand[2]} echoes")].add(item["text"])
    return {**result, **{strand: sorted(texts) for strand, texts in echoes.items()}}


def _compared(item: Entry) -> Iterator[tuple[str, Any]]:
    label = item["label"]
    return ((key, _frozen(value)) for key, value in fields_of(item).items() if (label, key) not in VOLATILE)


def _subject(item: Entry) -> str:
    """A log line of a task that serves many devices belongs to the device that it names, as with ``dev_printk``."""
    if item["label"] == "printk" and item["task"] in SHARED_TASKS:
        named = _DEVICE_PREFIX.match(item["text"])
        return named[1] if named is not None else ""
    return str(item["subject"])


def _frozen(value: Any) -> Any:
    """Lists and tuples compare equal; bytes as text, so that a journal read from JSON compares too."""
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(part) for part in value)
    return value.hex() if isinstance(value, (bytes, bytearray)) else value


def differences(one: Iterable[Entry], other: Iterable[Entry]) -> list[str]:
    """Where two journals disagree: one text per strand, naming the first record that differs."""
    left, right = strands(one), strands(other)
    found = []
    for strand in sorted(left.keys() | right.keys()):
        first, second = left.get(strand, []), right.get(strand, [])
        if first != second:
            found.append(f"{' / '.join(part or '-' for part in strand)}: {_first_difference(first, second)}")
    return found


def _first_difference(first: list[Any], second: list[Any]) -> str:
    pairs = enumerate(zip(first, second, strict=False))
    index = next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
    return f"record {index + 1}: {_show(first, index)} against {_show(second, index)}"


def _show(records: list[Any], index: int) -> str:
    """One record of a strand for people."""
    if index >= len(records):
        return f"nothing ({len(records)} records)"
    record = records[index]
    if isinstance(record, str):
        return record
    return " ".join(f"{part[0]}={part[1]}" if isinstance(part, tuple) else str(part) for part in record)
