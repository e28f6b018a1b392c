"""One outbox: an SQLite file with the calls of one process that are not delivered yet. Its rows are records or events.

Unlike the local store it is written on the program's threads and stays open, so one connection is shared under a lock
(20 us for a commit of 2 KB). WAL with `synchronous = NORMAL`: what is committed survives the death of the process, not
that of the machine. The program's threads never wait for the disk: the log is copied back by the flusher's.

`directory.py` has whose the file is and when it is opened, closed and deleted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core import dependencies, descriptors, forks, threads
from ...store.database import StoreError, explain, prepare

if TYPE_CHECKING:
    import sqlite3
else:  # the program may have a `sqlite3.py`
    sqlite3 = dependencies.load("sqlite3")

RECORD = 0
EVENT = 1
"""Kinds of rows: a record as bytes, or an event as JSON, before the user's hook."""

_APPLICATION_ID = 0x5048414F
"""Distinguishes our files from other programs' SQLite files: "PHAO"."""
_VERSION = 1
_PAGE_BYTES = 8192
"""A row of 2 KB takes 16 us, 24 with pages of 4 KB; one of 100 KB 130 us, 155."""
_CHECKPOINT_PAGES = 500
_WAIT_S = 0.05
"""Longest wait for a file that another process has locked: the program's threads wait as well."""
_SLOW_S = 1.0
"""Longest wait for another thread of this process that is at work in the file. It takes 0.1 ms, and with eight busy
threads their turns at the interpreter's lock."""
RETRY_S = 1.0
"""Between a row that the disk did not take and the next that is offered to it: the program waits for each try."""


class OutboxRow(NamedTuple):
    """One row."""

    number: int
    kind: int
    uuid: str
    body: bytes


class Outbox:
    """One open file. Methods and constructor raise `StoreError` and nothing else; any thread may call them.

    A process that was forked from the one that opened it must call `abandon` and nothing else: closing would touch the
    locks and the log of its parent.
    """

    def __init__(self, path: Path, max_bytes: int, last: int = 0) -> None:
        """`last`: numbers up to this one are not given again."""
        self.path = path
        self.last = last
        """The number that was given last."""
        self._lock = threads.allocate_lock()
        self._inside: set[int] = set()
        """Threads that add a row, or wait for it."""
        self._failed_at: float | None = None
        self._unchecked_pages = 0
        self._connection: sqlite3.Connection | None = None
        self._log: list[descriptors.Descriptor] = []
        self._descriptors: list[descriptors.Descriptor] = []
        with forks.STORE:  # SQLite's own locks: a child forked while a thread holds one hangs at its first use of them
            self._make(path, max_bytes, last)

    def _make(self, path: Path, max_bytes: int, last: int) -> None:
        try:
            prepare(path)
            made = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            self._connection = made
            version = made.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not made.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                made.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                made.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                made.execute("PRAGMA journal_mode = WAL").fetchone()
                # The numbers are given here: AUTOINCREMENT writes a page of its own with each row, auto_vacuum another.
                made.executescript(
                    "BEGIN; CREATE TABLE outbox (number INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"
                    " uuid TEXT NOT NULL, body BLOB NOT NULL);"
                    " CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);"
                    f" PRAGMA user_version = {_VERSION}; COMMIT"
                )
            elif made.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise StoreError(f"{path} is another program's database", damaged=True)
            elif version > _VERSION:
                raise StoreError(f"{path} was written by a newer version of posthog-autoinstrument")
            made.execute("PRAGMA synchronous = NORMAL")
            made.execute("PRAGMA wal_autocheckpoint = 0")
            made.execute("PRAGMA journal_size_limit = 4194304")
            made.execute(f"PRAGMA max_page_count = {max(16, max_bytes // _PAGE_BYTES)}")
            self._log = descriptors.of_files([f"{path}-wal"])
            self._descriptors = [*self._log, *descriptors.of_files([path, f"{path}-shm"])]
        except (sqlite3.Error, StoreError, OSError) as error:
            if self._connection is not None:
                self._connection.close()
            raise explain(path, error) from None

    # On the program's threads

    def add(self, kind: int, uuid: str, body: bytes, note: Callable[[int], None]) -> int | None:
        """Commit one row; its number, which `note` is called with before the row can be read. None where this thread is
        at work in the file: this is a signal handler of the program's, in the middle of our own commit; and where the
        disk has just refused one."""
        ours = threads.get_ident()
        if ours in self._inside:
            return None
        entered = is_over = False
        number = 0
        self._inside.add(ours)
        try:
            entered = self._lock.acquire(timeout=_SLOW_S)
            if not entered:
                raise StoreError(f"{self.path} is in use for too long", transient=True)
            if is_recent(self._failed_at):
                is_over = True
                return None
            # Given once, whatever becomes of the row.
            self.last = number = self.last + 1
            if self._connection is None or (self._log and self._log[0].is_lost()):
                raise self._not_open()
            self._connection.execute("INSERT INTO outbox VALUES (?, ?, ?, ?)", (number, kind, uuid, body))
            note(number)
            self._unchecked_pages += 1 + len(body) // _PAGE_BYTES
            is_over = True
            return number
        except (sqlite3.Error, StoreError) as error:
            is_over = True
            self._failed_at = monotonic()
            raise explain(self.path, error) from None
        finally:
            if entered:
                if not is_over:
                    self._undo(number)
                self._lock.release()
            self._inside.discard(ours)

    def _undo(self, number: int) -> None:
        """A signal handler of the program's raised through a commit: nothing refers to its row."""
        try:
            self._db.execute("DELETE FROM outbox WHERE number = ?", (number,))
        except (sqlite3.Error, StoreError):
            pass

    def is_here(self) -> bool:
        """Whether this thread is at work in the file: this is a signal handler."""
        return threads.get_ident() in self._inside

    def hold(self, timeout_s: float) -> bool:
        """Keep all threads out, for the time of a fork; False where one stays inside for longer than that."""
        return self._lock.acquire(timeout=timeout_s)

    def release(self) -> None:
        """The end of `hold`, in the parent."""
        self._lock.release()

    def abandon(self) -> None:
        """Let go without closing: in a forked child, and where the file is lost."""
        descriptors.keep_open(self._connection)
        self._connection = None

    def is_lost(self) -> bool:
        """Whether the program has closed the file under SQLite's hands: it would write to files of the program's."""
        return any(descriptor.is_lost() for descriptor in self._descriptors)

    # On the flusher's thread

    def remove(self, numbers: Sequence[int]) -> None:
        """Delete rows that were delivered, or dropped for good."""
        self._write([("DELETE FROM outbox WHERE number = ?", [(number,) for number in numbers])])
        self.tidy()

    def tidy(self) -> None:
        """Copy the log back into the file where it has grown: it takes room beside the file's own."""
        if self._unchecked_pages >= _CHECKPOINT_PAGES:
            self._unchecked_pages = 0
            self._checkpoint()

    def write_settings(self, settings: dict[str, str]) -> None:
        """Write the settings of this process, for the one that may take the file over."""
        self._write([("INSERT OR REPLACE INTO facts VALUES (?, ?)", list(settings.items()))])

    def writer_settings(self) -> dict[str, str]:
        """What `write_settings` wrote."""
        return dict(self._read("SELECT name, value FROM facts", ()))

    def rows(self, after: int, limit: int) -> list[OutboxRow]:
        """The oldest rows with a number over `after`."""
        query = "SELECT number, kind, uuid, body FROM outbox WHERE number > ? ORDER BY number LIMIT ?"
        return [OutboxRow(*row) for row in self._read(query, (after, limit))]

    def count(self) -> int:
        """How many rows there are."""
        return int(self._read("SELECT count(*) FROM outbox", ())[0][0])

    def close(self) -> None:
        """Let the file go. Never raises; closing twice is fine."""
        try:
            with self._alone():
                if self.is_lost():
                    self.abandon()
                connection, self._connection = self._connection, None
                if connection is not None:
                    connection.close()
        except (sqlite3.Error, StoreError):
            pass

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None or self.is_lost():
            raise self._not_open()
        return self._connection

    def _not_open(self) -> StoreError:
        if self._connection is None:
            return StoreError(f"{self.path} is not open in this process")
        return StoreError(f"{self.path} was closed by the program", lost=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread in the file, and no fork. Bounded: the caller may be a signal handler."""
        if not self._lock.acquire(timeout=_SLOW_S):
            raise StoreError(f"{self.path} is in use for too long", transient=True)
        try:
            with forks.STORE:
                yield
        finally:
            self._lock.release()

    def _write(self, statements: Iterable[tuple[str, Sequence[tuple[object, ...]]]]) -> None:
        with self._alone():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    self._db.executemany(statement, values)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.rollback()
                raise explain(self.path, error) from None

    def _read(self, query: str, values: tuple[object, ...]) -> list[Any]:
        with self._alone():
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise explain(self.path, error) from None

    def _checkpoint(self) -> None:
        """Copy the log back into the file: with a connection of its own, so that no thread waits for the disk."""
        if self.is_lost():  # what SQLite knows of the file it shares between connections
            return
        try:
            with forks.STORE:
                other = sqlite3.connect(self.path, timeout=0, isolation_level=None)
                try:
                    other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                finally:
                    other.close()
        except sqlite3.Error:
            pass  # the next one does it


def is_recent(failed_at: float | None) -> bool:
    """Whether it is too early to try again. Right, too, where a test of the host's turns the clock."""
    return failed_at is not None and 0 <= monotonic() - failed_at < RETRY_S


def empty(path: Path) -> None:
    """Take everything out of a file that the program has closed under SQLite's hands. It is there still: SQLite (3.40)
    remembers the locks that it had by the number of the inode, which the system gives to the next file that is made."""
    try:
        os.truncate(path, 0)
    except OSError:
        pass
    for suffix in ("-wal", "-shm"):
        try:
            os.unlink(f"{path}{suffix}")
        except OSError:
            pass


def delete(path: Path) -> None:
    """Delete a file and what SQLite puts beside it. No process may have it open."""
    for suffix in ("", "-wal", "-shm"):
        try:
            os.unlink(f"{path}{suffix}")
        except OSError:
            pass
