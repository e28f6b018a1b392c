"""The local store: events in one SQLite file, for people who have no PostHog project yet.

Several processes may write at once (WAL, immediate transactions). The file is private to its user and bounded in size.

A connection must not live across a fork: SQLite keeps its locks per process and file, so a child that opens the file
while it has inherited a connection believes that it holds locks which only its parent holds, and the parent's last
close then removes the write-ahead log under the child ("How To Corrupt An SQLite Database File", 2.6). So a `Store` is
opened for one batch or one listing and closed again (0.5 ms), and forks wait for that (`forks.STORE`).
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import dependencies, descriptors, forks
from . import ownership
from .schema import ADD_COLUMNS, ADD_EVENT, APPLICATION_ID, MIGRATIONS, Row

if TYPE_CHECKING:
    import sqlite3
else:  # the program may have a `sqlite3.py`
    sqlite3 = dependencies.load("sqlite3")

Values = Sequence[Any] | Mapping[str, Any]
"""What stands for the `?` or `:name` of a statement."""

_PAGES_AT_ONCE = 500
"""Pages (of 4 KB) that one transaction gives back to the disk: others wait for it, some 0.1 s."""

_UNSENT = "uuid NOT IN (SELECT uuid FROM sent WHERE project = ?)"

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoreError(Exception):
    """The store cannot be used; the message has the file and the reason. `transient`: it may work later. `damaged`: the
    file is not a sound database. `lost`: the program has closed it. `full`: there is no room; less may still fit."""

    def __init__(
        self, message: str, transient: bool = False, damaged: bool = False, lost: bool = False, full: bool = False
    ) -> None:
        super().__init__(message)
        self.transient = transient
        self.damaged = damaged
        self.lost = lost
        self.full = full


# --- the store ---


class Store:
    """One open store file. A context manager; all methods and the constructor raise only `StoreError`.

    Creates the file and its directory if they are missing. `timeout_s` is how long to wait for other processes.
    Used by the thread that opened it. Forks of the process wait until it is closed, and other threads that open a store
    do too, unless `forks_wait` is false: for processes of ours that do not fork.
    """

    def __init__(self, path: str | os.PathLike[str], timeout_s: float = 5.0, forks_wait: bool = True) -> None:
        self.path = Path(path)
        self._pid = os.getpid()
        self._open = True
        self._gate: forks.Gate | None = forks.STORE.__enter__() if forks_wait else None
        self._connection: sqlite3.Connection | None = None
        try:
            prepare(self.path)
            self._connection = sqlite3.connect(self.path, timeout=timeout_s, isolation_level=None)
            self._set_up(timeout_s)
        except (sqlite3.Error, StoreError, OSError) as error:
            self.close()
            raise explain(self.path, error) from None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Never raises; may be called again."""
        if not self._open:
            return
        self._open = False
        gate, self._gate = self._gate, None
        connection, self._connection = self._connection, None
        if self._pid != os.getpid():
            # Not even closed in a forked child, see above.
            descriptors.keep_open(connection)
            return
        try:
            if connection is not None:
                connection.close()
        except sqlite3.Error:
            pass
        if gate is not None:
            gate.__exit__(None, None, None)

    def add(self, rows: Sequence[Row]) -> int:
        """Store the rows in one transaction and return how many were new; rows with a known uuid are ignored."""
        try:
            with _Immediate(self._db):
                before = self._db.total_changes
                self._db.executemany(ADD_EVENT, [row.event for row in rows])
                added = self._db.total_changes - before
                self._db.executemany(ADD_COLUMNS, [row.columns for row in rows])
                return added
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def add_columns(self, rows: Sequence[Row]) -> None:
        """Store the columns of events that are in the file already. In a `change`."""
        self.run_many(ADD_COLUMNS, [row.columns for row in rows])

    def rows(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT or PRAGMA."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def each(self, query: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a SELECT, one by one. Other processes may write meanwhile."""
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def run(self, statement: str, values: Values = ()) -> int:
        """Run a statement and return how many rows it changed."""
        try:
            return self._db.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def run_many(self, statement: str, values: Iterable[Values]) -> None:
        """Run a statement once for each of the values."""
        try:
            self._db.executemany(statement, values)
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    @contextmanager
    def change(self) -> Iterator[None]:
        """A transaction of `run` and `run_many` that locks the file for other writers."""
        try:
            with _Immediate(self._db):
                yield
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Make several reads see the file as it is at the first of them."""
        try:
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def free_pages(self, budget_s: float = 1.0) -> None:
        """Return free pages to the disk, for about `budget_s` seconds, and empty the write-ahead log.

        SQLite looks for each page in the list of all free ones: 20,000 of 20,000 take 1 s, of 140,000 they take 17 s.
        """
        until = time.monotonic() + budget_s
        try:
            while time.monotonic() < until and (free := self._number("PRAGMA freelist_count")):
                # It frees a page a step, and `execute` takes one step of what returns no columns.
                self._db.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
                if self._number("PRAGMA freelist_count") >= free:  # not a file of ours from the beginning
                    break
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def rewrite(self) -> None:
        """Rewrite the file at its smallest size, and empty the write-ahead log."""
        try:
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def free_bytes(self) -> int:
        """Free bytes in the file. Reads only its header."""
        return self._number("PRAGMA freelist_count") * self._number("PRAGMA page_size")

    def meta(self, name: str) -> str | None:
        """The value that `set_meta` stored for `name`; None if there is none."""
        found = self.rows("SELECT value FROM marks WHERE name = ?", (name,))
        return str(found[0][0]) if found else None

    def set_meta(self, name: str, value: object) -> None:
        """Store a value about the file itself. In a `change`."""
        self.run("INSERT OR REPLACE INTO marks VALUES (?, ?)", (name, str(value)))

    def read(
        self, last: int | None = None, trace_id: str | None = None, after: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Whole events, oldest first: the newest `last`, of one trace, after a time in epoch seconds."""
        conditions = {"trace_id = ?": trace_id, "epoch > ?": after}
        given = {condition: value for condition, value in conditions.items() if value is not None}
        where = f"WHERE {' AND '.join(given)}" if given else ""
        newest = f"SELECT epoch, rowid AS number, body FROM events {where} ORDER BY epoch DESC, rowid DESC LIMIT ?"
        values = [*given.values(), -1 if last is None else last]
        try:
            for (body,) in self._db.execute(f"SELECT body FROM ({newest}) ORDER BY epoch, number", values):
                event = json.loads(body)
                if isinstance(event, dict):
                    yield event
        except sqlite3.Error as error:
            raise explain(self.path, error) from None
        except ValueError as error:
            raise StoreError(f"{self.path} holds an event that is not JSON ({error})") from None

    def traces_ending(self, text: str) -> list[str]:
        """The trace ids that end with `text`; only `text` itself where there is such a trace."""
        query = "SELECT DISTINCT trace_id FROM events WHERE substr(trace_id, -length(?)) = ? LIMIT 100"
        try:
            found = [trace for (trace,) in self._db.execute(query, (text, text))]
        except sqlite3.Error as error:
            raise explain(self.path, error) from None
        return [text] if text in found else found

    def unsent(self, project: str, after: int, limit: int) -> list[tuple[int, str, str, str]]:
        """Number, uuid, name and body of the oldest events that are not marked as sent to the project."""
        query = f"SELECT rowid, uuid, event, body FROM events WHERE {_UNSENT} AND rowid > ? ORDER BY rowid LIMIT ?"
        try:
            return self._db.execute(query, (project, after, limit)).fetchall()
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def count_unsent(self, project: str) -> int:
        """How many events are not marked as sent to the project."""
        try:
            return int(self._db.execute(f"SELECT count(*) FROM events WHERE {_UNSENT}", (project,)).fetchone()[0])
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def mark_sent(self, project: str, uuids: Iterable[str]) -> None:
        """Mark these events as sent to the project; ignores events that were deleted.

        By uuid: the numbers of deleted rows are used again.
        """
        statement = "INSERT OR IGNORE INTO sent SELECT ?, uuid FROM events WHERE uuid = ?"
        try:
            with _Immediate(self._db):
                self._db.executemany(statement, [(project, uuid) for uuid in uuids])
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def count(self) -> int:
        """How many events there are."""
        return self._number("SELECT count(*) FROM events")

    def used_bytes(self) -> int:
        """Used bytes in the file. Reads only its header."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():
            raise StoreError(f"{self.path} is not open in this process")
        return self._connection

    def _number(self, query: str) -> int:
        try:
            return int(self._db.execute(query).fetchone()[0])
        except sqlite3.Error as error:
            raise explain(self.path, error) from None

    def _set_up(self, timeout_s: float) -> None:
        with self.snapshot():  # another process may make the file just now
            version = self._number("PRAGMA user_version")
            is_foreign = self._number("PRAGMA application_id") != APPLICATION_ID
            filled = self._number("SELECT count(*) FROM sqlite_master") > 0
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.path} was written by a newer version (its format is {version}, this version knows "
                f"{len(MIGRATIONS)}): upgrade posthog-autoinstrument or choose another file"
            )
        if is_foreign and filled:
            raise StoreError(f"{self.path} is another program's database: choose another file")
        if is_foreign:
            # Before there is anything in the file, and before WAL writes its first page: later it has no effect.
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._use_wal(timeout_s)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA journal_size_limit = {4 * 1024 * 1024}")
        if version < len(MIGRATIONS):
            self._migrate()

    def _use_wal(self, timeout_s: float) -> None:
        """Switch to WAL. SQLite does not wait for other processes here, so two first users have to try again."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _migrate(self) -> None:
        with _Immediate(self._db):
            # Read again: another process may have been first.
            for version in range(self._number("PRAGMA user_version"), len(MIGRATIONS)):
                for statement in MIGRATIONS[version]:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {version + 1}")
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def explain(path: Path, error: Exception) -> StoreError:
    """An exception of sqlite3 or the system as a StoreError."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, OSError):
        full = error.errno in _NO_ROOM
        return StoreError(f"cannot use {path}: {error.strerror or error}", transient=full, full=full)
    words = str(error)
    if "not a database" in words or "malformed" in words:
        return StoreError(f"{path} is not a (sound) SQLite database: move it away or choose another file", damaged=True)
    lower = words.lower()
    if "locked" in lower or "busy" in lower:
        return StoreError(f"{path} is locked by another process", transient=True)
    # A limit on the size of files is "disk I/O error" in SQLite (3.40).
    full = "full" in lower or "disk i/o error" in lower
    return StoreError(f"cannot use {path}: {words}", full or "interrupted" in lower, full=full)


class _Immediate:
    """A transaction that takes the write lock at its start, so that it waits there and not in its middle."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def is_there(path: Path) -> bool:
    """Whether `path` exists; also true if that cannot be found out: opening it then gives the reason. Never raises."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def prepare(path: Path) -> None:
    """Create the directory (0700) and the file (0600) if missing; raises StoreError if another user owns them."""
    try:
        path.lstat()
    except FileNotFoundError:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        problem = ownership.file_problem(path)  # of the folder, before we write to it
        if problem is None:
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:  # by another process, just now
                pass
    problem = ownership.file_problem(path)
    if problem is not None:
        raise StoreError(problem)
    if os.name == "posix" and path.lstat().st_mode & 0o077:
        path.chmod(0o600)
