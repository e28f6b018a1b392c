"""The local store read for people: sums, plots, groups, lists, search, deletion."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from support.stored import NOON, call, span, write

from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export.local import LocalExporter
from posthog_autoinstrument.store import columns, database, schema
from posthog_autoinstrument.store.database import Store
from posthog_autoinstrument.store.prices import Prices
from posthog_autoinstrument.store.queries import Queries
from posthog_autoinstrument.store.results import Totals
from posthog_autoinstrument.store.retention import prune
from posthog_autoinstrument.store.schema import WORDS_BLOCK
from posthog_autoinstrument.store.selection import Selection

EVERYTHING = Selection()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.db"


def ready(path: Path) -> Queries:
    queries = Queries(path)
    while queries.refresh(5):
        pass
    return queries


def texts(path: Path, search: str) -> list[str | None]:
    with ready(path) as queries:
        return [entry.input_text for entry in queries.events(Selection(text=search)).entries]


# --- sums ---


def test_totals_are_of_calls_and_know_what_is_not_known(path: Path) -> None:
    write(
        path,
        [
            call(NOON, latency=1.0, time_to_first_token=0.25, cache_read_input_tokens=4),
            call(NOON + 10, latency=3.0, input_tokens=20, total_cost_usd=0.5, reasoning_tokens=2),
            call(NOON + 20, latency=2.0, input_tokens=None, output_tokens=None, is_error=True, http_status=429),
            call(NOON + 30, name="embedding", output_tokens=None, output_choices=None, latency=None),
            span(NOON + 40, latency=9.0, is_error=True),
        ],
    )
    with ready(path) as queries:
        assert queries.totals(EVERYTHING) == Totals(
            calls=4, errors=1, input_tokens=40, output_tokens=10, cached_tokens=4, reasoning_tokens=2,
            cost_usd=0.5, unpriced=2, first=NOON, last=NOON + 30,
            latency_p50_s=2.0, latency_p95_s=3.0, ttft_p50_s=0.25, ttft_p95_s=0.25,
        )  # fmt: skip
        assert queries.totals(Selection(errors=True)) == Totals(
            calls=1, errors=1, first=NOON + 20, last=NOON + 20, latency_p50_s=2.0, latency_p95_s=2.0
        )
        assert queries.totals(Selection(model="no such model")) == Totals()


def test_a_percentile_is_a_value_that_was_measured(path: Path) -> None:
    write(path, [call(NOON + number, latency=float(number)) for number in range(1, 101)])
    with ready(path) as queries:
        totals = queries.totals(EVERYTHING)
    assert (totals.latency_p50_s, totals.latency_p95_s) == (50.0, 95.0)


def test_a_series_has_no_gaps_and_adds_up(path: Path) -> None:
    write(path, [call(NOON + offset) for offset in (0, 5, 70, 3000)])
    with ready(path) as queries:
        series = queries.calls(EVERYTHING).series(points=60)
    assert (series.start, series.step_s) == (NOON, 60.0)
    assert [point.start for point in series.points] == [NOON + 60 * number for number in range(51)]
    assert {point.start - NOON: point.totals.calls for point in series.points if point.totals.calls} == {
        0: 2, 60: 1, 3000: 1,
    }  # fmt: skip
    assert series.points[1].totals.latency_p50_s == 1.0
    with Queries(path) as queries:
        assert queries.calls(Selection(model="none")).series().points == ()


def test_a_series_reaches_to_now_where_its_range_is_open(path: Path) -> None:
    write(path, [call(time.time() - 1800)])
    with ready(path) as queries:
        series = queries.calls(Selection(since="1h")).series(points=12)
    assert series.step_s == 300.0
    assert series.points[-1].start <= time.time() < series.points[-1].start + 2 * series.step_s
    assert sum(point.totals.calls for point in series.points) == 1


@pytest.mark.parametrize("when", [0.0, -62_135_596_800.0 + 86_400, 253_402_300_000.0])
def test_times_that_are_no_times_make_no_endless_series(path: Path, when: float) -> None:
    write(path, [call(NOON), call(when)])
    with ready(path) as queries:
        series = queries.calls(EVERYTHING).series()
        assert len(series.points) < 1000
        assert sum(point.totals.calls for point in series.points) >= 1


def test_groups_have_the_most_calls_first_and_the_nameless_too(path: Path) -> None:
    write(
        path,
        [
            call(model="a", user="ann"),
            call(model="a", user="bob", request_url="https://api.openai.com/v1/responses/resp_68af4030592c81938ec0a5"),
            call(model="a", user="bob"),
            call(model="b", user=None, trace_id="t2", latency=7.0),
            call(model=None, user=None, trace_id="t3", request_url=None),
        ],
    )
    with ready(path) as queries:
        grouped = {
            by: [(group.key, group.totals.calls) for group in queries.calls(EVERYTHING, by).groups(by)]
            for by in ("model", "user", "endpoint", "trace")
        }
        assert grouped["model"][0] == ("a", 3)
        assert set(grouped["model"]) == {("a", 3), ("b", 1), (None, 1)}
        assert set(grouped["user"]) == {("bob", 2), (None, 2), ("ann", 1)}
        assert set(grouped["endpoint"]) == {("/chat/completions", 3), ("/responses/:id", 1), (None, 1)}
        assert set(grouped["trace"]) == {("t1", 3), ("t2", 1), ("t3", 1)}
        slow = next(group for group in queries.calls(EVERYTHING, "model").groups("model") if group.key == "b")
        assert slow.totals.latency_p95_s == 7.0
        assert len(queries.calls(EVERYTHING, "trace").groups("trace", limit=2)) == 2
        # The group of those without a value is a filter, too.
        assert queries.totals(Selection(user="")).calls == 2
        assert queries.totals(Selection(model="")).calls == 1
        assert queries.choices("model") == ["b", "a"] or set(queries.choices("model")) == {"a", "b"}


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1/", "/chat/completions"),
        ("https://x.openai.azure.com/openai/deployments/my-gpt/chat/completions?api-version=1",
         "https://x.openai.azure.com/openai/", "/chat/completions"),
        ("http://127.0.0.1:8000/embeddings", "http://127.0.0.1:8000", "/embeddings"),
        ("https://x.ai/v1/threads/thread_abc123def456/runs", "https://x.ai/v1", "/threads/:id/runs"),
        ("http://[broken/x", "http://[broken", None),
        (7, None, None),
    ],
)  # fmt: skip
def test_the_endpoint_is_what_stands_below_the_base(path: Path, url: Any, base: Any, expected: str | None) -> None:
    write(path, [call(request_url=url, base_url=base)])
    with ready(path) as queries:
        assert [entry.endpoint for entry in queries.events(EVERYTHING).entries] == [expected]


# --- lists ---


def three_pages(read: Callable[..., Any], limit: int) -> tuple[list[Any], str]:
    """The first three pages of a list, and what the last of them names as the next."""
    pages, before = [], ""
    for _ in range(3):
        pages.append(read(EVERYTHING, before, limit=limit))
        before = pages[-1].next
    return pages, before


def test_traces_come_newest_first_and_page_by_page(path: Path) -> None:
    write(path, [call(NOON + 10 * trace + part, trace_id=f"t{trace}") for trace in range(7) for part in (0, 1, 2)])
    with ready(path) as queries:
        pages, before = three_pages(queries.traces, limit=3)
    seen = [[row.trace for row in page.rows] for page in pages]
    assert seen == [["t6", "t5", "t4"], ["t3", "t2", "t1"], ["t0"]]
    assert before == ""
    with Queries(path) as queries:
        assert len(queries.traces(EVERYTHING, before="nonsense_1e5", limit=3).rows) == 3
        assert len(queries.traces(EVERYTHING, before=f"{NOON + 1000}_{10**30}", limit=3).rows) == 3


def test_conversations_come_newest_first_and_page_by_page_also_at_one_time(path: Path) -> None:
    calls = [call(NOON + 10 * (chat // 2), session_id=f"s{chat}", input_tokens=chat) for chat in range(7)]
    write(path, [call(NOON + 5, session_id="s0", user="bob"), *calls, call(session_id=None), span(NOON + 99)])
    with ready(path) as queries:
        pages, before = three_pages(queries.sessions, limit=3)
        assert queries.sessions(EVERYTHING, before=f"{NOON + 5}_1", limit=3).rows[0].key == "s1"
        (of_bob,) = queries.sessions(Selection(user="bob")).rows
    seen = [[row.key for row in page.rows] for page in pages]
    assert seen == [["s6", "s5", "s4"], ["s3", "s2", "s0"], ["s1"]]
    assert before == ""
    assert (of_bob.key, of_bob.totals.calls, of_bob.totals.first, of_bob.totals.last) == ("s0", 1, NOON + 5, NOON + 5)


def test_a_trace_row_tells_of_the_whole_trace(path: Path) -> None:
    write(
        path,
        [
            call(NOON + 4, latency=1.0, parent_id="outer", session_id="s", input=[{"role": "user", "content": "A  b"}]),
            call(NOON + 6, latency=1.0, parent_id="outer", model="gpt-4o", is_error=True, input_tokens=None,
                 total_cost_usd=0.25),
            span(NOON + 7, "outer step", latency=5.0, span_id="outer"),
            span(NOON + 5, "inner step", latency=0.5, parent_id="outer"),
        ],
    )  # fmt: skip
    with ready(path) as queries:
        (row,) = queries.traces(Selection(errors=True)).rows
        entries = queries.trace("t1")
    assert (row.trace, row.started, row.ended, row.duration_s) == ("t1", NOON + 2, NOON + 7, 5.0)
    assert (row.events, row.calls, row.errors) == (4, 2, 1)
    assert (row.input_tokens, row.output_tokens, row.cost_usd, row.unpriced) == (10, 10, 0.25, 1)
    assert (row.user, row.session, row.name, row.input_text) == ("ann", "s", "outer step", "A b")
    assert row.models == ("gpt-4o-mini", "gpt-4o")
    assert [(entry.kind, entry.name) for entry in entries] == [
        ("span", "outer step"), ("generation", None), ("span", "inner step"), ("generation", None),
    ]  # fmt: skip
    assert [entry.is_call for entry in entries] == [False, True, False, True]


def test_a_trace_named_by_the_program_has_that_name(path: Path) -> None:
    write(path, [span(NOON, "a step"), call(NOON + 1, name="trace", span_name="Order 7", model=None)])
    with ready(path) as queries:
        assert [row.name for row in queries.traces(EVERYTHING).rows] == ["Order 7"]


def test_events_come_newest_first_and_page_by_page_also_at_one_time(path: Path) -> None:
    write(path, [call(NOON, input=[{"role": "user", "content": str(number)}]) for number in range(5)])
    with ready(path) as queries:
        pages, before = three_pages(queries.events, limit=2)
    seen = [[entry.input_text for entry in page.entries] for page in pages]
    assert (seen, before) == ([["4", "3"], ["2", "1"], ["0"]], "")


def test_one_event_comes_whole(path: Path) -> None:
    event = call(parent_id="p", span_name="n", session_id="s")
    write(path, [event])
    with ready(path) as queries:
        full = queries.event(event["uuid"])
        assert full is not None
        assert full.event == event
        assert (full.entry.uuid, full.entry.parent, full.entry.name) == (event["uuid"], "p", "n")
        assert (full.entry.status, full.entry.started, full.entry.output_text) == (200, NOON - 1.0, "Good morning")
        assert queries.event("nope") is None
        assert queries.event("\ud800") is None


def test_the_version_changes_with_what_is_written(path: Path) -> None:
    write(path, [call(NOON + 100)])
    with ready(path) as queries:
        version = queries.version()
        assert queries.version() == version
        write(path, [call(NOON, user="late"), call(NOON + 1, user="later")])
        assert queries.version() != version


def test_export_gives_the_selection_oldest_first(path: Path) -> None:
    events = [call(NOON + number // 3, user=f"u{number % 2}") for number in range(450)]
    write(path, events)
    with ready(path) as queries:
        assert [event["uuid"] for event in queries.export(Selection(user="u1"))] == [
            event["uuid"] for event in events[1::2]
        ]


# --- filters ---


@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(since="24h", until="2026-11-25T10:00:00+00:00", model="gpt-4o", errors=True, text="a & b = c"),
        Selection(user="", model="", endpoint="/x", trace="t", session="s", kind="span"),
        Selection(user="<script>alert(1)</script>", text='"; DROP TABLE events --'),
    ],
)
def test_a_selection_goes_through_a_url(selection: Selection) -> None:
    assert Selection.from_query(selection.to_query()) == selection
    assert Selection.from_query("?" + selection.to_query()) == selection


def test_a_query_that_says_nothing_or_nonsense_selects_everything() -> None:
    assert Selection().to_query() == ""
    assert Selection.from_query("since=yesterday-ish&until=&nope=1&errors=0&token=x") == Selection()
    assert Selection.from_query({"q": "words", "errors": "true"}) == Selection(text="words", errors=True)
    assert Selection.from_query("model=" + "x" * 5000).model == "x" * 1000


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("", "", [1, 2, 3]),
        ("2026-11-23T12:00:01Z", "", [2, 3]),
        (str(NOON + 1), str(NOON + 2), [2]),
        ("", "2026-11-23T13:00:02+01:00", [1, 2]),
        ("2026-11-24", "", []),
    ],
)
def test_a_time_range_includes_its_begin_and_not_its_end(
    path: Path, since: str, until: str, expected: list[int]
) -> None:
    write(path, [call(NOON + number - 1, input_tokens=number) for number in (1, 2, 3)])
    with ready(path) as queries:
        found = queries.events(Selection(since=since, until=until)).entries
    assert sorted(entry.input_tokens or 0 for entry in found) == expected


@pytest.mark.parametrize("ago", ["90s", "2m", "1h", "1d", "1w"])
def test_a_time_range_ends_now(path: Path, ago: str) -> None:
    write(path, [call(time.time() - 60), call(time.time() - 30 * 86_400)])
    with ready(path) as queries:
        assert len(queries.events(Selection(since=ago)).entries) == 1


# --- search ---


def said(*contents: str) -> list[dict[str, Any]]:
    return [
        call(NOON + number, input=[{"role": "user", "content": content}]) for number, content in enumerate(contents)
    ]


def test_search_finds_words_and_their_beginnings_wherever_they_stand(path: Path) -> None:
    write(
        path,
        [
            *said("The quick brown fox", "Über den Wolken"),
            call(NOON + 5, input="x", output_choices=[{"role": "assistant", "content": [{"text": "zebra"}]}]),
            call(NOON + 6, input="y", user="carla@example.com", model="claude-sonnet"),
            call(NOON + 7, input="z", error="rate limit exceeded", is_error=True),
            span(NOON + 8, "look it up", input_state={"question": "giraffes"}),
        ],
    )  # fmt: skip
    assert texts(path, "fox quick") == ["The quick brown fox"]
    assert texts(path, "QUI bro") == ["The quick brown fox"]
    assert texts(path, "quick zebra") == []
    assert texts(path, "uber") == ["Über den Wolken"]
    assert texts(path, "zebra") == ["x"]
    assert texts(path, "carla@example.com") == ["y"]
    assert texts(path, "claude-son") == ["y"]
    assert texts(path, "rate exceeded") == ["z"]
    assert texts(path, "giraf") == ['[look it up] {"question": "giraffes"}']
    assert texts(path, "user assistant") == []  # roles are no words of anybody's
    with Queries(path) as queries:
        assert queries.totals(Selection(text="quick")).calls == 1
        assert [row.trace for row in queries.traces(Selection(text="zebra")).rows] == ["t1"]
        assert [event["distinct_id"] for event in queries.export(Selection(text="carla"))] == ["carla@example.com"]


@pytest.mark.parametrize(
    "typed",
    ['"', '""', '"a', "a AND", "OR", "NOT b", "NEAR(a b)", "a*", "*", "^a", "text:a", "-a", "(a", "a)", "a + b",
     "{a}", "'", "';--", "\x00", "a\x00b", "%", "_", "!", "\\", "\ud800", "🦜", "e\u0301", "日本", " ", "a " * 200],
)  # fmt: skip
def test_whatever_is_typed_is_no_error(path: Path, typed: str) -> None:
    write(path, said('a "b" NOT 100% _ ! \\ 🦜 日本語'))
    with ready(path) as queries:
        for selection in (Selection(text=typed), Selection.from_query({"q": typed})):
            queries.events(selection)
            queries.traces(selection)
            queries.sessions(selection)
            queries.totals(selection)


@pytest.mark.parametrize("typed", ["日本", "%", '"', "\\", "100%", "!", "🦜"])
def test_what_no_index_of_words_has_is_looked_for_in_the_events(path: Path, typed: str) -> None:
    write(path, [*said('a "b" NOT 100% _ ! \\ 🦜 日本語'), call(input="plain", span_id="s", trace_id="t")])
    assert texts(path, typed) == ['a "b" NOT 100% _ ! \\ 🦜 日本語']


def test_without_fts5_the_events_are_looked_through(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posthog_autoinstrument.store import search

    write(path, said("The quick brown fox", "slow"))
    monkeypatch.setattr(search, "has_fts5", lambda store: False)
    assert texts(path, "quick fox") == ["The quick brown fox"]
    assert texts(path, 'no"thing') == []


def test_search_goes_over_many_blocks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posthog_autoinstrument.store import search

    monkeypatch.setattr(search, "WORDS_BLOCK", 16)
    write(path, said(*(f"word{number} common" for number in range(50))))
    assert texts(path, "word3") == [f"word{number} common" for number in (*range(39, 29, -1), 3)]
    with Queries(path) as queries:
        assert len(queries.events(Selection(text="common")).entries) == 50


# --- what goes is gone ---


def raw(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_deleted_days_take_their_words_along(path: Path) -> None:
    old, new = time.time() - 40 * 86_400, time.time() - 86_400
    secret = [{"role": "user", "content": "xylophone"}]
    write(path, [call(old, input=secret, user="leaving"), call(new, input="kept", user="staying")])
    assert texts(path, "xylophone") == ["xylophone"]
    version = Queries(path).version()
    write(path, [call(time.time())], max_age_days=30)
    with Queries(path) as queries:
        assert queries.version() != version
    for word in (b"xylophone", b"leaving"):
        assert word not in raw(path)
    assert b"staying" in raw(path)
    assert texts(path, "xylophone") == []
    assert texts(path, "kept") == ["kept"]  # of the same block of the index: made again


def test_the_oldest_days_go_first(path: Path) -> None:
    days = [time.time() - ago * 86_400 for ago in (4, 3, 2, 1)]
    for day in days:
        write(path, [call(day - number, input="x" * 30_000) for number in range(10)])
    with Store(path) as store:
        assert prune(store, max_bytes=850_000) in (10, 20)  # days of UTC: ten seconds may lie on both sides
        kept = [epoch for (epoch,) in store.rows("SELECT epoch FROM events ORDER BY epoch")]
        assert store.rows("SELECT count(*) FROM facts") == [(len(kept),)]
    assert min(kept) > days[0]
    assert len(kept) >= 20


def test_delete_all_leaves_nothing_in_the_files(path: Path) -> None:
    write(path, said(*(f"mandolin {number}" for number in range(300))))
    with ready(path) as queries:
        assert queries.totals(Selection(text="mandolin")).calls == 300
        number = queries.events(EVERYTHING).entries[0].number
        assert queries.delete_all() == 300
        assert queries.totals(EVERYTHING) == Totals()
        assert queries.events(Selection(text="mandolin")).entries == ()
        assert queries.delete_all() == 0
    assert b"mandolin" not in raw(path)
    assert path.stat().st_size < 200_000
    write(path, said("after"))
    with ready(path) as queries:
        assert [entry.input_text for entry in queries.events(Selection(text="after")).entries] == ["after"]
        assert queries.events(EVERYTHING).entries[0].number > number


def test_an_index_that_this_sqlite_cannot_read_is_emptied(path: Path) -> None:
    write(path, said("xylophone"))
    assert texts(path, "xylophone") == ["xylophone"]
    # As a process sees it whose SQLite has no FTS5, or an older one: the format is a newer one's.
    connection = sqlite3.connect(path)
    connection.execute("UPDATE words_0_config SET v = 99 WHERE k = 'version'")
    connection.commit()
    with pytest.raises(sqlite3.DatabaseError):
        connection.execute("SELECT rowid FROM words_0 WHERE words_0 MATCH 'xylophone'").fetchall()
    connection.close()
    with Store(path) as store:
        assert prune(store, max_age_days=0) == 1
    assert b"xylophone" not in raw(path)
    write(path, said("violin"))
    assert texts(path, "violin") == ["violin"]


# --- files of before, and of many ---


def store_of_version_2(path: Path, events: list[dict[str, Any]]) -> None:
    """A file as the version before this table wrote it."""
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for statements in schema.MIGRATIONS[:2]:
        for statement in statements:
            connection.execute(statement)
    connection.execute("PRAGMA user_version = 2")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    for event in events:
        properties = event["properties"]
        row = (event["uuid"], event["timestamp"], time.time(), event["event"], event["distinct_id"],
               properties.get("$ai_trace_id"), properties.get("$ai_model"), 0, json.dumps(event))  # fmt: skip
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute("INSERT INTO events VALUES ('bad', '', 1.0, 'e', NULL, NULL, NULL, 0, 'no JSON')")
    connection.commit()
    connection.close()


def test_a_file_of_an_earlier_version_gets_its_columns_from_the_reader(path: Path) -> None:
    old = [call(NOON + number, latency=float(number)) for number in range(450)]
    store_of_version_2(path, old)
    write(path, [call(NOON + 1000, user="new")])
    with Store(path) as store:
        assert store.rows("SELECT count(*) FROM facts") == [(1,)]
    with ready(path) as queries:
        totals = queries.totals(EVERYTHING)
        assert (totals.calls, totals.input_tokens, totals.last) == (451, 4510, NOON + 1000)
        assert len(list(queries.export(EVERYTHING))) == 451
        assert queries.refresh() == 0


def test_two_readers_make_the_columns_of_an_earlier_version_once(path: Path) -> None:
    store_of_version_2(path, [call(NOON + number, input=f"only once {number}") for number in range(450)])
    program = (
        "import sys\nfrom posthog_autoinstrument.store.queries import Queries\n"
        "while True:\n    with Queries(sys.argv[1]) as queries:\n        if not queries.refresh(0.01): break\n"
    )
    readers = [start(program, str(path)) for _ in range(3)]
    for reader in readers:
        _, errors = reader.communicate(timeout=100)
        assert (reader.returncode, errors) == (0, b"")
    with Queries(path) as queries:
        assert queries.totals(EVERYTHING).calls == 450
        numbers = [entry.number for entry in queries.events(Selection(text="once"), limit=1000).entries]
        assert len(numbers) == len(set(numbers)) == 450


def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    root = Path(database.__file__).parent.parent
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=root, env=environ, stderr=subprocess.PIPE)


WRITER = """
import json, sys, uuid, time
from datetime import datetime, timezone
from posthog_autoinstrument.store import columns
from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export.local import LocalExporter
sink = LocalExporter(sys.argv[1], columns.summary, max_bytes=1_500_000)
until = time.monotonic() + 4
while time.monotonic() < until:
    batch = []
    for _ in range(20):
        name = str(uuid.uuid4())
        body = {"event": "$ai_generation", "uuid": name, "timestamp": datetime.now(timezone.utc).isoformat(),
                "distinct_id": "u", "properties": {"$ai_trace_id": name[:2], "$ai_input": "many words " * 200}}
        batch.append(EncodedEvent(name, "$ai_generation", json.dumps(body).encode()))
    while (result := sink.send(batch, 20)).kind == "retry":  # the others had the file for all of that time
        pass
    assert result.kind == "delivered", result
"""
READER = """
import sys, time
from posthog_autoinstrument.store.queries import Queries, Selection
until = time.monotonic() + 4
while time.monotonic() < until:
    with Queries(sys.argv[1]) as queries:
        queries.refresh(0.05)
        queries.traces(Selection(text="many"))
        queries.calls(Selection(since="1h")).series()
        sum(1 for _ in queries.export(Selection(text="words")))
        if sys.argv[2] == "delete":
            queries.delete_all()
            time.sleep(0.3)
"""


def test_programs_write_the_page_reads_and_somebody_deletes_at_once(path: Path) -> None:
    """Nobody is told that the file is locked, and the file is sound and bounded."""
    running = [start(WRITER, str(path)) for _ in range(2)]
    running += [start(READER, str(path), what) for what in ("read", "delete")]
    ended = [(process.communicate(timeout=100)[1].decode(), process.returncode) for process in running]
    assert ended == [("", 0)] * len(running)
    with ready(path) as queries:
        calls = queries.totals(EVERYTHING).calls
        assert queries.totals(Selection(text="many words")).calls == calls
    with Store(path) as store:
        assert store.rows("PRAGMA integrity_check") == [("ok",)]
        assert store.rows("SELECT count(*) FROM events") == [(calls,)]
        assert store.used_bytes() < 3_000_000


# --- indices ---


@pytest.mark.parametrize(
    ("selection", "index"),
    [
        (EVERYTHING, "facts_epoch"),
        (Selection(since="24h"), "facts_epoch"),
        (Selection(model="gpt-4o", errors=True), "facts_epoch"),
        (Selection(user="ann"), "facts_user"),
        (Selection(trace="t1"), "facts_trace"),
    ],
)
def test_lists_use_indices(path: Path, monkeypatch: pytest.MonkeyPatch, selection: Selection, index: str) -> None:
    write(path, [call(NOON + number) for number in range(10)])
    asked: list[tuple[str, Any]] = []
    rows = Store.rows

    def noting(self: Store, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
        asked.append((query, values))
        return rows(self, query, values)

    monkeypatch.setattr(Store, "rows", noting)
    with ready(path) as queries:
        asked.clear()
        queries.events(selection)
        queries.traces(selection)
        if selection.since or selection.user or selection.trace:
            queries.totals(selection)
        plans = {
            query: [step[3] for step in rows(queries._store, f"EXPLAIN QUERY PLAN {query}", values)]
            for query, values in asked
        }
    assert plans
    for query, steps in plans.items():
        assert not any(step.startswith("SCAN f") and "USING" not in step for step in steps), (query, steps)
    lists = [steps for query, steps in plans.items() if "ORDER BY f.epoch DESC" in query]
    assert len(lists) == 2
    for steps in lists:
        assert index in steps[0], steps
        assert not any("TEMP B-TREE" in step for step in steps), steps


def test_numbers_of_a_deleted_row_are_not_used_again(path: Path) -> None:
    write(path, [call(NOON), call(time.time())])
    with Store(path) as store:
        (last,) = store.rows("SELECT max(number) FROM facts")
        store.run("DELETE FROM facts WHERE number = ?", last)
        store.add([columns.make_row(EncodedEvent("u", "e", b"{}"), columns.summary)])
        assert store.rows("SELECT max(number) FROM facts") == [(last[0] + 1,)]
        assert last[0] < WORDS_BLOCK


# --- what others write ---

JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats()
    | some.text()
    | some.sampled_from(["\ud800", "\x00", "9" * 400, 10**400, -1, 2**63, 1e308, "<script>", "' OR 1=1 --"]),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["model", "provider", "base_url", "request_url", "trace_id", "span_id", "parent_id", "session_id", "span_name",
         "input", "output_choices", "input_state", "output_state", "input_tokens", "output_tokens", "reasoning_tokens",
         "cache_read_input_tokens", "latency", "time_to_first_token", "http_status", "is_error", "error",
         "total_cost_usd", "service_tier", "audio_input_tokens", "web_search_count"]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    properties=some.dictionaries(some.sampled_from(NAMES), JSON, max_size=6),
    name=some.sampled_from(["generation", "span", "trace", "metric", "feedback"]),
    user=JSON,
    when=JSON,
)
def test_events_of_any_values_are_stored_and_shown(
    tmp_path: Path, properties: dict[str, Any], name: str, user: Any, when: Any
) -> None:
    path = tmp_path / "any" / "events.db"
    event = {**call(name=name, **properties), "distinct_id": user, "timestamp": when}
    body = json.dumps(event)
    outcome = LocalExporter(path, columns.summary, max_age_days=1e6).send(
        [EncodedEvent(event["uuid"], "e", body.encode())], 30
    )
    assert outcome.kind == "delivered", outcome
    with Queries(path, Prices.load(None)) as queries:
        while queries.refresh(5):
            pass
        assert queries.event(event["uuid"]) is not None
        entries = queries.events(EVERYTHING, limit=1000).entries
        (found,) = [entry for entry in entries if entry.uuid == event["uuid"]]
        assert found.input_tokens is None or 0 <= found.input_tokens < 2**53
        assert found.latency_s is None or found.latency_s >= 0
        if found.trace is not None:
            assert found.uuid in {entry.uuid for entry in queries.trace(found.trace)}
            assert found.uuid in {e.uuid for e in queries.events(Selection(trace=found.trace), limit=1000).entries}
        if found.model:
            assert Selection.from_query(Selection(model=found.model).to_query()) is not None
            queries.totals(Selection(model=found.model))
        for by in ("model", "user", "endpoint", "trace", "provider", "session"):
            queries.calls(EVERYTHING, by).groups(by)  # type: ignore[arg-type]
        queries.calls(EVERYTHING).series()
        queries.traces(EVERYTHING)
        queries.sessions(EVERYTHING)
        assert event["uuid"] in {one["uuid"] for one in queries.export(EVERYTHING)}


def test_privacy_mode_keeps_contents_out_of_the_file_and_its_index(run_program: Callable[..., Any], path: Path) -> None:
    source = """
        import openai
        client = openai.OpenAI()
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "xylophone lessons"}])
        client.embeddings.create(model="text-embedding-3-small", input="xylophone")
    """
    environ = {"POSTHOG_AUTOINSTRUMENT_DB": str(path)}
    run_program(source, token=False, env={**environ, "POSTHOG_PRIVACY_MODE": "1"})
    with ready(path) as queries:
        assert queries.totals(EVERYTHING).calls == 2
        assert [entry.input_text for entry in queries.events(EVERYTHING).entries] == [None, None]
        assert queries.traces(EVERYTHING).rows[0].input_text is None
    assert texts(path, "xylophone") == []
    assert len(texts(path, "gpt-4o")) == 1
    assert b"xylophone" not in raw(path)
    run_program(source, token=False, env=environ)
    assert texts(path, "xylophone") == ["xylophone", "xylophone lessons"]
