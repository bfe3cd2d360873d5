"""One run, one directory; docs/RUNS.md says what is in it.

``options.json`` is written last when a run begins and never again: a directory without it never was a run. Whoever
works in a directory holds its lock; anybody may read.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xenaer.campaign.run.journals import JournalFolder
from xenaer.campaign.run.rows import Row
from xenaer.campaign.run.run_options import RunOptions
from xenaer.campaign.run.store import FORMAT, ResultStore
from xenaer.run_files import take_lock

PARENT = Path("xenaer-runs")  # in the working directory, unless another one is asked for
LATEST = "latest"
OPTIONS, RESULTS, JOURNALS = "options.json", "results.sqlite", "journals"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class RunFolderError(Exception):
    """A run directory cannot be used, or no longer; the text says which, why, and what to do."""


@contextmanager
def explained(path: Path, hint: str = "") -> Iterator[None]:
    """Errors of the disk and the database as RunFolderError about ``path``; ``hint`` says what to do then."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in FULL else (error.strerror or str(error)).lower()
        raise RunFolderError(f"{error.filename2 or error.filename or path}: {reason}{hint}") from error
    except sqlite3.Error as error:
        full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
        raise RunFolderError(f"{path}: {'the disk is full' if full else error}{hint}") from error


class RunFolder:
    """An opened run directory: ``create``, ``resume`` or ``read`` make one; use it as a context.

    ``path`` is the directory, ``options`` what it was asked to do, ``store`` the database.
    """

    def __init__(self, path: Path, options: RunOptions, store: ResultStore, lock: int | None) -> None:
        self.path = path
        self.options = options
        self.store = store
        self._lock = lock
        self.journals: JournalFolder | None = None
        if lock is None:
            return
        try:
            with explained(path / JOURNALS):
                self.journals = JournalFolder(path / JOURNALS, store)
        except BaseException:
            store.close()
            raise

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- opening -----------------------------------------------------------------------------------
    @classmethod
    def create(cls, options: RunOptions, parent: Path = PARENT) -> RunFolder:
        """A new run below ``parent``, which becomes its ``latest``. Raises RunFolderError."""
        with explained(parent):
            if parent.exists() and not parent.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
            parent.mkdir(parents=True, exist_ok=True)
            path = _new_directory(parent, options)
            lock = take_lock(path)
        try:
            with explained(path / RESULTS):
                store = ResultStore.create(path / RESULTS)
            folder = cls(path, options, store, lock)
        except BaseException:
            _give_back(lock)
            raise
        try:
            folder.write_text(OPTIONS, options.model_dump_json(indent=2) + "\n")
            _point_latest(parent, path.name)
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def resume(cls, path: Path) -> RunFolder:
        """Go on with the run in ``path``. Raises RunFolderError, also if somebody else is working in it."""
        path, options = path.resolve(), read_options(path)
        with explained(path):
            lock = take_lock(path)
        if lock is None:
            raise RunFolderError(f"{path}: another runner is working in this directory")
        try:
            return cls(path, options, _open_store(path, read_only=False), lock)
        except BaseException:
            _give_back(lock)
            raise

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """Look at the run in ``path``, whoever works in it. Raises RunFolderError."""
        return cls(path.resolve(), read_options(path), _open_store(path.resolve(), read_only=True), None)

    def close(self) -> None:
        """Give the directory free. Raises RunFolderError; nothing that was added is lost by it."""
        try:
            with explained(self.path / RESULTS):
                self.store.close()
        finally:
            _give_back(self._lock)
            self._lock = None

    # -- writing -----------------------------------------------------------------------------------
    def add(self, rows: Sequence[Row]) -> None:
        """Store finished cases with their journals; once this returns, a SIGKILL loses none. Raises RunFolderError."""
        assert self.journals is not None
        with explained(self.path / RESULTS, f"; finished cases are kept, go on with --resume {self.path}"):
            dropped = self.journals.write(rows)
            self.store.add(rows)
            self.journals.drop(dropped)

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the directory, all of it or nothing. Raises RunFolderError."""
        path, draft = self.path / name, self.path / f".{name}.new"
        with explained(path):
            try:
                with draft.open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise

    def write_json(self, name: str, data: Any) -> None:
        """Write a file of JSON, keys sorted, so that equal data is an equal file. Raises RunFolderError."""
        self.write_text(name, json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _give_back(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _new_directory(parent: Path, options: RunOptions) -> Path:
    """Campaign and time; the second one in a second gets a number. Raises OSError."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", options.name).strip(".-") or "campaign"
    base = f"{base[:64]}-{re.sub('[-:]', '', options.begun)}"
    number = 1
    while True:
        path = parent / (base if number == 1 else f"{base}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path.resolve()


def _point_latest(parent: Path, name: str) -> None:
    """Have ``latest`` name the newest run; there is no moment without it."""
    link, draft = parent / LATEST, parent / f".{LATEST}-{os.getpid()}"
    with explained(link):
        draft.unlink(missing_ok=True)
        draft.symlink_to(name)
        try:
            draft.replace(link)
        except OSError:
            draft.unlink()
            raise


def read_options(path: Path) -> RunOptions:
    """The options of the run in ``path``. Raises RunFolderError."""
    file = path / OPTIONS
    if not path.is_dir():
        raise RunFolderError(f"{path}: there is no such run directory")
    if not file.exists():
        raise RunFolderError(f"{path}: no {OPTIONS}: no run ever began here; start a new one")
    with explained(file):
        text = file.read_bytes()
    try:
        data = json.loads(text)
        found = data["format"]
    except (ValueError, KeyError, TypeError):
        raise RunFolderError(f"{file}: not the options of a run") from None
    if found != FORMAT:
        raise RunFolderError(f"{path}: a run of format {found}; this xenaer reads and writes format {FORMAT}")
    try:
        return RunOptions.model_validate(data)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise RunFolderError(f"{file}: {where}: {error.errors()[0]['msg'].lower()}") from None


def _open_store(path: Path, *, read_only: bool) -> ResultStore:
    """Raises RunFolderError."""
    with explained(path / RESULTS):
        store = ResultStore(path / RESULTS, read_only=read_only)
    if store.format != FORMAT:
        store.close()
        raise RunFolderError(f"{path / RESULTS}: format {store.format}; this xenaer reads and writes format {FORMAT}")
    return store
