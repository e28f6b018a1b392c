"""New rows of the local store, as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ..core.formatting import clean
from ..store.database import Store, StoreError, is_there

POLL_S = 0.25
"""How often to look. A look takes 1 ms."""


def batches(path: Path, last: int, stderr: TextIO) -> Iterator[list[dict[str, Any]]]:
    """The newest `last` events, then, without end, what has come since. The file may come later, or begin anew.

    Raises StoreError for a file that is none of ours.
    """
    place = _Place()
    said = False
    while True:
        if is_there(path):
            try:
                # Not for long, as this process does not fork: programs write, and somebody may delete meanwhile.
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
            if not said:
                stderr.write(f"waiting for {clean(str(path))}\n")
                stderr.flush()
                said = True
        time.sleep(POLL_S)


class _Place:
    """Up to where events were given."""

    def __init__(self, number: int | None = None) -> None:
        self._number = number
        """Of the last one; None: nothing was looked at."""
        self._old = 0
        """Rows of the events up to this one are older than the table of facts: that somebody adds them to it, while we
        look, does not make them new."""
        self._deletions: str | None = None

    def move(self, store: Store, last: int) -> list[dict[str, Any]]:
        """What is new."""
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
