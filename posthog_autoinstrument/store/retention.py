"""Deletes from the local store: by age, by size (oldest days first), or everything.

Deleted data is overwritten in the file (`PRAGMA secure_delete`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .database import Store, StoreError
from .schema import WORDS_BLOCK

DEFAULT_MAX_BYTES = 512 * 1_000_000
DEFAULT_MAX_AGE_DAYS = 30

_DAY_S = 86_400


def prune(store: Store, max_bytes: int = DEFAULT_MAX_BYTES, max_age_days: float = DEFAULT_MAX_AGE_DAYS) -> int:
    """Delete events that are too old, then the oldest days (UTC) until a tenth of `max_bytes` is free; return how many.

    If a single day is too large, its oldest part is deleted. The file shrinks too. Raises StoreError.
    """
    store.run("PRAGMA secure_delete = ON")
    with store.change():
        deleted = _delete(store, "epoch < ?", time.time() - max_age_days * _DAY_S)
        if store.used_bytes() > max_bytes:
            while store.used_bytes() > 0.9 * max_bytes:
                gone = _delete_oldest(store, max_bytes)
                if gone == 0:
                    break
                deleted += gone
        if deleted:
            store.run("DELETE FROM sent WHERE uuid NOT IN (SELECT uuid FROM events)")
            _count_deletion(store)
    if deleted or store.free_bytes() > max_bytes // 10:
        _attempt(store.free_pages)
    return deleted


def delete_all(store: Store) -> int:
    """Delete every event permanently and return how many there were. Raises StoreError."""
    store.run("PRAGMA secure_delete = ON")
    with store.change():
        deleted = store.count()
        _drop_indexes(store, [block for (block,) in store.rows("SELECT block FROM worded")])
        for table in ("events", "facts", "sent"):
            store.run(f"DELETE FROM {table}")
        store.set_meta("without facts", 0)
        _count_deletion(store)
    _attempt(store.rewrite)
    return deleted


def _attempt(shrink: Callable[[], None]) -> None:
    """Shrink the file, unless another process uses it now: deleted data is overwritten in any case."""
    try:
        shrink()
    except StoreError as error:
        if not error.transient:
            raise


def _delete_oldest(store: Store, max_bytes: int) -> int:
    """Delete the oldest day; if there is only one, an estimated part of it: bodies differ in size."""
    ((first, last),) = store.rows("SELECT (SELECT min(epoch) FROM events), (SELECT max(epoch) FROM events)")
    if first is None:
        return 0
    if first // _DAY_S < last // _DAY_S:
        return _delete(store, "epoch < ?", (first // _DAY_S + 1) * _DAY_S)
    excess = 1 - 0.9 * max_bytes / store.used_bytes()
    share = max(1, int(store.count() * excess))
    return _delete(store, "uuid IN (SELECT uuid FROM events ORDER BY epoch, rowid LIMIT ?)", share)


def _delete(store: Store, condition: str, value: float) -> int:
    """Delete the events that meet a condition on `epoch` or `uuid`, with their columns and indexes."""
    touched = store.rows(
        f"SELECT block FROM worded WHERE block IN (SELECT number / {WORDS_BLOCK} FROM facts WHERE {condition})",
        (value,),
    )
    _drop_indexes(store, [block for (block,) in touched])
    store.run(f"DELETE FROM facts WHERE {condition}", (value,))
    return store.run(f"DELETE FROM events WHERE {condition}", (value,))


def _drop_indexes(store: Store, blocks: list[int]) -> None:
    """Drop the full-text indexes of these blocks. The reader rebuilds those that still have events."""
    for block in blocks:
        try:
            store.run(f"DROP TABLE IF EXISTS words_{int(block)}")
        except StoreError:
            # The SQLite of this Python has no FTS5, or an older one than the reader's. The tables behind an index are
            # plain ones: their contents are deleted, the tables stay until a reader drops them.
            for part in ("data", "idx"):
                store.run(f"DELETE FROM words_{int(block)}_{part}")
            # An empty index as FTS5 creates it (SQLite 3.40), so that a reader can drop it.
            store.run(f"INSERT INTO words_{int(block)}_data VALUES (1, X''), (10, X'00000000000000')")
            store.run(f"UPDATE words_{int(block)}_config SET v = 4 WHERE k = 'version'")
        store.run("DELETE FROM worded WHERE block = ?", (block,))


def _count_deletion(store: Store) -> None:
    """Record the deletion, for processes that watch the file."""
    store.set_meta("deletions", int(store.meta("deletions") or 0) + 1)
