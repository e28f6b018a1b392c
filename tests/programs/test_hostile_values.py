"""Values that no one expects: the program sees what it would have seen without us, and the event says what is known.

Each program here runs twice, under the launcher and bare; both say the same.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from support import calls

from posthog_autoinstrument.testing import Answer, sse

pytest.importorskip("openai.types.responses")  # the fuzzer knows answers of all endpoints
from support.fuzz import drive

ASK = """
    import hashlib, re
    import openai

    def told(call):
        try:
            result = call()
            text = re.sub("chatcmpl-[0-9a-f]+", "chatcmpl-1", repr(result))
        except Exception as error:
            text = f"{type(error).__module__}.{type(error).__qualname__} {error!s:.300}"
        print(hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12], ascii(text[:200]))

    client = openai.OpenAI(max_retries=0)

    def ask(content, **more):
        told(lambda: client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": content}], **more))
"""

PROMPTS = {
    "lone surrogates": 'ask("\\ud83d and \\udfff")',
    "NaN": 'ask("x", temperature=float("nan"))',
    "bytes": 'ask(b"\\xff\\x00")',
    "a set": 'ask({"a"})',
    "a list that holds itself": "a = []; a.append(a); ask(a)",
    "numbers beyond floats": 'ask("x", extra_body={"large": 10**400})',
    "no messages": 'told(lambda: client.chat.completions.create(model="gpt-4o-mini", messages=[]))',
    "messages that are a text": 'told(lambda: client.chat.completions.create(model="gpt-4o-mini", messages="hello"))',
    "messages of a generator": (
        'told(lambda: client.chat.completions.create(model="gpt-4o-mini", messages=({"role": "user", "content": c}'
        ' for c in "ab")))'
    ),
    "control characters": 'ask("".join(map(chr, range(32))) + "\\u2028\\ufeff\\U0010ffff")',
    "deep content": 'ask([{"type": "text", "text": "x", "deep": eval("[" * 80 + "]" * 80)}])',
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(name: str, run_program: Callable[..., Any]) -> None:
    source = ASK + "\n    " + PROMPTS[name] + "\n    client.close()\n"
    bare = run_program(source, launched=False, env={"POSTHOG_AUTOINSTRUMENT_RAISE": "1"})
    with_us = run_program(source, env={"POSTHOG_AUTOINSTRUMENT_RAISE": "1"})
    assert bare.stdout
    assert (with_us.stdout, with_us.returncode) == (bare.stdout, bare.returncode)
    (event,) = with_us.events
    assert event["properties"]["$ai_model"].startswith("gpt-4o-mini")
    assert "$ai_latency" in event["properties"]


def test_properties_that_hold_themselves(run_program: Callable[..., Any]) -> None:
    source = """
        import openai
        from posthog_autoinstrument import posthog_context
        loop = {"n": float("nan"), "bytes": b"\\xff", "text": "\\ud83d", "number": 10**400}
        loop["self"] = [loop]
        client = openai.OpenAI()
        with posthog_context(properties={"loop": loop, "plain": 1}, groups={"company": "\\udfff"}):
            print(client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}]).choices[0].finish_reason)
    """
    ran = run_program(source, env={"POSTHOG_AUTOINSTRUMENT_RAISE": "1"})
    assert (ran.returncode, ran.stdout.strip()) == (0, "stop"), ran.stderr
    (event,) = ran.events
    assert event["properties"]["plain"] == 1
    assert event["properties"]["loop"]["n"] is None
    assert event["properties"]["loop"]["text"] == "\ufffd"


@pytest.mark.timeout(180)
def test_a_prompt_of_20_megabytes_and_one_of_100000_messages(client, openai_server, captured) -> None:
    openai_server.script(*(Answer(body=json.dumps(CHAT)) for _ in range(2)))
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "äb" * 10_000_000}])
    # Not through `create`: the SDK alone takes seconds for so many messages.
    many = [{"role": "user", "content": f"number {number}"} for number in range(100_000)]
    client.post("/chat/completions", body={"model": "m", "messages": many}, cast_to=object)
    large, long = captured(2, timeout_s=60.0)  # seconds of work for the flusher, on a busy machine many
    for event in (large, long):
        assert event["properties"]["$ai_output_choices"][0]["content"] == [{"type": "text", "text": "Hello."}]
        assert event["properties"]["$ai_input_tokens"] == 3
    assert large["properties"]["posthog_autoinstrument_truncated"] is True
    assert large["properties"]["$ai_input"][0]["content"].startswith("äbäb")
    assert len(long["properties"]["$ai_input"]) == 100_000


CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
CHUNKS = [
    {**CHAT, "object": "chat.completion.chunk", "usage": None, "choices": [{"index": 0, "delta": {"content": said}}]}
    for said in ("Hel", "lo.")
] + [{**CHAT, "object": "chat.completion.chunk", "choices": []}]
PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"
HTML = {"content-type": "text/html"}
EVENTS = {"content-type": "text/event-stream"}
TOKENS = {"$ai_input_tokens": 3, "$ai_output_tokens": 2}
TOLD = {**TOKENS, "$ai_output_choices": [{"role": "assistant", "content": [{"type": "text", "text": "Hello."}]}]}
PART = {"$ai_output_choices": [{"role": "assistant", "content": [{"type": "text", "text": "Hel"}]}]}
FAILED = {"$ai_is_error": True}


def body_of(line_end: str, spread: bool = False) -> bytes:
    """The stream with other line ends, or with each event spread over several lines."""
    texts = [json.dumps(chunk, indent=1 if spread else None) for chunk in CHUNKS] + ["[DONE]"]
    lines = [line for text in texts for line in [": ping", *(f"data: {part}" for part in text.split("\n")), ""]]
    return (line_end.join(lines) + line_end).encode()


def packed(name: str, body: bytes) -> bytes:
    if name == "gzip":
        return gzip.compress(body)
    module = pytest.importorskip({"br": "brotli", "zstd": "backports.zstd"}[name])
    squeezed: bytes = module.compress(body)
    return squeezed


ANSWERS: dict[str, tuple[Answer, tuple[str, ...], dict[str, Any]]] = {
    "choices that are null": (
        Answer(body={**CHAT, "choices": None}),
        ("create", "raw"),
        {**TOKENS, "$ai_output_choices": []},
    ),
    "usage of the wrong types": (
        Answer(body={**CHAT, "usage": {"prompt_tokens": "3", "completion_tokens": [2], "total_tokens": True}}),
        ("create", "raw", "streaming"),
        {"$ai_output_choices": TOLD["$ai_output_choices"]},
    ),
    "usage that is a text": (Answer(body={**CHAT, "usage": "many"}), ("create",), {"$ai_http_status": 200}),
    "an answer that is a list": (Answer(body=[CHAT]), ("create", "raw"), {"$ai_http_status": 200}),
    "an answer that is null": (Answer(body="null"), ("create", "raw"), {"$ai_http_status": 200}),
    "numbers that are none": (
        Answer(body=json.dumps({**CHAT, "created": float("nan"), "system_fingerprint": float("inf")})),
        ("create",),
        TOLD,
    ),
    "lone surrogates": (
        Answer(body={**CHAT, "choices": [{"index": 0, "message": {"content": "\ud83d"}, "finish_reason": "stop"}]}),
        ("create", "raw"),
        {"$ai_output_choices": [{"role": "assistant", "content": [{"type": "text", "text": "\ufffd"}]}]},
    ),
    "a page instead of JSON": (Answer(body=PAGE, headers=HTML), ("create", "raw"), {"$ai_http_status": 200}),
    "a page and 502": (
        Answer(502, HTML, PAGE),
        ("create", "stream", "raw", "unread"),
        {**FAILED, "$ai_http_status": 502},
    ),
    "JSON that ends too early": (Answer(body=json.dumps(CHAT)[:90]), ("create", "raw"), {"$ai_latency": ...}),
    "a connection that ends too early": (Answer(body=CHAT, cut=True), ("create", "streaming"), FAILED),
    "a stream that ends too early": (Answer(chunks=[body_of("\n")[:260]]), ("stream", "raw stream"), PART),
    "a stream whose connection ends": (
        Answer(chunks=[*sse(CHUNKS[0], done=False).chunks], cut=True),  # type: ignore[misc]
        ("stream",),
        {**PART, **FAILED},
    ),
    "CRLF": (Answer(chunks=[body_of("\r\n")]), ("stream", "raw stream", "streaming"), TOLD),
    "CR": (Answer(chunks=[body_of("\r")]), ("stream", "streaming"), TOLD),
    "events of several lines": (Answer(chunks=[body_of("\n", True)]), ("stream", "raw stream", "streaming"), TOLD),
    "gzip": (
        Answer(body=gzip.compress(json.dumps(CHAT).encode()), headers={"content-encoding": "gzip"}),
        ("create", "raw", "streaming"),
        TOLD,
    ),
    "a stream in gzip": (
        Answer(body=gzip.compress(body_of("\n")), headers={"content-encoding": "gzip", **EVENTS}),
        ("stream", "raw stream", "streaming"),
        TOLD,
    ),
    "gzip that is none": (
        Answer(body=CHAT, headers={"content-encoding": "gzip"}),
        ("create", "stream", "streaming"),
        FAILED,
    ),
    "a body that is never read": (Answer(body=CHAT), ("unread",), {"$ai_http_status": 200}),
    "a stream that is never read": (Answer(chunks=[body_of("\n")]), ("unread",), {"$ai_http_status": 200}),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str, is_async: bool, openai_server, captured, bare_process) -> None:
    answer, modes, facts = ANSWERS[name]
    for mode in modes:
        check(answer, mode, is_async, facts, openai_server, captured, bare_process)


@pytest.mark.parametrize("encoding", ["br", "zstd"])
@pytest.mark.parametrize("mode", ["create", "stream", "raw", "streaming", "raw stream"])
def test_encodings_of_other_packages(encoding: str, mode: str, openai_server, captured, bare_process) -> None:
    stream = mode in ("stream", "raw stream")
    body = packed(encoding, body_of("\n") if stream else json.dumps(CHAT).encode())
    headers = {"content-encoding": encoding, **(EVENTS if stream else {})}
    check(Answer(body=body, headers=headers), mode, False, TOLD, openai_server, captured, bare_process)


def check(
    answer: Answer, mode: str, is_async: bool, facts: dict[str, Any], server: Any, captured: Any, bare: Any
) -> None:
    """The same outcome with the agent and without it; one event, which says these facts."""
    call = calls.CHAT.called(mode, is_async)
    server.script(answer, answer)
    before = len(captured())
    without = bare(base_url=server.base_url, **call)
    with_us = drive.outcome(server.base_url, **call)
    drive.close(server.base_url)

    def plain(seen: list[str]) -> list[str]:
        return [line for line in seen if "req_0000" not in line]

    assert plain(with_us) == plain(without)
    event = captured(before + 1)[-1]["properties"]
    for key, value in facts.items():
        assert key in event, (mode, event)
        assert value is ... or event[key] == value, (mode, key, event)


@pytest.fixture
def bare_process() -> Any:
    from support.fuzz.bare import Bare

    process = Bare()
    yield process.outcome
    process.close()
