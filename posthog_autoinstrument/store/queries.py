"""Queries of the local store: sums, groups, traces, sessions, single events, exports.

They read the narrow table `facts`; bodies are read for single events and exports only. Measured with 100,000 events:
a page of traces or events 1 ms, sums over all of them 50 to 150 ms.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from os import PathLike
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import search
from .backfill import catch_up, parsed
from .columns import IS_CALL, storable
from .database import Store
from .results import Entry, EventPage, Full, GroupPage, Pricing, Totals, TracePage, TraceRow
from .retention import delete_all
from .schema import COLUMNS
from .selection import Selection, condition
from .sums import COLUMN_OF, SUMMED, By, Calls

_ENTRY = {"number": "number", **{column.field: column.name for column in COLUMNS if column.name != "priced"}}
"""Field of an entry -> its column."""
_ENTRY_COLUMNS = ", ".join(f"f.{column}" for column in _ENTRY.values())

R = TypeVar("R")
P = ParamSpec("P")


def _at_once(read: Callable[Concatenate[Queries, P], R]) -> Callable[Concatenate[Queries, P], R]:
    """Run the method in one snapshot of the file: a full-text index may be dropped between two queries."""

    @wraps(read)
    def reading(queries: Queries, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with queries._store.snapshot():
            return read(queries, *args, **kwargs)

    return reading


class Queries:
    """One open store file, for reading. A context manager; every method raises `StoreError` and nothing else.

    Used by the thread that opened it, in a process of ours that does not fork. Opening takes less than 1 ms. Any number
    may be open at once, and others may write meanwhile.
    """

    def __init__(self, path: str | PathLike[str], prices: Pricing | None = None, timeout_s: float = 5.0) -> None:
        self._store = Store(path, timeout_s, forks_wait=False)
        self._prices = prices

    def __enter__(self) -> Queries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go. Never raises."""
        self._store.close()

    # --- derived data ---

    def refresh(self, budget_s: float = 0.2, search: bool = True) -> int:
        """Bring columns, costs and (`search`) the full-text index up to date, for about `budget_s` seconds.

        Returns how many rows are left.
        """
        return catch_up(self._store, self._prices, budget_s, search)

    def version(self) -> str:
        """A text that changes when anything in the file has changed."""
        found = self._store.rows("SELECT seq FROM sqlite_sequence WHERE name = 'facts'")
        meta = self._store.rows("SELECT value FROM marks WHERE name IN ('deletions', 'costs') ORDER BY name")
        return ".".join(str(value) for (value,) in [*found, *meta])

    # --- sums ---

    @_at_once
    def calls(self, selection: Selection, *by: By) -> Calls:
        """The calls of the selection, for their sums, and sums by what they have in common."""
        where, values = self._where(selection)
        return self._calls(selection, by, where, values)

    def totals(self, selection: Selection) -> Totals:
        """Sums over the calls of the selection."""
        return self.calls(selection).totals

    def choices(self, by: By, limit: int = 200) -> list[str]:
        """The values that a filter can have, the most recently used first."""
        column = COLUMN_OF[by]
        query = f"SELECT {column} FROM facts WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY max(epoch) DESC LIMIT ?"
        return [value for (value,) in self._store.rows(query, (limit,))]

    # --- lists ---

    @_at_once
    def traces(self, selection: Selection, before: str = "", limit: int = 50) -> TracePage:
        """Traces with an event in the selection, newest first by that event."""
        where, values = self._where(selection)
        newer, _ = self._where(selection, "n")
        query = (
            f"SELECT f.trace_id, f.epoch, f.number FROM facts f WHERE {where} AND f.trace_id IS NOT NULL"
            f" AND {_before(before, values)} AND NOT EXISTS (SELECT 1 FROM facts n WHERE n.trace_id = f.trace_id AND"
            f" n.epoch >= f.epoch AND (n.epoch > f.epoch OR n.number > f.number) AND {newer})"
            " ORDER BY f.epoch DESC, f.number DESC LIMIT :limit"
        )
        found = self._store.rows(query, {**values, "limit": limit + 1})
        following = _key(*found[limit - 1][1:]) if len(found) > limit else ""
        rows = (self._trace_row(trace) for trace, _, _ in found[:limit])
        return TracePage(tuple(row for row in rows if row is not None), following)

    @_at_once
    def sessions(self, selection: Selection, before: str = "", limit: int = 50) -> GroupPage:
        """Sessions with a call in the selection, and the sums over these calls; newest first by the last of them."""
        where, values = self._where(selection)
        found = self._store.rows(
            # "+": in the order of the table. In that of an index on the users each row is looked up on its own.
            f"SELECT +session_id, max(epoch), max(number) AS last FROM facts f WHERE {where} AND {IS_CALL}"
            f" AND session_id != '' GROUP BY 1 HAVING {_before(before, values, 'max(epoch)', 'max(number)')}"
            " ORDER BY max(epoch) DESC, last DESC LIMIT :limit",
            {**values, "limit": limit + 1},
        )
        following = _key(*found[limit - 1][1:]) if len(found) > limit else ""
        names = {f"session_{place}": row[0] for place, row in enumerate(found[:limit])}
        among = f"{where} AND session_id IN ({', '.join(map(':{}'.format, names))})"
        of_session = self._calls(selection, ("session",), among, {**values, **names}).groups("session")
        by_name = {group.key: group for group in of_session}
        return GroupPage(tuple(by_name[name] for name in names.values()), following)

    def trace(self, trace_id: str, limit: int = 5000) -> list[Entry]:
        """The events of one trace by start time; of longer traces the `limit` events that ended first."""
        rows = self._entries("f.trace_id = :trace ORDER BY f.epoch, f.number LIMIT :limit",
                             {"trace": storable(trace_id), "limit": limit})  # fmt: skip
        return sorted(rows, key=lambda entry: (entry.started, entry.number))

    @_at_once
    def events(self, selection: Selection, before: str = "", limit: int = 50) -> EventPage:
        """The events of the selection, newest first."""
        where, values = self._where(selection)
        condition = f"{where} AND {_before(before, values)} ORDER BY f.epoch DESC, f.number DESC LIMIT :limit"
        found = self._entries(condition, {**values, "limit": limit + 1})
        following = _key(found[limit - 1].epoch, found[limit - 1].number) if len(found) > limit else ""
        return EventPage(tuple(found[:limit]), following)

    @_at_once
    def event(self, uuid: str) -> Full | None:
        """One event; None if it does not exist."""
        found = self._entries("f.uuid = :uuid", {"uuid": storable(uuid)})
        bodies = self._store.rows("SELECT body FROM events WHERE uuid = ?", (storable(uuid),))
        event = parsed(bodies[0][0]) if bodies else None
        if not found or event is None:
            return None
        return Full(found[0], event, self._prices.cost(event) if self._prices and found[0].is_call else None)

    def export(self, selection: Selection) -> Iterator[dict[str, Any]]:
        """All events of the selection, whole, oldest first. Read in parts: events deleted meanwhile are missing."""
        epoch, number = -math.inf, 0
        while page := self._exported(selection, epoch, number):
            for epoch, number, body in page:  # noqa: B007 - the last ones begin the next page
                event = parsed(body)
                if event is not None:
                    yield event

    @_at_once
    def _exported(self, selection: Selection, epoch: float, number: int) -> list[tuple[Any, ...]]:
        where, values = self._where(selection)
        return self._store.rows(
            f"SELECT f.epoch, f.number, e.body FROM facts f JOIN events e ON e.uuid = f.uuid WHERE {where}"
            " AND f.epoch >= :epoch AND (f.epoch > :epoch OR f.number > :number) ORDER BY f.epoch, f.number LIMIT 200",
            {**values, "epoch": epoch, "number": number},
        )

    def delete_all(self) -> int:
        """Delete every event for good, overwrite it in the file, and return how many there were."""
        return delete_all(self._store)

    # --- inside ---

    def _where(self, selection: Selection, alias: str = "f") -> tuple[str, dict[str, Any]]:
        where, values = condition(selection, time.time(), alias)
        if selection.text.strip():
            matching, more = search.condition(self._store, selection.text, alias)
            return f"{where} AND {matching}", {**values, **more}
        return where, values

    def _calls(self, selection: Selection, by: Sequence[By], where: str, values: dict[str, Any]) -> Calls:
        columns = ", ".join([*SUMMED, *(COLUMN_OF[one] for one in by)])
        rows = self._store.rows(f"SELECT {columns} FROM facts f WHERE {where} AND {IS_CALL}", values)
        return Calls(rows, by, selection, time.time())

    def _entries(self, condition: str, values: dict[str, Any]) -> list[Entry]:
        return [
            _entry(row) for row in self._store.rows(f"SELECT {_ENTRY_COLUMNS} FROM facts f WHERE {condition}", values)
        ]

    def _trace_row(self, trace: str) -> TraceRow | None:
        """A few small queries on the index of traces. None if the trace was deleted meanwhile."""
        ask = {"trace": trace}
        of_trace = "FROM facts WHERE trace_id = :trace"
        (row,) = self._store.rows(
            "SELECT min(epoch - coalesce(latency_s, 0)), max(epoch), count(*), sum(is_call), sum(is_error),"
            " sum(input_tokens), sum(output_tokens), sum(cost_usd), sum(is_call AND cost_usd IS NULL AND is_error = 0),"
            f" max(user), max(session_id) FROM (SELECT *, {IS_CALL} AS is_call {of_trace})",
            ask,
        )
        if row[0] is None:
            return None
        names = self._store.rows(
            f"SELECT name {of_trace} AND name IS NOT NULL AND (kind = 'trace' OR parent_id IS NULL)"
            " ORDER BY kind != 'trace', kind != 'span', epoch DESC LIMIT 1",
            ask,
        )
        models = self._store.rows(f"SELECT model {of_trace} AND model IS NOT NULL GROUP BY 1 ORDER BY min(epoch)", ask)
        first = self._store.rows(f"SELECT words {of_trace} ORDER BY NOT {IS_CALL}, epoch LIMIT 1", ask)
        name = names[0][0] if names else None
        return TraceRow(
            *(trace, *row, name, tuple(model for (model,) in models), (first[0][0] if first else None) or None)
        )


def _entry(row: tuple[Any, ...]) -> Entry:
    values = dict(zip(_ENTRY, row, strict=True))
    return Entry(**{**values, "is_error": bool(values["is_error"])})


def _key(epoch: float, number: int) -> str:
    return f"{epoch!r}_{number}"


def _before(key: str, values: dict[str, Any], epoch: str = "f.epoch", number: str = "f.number") -> str:
    """The condition for the rows after the page whose `next` is `key`; true for all rows if `key` is invalid."""
    key_epoch, _, key_number = key.partition("_")
    try:
        values.update({"key_epoch": float(key_epoch), "key_number": min(int(key_number), 2**62)})
    except ValueError:
        return "1"
    return f"{epoch} <= :key_epoch AND ({epoch} < :key_epoch OR {number} < :key_number)"
