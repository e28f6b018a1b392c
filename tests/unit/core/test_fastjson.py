"""JSON by the program's own library is the standard library's JSON, or is left to that."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_autoinstrument.core import fastjson
from posthog_autoinstrument.processing import sanitize
from posthog_autoinstrument.providers import parsing

core = pytest.importorskip("pydantic_core", reason="openai with pydantic 1")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud83d") | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
texts = st.builds(json.dumps, values, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 1]))


def outcome(parse: Any, text: bytes | str) -> str:
    """The value, exactly, or that there is none."""
    try:
        return repr(parse(text))
    except (ValueError, RecursionError):
        return "refused"


@given(texts)
def test_texts_are_read_as_the_standard_library_reads_them(text: str) -> None:
    assert outcome(fastjson.loads, text) == outcome(json.loads, text)


@given(texts, st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_bytes_too(text: str, place: int, put: bytes, taken: int) -> None:
    body = text.encode("utf-8", "surrogatepass")
    place %= len(body) + 1
    damaged = body[:place] + put + body[place + taken :]
    assert outcome(fastjson.loads, damaged) == outcome(json.loads, damaged)


@pytest.mark.parametrize(
    "text",
    [
        b"-0", b"-0.0", b"1e400", b"-1e400", b"1E-400", b"NaN", b"-Infinity", b"01", b"1.", b".5", b"+1", b"1e5",
        b"0.1e1", b"9007199254740993", b"9007199254740993.0", b"123456789012345678901234567890", b"2.5e-324",
        b'{"a":1,"b":2,"a":3}', b'"\\ud83d\\ude00"', b'"\\ud83d"', b'"\xed\xa0\xbd"', b'"\xff"', b'"\x00"',
        b'"\\u0000"', b'"a\tb"', b'"\x7f"', b"\xef\xbb\xbf1", "\ufeff1".encode("utf-16"), b'{"a":1}x', b"[1,]",
        b"{1:2}", b"'a'", b"", b" \n\t\r1 ", b"\x0c1", b"nul", b"[" * 300 + b"]" * 300, b"[" * 100_000, b'{"":""}',
        b"1" * 4_000, b"// c\n1", b"tRue", b"-", b"--1", b"1_0", b"0x1", b"Infinit",
    ],
)  # fmt: skip
def test_texts_that_parsers_disagree_on(text: bytes) -> None:
    assert outcome(fastjson.loads, text) == outcome(json.loads, text)


@given(values)
def test_events_are_written_as_without_it(value: Any) -> None:
    assert json.loads(sanitize.dumps({"a": value})) == json.loads(sanitize.dumps({"a": value}, untrusted=True))


def test_it_is_used() -> None:
    assert fastjson.dumps({"a": [1, math.nan]}) == b'{"a":[1,null]}'
    assert fastjson.dumps(["\ud83d"]) is None


def test_nothing_is_imported_for_it() -> None:
    program = (
        "import sys; from posthog_autoinstrument.core import fastjson;"
        "from posthog_autoinstrument.processing import sanitize;"
        "print(fastjson.loads('[1]'), fastjson.dumps([1]), sanitize.dumps([1.5]), 'pydantic_core' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown == "[1] None b'[1.5]' False\n"


def test_a_library_that_is_none_is_left_alone() -> None:
    program = (
        "import sys, types; from posthog_autoinstrument.core import fastjson;"
        "old = sys.modules['pydantic_core'] = types.ModuleType('pydantic_core');"
        "print(fastjson.dumps([1]));"
        "old.from_json, old.to_json = (lambda text: []), (lambda value: b'');"
        "print(fastjson.loads('[1]'), fastjson.dumps([1]))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown == "None\n[1] None\n"


def test_a_stream_is_read_as_event_by_event() -> None:
    halves = ['{"a":[1', "2]}", "{},{}"]
    events, failure = parsing.read_events(['{"b":1}', *halves])
    assert events == [(0, {"b": 1})]
    assert failure is not None
    assert failure.raised
    many = [json.dumps({"n": number}) for number in range(333)]
    assert parsing.read_events([*many, "[DONE]", "{}"]) == ([(n, {"n": n}) for n in range(333)], None)
    assert parsing.read_events([*many[:120], "nonsense"])[0][-1] == (119, {"n": 119})
