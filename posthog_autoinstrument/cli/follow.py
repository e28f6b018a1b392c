"""New events of the local store, as they are stored."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..core.formatting import clean
from ..store.database import Store, StoreError, is_there

POLL_S = 0.25
"""Polling interval. One poll takes 1 ms."""


def batches(path: Path, last: int, stderr: TextIO) -> Iterator[list[dict[str, Any]]]:
    """The newest `last` events, then new events forever. The file may be created or replaced meanwhile.

    Raises StoreError if the file is not a store.
    """
    place = _Place()
    announced = False
    while True:
        if is_there(path):
            try:
                # Opened for a moment only: programs write, and the file may be deleted. This process does not fork.
                with Store(path, forks_wait=False) as store, store.snapshot():
                    events = place.move(store, last)
            except StoreError as error:
                if not error.transient:
                    raise
                events = []
            if events:
                yield events
        else:
            place = _Place(number=0)
            if not announced:
                stderr.write(f"waiting for {clean(str(path))}\n")
                stderr.flush()
                announced = True
        time.sleep(POLL_S)


class _Place:
    """The position up to which events were returned."""

    def __init__(self, number: int | None = None) -> None:
        self._number = number
        """Number of the last event; None before the first poll."""
        self._old = 0
        """Events up to this row number are older than the table `facts`; a reader may add them to it at any time, which
        does not make them new."""
        self._deletions: str | None = None

    def move(self, store: Store, last: int) -> list[dict[str, Any]]:
        """The new events."""
        deletions = store.meta("deletions")
        found = store.rows("SELECT seq FROM sqlite_sequence WHERE name = 'facts'")
        newest = int(found[0][0]) if found else 0
        if self._number is not None and newest < self._number:  # another file in its place
            self._number = 0
        if self._number is None:
            self._number, self._old = newest, int(store.meta("without facts") or 0)
            self._deletions = deletions
            return list(store.read(last=last))
        if deletions != self._deletions:
            self._deletions, self._old = deletions, 0
        query = (
            "SELECT f.number, e.body FROM facts f JOIN events e ON e.uuid = f.uuid"
            " WHERE f.number > ? AND e.rowid > ? ORDER BY f.number LIMIT 1000"
        )
        rows = store.rows(query, (self._number, self._old))
        self._number = rows[-1][0] if rows else max(self._number, newest)
        return [event for _, body in rows if isinstance(event := json.loads(body), dict)]
