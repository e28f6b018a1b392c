# /// script
# requires-python = ">=3.11"
# dependencies = ["autogen-agentchat", "autogen-ext[openai]"]
# ///
"""AutoGen: the model client alone and streamed, an assistant with a tool, structured output, a team."""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel


class Book(BaseModel):
    title: str
    pages: int


async def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def said(text):
    return [UserMessage(content=text, source="user")]


async def main():
    client = OpenAIChatCompletionClient(model="gpt-4o-mini")
    answer = await client.create(said("Hello"))
    print("create", answer.content, answer.usage)
    async for part in client.create_stream(said("Tell me a story")):
        print("stream", part)
    async for part in client.create_stream(said("Count"), include_usage=True):
        print("counted", part)
    print("json", (await client.create(said("A book, please"), json_output=Book)).content)
    answers = await asyncio.gather(*(client.create(said(f"Gathered {number}")) for number in range(5)))
    print("gather", [one.content for one in answers])

    forecaster = AssistantAgent("forecaster", client, tools=[weather], reflect_on_tool_use=True)
    for message in (await forecaster.run(task="What is the weather in Lima?")).messages:
        print("tool", message.source, message.to_text(), message.models_usage)
    streamer = AssistantAgent("streamer", client, model_client_stream=True)
    async for message in streamer.run_stream(task="Stream this"):
        print("streamed", type(message).__name__)
    librarian = AssistantAgent("librarian", client, output_content_type=Book)
    print("structured", (await librarian.run(task="Another book")).messages[-1].content)
    pair = [AssistantAgent("one", client), AssistantAgent("two", client)]
    team = RoundRobinGroupChat(pair, termination_condition=MaxMessageTermination(4))
    print("team", [message.to_text() for message in (await team.run(task="Talk")).messages])

    await client.close()


asyncio.run(main())
