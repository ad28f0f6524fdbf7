"""A sweep on disk: one SQLite file, in which results are written in transactions.

The key of a result is JSON: the network, and all else that decides its numbers (data, dtype, the
engine's version). Its rows are the bytes of a `.npy`, so NaN and infinity stay what they are. Two
processes may write to one file.
"""

import contextlib
import datetime
import io
import json
import platform
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

APPLICATION = 0x6A6D6C70  # "jmlp"
SCHEMA = 1
_TABLES = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, about TEXT NOT NULL
) STRICT;
CREATE TABLE result (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, run INTEGER NOT NULL REFERENCES run(id),
    rows BLOB NOT NULL
) STRICT;
"""
_WAIT = 60.0  # chosen: seconds to wait for another process's transaction, which takes milliseconds

Rows = Mapping[str, np.ndarray]


class Store:
    """Hold results by key in a file. It is a context manager for one thread.

    Raises:
      ValueError: for a file that is not a store, is damaged, was written by a newer jaxmlp, or
        cannot be read or written. The file is left as it is.
    """

    def __init__(self, path: str | Path, about: Mapping[str, Any] | None = None):
        self.path, self.about, self.run = Path(path), dict(about or {}), None

    def __enter__(self) -> "Store":
        with self._sentence():
            if not self.path.parent.is_dir():
                raise ValueError(f"there is no folder {self.path.parent} for store {self.path}")
            self._connection = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._connection.close()

    def held(self, keys: Iterable[str]) -> set[str]:
        """Return which of the keys the store holds."""
        with self._sentence():
            found = (self._one("SELECT key FROM result WHERE key = ?", key) for key in keys)
            return {row[0] for row in found if row}

    def put(self, results: Mapping[str, Rows]) -> None:
        """Write results in one transaction. Results that are already there stay."""
        rows = [(key, _bytes(rows)) for key, rows in results.items()]
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self._sentence(), self._transaction():
            if self.run is None:
                self.run = self._connection.execute(
                    "INSERT INTO run (started, about) VALUES (?, ?)",
                    (now, json.dumps(_provenance() | self.about)),
                ).lastrowid
            self._connection.executemany(
                "INSERT OR IGNORE INTO result (key, run, rows) VALUES (?, ?, ?)",
                [(key, self.run, data) for key, data in rows],
            )

    def get(self, keys: Iterable[str]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the rows of these keys, in the order of the keys."""
        for key in keys:
            with self._sentence():
                row = self._one("SELECT rows FROM result WHERE key = ?", key)
            records = np.load(io.BytesIO(row[0]), allow_pickle=False)
            yield {name: np.ascontiguousarray(records[name]) for name in records.dtype.names}

    def all_keys(self) -> list[str]:
        """Return all keys, in the order in which they were written."""
        with self._sentence():
            return [
                key for (key,) in self._connection.execute("SELECT key FROM result ORDER BY id")
            ]

    # --- the file ---------------------------------------------------------------------------------

    def _open(self) -> None:
        """Refuse a file that is not a store, before anything is written; create the tables."""
        tables = self._one("SELECT count(*) FROM sqlite_master")[0]
        ours = self._one("PRAGMA application_id")[0] == APPLICATION
        if tables and not ours:
            raise ValueError(f"{self.path} is a database of something else than a sweep")
        version = self._one("PRAGMA user_version")[0]
        if version > SCHEMA:
            raise ValueError(
                f"store {self.path} was written by a newer jaxmlp (schema {version}, this one "
                f"knows {SCHEMA})"
            )
        (problem,) = self._one("PRAGMA quick_check(1)")
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)
        # Switch to WAL, unless it is done. Another process may do the same at this moment, and
        # SQLite's timeout does not cover that. Chosen: 100 tries of 0.05 s
        for _ in range(100):
            try:
                if self._one("PRAGMA journal_mode")[0] != "wal":
                    self._one("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                time.sleep(0.05)
        self._one("PRAGMA synchronous = NORMAL")
        if not version:
            with self._transaction():
                if not self._one("PRAGMA user_version")[0]:
                    for statement in _TABLES.split(";")[:-1]:
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
                    self._connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _one(self, statement: str, *values: Any) -> Any:
        return self._connection.execute(statement, values).fetchone()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # if the disk is full, SQLite has rolled back
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _sentence(self) -> Iterator[None]:
        """Turn errors of SQLite into a ValueError of one sentence."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ValueError(
                f"store {self.path}: {error}; what it holds is kept, and the same sweep goes on "
                "from there"
            ) from error
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"store {self.path} is damaged or no store ({error}); it is left as it is"
            ) from error


def _provenance() -> dict[str, Any]:
    """Return what made the results of a run: the command, the versions, the device."""
    device = jax.devices()[0]
    return {
        "command": sys.argv, "jaxmlp": sys.modules["jaxmlp"].__version__, "jax": jax.__version__,
        "python": platform.python_version(), "device": f"{device.platform} ({device.device_kind})",
    }  # fmt: skip


def _bytes(rows: Rows) -> bytes:
    """Return columns of equal length as the bytes of a `.npy`, one record for each row."""
    kinds = [(name, column.dtype) for name, column in rows.items()]
    records = np.empty(len(next(iter(rows.values()))), kinds)
    for name, column in rows.items():
        records[name] = column
    file = io.BytesIO()
    np.save(file, records, allow_pickle=False)
    return file.getvalue()
