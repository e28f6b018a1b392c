"""The sink that keeps events in the local store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from os import PathLike
from typing import Any

from ..core import fastjson
from ..core.guard import attempt, guarded
from ..store.columns import CALLS
from ..store.database import Row, Store, StoreError
from ..store.retention import DEFAULT_MAX_AGE_DAYS, DEFAULT_MAX_BYTES, prune
from ..store.summary import Summary
from .exporter import Event, Outcome

_PRUNE_EVERY_SENDS = 200
_LOCKED_S = 2.0
"""Longest wait of one attempt for other processes. A program's end waits longer, and can name what it waited for."""


class LocalSink:
    """Writes events to the store at `path`, which is opened for each batch: nothing stays open over a fork.

    `summarise` reads out of an event what the store has columns for.
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
            rows = [make_row(event, self._summarise) for event in events]
        except ValueError:
            return Outcome("rejected", "an event is not a JSON object")
        try:
            with Store(self.path, min(timeout_s, _LOCKED_S)) as store:
                store.add(rows)
                if self._sends % _PRUNE_EVERY_SENDS == 0 or store.used_bytes() > self._max_bytes:
                    prune(store, self._max_bytes, self._max_age_days)
        except StoreError as error:
            return Outcome("retry" if error.transient else "refused", str(error), less_may_fit=error.full)
        self._sends += 1
        return Outcome("delivered")

    def close(self) -> None:
        """Nothing is open between batches."""


def make_row(event: Event, summarise: Callable[[dict[str, Any]], Summary]) -> Row:
    """The event with its columns. Raises ValueError when its body is no JSON object."""
    body = event.body.decode("utf-8")
    parsed = fastjson.loads(event.body)
    if not isinstance(parsed, dict):
        raise ValueError("not an object")
    summary = attempt("summarise an event", summarise, parsed) or Summary("", "")
    when = _utc(parsed.get("timestamp"))
    is_call = summary.kind in CALLS
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
        kind=_text(summary.kind) or "",
        provider=_text(summary.provider),
        endpoint=_text(summary.endpoint),
        user=None if summary.anonymous else _text(summary.user),
        input_tokens=summary.input_tokens,
        output_tokens=summary.output_tokens,
        cached_tokens=summary.cached_tokens,
        reasoning_tokens=summary.reasoning_tokens,
        latency_s=summary.latency_s,
        ttft_s=summary.ttft_s,
        cost_usd=summary.cost_usd,
        priced=summary.cost_usd is not None or not is_call,
        status=summary.status,
        session_id=_text(summary.session),
        span_id=_text(summary.span),
        parent_id=_text(summary.parent),
        name=_text(summary.name),
        words=_first_words(summary.input_text),
        answer=_first_words(summary.output_text),
    )


def _utc(timestamp: object) -> datetime:
    """The ISO 8601 time, in UTC; now when it is none."""
    try:
        # Python 3.10 does not read "Z".
        when = datetime.fromisoformat(str(timestamp).replace("Z", "+00:00"))
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):  # OverflowError: year 1 or 9999 here, another one in UTC
        return datetime.now(timezone.utc)


def _text(value: object) -> str | None:
    """As SQLite takes it: a lone surrogate is no UTF-8."""
    if value is None:
        return None
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


_MAX_WORDS_CHARS = 200


def _first_words(text: str | None) -> str | None:
    """One short line of a text that may be long."""
    return _text(" ".join(text[: _MAX_WORDS_CHARS + 50].split())[:_MAX_WORDS_CHARS]) if text is not None else None
