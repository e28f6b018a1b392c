"""The spool: a directory where each process keeps its calls on disk until they are delivered (`POSTHOG_SPOOL`).

Each process has an outbox of its own and the lock of the file beside it, for as long as it lives. The lock is the
system's: it falls when the process dies, however it dies. Whoever then takes the lock owns the outbox, so one process
and no other delivers what is in it. Where the disk does not take a call, it waits in memory as without a spool.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from ...core import descriptors, diagnostics, guard, threads
from ...store import ownership
from ...store.database import StoreError
from .outbox import Outbox, OutboxRow, delete, empty, is_recent

PREFIX = "outbox-"
FORK_WAIT_S = 0.5
OPEN_WAIT_S = 1.0
"""Longest a thread waits for another one that opens the outbox. It takes 2 ms."""

try:
    from fcntl import LOCK_EX, LOCK_NB, flock

    def _lock(file: int) -> None:
        flock(file, LOCK_EX | LOCK_NB)

except ImportError:  # Windows
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]


class _Claim:
    """The lock of one outbox."""

    def __init__(self, path: Path, new: bool) -> None:
        """Raises OSError where another process has it, or where it was deleted meanwhile; StoreError where it is
        another user's."""
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | (os.O_EXCL if new else 0)
        self._file = os.open(lock_path(path), flags, 0o600)
        try:
            problem = ownership.file_problem(lock_path(path))
            if problem is not None:
                raise StoreError(problem)
            _lock(self._file)
            if os.fstat(self._file).st_ino != os.stat(lock_path(path)).st_ino:
                raise FileNotFoundError(f"{path} was delivered by another process")
        except (OSError, StoreError):
            os.close(self._file)
            raise
        self._descriptor = descriptors.of(self._file)

    def release(self, gone: bool) -> None:
        """Release it; `gone`: the outbox was deleted, and the file of the lock goes too."""
        file, self._file = self._file, -1
        if file < 0:
            return
        if gone:
            guard.quietly(os.unlink, lock_path(self.path))
        if self._descriptor is None or not self._descriptor.is_lost():
            os.close(file)


def lock_path(path: Path) -> Path:
    """The file whose lock shows that an outbox has an owner."""
    return path.with_suffix(".lock")


class AbandonedOutbox:
    """The outbox of a process that has ended, taken over by this one."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Raises OSError where it has an owner or does not exist, StoreError where it cannot be read."""
        self._claim = _Claim(path, new=False)
        try:
            self.outbox = Outbox(path, max_bytes)
        except StoreError:
            self._claim.release(gone=False)
            raise
        self.unreadable: StoreError | None = None
        """Why no more is read from it."""
        self._delivered: set[int] = set()
        """Rows that are done with and could not be deleted."""

    def done(self, numbers: Sequence[int]) -> None:
        """These rows were delivered, or dropped for good."""
        self._delivered.update(numbers)
        self.outbox.remove(list(self._delivered))
        self._delivered.clear()

    def count(self) -> int:
        """How many rows there are to deliver."""
        return max(0, self.outbox.count() - len(self._delivered))

    def close(self) -> None:
        """Leave it to the next one; an empty one is deleted, and one that is damaged put aside."""
        empty = guard.quietly(self.count) == 0
        self.outbox.close()
        aside = self.unreadable is not None and self.unreadable.damaged
        if empty:
            delete(self.outbox.path)
        elif aside:
            put_aside(self.outbox.path)
        self._claim.release(gone=empty or aside)

    def abandon(self) -> None:
        """In a forked child: the parent goes on with it."""
        self.outbox.abandon()
        self._claim.release(gone=False)


class Spool:
    """This process's outbox, made when there is something to keep, and those of processes that have ended."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder = Path(folder)
        self._max_bytes = max_bytes
        self._writer_settings: dict[str, str] = {}
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._outbox: Outbox | None = None
        self._claim: _Claim | None = None
        self._last = 0
        self._opening = threads.allocate_lock()
        self._opener = 0
        self._failed_at: float | None = None
        self._live: set[int] = set()
        self._postponed: set[int] = set()
        self._delivered: set[int] = set()
        """Rows that are done with and could not be deleted: that takes room on the disk, too."""
        self._cursor = 0
        self._held = self._held_opening = False
        self.abandoned: AbandonedOutbox | None = None
        self._refused: set[Path] = set()
        """Outboxes that this process cannot deliver."""
        self._emptied: list[Path] = []
        """What is left of outboxes that the program has closed; deleted at exit."""
        self._spills: deque[int] = deque()
        self._spilled = 0

    def __len__(self) -> int:
        """How many rows wait for delivery, as far as this process knows."""
        return len(self._live) + self.spilled

    @property
    def spilled(self) -> int:
        """Rows of ours that are on disk only: there was no room for them in memory, or PostHog is away."""
        return self._spilled + len(self._spills)

    # On the program's threads

    def keep(self, kind: int, uuid: str, body: bytes, numbers: list[int] | None = None) -> int | None:
        """Commit one row; its number, or None where it could not be written, with one line. The number is in `numbers`
        even where a signal handler of the program's raises through this."""

        def note(number: int) -> None:
            self._live.add(number)
            if numbers is not None:
                numbers.append(number)

        try:
            outbox = self._outbox or self._open()
            return outbox.add(kind, uuid, body, note) if outbox is not None else None
        except (StoreError, OSError) as error:
            self._cannot(error)
            return self.keep(kind, uuid, body, numbers) if isinstance(error, StoreError) and error.lost else None

    def spill(self, numbers: Sequence[int]) -> None:
        """These rows are not in memory any longer: they are read from the disk later."""
        for number in numbers:
            if number in self._live:
                self._live.discard(number)
                self._spills.append(number)

    def postpone(self, numbers: Sequence[int]) -> None:
        """The same of rows whose events were made and not delivered."""
        self._postponed.update(numbers)
        self.spill(numbers)

    def is_postponed(self, number: int) -> bool:
        """Whether the event of a row was made before."""
        return number in self._postponed

    def is_here(self) -> bool:
        """Whether this thread is at work in the spool: this is a signal handler."""
        outbox = self._outbox
        return self._opener == threads.get_ident() or (outbox is not None and outbox.is_here())

    def _open(self) -> Outbox | None:
        """The outbox of this process, made by the first of its threads that needs it."""
        ours = threads.get_ident()
        if self._opener == ours or not self._opening.acquire(timeout=OPEN_WAIT_S):
            return None
        try:
            self._opener = ours
            if self._outbox is None and not is_recent(self._failed_at):
                self._failed_at = monotonic()
                self._outbox = self._made()
                self._failed_at = None
            return self._outbox
        finally:
            self._opener = 0
            self._opening.release()

    def _made(self) -> Outbox:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.check()
        for _ in range(100):
            name = f"{PREFIX}{int(time.time())}-{os.getpid()}-{random.SystemRandom().getrandbits(32):08x}.db"
            path = self.folder / name
            try:
                claim = _Claim(path, new=True)
                break
            except (FileExistsError, BlockingIOError, FileNotFoundError):
                continue
        else:
            raise StoreError(f"cannot make a file in {self.folder}")
        made: Outbox | None = None
        try:
            made = Outbox(path, self._max_bytes, self._last)
            made.write_settings(self._writer_settings)
        except StoreError:
            if made is not None:
                made.close()
            delete(path)
            claim.release(gone=True)
            raise
        self._claim = claim
        return made

    def check(self) -> None:
        """Raises StoreError where the directory may not be used."""
        problem = ownership.folder_problem(self.folder)
        if problem is not None:
            raise StoreError(problem)

    def _cannot(self, error: Exception) -> None:
        if isinstance(error, StoreError) and error.lost:
            self._leave_lost()
            return
        why = getattr(error, "strerror", None) or error  # without the path
        problem = str(error) if isinstance(error, StoreError) else f"cannot use {self.folder}: {why}"
        diagnostics.warn_once("spool", f"POSTHOG_SPOOL: {problem}; calls wait in memory instead")
        if isinstance(error, StoreError) and error.damaged and self._outbox is not None:
            # Ours, broken under our hands. What is in it is kept aside; a new one is begun.
            broken, self._outbox = self._outbox, None
            broken.close()
            put_aside(broken.path)
            self._forget(broken, gone=True)

    def _leave_lost(self) -> None:
        """The program has closed our outbox: the next call begins a new one. Rows that are on the disk only stay there,
        for another process."""
        lost, self._outbox = self._outbox, None
        if lost is not None:
            lost.abandon()
            self._refused.add(lost.path)
            if not self.spilled:
                empty(lost.path)
                self._emptied.append(lost.path)
            self._forget(lost, gone=False)

    def _forget(self, outbox: Outbox, gone: bool) -> None:
        self._last = outbox.last  # its rows are in memory still: their numbers must not be given again
        if self._claim is not None:
            self._claim.release(gone)
            self._claim = None
        self._live.clear()
        self._postponed.clear()
        self._delivered.clear()
        self._spills.clear()
        self._spilled = 0

    # On the flusher's thread

    def write_settings(self, **settings: str) -> None:
        """Write the settings of this process into its outbox, for the process that may take it over."""
        if settings.items() <= self._writer_settings.items():
            return
        self._writer_settings.update(settings)
        if self._outbox is not None:
            try:
                self._outbox.write_settings(self._writer_settings)
            except StoreError as error:
                self._cannot(error)

    def done(self, numbers: Sequence[int]) -> None:
        """These rows were delivered, or dropped for good."""
        if not numbers or self._outbox is None:
            return
        self._live.difference_update(numbers)
        self._postponed.difference_update(numbers)
        self._delivered.update(numbers)
        try:
            self._outbox.remove(list(self._delivered))
            self._delivered.clear()
        except StoreError as error:
            self._cannot(error)

    def tidy(self) -> None:
        """Keep the file small while nothing is delivered."""
        if self._outbox is not None:
            self._outbox.tidy()

    def spilled_rows(self, limit: int) -> list[OutboxRow]:
        """The oldest rows of ours that are on disk only; they count as in memory from now on."""
        found: list[OutboxRow] = []
        while self._spills:  # appended to by any thread
            self._cursor = min(self._cursor, self._spills.popleft() - 1)
            self._spilled += 1
        outbox = self._outbox
        if outbox is None:
            self._spilled = 0
        while self._spilled and outbox is not None and len(found) < limit:
            try:
                rows = outbox.rows(self._cursor, limit)
            except StoreError as error:
                self._cannot(error)
                break
            for row in rows:
                if len(found) == limit:
                    break
                if row.number not in self._live and row.number not in self._delivered:
                    found.append(row)
                    self._live.add(row.number)
                    self._spilled = max(0, self._spilled - 1)
                self._cursor = row.number
            if not rows:
                self._spilled = 0
        return found

    def take_over(self, match: Callable[[dict[str, str]], bool]) -> AbandonedOutbox | None:
        """The outbox of a process that has ended and whose settings `match`, if any; it is `abandoned` then."""
        try:
            self.check()
        except (StoreError, OSError) as error:
            self._cannot(error)
            return None
        for path in self.paths():
            if path in self._refused or (self._outbox is not None and path == self._outbox.path):
                continue
            try:
                abandoned = AbandonedOutbox(path, self._max_bytes)
            except StoreError as error:
                if error.damaged:
                    self._set_aside_abandoned(path)
                elif not error.transient:
                    diagnostics.write_once(f"left {path}", f"{error}; it is left alone")
                continue
            except OSError:
                continue
            try:
                found = bool(abandoned.outbox.rows(0, 1)) and match(abandoned.outbox.writer_settings())
            except StoreError as error:
                self.refuse(abandoned, error)
                found = False
            if found:
                self.abandoned = abandoned
                return abandoned
            abandoned.close()
        return None

    def refuse(self, abandoned: AbandonedOutbox, error: StoreError) -> None:
        """What is left of it cannot be read or written: not in this process again."""
        self._refused.add(abandoned.outbox.path)
        abandoned.unreadable = error

    def _set_aside_abandoned(self, path: Path) -> None:
        try:
            claim = _Claim(path, new=False)
        except (OSError, StoreError):
            return
        put_aside(path)
        claim.release(gone=True)

    def paths(self) -> Iterator[Path]:
        """The outboxes in the directory, oldest first."""
        try:
            yield from sorted(self.folder.glob(f"{PREFIX}*.db"))
        except OSError:
            return

    # The life of the process

    def close(self) -> int:
        """At exit: how many rows stay for the next process. An empty outbox is deleted."""
        left = 0
        if self.abandoned is not None:
            self.abandoned.close()
            self.abandoned = None
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            count = guard.quietly(outbox.count)  # unknown where another thread is stuck in it: it stays as it is
            left = max(0, count - len(self._delivered)) if count is not None else 0
            gone = count is not None and not left
            outbox.close()
            if gone:
                delete(outbox.path)
            if self._claim is not None:
                self._claim.release(gone)
        self._claim = None
        for path in self._emptied:
            delete(path)
            guard.quietly(os.unlink, lock_path(path))
        self._emptied.clear()
        return left

    def before_fork(self) -> None:
        """Keep all threads out of the file, bounded."""
        self._held_opening = self._opener != threads.get_ident() and self._opening.acquire(timeout=FORK_WAIT_S)
        outbox = self._outbox
        self._held = outbox is not None and not outbox.is_here() and outbox.hold(FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """The end of `before_fork`, in the parent."""
        if self._held and self._outbox is not None:
            self._held = False
            self._outbox.release()
        if self._held_opening:
            self._held_opening = False
            self._opening.release()

    def after_fork_in_child(self) -> None:
        """The file is the parent's: this process makes one of its own when it has something to keep."""
        if self._outbox is not None:
            self._outbox.abandon()
        if self._claim is not None:
            self._claim.release(gone=False)
        if self.abandoned is not None:
            self.abandoned.abandon()
        self._reset()


def put_aside(path: Path) -> None:
    """Rename a file that cannot be read, and write a line."""
    aside = path.with_suffix(".set-aside")
    try:
        for suffix in ("-wal", "-shm"):
            if os.path.exists(f"{path}{suffix}"):
                os.replace(f"{path}{suffix}", f"{aside}{suffix}")
        os.replace(path, aside)
        diagnostics.write_once(
            f"aside {path}", f"{path} is not an outbox that can be read: it was put aside as {aside.name}"
        )
    except OSError:
        pass


def fingerprint(*parts: Any) -> str:
    """A hash that distinguishes destinations without naming them."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=8).hexdigest()
