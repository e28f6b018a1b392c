"""What each page shows: turns queries and the URL into the variables of its template. No HTML here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..store import columns
from ..store.queries import Queries
from ..store.results import Entry, Full
from ..store.selection import Selection
from ..store.sums import By
from . import charts, conversation, trace_tree

PAGE = 50
"""Rows of a list. More are on the next page."""
MAX_ROWS = 1_000
"""Steps of one trace that its page shows."""
MAX_CHOICES = 200
"""Values in the list of a filter."""
LOOK_AHEAD = 8
"""Later calls of a trace in which the result of a tool is looked for."""

RANGES = (("15m", "15 min"), ("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("", "All"))
KINDS = ("generation", "embedding", "span", "trace", "feedback", "metric")

Values = dict[str, Any]


class Choices:
    """The values in the lists of the filters. Read from the whole table, so they may be some seconds old."""

    MAX_AGE_S = 5.0

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._version: str | None = None
        self._until = 0.0

    def of(self, queries: Queries) -> dict[str, list[str]]:
        """Values of model, user and endpoint, the most recently used first."""
        version = queries.version()
        if version != self._version and time.monotonic() >= self._until:
            self._found = {by: queries.choices(by, MAX_CHOICES) for by, _ in _GROUPED}
            self._version = version
            self._until = time.monotonic() + self.MAX_AGE_S
        return self._found


def _filters(queries: Queries, selection: Selection, request: Request) -> Values:
    """Variables of the filters. An active value is in the list even if no event has it."""
    offered = {}
    for by, values in request.app.state.choices.of(queries).items():
        wanted = getattr(selection, by)
        offered[by] = [wanted, *values] if wanted and wanted not in values else values
    return {"offered": offered, "ranges": RANGES, "kinds": KINDS}


def overview(queries: Queries, selection: Selection, request: Request) -> Values:
    """Sums, charts, and sums by model, user and endpoint."""

    def sums() -> Values:
        found = queries.calls(selection, *(by for by, _ in _GROUPED))
        series = found.series()
        return {
            "totals": found.totals,
            "series": series,
            "plots": charts.overview(series),
            "groups": [(by, title, found.groups(by, 12)) for by, title in _GROUPED],
        }

    # Called by the template, after the top of the page was sent.
    return {
        **_filters(queries, selection, request),
        "figures": sums,
        "deleted": request.query_params.get("deleted"),
    }


_GROUPED: tuple[tuple[By, str], ...] = (("model", "Models"), ("user", "Users"), ("endpoint", "Endpoints"))


def traces(queries: Queries, selection: Selection, request: Request) -> Values:
    """The list of traces, newest first."""
    return _page(queries.traces, queries, selection, request)


def calls(queries: Queries, selection: Selection, request: Request) -> Values:
    """The list of events, newest first; also what a search finds."""
    return _page(queries.events, queries, selection, request)


def sessions(queries: Queries, selection: Selection, request: Request) -> Values:
    """The list of sessions, newest first."""
    return _page(queries.sessions, queries, selection, request)


def _page(
    read: Callable[[Selection, str, int], Any], queries: Queries, selection: Selection, request: Request
) -> Values:
    """One page of a list: `read` gets the selection and the `before` of the URL."""
    before = request.query_params.get("before", "")
    return {**_filters(queries, selection, request), "page": read(selection, before, PAGE), "before": before}


def deletion(queries: Queries, selection: Selection, request: Request) -> Values:
    """The question before everything is deleted."""
    return {"totals": queries.totals(Selection())}


def trace(queries: Queries, selection: Selection, request: Request) -> Values:
    """One trace as a tree. 404 where there is none."""
    trace_id = request.query_params.get("id", "")
    entries = queries.trace(trace_id)
    if not entries:
        raise HTTPException(404)
    (whole,) = queries.traces(Selection(trace=trace_id), limit=1).rows or (None,)
    if whole is None:  # gone just now
        raise HTTPException(404)
    tree = trace_tree.build(entries)
    return {
        "trace": trace_id,
        "tree": tree,
        "rows": tree.rows[:MAX_ROWS],
        "unread": max(0, whole.events - len(entries)),
        "whole": whole,
        "name": (tree.trace.name if tree.trace else None)
        or next((row.entry.name for row in tree.rows if row.depth == 0 and row.entry.name), None),
    }


def event(queries: Queries, selection: Selection, request: Request) -> Values:
    """One event in full. 404 where there is none."""
    full = queries.event(request.query_params.get("id", ""))
    if full is None:
        raise HTTPException(404)
    entry = full.entry
    around = [one for one in queries.trace(entry.trace) if one.kind not in ("trace",)] if entry.trace else []
    place = next((n for n, one in enumerate(around) if one.uuid == entry.uuid), None)
    properties = columns.ai_properties(full.event)
    asked, answered = conversation.read(_first(properties, "input", "input_state")), _answer(properties)
    conversation.pair(asked or [])
    conversation.pair(answered or [], _later(queries, around[place + 1 :] if place is not None else []))
    return {
        "entry": entry,
        "full": full,
        "before": around[place - 1] if place else None,
        "after": around[place + 1] if place is not None and place + 1 < len(around) else None,
        "instructions": _instructions(properties, asked),
        "asked": _without_empty(asked),
        "answered": _without_empty(answered),
        "is_call": entry.kind in columns.CALLS,
        "error": properties.get("error"),
        "parameters": properties.get("model_parameters")
        if isinstance(properties.get("model_parameters"), dict)
        else {},
        "tools": [(_tool_name(tool), tool) for tool in properties["tools"]]
        if isinstance(properties.get("tools"), list)
        else [],
        "tokens": list(_tokens({**properties, "output_tokens": full.entry.output_tokens})),
        "usage": properties.get("usage"),
        "details": list(_details(full, properties)),
        "own": columns.custom_properties(full.event),
    }


def _first(properties: Mapping[str, Any], *names: str) -> Any:
    """The first of these properties that exists, even if it is null: null was not captured (privacy mode)."""
    return next((properties[name] for name in names if name in properties), "")


def _answer(properties: Mapping[str, Any]) -> list[conversation.Message] | None:
    messages = conversation.read(_first(properties, "output_choices", "output_state"))
    choices = messages or []
    if len(choices) > 1 and all(message.role == "assistant" for message in choices) and "output_choices" in properties:
        for number, message in enumerate(choices, 1):
            message.name = message.name or f"choice {number} of {len(choices)}"
    return messages


def _tool_name(tool: Any) -> str:
    """The name of a tool in the request, as chat and as Responses give it; else its type."""
    found = [tool.get("function"), tool] if isinstance(tool, dict) else []
    names = [one.get("name") for one in found if isinstance(one, dict)]
    names += [tool.get("type")] if isinstance(tool, dict) else []
    return next((name for name in names if isinstance(name, str)), "tool")


def _later(queries: Queries, entries: list[Entry]) -> Iterator[conversation.Message]:
    """The inputs of the next calls of the trace: they contain the results of tools."""
    for entry in [one for one in entries if one.kind == "generation"][:LOOK_AHEAD]:
        full = queries.event(entry.uuid)
        if full is not None:
            yield from conversation.read(columns.ai_properties(full.event).get("input")) or []


def _without_empty(messages: list[conversation.Message] | None) -> list[conversation.Message] | None:
    return None if messages is None else [message for message in messages if message.parts]


def _instructions(
    properties: Mapping[str, Any], asked: list[conversation.Message] | None
) -> list[conversation.Message]:
    """The instructions, where the input does not begin with them anyway."""
    if not properties.get("instructions"):
        return []
    messages = conversation.read(properties["instructions"]) or []
    first = asked[0] if asked else None
    if first is not None and first.role in ("system", "developer") and messages and first.parts == messages[0].parts:
        return []
    return messages


_INPUT = (("cache_read_input_tokens", "read from cache"), ("cache_creation_input_tokens", "written to cache"),
          ("audio_input_tokens", "audio"), ("image_input_tokens", "images"))  # fmt: skip
_OUTPUT = (("reasoning_tokens", "reasoning"), ("audio_output_tokens", "audio"), ("image_output_tokens", "images"),
           ("text_output_tokens", "text"))  # fmt: skip


def _tokens(properties: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Name, number, and whether it is a part of the number above it."""
    for name, title, parts in (("input_tokens", "input", _INPUT), ("output_tokens", "output", _OUTPUT)):
        if isinstance(properties.get(name), (int, float)):
            yield title, properties[name], False
        for key, word in parts:
            if isinstance(properties.get(key), (int, float)) and properties[key]:
                yield word, properties[key], True
    searches = properties.get("web_search_count")
    if isinstance(searches, (int, float)) and searches:
        yield "web searches", searches, False


def _details(full: Full, properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Properties that are shown nowhere else on the page."""
    for key, title in (
        ("provider", "Provider"),
        ("model", "Model"),
        ("request_url", "URL"),
        ("http_status", "HTTP status"),
        ("stream", "Streamed"),
        ("stop_reason", "Finish reason"),
        ("service_tier", "Service tier"),
        ("span_type", "Type"),
        ("span_name", "Name"),
        ("tokens_source", "Tokens counted by"),
        ("session_id", "Session"),
        ("trace_id", "Trace"),
        ("span_id", "Span"),
        ("parent_id", "Parent"),
        ("lib", "Captured by"),
    ):
        value = properties.get(key)
        if value is not None and value != "":
            yield title, {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    if full.entry.user:
        yield "User", full.entry.user
    yield "Event", full.entry.uuid
