"""JSON that PostHog takes: mending, clipping ids, shrinking."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_autoinstrument.processing.sanitize import MAX_DEPTH, clip_id, dumps, sanitize
from posthog_autoinstrument.processing.truncation import TRUNCATED, truncate

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(st.characters())  # surrogates too
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.floats() | st.none(), inner, max_size=4)
    ),
    max_leaves=20,
)


def strict(body: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    return json.loads(body.decode("utf-8"), parse_constant=refuse)


def depth(value: Any) -> int:
    levels, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, (dict, list))]:
        levels += 1
        layer = [inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)]
    return levels


@given(json_values)
def test_whatever_goes_in_valid_json_comes_out(value: Any) -> None:
    before = copy.deepcopy(value)
    strict(dumps(value))
    assert repr(value) == repr(before)


@given(json_values)
def test_mending_twice_changes_nothing_more(value: Any) -> None:
    sanitized = sanitize(value)
    assert sanitize(sanitized) is sanitized


def test_sound_values_are_the_very_same_object() -> None:
    value = {"messages": [{"role": "user", "content": "héllo 😀"}], "n": [1, 2.5, None, True], "ids": [1, 2, 3]}
    assert sanitize(value) is value


@pytest.mark.parametrize(
    ("value", "sanitized"),
    [
        (math.nan, None),
        ([math.inf, 1.0], [None, 1.0]),
        (["a", -math.inf], ["a", None]),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        (b"abc", "[3 bytes]"),
        ({1: "a", None: "b", False: "c"}, {"1": "a", "null": "b", "false": "c"}),
        ({"\udc00": 1}, {"\ufffd": 1}),
        ({7}, [7]),
        (10**400, "[number out of range]"),
        ([10**400, 1], ["[number out of range]", 1]),
        (object(), "[object]"),
    ],
)
def test_what_json_or_posthog_refuse_is_replaced(value: Any, sanitized: Any) -> None:
    assert sanitize(value) == sanitized


def test_no_repr_of_the_program_runs() -> None:
    class Loud:
        def __repr__(self) -> str:
            raise AssertionError("called")

        __str__ = __repr__

    assert sanitize({"x": Loud()}) == {"x": "[Loud]"}


def test_cycles_and_depth_end_in_a_text() -> None:
    loop: dict[str, Any] = {"name": "a"}
    loop["self"] = [loop]
    assert sanitize(loop) == {"name": "a", "self": ["[circular]"]}

    numbered: dict[Any, Any] = {}
    numbered[1] = [numbered, numbered]
    assert sanitize(numbered) == {"1": ["[circular]", "[circular]"]}

    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    assert depth(strict(dumps(deep))) == MAX_DEPTH


def test_the_same_object_twice_is_no_cycle() -> None:
    shared = {"x": math.nan}
    assert sanitize([shared, shared]) == [{"x": None}, {"x": None}]
    assert math.isnan(shared["x"])


def test_dumps_is_compact_utf8() -> None:
    assert dumps({"a": ["é", 1]}) == '{"a":["é",1]}'.encode()


@pytest.mark.parametrize(
    ("text", "clipped"),
    [
        ("user-1", "user-1"),
        ("  a\x00b\n ", "ab"),
        ("x" * 300, "x" * 200),
        ("", None),
        ("\n\x7f", None),
        (None, None),
        (42, "42"),
        (True, None),
        (object(), None),
        ("\ud800", "\ufffd"),
    ],
)
def test_ids_are_clipped(text: object, clipped: str | None) -> None:
    assert clip_id(text) == clipped


def event(**properties: Any) -> dict[str, Any]:
    return {
        "event": "e",
        "uuid": "0198c3f2-0000-7000-8000-000000000000",
        "timestamp": "2026-11-23T12:00:00+00:00",
        "distinct_id": "d",
        "properties": properties,
    }


def test_an_event_that_fits_is_left_alone() -> None:
    small = event(text="x" * 100)
    assert truncate(small, 4096) == dumps(small)


def test_the_longest_strings_lose_their_middle() -> None:
    big = event(short="keep me", long="A" + "x" * 10_000 + "Z", nested=[{"content": "B" + "é" * 10_000 + "Y"}])
    before = copy.deepcopy(big)
    body = truncate(big, 8_000)
    cut = strict(body)["properties"]
    assert 7_000 < len(body) <= 8_000
    assert cut["short"] == "keep me"
    assert cut[TRUNCATED] is True
    for text, ends in ((cut["long"], "AZ"), (cut["nested"][0]["content"], "BY")):
        assert "characters truncated] ..." in text
        assert (text[0], text[-1]) == tuple(ends)
    assert big == before


def test_what_strings_cannot_save_goes_whole_and_the_rest_stays() -> None:
    cut = strict(truncate(event(numbers=list(range(100_000)), text="x" * 50_000, model="gpt-5"), 10_000))["properties"]
    assert "numbers" not in cut
    assert len(cut["text"]) > 8_000
    assert cut["model"] == "gpt-5"


@given(
    st.dictionaries(st.text(), json_values | st.text(min_size=3_000) | st.just("\x01" * 9_000), max_size=6),
    st.integers(4_096, 9_000),
)
def test_the_result_always_fits(properties: dict[str, Any], max_bytes: int) -> None:
    big = event(**{TRUNCATED: False})
    big["properties"] = {"filler": "y\n" * 9_000, **properties}
    body = truncate(big, max_bytes)
    assert len(body) <= max_bytes
    assert strict(body)["event"] == "e"


@pytest.mark.parametrize("field", ["event", "distinct_id", "uuid", "timestamp", "extra"])
def test_even_huge_fields_beside_the_properties_fit(field: str) -> None:
    assert len(truncate({**event(), field: "\x01" * 100_000}, 4_096)) <= 4_096


def test_twenty_megabytes_are_cut_in_seconds() -> None:
    """The suite's own timeout would end what takes minutes."""
    big = event(text="\x01" * 2_000_000 + "x\n" * 9_000_000, other=["é" * 2_000_000])
    assert len(truncate(big, 900 * 1024)) <= 900 * 1024


def test_surrogates_are_joined_or_replaced() -> None:
    high, low = "\ud83d", "\ude00"
    assert sanitize(f"a{high}{low}b") == "a\U0001f600b"
    assert sanitize(f"{high}{high}{low}{low}") == "\ufffd\U0001f600\ufffd"
    assert sanitize(f"{low}{high}") == "\ufffd\ufffd"


@given(st.text(st.characters(min_codepoint=0xD700, max_codepoint=0xE100), max_size=20))
def test_surrogates_are_mended_as_the_codecs_do(text: str) -> None:
    assert sanitize(text) == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
