"""The exporter that keeps events in the local store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

from ..core.guard import guarded
from ..core.records import EncodedEvent
from ..store.columns import make_row
from ..store.database import Store, StoreError
from ..store.retention import DEFAULT_MAX_AGE_DAYS, DEFAULT_MAX_BYTES, prune
from ..store.summary import EventSummary
from .exporter import ExportResult

_PRUNE_EVERY_SENDS = 200
_LOCKED_S = 2.0
"""Longest wait of one attempt for other processes. A program's end waits longer, and can name what it waited for."""


class LocalExporter:
    """Writes events to the store at `path`, which is opened for each batch: nothing stays open over a fork.

    `summarise` reads out of an event what the store has columns for.
    """

    name = "local store"

    def __init__(
        self,
        path: str | PathLike[str],
        summarise: Callable[[dict[str, Any]], EventSummary],
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_age_days: float = DEFAULT_MAX_AGE_DAYS,
    ) -> None:
        self.path = path
        self.max_event_bytes = 8 * 1024 * 1024
        self.max_batch_bytes = 16 * 1024 * 1024
        self._summarise = summarise
        self._max_bytes = max_bytes
        self._max_age_days = max_age_days
        self._sends = 0

    @guarded("write to the local store", ExportResult("retry", "unexpected failure of the agent"))
    def send(self, events: Sequence[EncodedEvent], timeout_s: float) -> ExportResult:
        """Write `events` in one transaction, waiting at most `timeout_s` seconds for other processes. Never raises."""
        try:
            rows = [make_row(event, self._summarise) for event in events]
        except ValueError:
            return ExportResult("invalid", "an event is not a JSON object")
        try:
            with Store(self.path, min(timeout_s, _LOCKED_S)) as store:
                store.add(rows)
                if self._sends % _PRUNE_EVERY_SENDS == 0 or store.used_bytes() > self._max_bytes:
                    prune(store, self._max_bytes, self._max_age_days)
        except StoreError as error:
            return ExportResult("retry" if error.transient else "stopped", str(error), less_may_fit=error.full)
        self._sends += 1
        return ExportResult("delivered")

    def close(self) -> None:
        """Nothing is open between batches."""
