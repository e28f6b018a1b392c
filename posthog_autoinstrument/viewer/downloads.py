"""Downloads of the selection: whole events as JSON lines, or a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from ..core.formatting import shown
from ..store import columns
from ..store.queries import Queries
from ..store.results import Pricing
from ..store.selection import Selection

_CHUNK_CHARS = 64 * 1024

COLUMNS = (
    "time", "kind", "uuid", "trace", "session", "span", "parent", "name", "user", "provider", "model", "endpoint",
    "status", "is_error", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "latency_s", "ttft_s",
    "cost_usd", "input", "output", "error",
)  # fmt: skip

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A spreadsheet evaluates a cell that begins with one of these. (OWASP, "CSV Injection".)"""


def json_lines(queries: Queries, selection: Selection, prices: Pricing | None) -> Iterator[str]:
    """Each event as it is stored, one line each, oldest first."""
    return _chunked(json.dumps(event, ensure_ascii=True) + "\n" for event in queries.export(selection))


def csv_lines(queries: Queries, selection: Selection, prices: Pricing | None) -> Iterator[str]:
    """One row for each event, oldest first: its columns, its cost, the first words of input and output."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)

    def rows() -> Iterator[str]:
        writer.writerow(COLUMNS)
        for event in queries.export(selection):
            writer.writerow(_row(event, prices))
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
        yield buffer.getvalue()  # the header row, if there are no events

    return _chunked(rows())


def _row(event: dict[str, Any], prices: Pricing | None) -> list[object]:
    summary = columns.summary(event)
    cost = prices.cost(event) if prices is not None else None
    values: dict[str, object] = {
        **vars(summary),
        "uuid": event.get("uuid"),
        "user": None if summary.anonymous else summary.user,
        "cost_usd": None if cost is None else f"{cost.total_usd:.12f}".rstrip("0").rstrip("."),
        "is_error": int(summary.is_error),
        "input": summary.input_text,
        "output": summary.output_text,
    }
    return [cell(values[name]) for name in COLUMNS]


def cell(value: object) -> object:
    """A value that no spreadsheet evaluates, with invisible characters shown. Numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = shown(value)
    return "'" + text if text.startswith(_FORMULA) else text


def _chunked(lines: Iterator[str]) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _CHUNK_CHARS:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)
