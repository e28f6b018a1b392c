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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import guard
from .outbox import Kept, Outbox, delete
from .store import StoreError

PREFIX = "outbox-"
FORK_WAIT_S = 0.5

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
        """Raises OSError where somebody else has it, or where it went away meanwhile."""
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | (os.O_EXCL if new else 0)
        self._file = os.open(lock_path(path), flags, 0o600)
        try:
            _lock(self._file)
            if os.fstat(self._file).st_ino != os.stat(lock_path(path)).st_ino:
                raise FileNotFoundError(f"{path} was delivered by another process")
        except OSError:
            os.close(self._file)
            raise

    def release(self, gone: bool) -> None:
        """Let it go; `gone`: the outbox was deleted, and its lock goes too."""
        file, self._file = self._file, -1
        if file < 0:
            return
        if gone:
            guard.quietly(os.unlink, lock_path(self.path))
        os.close(file)


def lock_path(path: Path) -> Path:
    """The file whose lock says that an outbox has an owner."""
    return path.with_suffix(".lock")


class Orphan:
    """An outbox whose process is gone, and which is ours now."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Raises OSError where it has an owner or is gone, StoreError where it cannot be read."""
        self._claim = _Claim(path, new=False)
        try:
            self.outbox = Outbox(path, max_bytes)
        except StoreError:
            self._claim.release(gone=False)
            raise

    def close(self) -> None:
        """Leave it to the next one; an empty one is deleted."""
        empty = guard.quietly(self.outbox.count) == 0
        self.outbox.close()
        if empty:
            delete(self.outbox.path)
        self._claim.release(gone=empty)

    def abandon(self) -> None:
        """In a forked child: the parent goes on with it."""
        self.outbox.abandon()
        self._claim.release(gone=False)


class Spool:
    """This process's outbox, made when there is something to keep, and those of processes that are gone.

    `facts` are what whoever takes our outbox over must know of us; `match` says whether the facts of another one let
    us deliver it.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder = Path(folder)
        self._max_bytes = max_bytes
        self._facts: dict[str, str] = {}
        self.spilled = 0
        """Rows of ours that are on disk only: there was no room for them in memory, or PostHog is away."""
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._outbox: Outbox | None = None
        self._claim: _Claim | None = None
        self._live: set[int] = set()
        self._delivered: set[int] = set()
        """Rows that are done with and could not be deleted: that takes room on the disk, too."""
        self._cursor = 0
        self._held = False
        self.orphan: Orphan | None = None
        self.spilled = 0

    def __len__(self) -> int:
        """How many rows wait for delivery, as far as this process knows."""
        return len(self._live) + self.spilled

    # On the program's threads

    def keep(self, kind: int, uuid: str, body: bytes) -> int | None:
        """Commit one row; its number, or None where it could not be written: said once."""
        try:
            outbox = self._outbox or self._open()
            number = outbox.add(kind, uuid, body)
        except (StoreError, OSError) as error:
            self._cannot(error)
            return None
        if number is not None:
            self._live.add(number)
        return number

    def spill(self, numbers: Sequence[int]) -> None:
        """These rows are not in memory any longer: they are read from the disk later."""
        for number in numbers:
            if number in self._live:
                self._live.discard(number)
                self._cursor = min(self._cursor, number - 1)
                self.spilled += 1

    def _open(self) -> Outbox:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self.folder.is_symlink():
            raise StoreError(f"{self.folder} is a symbolic link: name the directory itself")
        for _ in range(100):
            name = f"{PREFIX}{int(time.time())}-{os.getpid()}-{random.SystemRandom().getrandbits(32):08x}.db"
            path = self.folder / name
            try:
                self._claim = _Claim(path, new=True)
                break
            except (FileExistsError, BlockingIOError, FileNotFoundError):
                continue
        else:
            raise StoreError(f"cannot make a file in {self.folder}")
        try:
            made = Outbox(path, self._max_bytes)
            made.state(self._facts)
        except StoreError:
            self._claim.release(gone=True)
            self._claim = None
            raise
        self._outbox = made
        return made

    def _cannot(self, error: Exception) -> None:
        said = str(error) if isinstance(error, StoreError) else f"cannot use {self.folder}: {error}"
        guard.say_once("spool", f"{said}; calls wait in memory instead")
        if isinstance(error, StoreError) and error.damaged and self._outbox is not None:
            # Ours, broken under our hands. What is in it is kept aside; a new one is begun.
            broken, self._outbox = self._outbox, None
            broken.close()
            self._aside(broken.path)
            if self._claim is not None:
                self._claim.release(gone=True)
                self._claim = None
            self._live.clear()
            self._delivered.clear()
            self.spilled = 0

    def _aside(self, path: Path) -> None:
        """Put a file that nobody can read out of the way, and say so."""
        aside = path.with_suffix(".set-aside")
        try:
            for suffix in ("-wal", "-shm"):
                if os.path.exists(f"{path}{suffix}"):
                    os.replace(f"{path}{suffix}", f"{aside}{suffix}")
            os.replace(path, aside)
            guard.say_once(
                f"aside {path}", f"{path} is not an outbox that can be read: it was put aside as {aside.name}"
            )
        except OSError:
            pass

    # On the flusher's thread

    def state(self, **facts: str) -> None:
        """Write down what whoever takes our outbox over must know."""
        if facts.items() <= self._facts.items():
            return
        self._facts.update(facts)
        if self._outbox is not None:
            try:
                self._outbox.state(self._facts)
            except StoreError as error:
                self._cannot(error)

    def done(self, numbers: Sequence[int]) -> None:
        """These rows were delivered, or dropped for good."""
        if not numbers or self._outbox is None:
            return
        self._live.difference_update(numbers)
        self._delivered.update(numbers)
        try:
            self._outbox.remove(list(self._delivered))
            self._delivered.clear()
        except StoreError as error:
            self._cannot(error)

    def spilled_rows(self, limit: int) -> list[Kept]:
        """The oldest rows of ours that are on disk only; they count as in memory from now on."""
        found: list[Kept] = []
        if self._outbox is None:
            self.spilled = 0
        while self.spilled and self._outbox is not None and len(found) < limit:
            try:
                rows = self._outbox.rows(self._cursor, limit)
            except StoreError as error:
                self._cannot(error)
                break
            for row in rows:
                if row.number not in self._live and len(found) < limit:
                    found.append(row)
                    self._live.add(row.number)
                    self.spilled = max(0, self.spilled - 1)
                self._cursor = row.number
            if not rows:
                self.spilled = 0
        return found

    def take_over(self, match: Callable[[dict[str, str]], bool]) -> Orphan | None:
        """The outbox of a process that is gone and that we may deliver, if there is one; it stays `orphan`."""
        for path in self.paths():
            if self._outbox is not None and path == self._outbox.path:
                continue
            try:
                orphan = Orphan(path, self._max_bytes)
            except StoreError as error:
                if not error.transient:
                    self._set_aside_orphan(path)
                continue
            except OSError:
                continue
            if (guard.quietly(orphan.outbox.count) or 0) > 0 and match(guard.quietly(orphan.outbox.facts) or {}):
                self.orphan = orphan
                return orphan
            orphan.close()
        return None

    def _set_aside_orphan(self, path: Path) -> None:
        try:
            claim = _Claim(path, new=False)
        except OSError:
            return
        self._aside(path)
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
        if self.orphan is not None:
            self.orphan.close()
            self.orphan = None
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            left = max(0, (guard.quietly(outbox.count) or 0) - len(self._delivered))
            outbox.close()
            if not left:
                delete(outbox.path)
            if self._claim is not None:
                self._claim.release(gone=not left)
        self._claim = None
        return left

    def before_fork(self) -> None:
        """Keep everybody out of the file, bounded."""
        outbox = self._outbox
        self._held = outbox is not None and outbox.hold(FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Let them in again."""
        if self._held and self._outbox is not None:
            self._held = False
            self._outbox.release()

    def after_fork_in_child(self) -> None:
        """The file is the parent's: this process makes one of its own when it has something to keep."""
        if self._outbox is not None:
            self._outbox.abandon()
        if self._claim is not None:
            self._claim.release(gone=False)
        if self.orphan is not None:
            self.orphan.abandon()
        self._reset()


def fingerprint(*parts: Any) -> str:
    """Tells destinations apart without naming them."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=8).hexdigest()
