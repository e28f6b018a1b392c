# /// script
# requires-python = ">=3.11"
# dependencies = ["agno", "openai"]
# ///
"""Agno: an agent's runs, streamed ones and async ones."""

import asyncio

from agno.agent import Agent
from agno.models.openai import OpenAIChat


def agent():
    return Agent(model=OpenAIChat(id="gpt-4o-mini"), telemetry=False)


print("run", agent().run("Hello").content)
print("stream", [event.content for event in agent().run("In parts", stream=True) if getattr(event, "content", None)])
print("async", asyncio.run(agent().arun("Hello, async")).content)
