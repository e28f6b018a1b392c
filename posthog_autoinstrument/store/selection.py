"""A selection of events: a time range and filters, as URL parameters and as an SQL condition on the table `facts`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl, urlencode

from .columns import storable

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGO = re.compile(r"(\d{1,6})([smhdw])")
_MAX_VALUE_CHARS = 1_000


@dataclass(frozen=True)
class Selection:
    """Filters; the default is everything. For model, user, endpoint and session None is "any" and "" is "without"."""

    since: str = ""
    """`15m`, `24h`, `7d`, `4w` ago, an ISO 8601 time or date, or epoch seconds; "": from the beginning."""
    until: str = ""
    """The same, exclusive; "": open."""
    model: str | None = None
    user: str | None = None
    endpoint: str | None = None
    trace: str | None = None
    session: str | None = None
    kind: str | None = None
    """As `EventSummary.kind`."""
    errors: bool = False
    """Only events that failed."""
    text: str = ""
    """Words that must all be in the event, in any order; the parameter's name is `q`."""

    @classmethod
    def from_query(cls, query: str | Mapping[str, str]) -> Selection:
        """The selection in a URL's query. Unknown parameters and invalid times are ignored; never raises."""
        if isinstance(query, str):
            query = dict(parse_qsl(query.lstrip("?"), keep_blank_values=True))
        found: dict[str, Any] = {}
        for field in fields(cls):
            value = query.get("q" if field.name == "text" else field.name)
            if value is None:
                continue
            value = value[:_MAX_VALUE_CHARS]
            if field.name == "errors":
                found["errors"] = value.lower() in ("1", "true", "yes", "on")
            elif field.name not in ("since", "until") or parse_time(value, 0.0) is not None:
                found[field.name] = value
        return cls(**found)

    def to_query(self) -> str:
        """The query that `from_query` reads, always in the same order; "" for everything."""
        default = Selection()
        pairs = {
            "q" if field.name == "text" else field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(default, field.name)
        }
        return urlencode({name: "1" if value is True else value for name, value in pairs.items()}, errors="replace")

    def but(self, **changes: Any) -> Selection:
        """This selection with other values in some fields."""
        return replace(self, **changes)

    def span(self, now: float) -> tuple[float | None, float | None]:
        """Begin and end in epoch seconds; None where it is open."""
        return parse_time(self.since, now), parse_time(self.until, now)


def parse_time(text: str, now: float) -> float | None:
    """A time in epoch seconds: from `24h` (ago), ISO 8601 (UTC if it has no offset) or epoch seconds.

    None for anything else.
    """
    text = text.strip()
    ago = _AGO.fullmatch(text)
    if ago:
        return now - int(ago[1]) * _UNITS_S[ago[2]]
    if re.fullmatch(r"\d{9,11}(\.\d{1,6})?", text):
        return float(text)
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not read "Z"
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def condition(selection: Selection, now: float, alias: str = "f") -> tuple[str, dict[str, Any]]:
    """The selection without its text as an SQL condition on the table `facts`, and its parameters."""
    since, until = selection.span(now)
    parts = ["1"]
    values: dict[str, Any] = {}
    for part, name, value in (
        ("epoch >= :since", "since", since),
        ("epoch < :until", "until", until),
        ("trace_id = :trace", "trace", selection.trace),
        ("kind = :kind", "kind", selection.kind),
    ):
        if value is not None:
            parts.append(f"{alias}.{part}")
            values[name] = storable(value)
    for name, column in (("model", "model"), ("user", "user"), ("endpoint", "endpoint"), ("session", "session_id")):
        value = getattr(selection, name)
        if value == "":
            parts.append(f"{alias}.{column} IS NULL")
        elif value is not None:
            parts.append(f"{alias}.{column} = :{name}")
            values[name] = storable(value)
    if selection.errors:
        parts.append(f"{alias}.is_error = 1")
    return " AND ".join(parts), values
