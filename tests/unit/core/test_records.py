"""Records travel as bytes: what comes out is what went in, and damage is noticed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_autoinstrument import providers
from posthog_autoinstrument.core.records import Call, Error, Identity, record_from_bytes
from posthog_autoinstrument.processing import event

text = st.text(max_size=30)
maybe_text = st.none() | text
identities = st.builds(
    Identity,
    distinct_id=maybe_text,
    trace_id=text,
    session_id=maybe_text,
    properties=st.dictionaries(text, text.map(json.dumps), max_size=3),
    groups=st.dictionaries(text, text.map(json.dumps), max_size=3),
    privacy_mode=st.booleans(),
)
calls = st.builds(
    Call,
    sdk=st.just("openai"),
    endpoint=st.sampled_from(["chat", "responses", "embeddings", "completions"]),
    uuid=text,
    span_id=text,
    client=text,
    base_url=text,
    request_url=text,
    ended_at=st.floats(0, 4e9),
    duration_s=st.floats(0, 1e6),
    end=st.sampled_from(["complete", "closed", "abandoned", "failed", "cancelled"]),
    stream=st.booleans(),
    identity=identities,
    status=st.none() | st.integers(100, 599),
    error=st.none()
    | st.builds(Error, name=text, message=text, status=st.none() | st.integers(), causes=st.lists(text).map(tuple)),
    request=st.none() | st.binary(max_size=200),
    response=st.none() | st.binary(max_size=200),
    chunks=st.none() | st.lists(text, max_size=4).map(tuple),
    chunk_offsets_s=st.lists(st.floats(0, 100), max_size=4).map(tuple),
    cut=st.integers(0, 10**9),
)


@given(calls)
def test_a_call_survives_the_way_through_bytes(call):
    assert record_from_bytes(call.to_bytes()) == call


@given(calls)
def test_the_event_is_the_same_after_the_way_through_bytes(call):
    (provider,) = providers.load_providers()
    direct = event.build(call, event.read(call, provider), provider)
    again = record_from_bytes(call.to_bytes())
    travelled = event.build(again, event.read(again, provider), provider)
    # A call without a trace id would get a fresh one each time; these have one.
    assert direct == travelled


@given(calls, st.data())
def test_damage_is_noticed(call, data):
    body = call.to_bytes()
    place = data.draw(st.integers(0, len(body) - 1))
    damaged = bytearray(body)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert dataclasses.asdict(record_from_bytes(bytes(damaged))) == dataclasses.asdict(call)
    except ValueError:
        pass


@pytest.mark.parametrize("data", [b"", b"PHAC", b"x" * 100, b'{"json": true}' * 10])
def test_something_else_is_refused(data):
    with pytest.raises(ValueError, match="record"):
        record_from_bytes(data)
