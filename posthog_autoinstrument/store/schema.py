"""What the file of the local store looks like: its tables, version by version, and the columns of one event."""

from __future__ import annotations

from typing import Any, NamedTuple

APPLICATION_ID = 0x50484149
"""Distinguishes our files from other programs' SQLite files: "PHAI"."""


class Column(NamedTuple):
    """One column of the table `facts`."""

    name: str
    definition: str
    """Type and constraints in SQL."""
    of_field: str = ""
    """The field of `EventSummary` and `Entry` with its value, where it has another name."""

    @property
    def field(self) -> str:
        return self.of_field or self.name


COLUMNS = (
    Column("epoch", "REAL NOT NULL"),
    Column("kind", "TEXT NOT NULL"),
    Column("is_error", "INTEGER NOT NULL"),
    Column("model", "TEXT"),
    Column("provider", "TEXT"),
    Column("endpoint", "TEXT"),
    Column("user", "TEXT"),
    Column("input_tokens", "INTEGER"),
    Column("output_tokens", "INTEGER"),
    Column("cached_tokens", "INTEGER"),
    Column("reasoning_tokens", "INTEGER"),
    Column("latency_s", "REAL"),
    Column("ttft_s", "REAL"),
    Column("cost_usd", "REAL"),
    Column("priced", "INTEGER NOT NULL"),
    Column("status", "INTEGER"),
    Column("trace_id", "TEXT", "trace"),
    Column("session_id", "TEXT", "session"),
    Column("span_id", "TEXT", "span"),
    Column("parent_id", "TEXT", "parent"),
    Column("name", "TEXT"),
    Column("uuid", "TEXT NOT NULL UNIQUE"),
    Column("words", "TEXT", "input_text"),
    Column("answer", "TEXT", "output_text"),
)
"""What lists and sums need of an event, beside its body: a column that stands behind a body is read through all of it.

`user`: the distinct id, None where the event is anonymous. `priced`: the cost is known, or cannot become known. `words`
and `answer`: the first words of input and output. All of them are of version 3; the CREATE TABLE of a file of version 3
must not change, so a later column needs a migration of its own.
"""

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
        # AUTOINCREMENT: no number is used twice, so a row with a larger number is a newer one.
        "CREATE TABLE facts (number INTEGER PRIMARY KEY AUTOINCREMENT, "
        + ", ".join(f"{column.name} {column.definition}" for column in COLUMNS)
        + ")",
        "CREATE INDEX facts_epoch ON facts (epoch)",
        "CREATE INDEX facts_trace ON facts (trace_id, epoch)",
        "CREATE INDEX facts_user ON facts (user, epoch)",
        "CREATE INDEX facts_unpriced ON facts (number) WHERE priced = 0",
        # Up to which number the events of each block are indexed; see `search.py`.
        "CREATE TABLE worded (block INTEGER PRIMARY KEY, last INTEGER NOT NULL)",
        "CREATE TABLE marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        # Events of an earlier version have no row in `facts`: `backfill.py` adds it.
        "INSERT INTO marks SELECT 'without facts', coalesce(max(rowid), 0) FROM events",
    ),
)
"""Statements of each version; `PRAGMA user_version` is the number of versions that ran. Only ever append."""

WORDS_BLOCK = 4096
"""How many numbers share one full-text index. An index is dropped as a whole: single words would stay in its pages."""


class Row(NamedTuple):
    """One event as it is stored."""

    uuid: str
    event: tuple[Any, ...]
    """The values of its row in `events`: the whole event as JSON is the last one."""
    columns: tuple[Any, ...]
    """The values of `COLUMNS`."""


ADD_EVENT = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
ADD_COLUMNS = (
    f"INSERT OR IGNORE INTO facts ({', '.join(column.name for column in COLUMNS)})"
    f" VALUES ({', '.join('?' * len(COLUMNS))})"
)
