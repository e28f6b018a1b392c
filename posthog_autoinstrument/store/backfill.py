"""Brings derived data up to date: columns of rows of earlier versions, costs, the full-text index; the newest first.

In transactions of about 50 ms: programs that write events wait for them.
"""

from __future__ import annotations

import time
from typing import Any

from ..core import fastjson
from ..core.records import EncodedEvent
from . import search as full_text
from .columns import IS_CALL, make_row, summary
from .database import Store, StoreError
from .results import Pricing
from .schema import Row

_CHUNK = 200
"""Rows in one transaction."""


def catch_up(store: Store, prices: Pricing | None, budget_s: float, search: bool = True) -> int:
    """Work for about `budget_s` seconds and return how many rows are left to do. Raises StoreError."""
    until = time.monotonic() + budget_s
    try:
        left = _make_columns(store, until)
        if prices is not None:
            left += _make_costs(store, prices, until)
        return left + (full_text.refresh(store, until) if search else 0)
    except StoreError as error:
        if not error.transient:
            raise
        return 1  # another process holds the lock: next time


def _make_columns(store: Store, until: float) -> int:
    """Columns for the rows of earlier versions, the newest first."""
    while True:
        last = int(store.meta("without facts") or 0)
        if last == 0 or time.monotonic() >= until:
            return last
        old = store.rows(
            "SELECT rowid, uuid, event, body FROM events WHERE rowid <= ? ORDER BY rowid DESC LIMIT ?",
            (last, _CHUNK),
        )
        rows = [row for _, *event in old if (row := _row_of(*event)) is not None]
        with store.change():
            if int(store.meta("without facts") or 0) == last:  # no other reader was faster
                # Only events that were not deleted meanwhile.
                known = {uuid for (uuid,) in _uuids(store, old)}
                store.add_columns([row for row in reversed(rows) if row.uuid in known])
                store.set_meta("without facts", old[-1][0] - 1 if old else 0)


def _uuids(store: Store, old: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    placeholders = ", ".join("?" * len(old))
    return store.rows(f"SELECT uuid FROM events WHERE uuid IN ({placeholders})", [row[1] for row in old])


def _make_costs(store: Store, prices: Pricing, until: float) -> int:
    """Costs of the calls that have none yet, the newest first; of all calls if the prices have changed."""
    if store.meta("prices") != prices.version:
        with store.change():
            store.run(f"UPDATE facts SET priced = 0 WHERE {IS_CALL} AND priced != 0")
            store.set_meta("prices", prices.version)
    while time.monotonic() < until:
        found = store.rows(
            "SELECT f.number, e.body FROM facts f JOIN events e ON e.uuid = f.uuid"
            " WHERE f.priced = 0 ORDER BY f.number DESC LIMIT ?",
            (_CHUNK,),
        )
        costs = []
        for number, body in found:
            cost = prices.cost(parsed(body) or {})
            costs.append((cost.total_usd if cost is not None else None, number))
        with store.change():
            if store.meta("prices") == prices.version and costs:
                store.run_many("UPDATE facts SET cost_usd = ?, priced = 1 WHERE number = ?", costs)
                store.set_meta("costs", int(store.meta("costs") or 0) + 1)
        if len(found) < _CHUNK:
            return 0
    return int(store.rows("SELECT count(*) FROM facts WHERE priced = 0")[0][0])


def parsed(body: str) -> dict[str, Any] | None:
    """The event in `body`; None if it is not a JSON object."""
    try:
        event = fastjson.loads(body)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _row_of(uuid: str, name: str, body: str) -> Row | None:
    try:
        return make_row(EncodedEvent(uuid, name, body.encode("utf-8")), summary)
    except (ValueError, RecursionError):
        return None
