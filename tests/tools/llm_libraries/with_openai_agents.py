# /// script
# requires-python = ">=3.11"
# dependencies = ["openai-agents"]
# ///
"""OpenAI Agents: runs with tools, streams, structured output and handoffs, over Responses and over chat completions."""

import asyncio

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI, BadRequestError
from pydantic import BaseModel


class Book(BaseModel):
    title: str
    pages: int


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def show(label, result):
    usage = result.context_wrapper.usage
    print(label, repr(result.final_output), usage.requests, usage.input_tokens, usage.output_tokens)


async def runs(model):
    plain = Agent(name="plain", instructions="Be brief.", model=model)
    show("run", await Runner.run(plain, "Hello"))
    forecaster = Agent(name="forecaster", instructions="Use the tool.", tools=[weather], model=model)
    show("tool", await Runner.run(forecaster, "What is the weather in Lima?"))
    streamed = Runner.run_streamed(forecaster, "And in Oslo?")
    print("events", [event.type async for event in streamed.stream_events()])
    show("streamed", streamed)
    librarian = Agent(name="librarian", output_type=Book, model=model)
    show("structured", await Runner.run(librarian, "A book, please"))
    desk = Agent(name="desk", handoffs=[plain], model=model)
    show("handoff", await Runner.run(desk, "Somebody else, please"))
    for result in await asyncio.gather(*(Runner.run(plain, f"Gathered {number}") for number in range(5))):
        show("gather", result)
    try:
        await Runner.run(plain, "[error-400] Refuse this")
    except BadRequestError as error:
        print("refused", error)
    left = Runner.run_streamed(plain, "[slow-stream] To be left early, after some words")
    async for event in left.stream_events():
        if event.type == "raw_response_event":
            left.cancel()
            break
    print("left early")


def main():
    # A client belongs to one event loop.
    model = OpenAIResponsesModel("gpt-4.1-mini", AsyncOpenAI())
    show("run_sync", Runner.run_sync(Agent(name="sync", model=model), "Hello, sync"))
    asyncio.run(runs("gpt-4.1-mini"))
    asyncio.run(runs(OpenAIChatCompletionsModel("gpt-4o-mini", AsyncOpenAI())))


main()
