"""An agent with tools: each turn is one trace, in which steps, calls and tools hang together. Needs OPENAI_API_KEY.

Run it with: posthog-instrument python agent.py
"""

import json
from collections.abc import Callable
from typing import Any

from openai import OpenAI

from posthog_autoinstrument import posthog_context, posthog_span

client = OpenAI()
MAX_STEPS = 5


@posthog_span("stock_of", "tool")  # arguments and result are the span's input and output
def stock_of(title: str) -> int:
    """How many copies of a book are there?"""
    return len(title)


def price_of(title: str) -> str:
    """What does a book cost? Its span comes by itself: the agent sees the model ask and the result go back."""
    return f"{len(title)}.50"


TOOLS: dict[str, Callable[[str], Any]] = {"stock_of": stock_of, "price_of": price_of}
DESCRIBED: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": tool.__doc__,
            "parameters": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
        },
    }
    for name, tool in TOOLS.items()
]


@posthog_span("bookseller", "agent", trace=True)  # the outermost span names the trace
def answer(question: str) -> str:
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(MAX_STEPS):
        reply = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=DESCRIBED)
        message = reply.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            arguments = json.loads(call.function.arguments)
            result = TOOLS[call.function.name](arguments["title"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})
    return "I could not find out."


for question in ("Is Dune in stock?", "And what does it cost?"):
    with posthog_context(distinct_id="user-42", session_id="visit-7"):  # a turn is a trace, a visit a conversation
        print(answer(question))
