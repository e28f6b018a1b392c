"""Token counts of servers that count in their own way: what the event says, what PostHog bills, what the page shows."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from support.exchanges.openai import chunk, delta, read

import posthog_autoinstrument
from posthog_autoinstrument import posthog_context
from posthog_autoinstrument.store.columns import summary, token_use
from posthog_autoinstrument.testing import Answer, OpenAIServer

Json = dict[str, Any]


def counts(prompt: int, completion: int, total: int | None = None, **more: Any) -> Json:
    total = prompt + completion if total is None else total
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


def thinking(tokens: int, **more: int) -> Json:
    return {"reasoning_tokens": tokens, **more}


# name, model, usage; and by hand: input, all output, reasoning, cache read, cache written (None: nobody said)
ROWS: list[tuple[str, str, Json, tuple[int | None, ...]]] = [
    # platform.openai.com/docs/api-reference/chat/object
    ("openai", "gpt-5-mini", counts(19, 100, prompt_tokens_details={"cached_tokens": 0},
                                    completion_tokens_details=thinking(64)), (19, 100, 64, 0, None)),
    ("openai, no details", "gpt-4o", counts(19, 10), (19, 10, None, None, None)),
    # Wei-Shaw/sub2api#5771, vercel/ai#12425: 32 + 9 + 227 = 268
    ("xai", "grok-4", counts(32, 9, 268, prompt_tokens_details={"cached_tokens": 5},
                             completion_tokens_details=thinking(227)), (32, 236, 227, 5, None)),
    ("xai, total made by a gateway", "grok-4", counts(32, 9, 41, completion_tokens_details=thinking(227)),
     (32, 236, 227, None, None)),
    ("xai, reasoning inside", "grok-4-fast", counts(32, 236, completion_tokens_details=thinking(227)),
     (32, 236, 227, None, None)),
    # mozilla-ai/any-llm#1290
    ("gemini, thoughts in the total alone", "gemini-2.5-flash", counts(10, 8, 410), (10, 400, 392, None, None)),
    ("gemini, nothing said", "models/gemini-2.5-pro", {"prompt_tokens": 10, "total_tokens": 410},
     (10, 400, 400, None, None)),
    ("gemini, thoughts beside", "gemini-3-pro-preview", counts(21, 0, 81, completion_tokens_details=thinking(60)),
     (21, 60, 60, None, None)),
    # CLIProxyAPI#5744, envoyproxy/ai-gateway#1438
    ("gemini, thoughts inside", "gemini-2.5-flash", counts(9, 22,
      completion_tokens_details=thinking(21, text_tokens=1)),
     (9, 22, 21, None, None)),
    ("gemini, through openrouter", "google/gemini-3.1-flash", counts(9, 22, completion_tokens_details=thinking(21)),
     (9, 22, 21, None, None)),
    ("gemini that does not think", "gemini-2.0-flash", counts(10, 8), (10, 8, None, None, None)),
    ("gemini by another name", "gemini-flash-latest", counts(10, 8, 410), (10, 400, 392, None, None)),
    # earendil-works/pi#8075
    ("moonshot", "kimi-k2.5", counts(19, 13, cached_tokens=8), (19, 13, None, 8, None)),
    # api-docs.deepseek.com/guides/kv_cache
    ("deepseek", "deepseek-chat", counts(100, 7, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36),
     (100, 7, None, 64, None)),
    # alibabacloud.com/help/en/model-studio/context-cache
    ("dashscope", "qwen-plus", counts(1500, 7, prompt_tokens_details={"cached_tokens": 0,
                                      "cache_creation_input_tokens": 1024}), (1500, 7, None, 0, 1024)),
    # platform.minimax.io/docs/api-reference/text-post
    ("minimax", "MiniMax-M2", counts(26, 223, total_characters=0, completion_tokens_details=thinking(214)),
     (26, 223, 214, None, None)),
    # docs.litellm.ai/docs/completion/prompt_caching
    ("litellm", "claude-sonnet-4-5", counts(2006, 300, prompt_tokens_details={"cached_tokens": 1920},
                                            cache_creation_input_tokens=50, cache_read_input_tokens=1920),
     (2006, 300, None, 1920, 50)),
    ("a zero that a gateway filled in", "m", counts(50, 3, cached_tokens=40,
      prompt_tokens_details={"cached_tokens": 0}),
     (50, 3, None, 40, None)),
    # Anthropic's own way of counting: the cache beside the input
    ("claude, cache in the total alone", "claude-sonnet-4-5", counts(10, 5, 1115, cache_read_input_tokens=900,
                                         cache_creation_input_tokens=200), (1110, 5, None, 900, 200)),
    ("claude, cache beside", "claude-sonnet-4-5", counts(10, 5, cache_read_input_tokens=900),
     (910, 5, None, 900, None)),
    ("claude, cache and thinking", "m", counts(10, 500, 1510, cache_read_input_tokens=1000,
                                        completion_tokens_details=thinking(300)), (1010, 500, 300, 1000, None)),
    # a total that nothing explains is left alone
    ("another total", "m", counts(10, 8, 410), (10, 8, None, None, None)),
    ("no total", "m", {"prompt_tokens": 10, "completion_tokens": 8}, (10, 8, None, None, None)),
    ("a total alone", "m", {"total_tokens": 18}, (None, None, None, None, None)),
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Any:
    with OpenAIServer() as started:
        yield started


@pytest.fixture(scope="module")
def client(server: OpenAIServer) -> Any:
    with openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "model", "usage", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_counts(name, model, usage, expected, streamed, server, client, posthog_events) -> None:
    message = {"role": "assistant", "content": "Hi"}
    head = {"id": "chatcmpl-1", "created": 1, "model": model}
    choice = {"index": 0, "finish_reason": "stop"}
    if streamed:
        parts = [{"choices": [{**choice, "delta": message}]}, {"choices": [], "usage": usage}]
        events = [json.dumps({**head, "object": "chat.completion.chunk", **part}) for part in parts]
        server.script(Answer(chunks=[f"data: {event}\n\n".encode() for event in [*events, "[DONE]"]]))
    else:
        choices = [{**choice, "message": message}]
        server.script(Answer(body={**head, "object": "chat.completion", "choices": choices, "usage": usage}))
    trace = f"{name}, {streamed}"
    with posthog_context(trace_id=trace):
        answer = client.chat.completions.create(model="m", messages=[], stream=streamed)
        if streamed:
            list(answer)
    assert posthog_autoinstrument.flush(10)
    (event,) = [one for one in posthog_events() if one["properties"].get("$ai_trace_id") == trace]
    given, made, thought, read_, written = expected
    if not streamed:  # as PostHog's wrapper does, 0 is said of streams only
        thought, read_ = thought or None, read_ or None
    found = event["properties"]
    # For these models PostHog bills output and reasoning together, for the others the output.
    added = thought or 0 if "gemini-2.5-" in model or "gemini-3" in model else 0
    assert found.get("$ai_input_tokens") == given
    assert found.get("$ai_output_tokens") == (None if made is None else made - added)
    assert found.get("$ai_reasoning_tokens") == thought
    assert found.get("$ai_cache_read_input_tokens") == read_
    assert found.get("$ai_cache_creation_input_tokens") == written
    assert found["$ai_cache_reporting_exclusive"] is False
    assert found["$ai_usage"] == usage
    # The page shows and prices all of the output.
    assert summary(event).output_tokens == token_use(event).output_tokens == made
    assert summary(event).reasoning_tokens == thought


def test_a_model_that_the_program_names_is_the_one_that_is_priced(server, client, posthog_events) -> None:
    usage = counts(9, 22, completion_tokens_details=thinking(21))
    server.script(
        Answer(
            body={"id": "c", "model": "fast", "choices": [{"index": 0, "message": {"content": "Hi"}}], "usage": usage}
        )
    )
    with posthog_context(trace_id="named", properties={"$ai_model": "gemini-2.5-flash"}):
        client.chat.completions.create(model="fast", messages=[])
    assert posthog_autoinstrument.flush(10)
    (event,) = [one for one in posthog_events() if one["properties"].get("$ai_trace_id") == "named"]
    assert (event["properties"]["$ai_output_tokens"], event["properties"]["$ai_reasoning_tokens"]) == (1, 21)
    assert summary(event).output_tokens == 22


KIMI = counts(19, 13, cached_tokens=8)


def test_usage_of_a_choice() -> None:
    last = chunk(delta())
    last["choices"][0].update(finish_reason="stop", usage=KIMI)
    with_text = chunk(delta(content="lo"))
    with_text["choices"][0]["usage"] = KIMI
    for chunks in ([chunk(delta(content="Hel")), last], [chunk(delta(content="Hel")), with_text]):
        found = read("chat", None, None, chunks).usage
        assert (found.input_tokens, found.output_tokens, found.cache_read_input_tokens) == (19, 13, 8)
        assert found.raw == KIMI
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "usage": KIMI}
    assert read("chat", None, {"choices": [choice]}).usage.input_tokens == 19


def test_usage_of_several_choices_is_that_of_the_answer_or_unknown() -> None:
    def ended(number: int, usage: Json) -> Json:
        return chunk({"index": number, "delta": {}, "finish_reason": "stop", "usage": usage})

    same = read("chat", None, None, [ended(0, KIMI), ended(1, KIMI)]).usage
    assert (same.input_tokens, same.output_tokens) == (19, 13)
    other = read("chat", None, None, [ended(0, KIMI), ended(1, counts(19, 15))]).usage
    assert (other.input_tokens, other.output_tokens, other.raw) == (None, None, None)
    whole = read("chat", None, None, [ended(0, KIMI), ended(1, counts(19, 15)), {**chunk(), "usage": counts(19, 28)}])
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (19, 28)


def test_usage_of_a_stream_of_groq() -> None:
    """console.groq.com/docs/api-reference: the last chunk of a stream that was not asked for its usage."""
    last = {**chunk(delta()), "x_groq": {"id": "req_1", "usage": {**counts(18, 24), "queue_time": 0.01}}}
    found = read("chat", None, None, [{**chunk(delta(content="Hi")), "x_groq": {"id": "req_1"}}, last]).usage
    assert (found.input_tokens, found.output_tokens) == (18, 24)


def test_only_searches_are_web_searches() -> None:
    def searches(*actions: Json | None) -> int | None:
        output = [{"type": "web_search_call", "id": "w", "status": "completed"} for _ in actions]
        for item, action in zip(output, actions, strict=True):
            if action is not None:
                item["action"] = action  # type: ignore[assignment]
        return read("responses", None, {"id": "r", "status": "completed", "output": output}).usage.web_search_count

    search, opened = {"type": "search", "query": "tram 28"}, {"type": "open_page", "url": "https://example.com"}
    assert searches(search, opened, {"type": "find_in_page", "pattern": "28"}, search, None) == 3
    assert searches(opened) is None
