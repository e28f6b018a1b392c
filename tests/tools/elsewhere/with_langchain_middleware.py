# /// script
# dependencies = ["posthog", "langchain-openai", "langchain"]
# ///
"""LangChain agents with `posthog.ai.langchain.middleware.PostHogMiddleware`, which uses no callbacks."""

import asyncio
import os

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from posthog import Posthog
from posthog.ai.langchain.middleware import PostHogMiddleware

posthog = Posthog("phc_theirs", host=os.environ["THEIR_POSTHOG"])
model = ChatOpenAI(model="gpt-4o-mini")
watched = create_agent(model, tools=[], middleware=[PostHogMiddleware(client=posthog)])
alone = create_agent(model, tools=[])


def said(text):
    return {"messages": [("user", text)]}


watched.invoke(said("theirs: agent"))
list(watched.stream(said("theirs: agent stream")))
alone.invoke(said("ours: agent without"))
model.invoke("ours: model alone")


async def main():
    await watched.ainvoke(said("theirs: async agent"))
    [_ async for _ in watched.astream(said("theirs: async agent stream"))]
    await asyncio.gather(watched.ainvoke(said("theirs: gathered")), alone.ainvoke(said("ours: gathered")))
    await model.ainvoke("ours: async model alone")


asyncio.run(main())
posthog.shutdown()
