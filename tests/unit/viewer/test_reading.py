"""How the page reads what events hold: conversations, traces, figures, text. Pure functions, so tables of examples."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.features import needs

pytest.importorskip("jinja2")

from posthog_autoinstrument.core import formatting
from posthog_autoinstrument.store.prices import Prices
from posthog_autoinstrument.store.queries import Queries
from posthog_autoinstrument.store.results import Entry, Point, Series, Totals
from posthog_autoinstrument.store.selection import Selection
from posthog_autoinstrument.store.sums import By
from posthog_autoinstrument.viewer import charts, conversation, downloads, trace_tree

WEATHER = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}


def read(content: Any) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Each message: its role, and its parts as (kind, title, text)."""
    messages = conversation.read(content)
    assert messages is not None
    return [(one.role, [(part.kind, part.title, part.text) for part in one.parts]) for one in messages]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("Hello", [("input", [("text", "", "Hello")])]),
        (["one", "two"], [("input", [("text", "", "one")]), ("input", [("text", "", "two")])]),
        ([[1, 2, 3]], [("input", [("text", "", "3 token ids: 1, 2, 3")])]),
        ("", []),
        ([], []),
        ([{"role": "user", "content": "Hi"}], [("user", [("text", "", "Hi")])]),
        ([{"role": "user", "content": ""}], [("user", [("text", "", "")])]),
        ([{"role": "assistant", "content": None, "refusal": "No."}], [("assistant", [("refusal", "", "No.")])]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "Look"}, {"type": "input_image", "image_url":
              "[base64 image redacted, 12 bytes]"}]}],
            [("user", [("text", "", "Look"), ("media", "image · [base64 image redacted, 12 bytes]", "")])],
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.test/a.png", "detail":
              "low"}}]}],
            [("user", [("media", "image · low · https://e.test/a.png", "")])],
        ),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"filename": "a.pdf", "file_data":
              "[base64 file redacted, 9 bytes]"}}]}],
            [("user", [("media", "file · a.pdf · [base64 file redacted, 9 bytes]", "")])],
        ),
        (
            [{"role": "assistant", "content": None, "audio": {"id": "a", "data": "[base64 audio redacted, 5 bytes]",
              "transcript": "Hello there"}}],
            [("assistant", [("media", "audio · [base64 audio redacted, 5 bytes]", "Hello there")])],
        ),
        (
            [{"role": "assistant", "content": None, "tool_calls": [WEATHER]}],
            [("assistant", [("call", "weather", '{\n  "city": "Rome"\n}')])],
        ),
        (
            [{"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}, "content": ""}],
            [("assistant", [("call", "old", "{}")])],
        ),
        (
            [{"role": "assistant", "content": [WEATHER]}],
            [("assistant", [("call", "weather", '{\n  "city": "Rome"\n}')])],
        ),
        (
            [{"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "not JSON"}],
            [("assistant", [("call", "weather", "not JSON")])],
        ),
        (
            [{"type": "function_call_output", "call_id": "c1", "output": "sunny"}],
            [("tool", [("result", "", "sunny")])],
        ),
        (
            [{"type": "custom_tool_call", "call_id": "c2", "name": "shell", "input": "ls -l"}],
            [("assistant", [("call", "shell", "ls -l")])],
        ),
        (
            [{"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "tram 28"}}],
            [("assistant", [("call", "web_search", '{\n  "type": "search",\n  "query": "tram 28"\n}')])],
        ),
        (
            [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "First"}, {"type": "summary_text",
              "text": "Second"}]}],
            [("assistant", [("reasoning", "", "First\n\nSecond")])],
        ),
        (
            [{"type": "reasoning", "summary": [], "encrypted_content": "x"}],
            [("assistant", [("reasoning", "", "(the provider keeps it to itself)")])],
        ),
        (
            [{"role": "assistant", "content": [{"type": "image_generation_call", "id": "i", "result":
              "[base64 image redacted, 7 bytes]"}]}],
            [("assistant", [("media", "image · [base64 image redacted, 7 bytes]", "")])],
        ),
        (
            [{"role": "user", "content": [{"type": "brand_new", "x": 1}]}],
            [("user", [("json", "brand_new", '{\n  "type": "brand_new",\n  "x": 1\n}')])],
        ),
        # What PostHog's SDKs write of other providers:
        (
            [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {"city":
              "Rome"}}]}],
            [("assistant", [("call", "weather", '{\n  "city": "Rome"\n}')])],
        ),
        (
            [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text",
              "text": "sunny"}]}]}],
            [("user", [("result", "", "sunny")])],
        ),
        (
            [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png",
              "data": "[base64 image redacted]"}}]}],
            [("user", [("media", "image · image/png · [base64 image redacted]", "")])],
        ),
        (
            [{"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "t", "toolName": "weather", "input":
              "{}"}]}],
            [("assistant", [("call", "weather", "{}")])],
        ),
        ([{"role": "model", "content": [{"text": "Hello"}]}], [("model", [("text", "", "Hello")])]),
        ({"city": "Rome"}, [("input", [("json", "", '{\n  "city": "Rome"\n}')])]),
        (7, [("input", [("json", "", "7")])]),
    ],
)  # fmt: skip
def test_a_conversation_is_read(content: Any, wanted: Any) -> None:
    assert read(content) == wanted


def test_every_item_that_the_sdk_knows_is_shown_as_what_it_is() -> None:
    known = pytest.importorskip("providers.test_openai_content")
    seen = set()
    for kind in (*known.INPUT_ITEMS.values(), *known.OUTPUT_ITEMS.values()):
        item = known.sample(kind)
        ((_, ((part, _, words), *_)),) = read([item])
        name = item.get("type", "message")
        if name == "image_generation_call":
            wanted = "media"
        elif name.endswith("_call"):
            wanted = "call"
        elif name.endswith("_call_output"):
            wanted = "result"
        else:
            wanted = {"message": "text", "reasoning": "reasoning"}.get(name, part)
        assert part == wanted, name
        assert words or part == "media", name
        seen.add(part)
    assert seen >= {"text", "reasoning", "call", "result", "media", "json"}


def test_what_was_held_back_is_not_nothing() -> None:
    assert conversation.read(None) is None


def test_results_are_put_beside_their_calls_whatever_the_order() -> None:
    def calls(ident: str) -> dict[str, Any]:
        return {"role": "assistant", "content": None, "tool_calls": [{**WEATHER, "id": ident}]}

    def answers(ident: str, what: str) -> dict[str, Any]:
        return {"role": "tool", "tool_call_id": ident, "content": what}

    messages = conversation.read([calls("1"), calls("2"), answers("2", "two"), answers("1", "one"), answers("3", "?")])
    assert messages is not None
    conversation.pair(messages)
    shown = [part for message in messages for part in message.parts]
    assert [(part.kind, part.result and part.result.text) for part in shown] == [
        ("call", "one"),
        ("call", "two"),
        ("result", None),  # nobody asked for it here
    ]


def test_long_texts_are_folded_and_none_of_it_is_lost() -> None:
    part = conversation.Part("text", "x" * 50_000)
    assert len(part.head) < 3_000
    assert part.head + part.rest == part.text
    assert part.hidden == 0
    endless = conversation.Part("text", "x" * 1_000_000)
    assert len(endless.head + endless.rest) == conversation.MAX_SHOWN
    assert endless.hidden == 900_000
    short = conversation.Part("text", "x" * 5_000)
    assert (short.head, short.rest) == (short.text, "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "tool_calls", "function", "name", "arguments", "image_url", "url",
                 "audio", "output", "summary", "call_id", "id", "input_audio", "file", "action", "result", "refusal"]
            ),
            inner | st.sampled_from(["text", "function", "image_url", "tool", "reasoning", "x_call", "x_call_output"]),
            max_size=5,
        )
    ),
    max_leaves=15,
)  # fmt: skip


@given(json_values)
def test_any_json_is_shown_somehow(content: Any) -> None:
    messages = conversation.read(content)
    conversation.pair(messages or [])
    for message in messages or []:
        assert isinstance(message.role, str)
        assert isinstance(message.name, str)
        for part in message.parts:
            assert part.kind in {"text", "refusal", "reasoning", "media", "call", "result", "json"}
            assert all(isinstance(value, str) for value in (part.text, part.title, part.ident, part.head, part.rest))


# --- trees ---


def step(number: int, begin: float, end: float, span: str = "", parent: str | None = None, **more: Any) -> Entry:
    facts: dict[str, Any] = dict.fromkeys(Entry.__dataclass_fields__)
    facts |= {"number": number, "uuid": f"u{number}", "kind": "span", "epoch": end, "is_error": False}
    facts |= {"span": span or f"s{number}", "parent": parent, "latency_s": end - begin, **more}
    return Entry(**facts)


def outline(*entries: Entry) -> list[tuple[int, int, int]]:
    return [(row.entry.number, row.depth, row.children) for row in trace_tree.build(entries).rows]


def test_children_stand_below_their_parents_in_the_order_of_time() -> None:
    # Spans end after what is inside: the outermost is stored last.
    entries = (step(1, 12, 13, parent="s3"), step(2, 11, 12, parent="s3"), step(3, 10, 20), step(4, 21, 22))
    assert outline(*entries) == [(3, 0, 2), (2, 1, 0), (1, 1, 0), (4, 0, 0)]
    tree = trace_tree.build(entries)
    assert (tree.started, tree.duration_s) == (10, 12)
    assert [(round(row.left), round(row.width)) for row in tree.rows] == [(0, 83), (8, 8), (17, 8), (92, 8)]


def test_parents_that_are_missing_and_circles() -> None:
    assert outline(step(1, 0, 1, parent="gone")) == [(1, 0, 0)]
    assert outline(step(1, 0, 1, parent="s1")) == [(1, 0, 0)]
    circle = outline(step(1, 0, 1, parent="s2"), step(2, 1, 2, parent="s3"), step(3, 2, 3, parent="s1"))
    assert sorted(number for number, _, _ in circle) == [1, 2, 3]
    twice = outline(step(1, 0, 1, span="a"), step(2, 1, 2, span="a"), step(3, 2, 3, parent="a"))
    assert twice == [(1, 0, 1), (3, 1, 0), (2, 0, 0)]


def test_a_tree_deeper_than_python_can_recurse() -> None:
    # Twice as deep may take twice as long, not four times: this many would take minutes then.
    entries = [step(n, n, 99_999, span=f"s{n}", parent=f"s{n - 1}", input_tokens=1) for n in range(50_000)]
    rows = trace_tree.build(entries).rows
    assert [row.depth for row in rows] == list(range(50_000))
    assert (rows[0].children, rows[0].tokens) == (49_999, 50_000)


def test_costs_and_tokens_of_what_is_below() -> None:
    rows = trace_tree.build(
        (
            step(1, 0, 10),
            step(2, 1, 2, parent="s1", kind="generation", cost_usd=0.25, input_tokens=3, output_tokens=4),
            step(3, 2, 3, parent="s1", kind="generation", cost_usd=0.5, input_tokens=5, ttft_s=0.25),
            step(4, 4, 5, parent="s1", kind="generation"),
        )
    ).rows
    assert [(row.cost_usd, row.tokens, row.first_token) for row in rows] == [
        (0.75, 12, None),
        (0.25, 7, None),
        (0.5, 5, 0.25),
        (None, None, None),
    ]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.floats(0, 100), st.floats(0, 50)), max_size=12))
def test_every_step_is_in_the_tree_once(steps: list[tuple[int, int, float, float]]) -> None:
    entries = [
        step(number, begin, begin + length, span=f"s{span}", parent=f"s{parent}")
        for number, (span, parent, begin, length) in enumerate(steps)
    ]
    tree = trace_tree.build(entries)
    assert sorted(row.entry.number for row in tree.rows) == list(range(len(steps)))
    for row in tree.rows:
        assert -0.001 <= row.left <= 100.001
        assert row.left + row.width <= 100.001


def test_remarks_and_what_is_said_of_the_trace_are_no_steps() -> None:
    tree = trace_tree.build(
        (step(1, 0, 1), step(2, 1, 1, kind="feedback"), step(3, 1, 1, kind="trace", name="The trace"))
    )
    assert [row.entry.number for row in tree.rows] == [1]
    assert [entry.number for entry in tree.feedback] == [2]
    assert tree.trace is not None
    assert tree.trace.name == "The trace"


# --- plots ---


def series(*totals: Totals) -> Series:
    return Series(1_700_000_000.0, 60.0, tuple(Point(1_700_000_000.0 + 60 * n, one) for n, one in enumerate(totals)))


def test_bars_are_stacked_from_the_bottom() -> None:
    calls, *_ = charts.overview(series(Totals(calls=10, errors=2), Totals(), Totals(calls=5)))
    assert [(bar.look, round(bar.top), round(bar.height)) for bar in calls.bars] == [
        ("ok", 20, 80),
        ("bad", 0, 20),
        ("ok", 50, 50),
    ]
    assert [words for _, words in calls.marks] == ["10", "5"]
    assert calls.slots[0].words.endswith(": 8 succeeded, 2 failed")
    assert calls.slots[1].figures == ("0", "0")


def test_lines_have_gaps_where_nothing_is_known() -> None:
    def took(p50: float | None) -> Totals:
        return Totals(calls=1, latency_p50_s=p50)

    latency = charts.overview(series(took(1.0), took(2.0), took(None), took(4.0)))[3]
    assert [line.look for line in latency.lines] == ["one", "one dot"]
    assert latency.lines[0].points == ((12.5, 75.0), (37.5, 50.0))
    assert latency.lines[1].path == "87.50,0.00 87.50,0.00"
    assert latency.slots[2].figures == ("—", "—")


def test_unknown_costs_are_no_bars() -> None:
    cost = charts.overview(series(Totals(calls=3, unpriced=3)))[2]
    assert cost.is_empty
    assert cost.slots[0].figures == ("—",)
    assert all(plot.is_empty for plot in charts.overview(Series(0.0, 0.0, ())))


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (1, 1), (7, 8), (10, 10), (11, 15), (0.003, 0.003), (1234, 1500), (9.99, 10)]
)
def test_axes_end_at_round_numbers(highest: float, top: float) -> None:
    assert charts.nice_top(highest) == pytest.approx(top)


# --- text ---


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab\r\n", "two\nlines\tand a tab\r\n"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x00\x07\x7f\x9b", "␀␇␡⟨U+009B⟩"),
        ("over\rwritten", "over␍written"),
        ("\u202eabc\u202c \u2066x\u2069", "⟨U+202E⟩abc⟨U+202C⟩ ⟨U+2066⟩x⟨U+2069⟩"),
        ("\ufeffa\u200bb\u2060c", "⟨U+FEFF⟩a⟨U+200B⟩b⟨U+2060⟩c"),
        ("\U000e0049\U000e0067", "⟨U+E0049⟩⟨U+E0067⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("שלום مرحبا नमस्ते", "שלום مرحبا नमस्ते"),
        ("👩\u200d🔬 ❤\ufe0f", "👩\u200d🔬 ❤\ufe0f"),  # one emoji of several, and a red heart
    ],
)
def test_what_is_not_seen_is_shown(given: str, wanted: str) -> None:
    assert formatting.shown(given) == wanted


@given(st.text())
def test_json_to_copy_is_the_same_value_and_hides_nothing(value: str) -> None:
    written = formatting.pretty_json({"key": value})
    assert json.loads(written) == {"key": value}
    assert formatting.shown(written) == written


@pytest.mark.parametrize(
    ("usd", "wanted"),
    [(None, "unknown"), (0, "$0"), (12.345, "$12.35"), (1234.5, "$1,234.50"), (0.5, "$0.50"), (0.000123, "$0.000123"),
     (0.0000108, "$0.0000108"), (1e-9, "$0.000000001"), (0.999, "$1.00")],
)  # fmt: skip
def test_money(usd: float | None, wanted: str) -> None:
    assert formatting.money(usd) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, "—"), (0.0, "0 ms"), (0.0012, "1.2 ms"), (0.015, "15 ms"), (0.9996, "1.00 s"), (1.234, "1.23 s"),
     (12.34, "12.3 s"), (59.96, "1 min"), (7200, "2 h"), (125, "2 min 5 s"), (7260, "2 h 1 min")],
)  # fmt: skip
def test_seconds(value: float | None, wanted: str) -> None:
    assert formatting.seconds(value) == wanted


@pytest.mark.parametrize(
    ("number", "wanted"), [(0, "0"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (4_500_000, "4.5M"), (0.25, "0.25")]
)
def test_short_numbers(number: float, wanted: str) -> None:
    assert formatting.short(number) == wanted


@pytest.mark.parametrize("beginning", ["=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_cells_that_a_spreadsheet_would_compute(beginning: str) -> None:
    assert downloads.cell(beginning + "1+1") == "'" + beginning + "1+1"
    assert downloads.cell(" " + beginning) == " " + beginning
    assert downloads.cell(-1.5) == -1.5


# --- figures ---


@needs("responses")
@pytest.mark.parametrize("query", ["", "since=1h", "user=ada@example.com", "errors=1", "q=lisbon", "model=nowhere"])
def test_sums_are_those_of_the_calls_and_their_parts_add_up(demo_store: Path, query: str) -> None:
    selection = Selection.from_query(query)
    with Queries(demo_store, Prices.load()) as queries:
        while queries.refresh():
            pass
        calls = queries.calls(selection, *get_args(By))
        listed = [entry for entry in queries.events(selection, limit=10_000).entries if entry.is_call]
        assert bool(listed) == (query != "model=nowhere")
        assert sums(calls.totals) == (
            len(listed),
            sum(entry.is_error for entry in listed),
            sum(entry.input_tokens or 0 for entry in listed),
            sum(entry.output_tokens or 0 for entry in listed),
            round(sum(entry.cost_usd or 0 for entry in listed), 12),
            sum(entry.cost_usd is None and not entry.is_error for entry in listed),
        )
        assert added(point.totals for point in calls.series().points) == sums(calls.totals)
        for by in get_args(By):
            assert added(group.totals for group in calls.groups(by, 10_000)) == sums(calls.totals)


def sums(totals: Totals) -> tuple[float, ...]:
    cost = round(totals.cost_usd or 0, 12)  # sums of floats depend on their order
    return (totals.calls, totals.errors, totals.input_tokens or 0, totals.output_tokens or 0, cost, totals.unpriced)


def added(parts: Iterable[Totals]) -> tuple[float, ...]:
    columns = zip(*map(sums, parts), strict=True)
    return tuple(round(sum(column), 12) for column in columns) or (0, 0, 0, 0, 0, 0)
