"""What the file of the local store looks like: its tables, numbered from the first version on, and one row of them."""

from __future__ import annotations

import operator
from typing import NamedTuple

APPLICATION_ID = 0x50484149
"""Tells our files from other programs' SQLite files: "PHAI"."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE events (
            uuid TEXT PRIMARY KEY,
            timestamp TEXT NOT NULL,
            epoch REAL NOT NULL,
            event TEXT NOT NULL,
            distinct_id TEXT,
            trace_id TEXT,
            model TEXT,
            is_error INTEGER NOT NULL,
            body TEXT NOT NULL
        )""",
        "CREATE INDEX events_epoch ON events (epoch)",
        "CREATE INDEX events_trace_id ON events (trace_id)",
    ),
    ("CREATE TABLE sent (project TEXT NOT NULL, uuid TEXT NOT NULL, PRIMARY KEY (project, uuid)) WITHOUT ROWID",),
    (
        # What lists and sums need, beside the bodies: a column that stands behind a body is read through all of it.
        # A number is never used twice, so "after this number" is "new since then".
        """CREATE TABLE facts (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            epoch REAL NOT NULL,
            kind TEXT NOT NULL,
            is_error INTEGER NOT NULL,
            model TEXT,
            provider TEXT,
            endpoint TEXT,
            user TEXT,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cached_tokens INTEGER,
            reasoning_tokens INTEGER,
            latency_s REAL,
            ttft_s REAL,
            cost_usd REAL,
            priced INTEGER NOT NULL,
            status INTEGER,
            trace_id TEXT,
            session_id TEXT,
            span_id TEXT,
            parent_id TEXT,
            name TEXT,
            uuid TEXT NOT NULL UNIQUE,
            words TEXT,
            answer TEXT
        )""",
        "CREATE INDEX facts_epoch ON facts (epoch)",
        "CREATE INDEX facts_trace ON facts (trace_id, epoch)",
        "CREATE INDEX facts_user ON facts (user, epoch)",
        "CREATE INDEX facts_unpriced ON facts (number) WHERE priced = 0",
        # Blocks of numbers whose words are indexed, up to which number; see `viewer/words.py`.
        "CREATE TABLE worded (block INTEGER PRIMARY KEY, last INTEGER NOT NULL)",
        "CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        # Rows of an earlier version have no facts: whoever reads first makes them (`Queries.refresh`).
        "INSERT INTO marks SELECT 'without facts', coalesce(max(rowid), 0) FROM events",
    ),
)
"""Statements of each version; `PRAGMA user_version` counts the ones that ran. Only ever add to the end."""

WORDS_BLOCK = 4096
"""How many numbers share one index of words. An index goes as a whole: single words would linger in its pages."""


class Row(NamedTuple):
    """One event as it is stored: the event, then what lists and sums need of it. `None` is "not known"."""

    uuid: str
    timestamp: str
    """ISO 8601, UTC."""
    epoch: float
    """The same time in seconds since 1970."""
    event: str
    distinct_id: str | None
    trace_id: str | None
    model: str | None
    is_error: bool
    body: str
    """The whole event as JSON."""
    kind: str = ""
    """As `EventSummary.kind`."""
    provider: str | None = None
    endpoint: str | None = None
    user: str | None = None
    """The distinct id, unless it only stands in for somebody whom nobody named."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    cost_usd: float | None = None
    priced: bool = False
    """There is nothing to find out about the cost."""
    status: int | None = None
    session_id: str | None = None
    span_id: str | None = None
    parent_id: str | None = None
    name: str | None = None
    words: str | None = None
    """First words of the input."""
    answer: str | None = None
    """First words of the output."""


FACTS = (
    "epoch", "kind", "is_error", "model", "provider", "endpoint", "user", "input_tokens", "output_tokens",
    "cached_tokens", "reasoning_tokens", "latency_s", "ttft_s", "cost_usd", "priced", "status", "trace_id",
    "session_id", "span_id", "parent_id", "name", "uuid", "words", "answer",
)  # fmt: skip
ADD_EVENT = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
ADD_FACTS = f"INSERT OR IGNORE INTO facts ({', '.join(FACTS)}) VALUES ({', '.join('?' * len(FACTS))})"
facts_of = operator.attrgetter(*FACTS)
"""The values of a row that go into the table of facts."""
