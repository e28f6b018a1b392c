"""Tools that models ask for become spans by themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.features import needs

from posthog_autoinstrument import posthog_context, posthog_span

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED: Any = {"role": "user", "content": "How is the weather?"}


def spans(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["properties"] for event in events if event["event"] == "$ai_span"]


@pytest.fixture
def turn(client):
    """One turn of chat with a tool; `work` is called where a program runs it."""

    def run(work=lambda: None, streamed=False) -> str:
        messages = [ASKED]
        if streamed:
            chunks = list(
                client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[WEATHER], stream=True)
            )
            deltas = [
                chunk.choices[0].delta.tool_calls[0]
                for chunk in chunks
                if chunk.choices and chunk.choices[0].delta.tool_calls
            ]
            arguments = "".join(delta.function.arguments or "" for delta in deltas)
            call = {"id": deltas[0].id, "type": "function",
                    "function": {"name": deltas[0].function.name, "arguments": arguments}}  # fmt: skip
        else:
            answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=[WEATHER])
            call = answer.choices[0].message.tool_calls[0].model_dump()
        work()
        messages += [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "Sunny, 21 degrees"},
        ]
        for _ in range(2):  # the result is sent again with every later call
            client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        return str(call["id"])

    return run


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_between_two_calls(turn, captured, trace, streamed):
    with posthog_context(distinct_id="u1", properties={"plan": "pro"}):
        turn(streamed=streamed)
    events = captured(4)
    (span,) = spans(events)
    (asking,) = [event["properties"] for event in events if event["properties"].get("$ai_tools")]
    assert span["$ai_span_name"] == "get_weather"
    assert span["$ai_span_type"] == "tool"
    assert span["$ai_parent_id"] == asking["$ai_span_id"]
    assert span["$ai_trace_id"] == trace
    assert set(span["$ai_input_state"]) == {"city"}
    assert span["$ai_output_state"] == "Sunny, 21 degrees"
    assert 0 <= span["$ai_latency"] < 60
    assert span["plan"] == "pro"
    assert {event["distinct_id"] for event in events} == {"u1"}


@needs("responses")
def test_a_tool_of_responses(client, captured):
    tool: Any = {
        "type": "function",
        "strict": False,
        "name": "get_weather",
        "parameters": WEATHER["function"]["parameters"],
    }
    first = client.responses.create(model="gpt-4o-mini", input="How is the weather?", tools=[tool])
    (asked,) = [item for item in first.output if item.type == "function_call"]
    result: Any = {"type": "function_call_output", "call_id": asked.call_id, "output": json.dumps({"sun": True})}
    client.responses.create(model="gpt-4o-mini", input=[result], previous_response_id=first.id)
    (span,) = spans(captured(3))
    assert span["$ai_span_name"] == "get_weather"
    assert span["$ai_output_state"] == '{"sun": true}'


def test_a_tool_that_the_program_names_itself(turn, captured):
    def work() -> None:
        with posthog_span("get_weather", "tool"):
            pass

    turn(work)
    (span,) = spans(captured(4))
    assert "$ai_input_state" not in span  # the program's own


def test_in_privacy_mode(turn, captured):
    with posthog_context(privacy_mode=True):
        turn()
    (span,) = spans(captured(4))
    assert span["$ai_span_name"] == "tool"
    assert span["$ai_input_state"] is None
    assert span["$ai_output_state"] is None


def test_calls_of_different_traces_have_no_tools(client, posthog_events):
    """Without a trace around them nobody knows that two calls belong together."""
    import posthog_autoinstrument

    answer = client.chat.completions.create(model="gpt-4o-mini", messages=[ASKED], tools=[WEATHER])
    call = answer.choices[0].message.tool_calls[0].model_dump()
    result = {"role": "tool", "tool_call_id": call["id"], "content": "rain over Bergen"}
    client.chat.completions.create(
        model="gpt-4o-mini", messages=[ASKED, {"role": "assistant", "tool_calls": [call]}, result]
    )
    assert posthog_autoinstrument.flush(10)
    assert not [one for one in spans(posthog_events()) if one.get("$ai_output_state") == "rain over Bergen"]


def test_switched_off(run_program):
    ran = run_program(
        f"""
        import openai
        from posthog_autoinstrument import posthog_context
        client = openai.OpenAI()
        asked, tool = {ASKED!r}, {WEATHER!r}
        with posthog_context():
            answer = client.chat.completions.create(model="m", messages=[asked], tools=[tool])
            call = answer.choices[0].message.tool_calls[0]
            result = {{"role": "tool", "tool_call_id": call.id, "content": "x"}}
            client.chat.completions.create(
                model="m", messages=[asked, {{"role": "assistant", "tool_calls": [call.model_dump()]}}, result])
        """,
        env={"POSTHOG_AUTOINSTRUMENT_TOOL_SPANS": "0"},
    )
    assert ran.returncode == 0, ran.stderr
    assert [event["event"] for event in ran.events] == ["$ai_generation"] * 2
