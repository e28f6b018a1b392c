"""The sink that keeps events in the local store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from os import PathLike
from typing import Any

from .. import quickjson
from ..guard import attempt, guarded
from ..store import DEFAULT_MAX_AGE_DAYS, DEFAULT_MAX_BYTES, Row, Store, StoreError
from ..summary import Summary
from . import Event, Outcome

_PRUNE_EVERY_SENDS = 200


class LocalSink:
    """Writes events to the store at `path`, which is opened for each batch: nothing stays open over a fork.

    `summarise` reads model, trace and error out of an event for the store's columns.
    """

    name = "local store"

    def __init__(
        self,
        path: str | PathLike[str],
        summarise: Callable[[dict[str, Any]], Summary],
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

    @guarded("write to the local store", Outcome("retry", "unexpected failure of the agent"))
    def send(self, events: Sequence[Event], timeout_s: float) -> Outcome:
        """Write `events` in one transaction, waiting at most `timeout_s` seconds for other processes. Never raises."""
        try:
            rows = [self._row(event) for event in events]
        except ValueError:
            return Outcome("rejected", "an event is not a JSON object")
        try:
            with Store(self.path, timeout_s) as store:
                store.add(rows)
                if self._sends % _PRUNE_EVERY_SENDS == 0 or store.used_bytes() > self._max_bytes:
                    store.prune(self._max_bytes, self._max_age_days)
        except StoreError as error:
            return Outcome("retry" if error.transient else "refused", str(error))
        self._sends += 1
        return Outcome("delivered")

    def close(self) -> None:
        """Nothing is open between batches."""

    def _row(self, event: Event) -> Row:
        """The event with its columns. Raises ValueError when its body is no JSON object."""
        body = event.body.decode("utf-8")
        parsed = quickjson.loads(event.body)
        if not isinstance(parsed, dict):
            raise ValueError("not an object")
        summary = attempt("summarise an event", self._summarise, parsed) or Summary("", "")
        when = _utc(parsed.get("timestamp"))
        return Row(
            uuid=event.uuid,
            timestamp=when.isoformat(),
            epoch=when.timestamp(),
            event=event.name,
            distinct_id=_text(parsed.get("distinct_id")),
            trace_id=_text(summary.trace),
            model=_text(summary.model),
            is_error=summary.is_error,
            body=body,
        )


def _utc(timestamp: object) -> datetime:
    """The ISO 8601 time, in UTC; now when it is none."""
    try:
        # Python 3.10 does not read "Z".
        when = datetime.fromisoformat(str(timestamp).replace("Z", "+00:00"))
    except ValueError:
        return datetime.now(timezone.utc)
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
