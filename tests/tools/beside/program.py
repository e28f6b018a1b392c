"""A program that calls OpenAI in many ways, with another tool switched on in it: `python program.py SETUP ORDER`.

SETUP is a file of `benchmarks/contestants/`; ORDER says when it is switched on: `before` openai is imported, or `after`
a client was made. What the program sees is printed; every prompt has a mark of its own, `[call 1]`, by which the
receivers know the call.
"""

from __future__ import annotations

import asyncio
import itertools
import runpy
import sys
import threading
from typing import Any

setup, order = sys.argv[1:]
numbers = itertools.count(1)


def switch_on() -> dict[str, Any]:
    return runpy.run_path(setup)


tool = switch_on() if order == "before" else {}

import openai  # noqa: E402

settings: dict[str, Any] = {"api_key": "sk-test", "max_retries": 0}
client = tool.get("OpenAI", openai.OpenAI)(**settings)
if order == "after":
    tool = switch_on()


def prompt() -> str:
    return f"[call {next(numbers)}] Hello"


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt()}], **more}


def show(seen: Any) -> None:
    choices = getattr(seen, "choices", None) or ()
    parts = [getattr(choice, "message", None) or getattr(choice, "delta", None) for choice in choices]
    print(type(seen).__name__, [getattr(part, "content", None) for part in parts])


def plain() -> None:
    show(client.chat.completions.create(**chat()))
    for chunk in client.chat.completions.create(**chat(stream=True)):
        show(chunk)
    embedding = client.embeddings.create(model="text-embedding-3-small", input=prompt())
    print(len(embedding.data), len(embedding.data[0].embedding))
    show(client.responses.create(model="gpt-4o-mini", input=prompt()))
    for event in client.responses.create(model="gpt-4o-mini", input=prompt(), stream=True):
        print(event.type)
    raw = client.chat.completions.with_raw_response.create(**chat())
    print(raw.http_response.status_code)
    show(raw.parse())
    with client.chat.completions.stream(**chat()) as stream:
        print([event.type for event in stream])
    thread = threading.Thread(target=lambda: show(client.chat.completions.create(**chat())))
    thread.start()
    thread.join()


async def asynchronous() -> None:
    async with tool.get("AsyncOpenAI", openai.AsyncOpenAI)(**settings) as client:
        for seen in await asyncio.gather(*(client.chat.completions.create(**chat()) for _ in range(4))):
            show(seen)
        async for chunk in await client.chat.completions.create(**chat(stream=True)):
            show(chunk)


plain()
asyncio.run(asynchronous())
tool.get("flush", lambda: None)()
