"""A streamed answer is the same event as the answer in one piece, however it was cut up."""

from __future__ import annotations

import json
import random
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.exchanges.openai import CHAT_HEAD, CHAT_USAGE, RESPONSES_RESPONSE, RESPONSES_USAGE, chunk, delta, read
from support.features import needs
from support.strategies import cut

import posthog_autoinstrument
from posthog_autoinstrument import posthog_context
from posthog_autoinstrument.testing import Answer, OpenAIServer

Json = dict[str, Any]

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
some_words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
names = st.text("abcdefgh_", min_size=1, max_size=6)


def shuffled(draw: st.DrawFn, queues: list[list[Json]]) -> list[Json]:
    """The queues run together in any order, each in its own."""
    found = []
    while queues := [queue for queue in queues if queue]:
        found.append(queues[draw(st.integers(0, len(queues) - 1))].pop(0))
    return found


# --- chat ---

messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | words},
    optional={
        "refusal": words,
        "reasoning_content": words,
        "function_call": st.fixed_dictionaries({"name": names, "arguments": words}),
        "audio": st.fixed_dictionaries({"id": names, "data": st.just("UklGRiQAAABXQVZF"), "transcript": some_words}),
        "annotations": st.lists(
            st.fixed_dictionaries({"type": st.just("url_citation"), "title": words}), min_size=1, max_size=2
        ),
        "tool_calls": st.lists(st.tuples(st.sampled_from(["function", "custom"]), names, words), max_size=3),
    },
)


def tool_call(number: int, kind: str, name: str, said: str) -> Json:
    inner = {"name": name, ("input" if kind == "custom" else "arguments"): said}
    return {"id": f"call_{number}", "type": kind, kind: inner}


def tool_deltas(draw: st.DrawFn, calls: list[Json]) -> list[Json]:
    """Deltas of tool calls: numbered and in any order, or without numbers and then one call after the other."""
    numbered, every_id = draw(st.booleans()), draw(st.booleans())
    queues = []
    for number, call in enumerate(calls):
        kind, place = call["type"], {"index": number} if numbered else {}
        name, text = ("input" if kind == "custom" else "arguments"), call[call["type"]]
        queue = [{**place, "id": call["id"], "type": kind, kind: {"name": text["name"], name: ""}}]
        for piece in cut(draw, text[name]):
            # Custom tools are named by the member that holds them in each delta.
            ident = {"id": call["id"]} if every_id or (not numbered and len(calls) > 1) else {}
            queue.append({**place, **ident, kind: {name: piece}})
        queues.append(queue)
    ordered = shuffled(draw, queues) if numbered else [one for queue in queues for one in queue]
    deltas = [{"tool_calls": [one]} for one in ordered]
    if deltas and numbered and draw(st.booleans()):  # several in one delta
        deltas[:2] = [{"tool_calls": [part for one in deltas[:2] for part in one["tool_calls"]]}]
    return deltas


@st.composite
def chat_answers(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """A chat answer of one to three choices, and the chunks of the same."""
    choices, queues = [], []
    for index, message in enumerate(draw(st.lists(messages, min_size=1, max_size=3))):
        message = dict(message)
        if "tool_calls" in message:
            message["tool_calls"] = [tool_call(at, *call) for at, call in enumerate(message["tool_calls"])]
        reason = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": reason})
        parts = [
            [{member: piece} for piece in cut(draw, message.get(member) or "")]
            for member in ("reasoning_content", "content", "refusal")
        ]
        parts.append(tool_deltas(draw, message.get("tool_calls", [])))
        parts.append([{"annotations": [one]} for one in message.get("annotations", [])])
        if "function_call" in message:
            called = message["function_call"]
            begun = {"function_call": {"name": called["name"], "arguments": ""}}
            parts.append([begun, *({"function_call": {"arguments": one}} for one in cut(draw, called["arguments"]))])
        if "audio" in message:
            audio = message["audio"]
            parts.append([{"audio": {"id": audio["id"]}}])
            parts[-1] += [{"audio": {"data": one}} for one in cut(draw, audio["data"])]
            parts[-1] += [{"audio": {"transcript": one}} for one in cut(draw, audio["transcript"])]
        deltas = [{"role": "assistant", "content": ""}, *shuffled(draw, parts)]
        queues.append([delta(index, **said) for said in deltas] + [delta(index, reason)])
    every = draw(st.booleans())  # usage in each chunk, as some servers have it
    usage: Json = {"usage": CHAT_USAGE} if every else {}
    chunks = [chunk(one, **usage) for one in shuffled(draw, queues)]
    for _ in range(draw(st.integers(0, 2))):
        chunks.insert(draw(st.integers(0, len(chunks))), chunk())  # no choices in it
    return {**CHAT_HEAD, "object": "chat.completion", "created": 1741569952, "choices": choices, "usage": CHAT_USAGE}, [
        *chunks,
        chunk(usage=CHAT_USAGE),
    ]


@given(chat_answers())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_chat(answer: tuple[Json, list[Json]]) -> None:
    body, chunks = answer
    streamed = read("chat", {"model": "m"}, None, [*chunks, "[DONE]"])
    streamed.first_output_chunk = None
    assert streamed == read("chat", {"model": "m"}, body)


# --- responses ---

annotations = st.lists(st.fixed_dictionaries({"type": st.just("url_citation"), "title": words}), max_size=2)
texts = st.builds(lambda text, notes: {"type": "output_text", "text": text, "annotations": notes}, words, annotations)
refusals = st.builds(lambda text: {"type": "refusal", "refusal": text}, some_words)
items = st.one_of(
    st.builds(
        lambda content: {"type": "message", "id": "m", "role": "assistant", "content": content},
        st.lists(texts | refusals, min_size=1, max_size=3),
    ),
    st.builds(
        lambda parts: {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": part} for part in parts],
        },
        st.lists(some_words, max_size=2),
    ),
    st.builds(
        lambda name, text: {"type": "function_call", "id": "f", "call_id": "c", "name": name, "arguments": text},
        names,
        some_words,
    ),
    st.builds(
        lambda name, text: {"type": "custom_tool_call", "id": "f", "call_id": "c", "name": name, "input": text},
        names,
        some_words,
    ),
    st.builds(lambda text: {"type": "mcp_call", "id": "m", "name": "t", "arguments": text, "output": "x"}, some_words),
    st.builds(lambda text: {"type": "code_interpreter_call", "id": "ci", "code": text, "outputs": None}, some_words),
    st.builds(
        lambda parts: {"type": "shell_call", "id": "sh", "call_id": "c", "action": {"commands": parts}},
        st.lists(some_words, min_size=1, max_size=3),
    ),
    st.just({"type": "web_search_call", "id": "ws", "status": "completed"}),
    st.just({"type": "image_generation_call", "id": "ig", "status": "completed", "result": "iVBORw0="}),
    st.just({"type": "compaction", "id": "cmp", "encrypted_content": "abc"}),
    st.just({"type": "local_shell_call", "id": "l", "action": {"type": "exec", "command": ["ls"], "env": {}}}),
    st.just({"type": "mcp_approval_request", "id": "a", "name": "t", "arguments": "{}"}),
    st.just({"type": "an item of tomorrow", "id": "x", "said": ["x"]}),
)


def grown(draw: st.DrawFn, number: int, item: Json) -> list[Json]:
    """The events of one item up to, and without, its last one."""

    def deltas(name: str, text: str, **place: Any) -> list[Json]:
        found = [{"type": f"{name}.delta", "output_index": number, **place, "delta": one} for one in cut(draw, text)]
        return found or []

    kind = item["type"]
    empty = {"message": {"content": []}, "reasoning": {"summary": []}, "function_call": {"arguments": ""}}
    empty |= {"custom_tool_call": {"input": ""}, "mcp_call": {"arguments": ""}, "code_interpreter_call": {"code": ""}}
    empty |= {"shell_call": {"action": {"commands": []}}}
    events = [{"type": "response.output_item.added", "output_index": number, "item": {**item, **empty.get(kind, {})}}]
    if kind == "message":
        for index, part in enumerate(item["content"]):
            place = {"content_index": index}
            if part["type"] == "refusal":
                events += deltas("response.refusal", part["refusal"], **place)
                continue
            events += deltas("response.output_text", part["text"], **place)
            events += [
                {
                    "type": "response.output_text.annotation.added",
                    "output_index": number,
                    **place,
                    "annotation": note,
                }
                for note in part["annotations"]
            ]
            events.append({"type": "response.content_part.done", "output_index": number, **place, "part": part})
    elif kind == "reasoning":
        for index, part in enumerate(item["summary"]):
            events += deltas("response.reasoning_summary_text", part["text"], summary_index=index)
    elif kind == "shell_call":
        for index, command in enumerate(item["action"]["commands"]):
            events += deltas("response.shell_call_command", command, command_index=index)
    elif kind in empty:
        name, member = {
            "function_call": ("response.function_call_arguments", "arguments"),
            "custom_tool_call": ("response.custom_tool_call_input", "input"),
            "mcp_call": ("response.mcp_call_arguments", "arguments"),
            "code_interpreter_call": ("response.code_interpreter_call_code", "code"),
        }[kind]
        events += deltas(name, item[member])
    return events


@st.composite
def response_answers(draw: st.DrawFn) -> tuple[Json, list[Json], list[Json]]:
    """A Response, all the events of its stream, and those without anything in them that says it in one piece."""
    output = draw(st.lists(items, max_size=4))
    body = {**RESPONSES_RESPONSE, "output": output, "usage": RESPONSES_USAGE}
    begun = {"type": "response.created", "response": {**body, "output": [], "status": "in_progress", "usage": None}}
    bare = shuffled(draw, [grown(draw, number, item) for number, item in enumerate(output)])
    done = [
        {"type": "response.output_item.done", "output_index": number, "item": item}
        for number, item in enumerate(output)
    ]
    return body, [begun, *bare, *done, {"type": "response.completed", "response": body}], [begun, *bare]


@given(response_answers())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_responses(answer: tuple[Json, list[Json], list[Json]]) -> None:
    body, events, bare = answer
    whole = read("responses", {"model": "m"}, body)
    streamed = read("responses", {"model": "m"}, None, events)
    streamed.first_output_chunk = None
    assert streamed == whole
    assert read("responses", {"model": "m"}, None, events[:-1]).output == whole.output  # the last event never came
    assert read("responses", {"model": "m"}, None, bare).output == whole.output  # nor any that says an item is done


# --- over HTTP ---


@pytest.fixture(scope="module")
def server() -> Any:
    with OpenAIServer() as started:
        yield started


@pytest.fixture(scope="module")
def client(server: OpenAIServer) -> Any:
    with openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as made:
        yield made


def framed(dice: random.Random, payloads: list[str]) -> list[bytes]:
    """The events as any server may write them, and in pieces of any size: inside of lines and characters."""
    end = dice.choice(("\n", "\r\n", "\r"))
    lines: list[str] = []
    for payload in payloads:
        # No `id:`: after one, the SDK takes each empty line for an event (3.54.0).
        lines += [": keep-alive"] * dice.randrange(2)
        spread = json.dumps(json.loads(payload), indent=1) if dice.random() < 0.3 and payload[0] == "{" else payload
        lines += [f"data: {line}" for line in spread.split("\n")] + [""] * dice.choice((1, 1, 3))
    body = (end.join(lines) + end * 2).encode()
    cuts = sorted({dice.randrange(1, len(body)) for _ in range(dice.choice((0, 3, 60)))})
    return [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def event_of(call: Any, trace: str, events: Any) -> Json:
    with posthog_context(trace_id=trace):
        call()
    assert posthog_autoinstrument.flush(10)
    (event,) = [one for one in events() if one["properties"].get("$ai_trace_id") == trace]
    properties: Json = event["properties"]
    return properties


DIFFERENT = ("$ai_latency", "$ai_time_to_first_token", "$ai_span_id", "$ai_trace_id", "$ai_stream")


@given(answer=chat_answers(), dice=st.randoms(use_true_random=False), number=st.integers(0, 2**60))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_chat_over_http(answer: Any, dice: Any, number: int, server: Any, client: Any, posthog_events: Any) -> None:
    body, chunks = answer
    arguments: Json = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    check_the_same(
        [body, [json.dumps(one) for one in chunks] + ["[DONE]"]],
        lambda **more: client.chat.completions.create(**arguments, **more),
        (dice, number, server, posthog_events),
    )


@needs("responses")
@given(answer=response_answers(), dice=st.randoms(use_true_random=False), number=st.integers(0, 2**60))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_responses_over_http(
    answer: Any, dice: Any, number: int, server: Any, client: Any, posthog_events: Any
) -> None:
    body, events, _ = answer
    check_the_same(
        [body, [json.dumps(one, ensure_ascii=False) for one in events]],
        lambda **more: client.responses.create(model="m", input="Hello", **more),
        (dice, number, server, posthog_events),
    )


def check_the_same(answers: list[Any], create: Any, around: Any) -> None:
    dice, number, server, posthog_events = around
    body, payloads = answers
    trace = f"{number}-{dice.random()}-{len(server.requests)}"
    server.script(Answer(body=body), Answer(chunks=framed(dice, payloads)))
    whole = event_of(create, f"{trace}-whole", posthog_events)
    streamed = event_of(lambda: list(create(stream=True)), f"{trace}-streamed", posthog_events)
    assert streamed.pop("$ai_model_parameters") == {**whole.pop("$ai_model_parameters"), "stream": True}
    for name in DIFFERENT:
        streamed.pop(name, None)
        whole.pop(name, None)
    for name in ("$ai_cache_read_input_tokens", "$ai_reasoning_tokens"):  # 0 is written for streams only
        assert streamed.pop(name, 0) == whole.pop(name, 0)
    assert streamed == whole


chunk_deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": st.sampled_from(["a", "b", "", None, [{"type": "text", "text": "c"}]]),
        "role": st.just("assistant"),
        "refusal": st.sampled_from([None, "no"]),
        "annotations": st.just([{"type": "url_citation"}]),
    },
)
loose_chunks = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries(
        {"index": st.sampled_from([0, 0, 0, 1, None]), "delta": chunk_deltas | st.just({"content": "d"})},
        optional={
            "finish_reason": st.sampled_from([None, "stop"]),
            "text": st.just("e"),
            "message": st.just({"annotations": [{"type": "url_citation"}]}),
        },
    ), max_size=2)},
    optional={
        "id": st.sampled_from(["chatcmpl-1", "", None]),
        "model": st.sampled_from(["gpt-4o", ""]),
        "service_tier": st.sampled_from(["default", "flex", None]),
        "system_fingerprint": st.sampled_from(["fp_1", "fp_ollama"]),
        "usage": st.sampled_from([None, {}, {"prompt_tokens": 3}]),
    },
)  # fmt: skip


@given(st.lists(loose_chunks, max_size=8))
def test_chunks_that_say_nothing_but_text_are_read_like_all_others(sent: list[dict[str, Any]]) -> None:
    # A member that nobody knows keeps a chunk from being taken for one that has only text.
    others = [{**chunk, "unknown": 0} for chunk in sent]
    as_text, as_others = ([json.dumps(chunk) for chunk in stream] for stream in (sent, others))
    assert read("chat", None, None, as_text) == read("chat", None, None, as_others)
