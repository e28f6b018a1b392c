# /// script
# requires-python = ">=3.11"
# dependencies = ["pydantic-ai-slim[openai]"]
# ///
"""Pydantic AI: agents with tools, output types and streams, over chat completions and over Responses; embeddings."""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel


class Book(BaseModel):
    title: str
    pages: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def show(label, result):
    usage = result.usage
    print(label, repr(result.output), usage.requests, usage.input_tokens, usage.output_tokens)


async def runs(model):
    plain = Agent(model, instructions="Be brief.")
    show("run", await plain.run("Hello"))
    async with plain.run_stream("Tell me a story") as result:
        print("stream", [text async for text in result.stream_text(delta=True, debounce_by=None)])
    forecaster = Agent(model, tools=[weather])
    show("tool", await forecaster.run("What is the weather in Lima?"))
    async with forecaster.iter("And in Oslo?") as steps:
        print("steps", [type(step).__name__ async for step in steps])
    show("output tool", await Agent(model, output_type=Book).run("A book, please"))
    show("native output", await Agent(model, output_type=NativeOutput(Book)).run("A native book"))
    for result in await asyncio.gather(*(plain.run(f"Gathered {number}") for number in range(5))):
        show("gather", result)
    try:
        await plain.run("[error-400] Refuse this")
    except ModelHTTPError as error:
        print("refused", error)
    async with plain.run_stream("[slow-stream] To be left early, after some words") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            print("left early", repr(text))
            break


async def embed():
    embedder = Embedder("openai:text-embedding-3-small")
    print("embedding", (await embedder.embed_query("A question")).embeddings[0][:2])
    print("embeddings", [vector[:2] for vector in (await embedder.embed_documents(["one", "two"])).embeddings])


def main():
    show("run_sync", Agent(OpenAIChatModel("gpt-4o-mini")).run_sync("Hello, sync"))
    asyncio.run(runs(OpenAIChatModel("gpt-4o-mini")))
    asyncio.run(runs(OpenAIResponsesModel("gpt-4.1-mini")))
    asyncio.run(embed())


main()
