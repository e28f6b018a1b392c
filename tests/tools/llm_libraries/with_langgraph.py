# /// script
# requires-python = ">=3.11"
# dependencies = ["langgraph", "langchain-openai"]
# ///
"""LangGraph: a graph of two nodes, invoked and streamed; many asynchronous runs at once."""

import asyncio
from typing import Annotated, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages


class State(TypedDict):
    messages: Annotated[list, add_messages]


model = ChatOpenAI(model="gpt-4o-mini")


def ask(state):
    return {"messages": [model.invoke(state["messages"])]}


async def ask_async(state):
    return {"messages": [await model.ainvoke(state["messages"])]}


def graph(*nodes):
    built = StateGraph(State)
    names = [f"node {number}" for number in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        built.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        built.add_edge(before, after)
    return built.compile()


def said(text):
    return {"messages": [("user", text)]}


async def async_calls():
    compiled = graph(ask_async)
    answers = await asyncio.gather(*(compiled.ainvoke(said(f"Run {number}")) for number in range(4)))
    print("async", [answer["messages"][-1].content for answer in answers])


print("invoke", graph(ask, ask).invoke(said("Hello"))["messages"][-1].content)
print("stream", [list(update) for update in graph(ask, ask).stream(said("In steps"), stream_mode="updates")])
asyncio.run(async_calls())
