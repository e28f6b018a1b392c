"""The program that `posthog-instrument demo` runs: calls as a real application makes them, for two users.

It runs under the launcher, in a process of its own, and knows of the agent only `posthog_context`. The openai package
finds its server in OPENAI_BASE_URL, as always: a fake one, or with `--live` the real one.
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai

from .. import posthog_context

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "examples": ["Lisbon"]}},
            "required": ["city"],
        },
    },
}


@dataclass(frozen=True)
class Demo:
    """The client and the models that all steps use."""

    client: Any
    model: str
    embedding_model: str

    def chat(self, *messages: Any, **parameters: Any) -> Any:
        """One call of chat completions; strings are what the user says."""
        sent = [{"role": "user", "content": message} if isinstance(message, str) else message for message in messages]
        return self.client.chat.completions.create(model=self.model, messages=sent, **parameters)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all calls; one line on stdout for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", action="store_true", help="the server is the real one: provoke no rate limit")
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--embedding-model", default="text-embedding-3-small")
    options = parser.parse_args(arguments)
    session_id = f"demo-{uuid.uuid4().hex[:12]}"
    with openai.OpenAI() as client:
        demo = Demo(client, options.model, options.embedding_model)
        with posthog_context(distinct_id="ada@example.com", session_id=session_id, properties={"plan": "pro"}):
            ask(demo)
            stream(demo)
            call_a_tool(demo)
        with posthog_context(distinct_id="grace@example.com", properties={"plan": "free"}):
            respond(demo)
            embed(demo)
            if not options.live:
                be_rate_limited(demo)
            make_a_mistake(demo)


@posthog_context(properties={"feature": "chat"})
def ask(demo: Demo) -> None:
    """A plain chat completion."""
    system = {"role": "system", "content": "You are a travel agent. Answer in one sentence."}
    completion = demo.chat(system, "Where is it warm in November?")
    report("chat", completion.choices[0].message.content)


@posthog_context(properties={"feature": "chat"})
def stream(demo: Demo) -> None:
    """A streamed chat completion that asks for its token counts."""
    chunks = demo.chat("Name three things to see in Lisbon.", stream=True, stream_options={"include_usage": True})
    report("stream", "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))


@posthog_context(properties={"feature": "weather"})
def call_a_tool(demo: Demo) -> None:
    """Two calls in one trace: the model asks for a tool, and answers with what the tool gave."""
    question = {"role": "user", "content": "Do I need an umbrella in Lisbon today?"}
    asked = demo.chat(question, tools=[WEATHER_TOOL], tool_choice="required").choices[0].message
    tool_call = asked.tool_calls[0]
    report("tool call", f"{tool_call.function.name}({tool_call.function.arguments})")
    result = {"role": "tool", "tool_call_id": tool_call.id, "content": json.dumps({"sky": "clear", "celsius": 21})}
    answered = demo.chat(question, asked, result, tools=[WEATHER_TOOL])
    report("tool answer", answered.choices[0].message.content)


@posthog_context(properties={"feature": "itinerary"})
def respond(demo: Demo) -> None:
    """The Responses API."""
    if not hasattr(demo.client, "responses"):  # openai before 1.66
        return
    response = demo.client.responses.create(
        model=demo.model, instructions="Answer in one sentence.", input="Plan a day in Lisbon."
    )
    report("response", response.output_text)


@posthog_context(properties={"feature": "search"})
def embed(demo: Demo) -> None:
    """Two embeddings in one call."""
    answer = demo.client.embeddings.create(model=demo.embedding_model, input=["tram 28", "Belém tower"])
    report("embeddings", f"{len(answer.data)} vectors of {len(answer.data[0].embedding)} numbers")


@posthog_context(properties={"feature": "chat"})
def be_rate_limited(demo: Demo) -> None:
    """The fake server refuses the first attempt, the SDK tries again: two requests, but one call."""
    completion = demo.chat("[flaky-429] Is the castle open on Mondays?")
    report("after a rate limit", completion.choices[0].message.content)


@posthog_context(properties={"feature": "chat"})
def make_a_mistake(demo: Demo) -> None:
    """A call that fails."""
    try:
        demo.chat("Be as creative as you can.", temperature=9)
    except openai.BadRequestError as error:
        report("error, as expected", f"{error.status_code} {error.code}")


def report(what: str, text: str | None) -> None:
    """One line about a call, on stdout, at once."""
    print(f"  {what}: {' '.join((text or '').split())[:100]}", flush=True)


if __name__ == "__main__":
    main()
