# /// script
# dependencies = ["langchain", "langgraph", "langchain-openai", "posthog"]
# ///
"""LangChain and LangGraph, in every way that they are run."""

import asyncio
import threading
from typing import TypedDict

import openai
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from posthog_autoinstrument import posthog_context, posthog_span

model = ChatOpenAI(model="gpt-4o-mini")
direct = openai.OpenAI()


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


@tool
def ask(subject: str) -> str:
    """Looks something up with a model of its own."""
    with posthog_span("look", "search"):
        embed(subject)
    return "nothing"


@tool
def broken(subject: str) -> str:
    """Always fails."""
    raise ValueError("no such subject")


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        embed(query)
        return [Document("a page")]


class State(TypedDict):
    question: str
    answer: str


def embed(text):
    text = text["question"] if isinstance(text, dict) else text
    direct.embeddings.create(model="text-embedding-3-small", input=text)
    return text


def embed_in_a_thread(text):
    beside = threading.Thread(target=embed, args=(text,))
    beside.start()
    beside.join()
    return text


def named(name):
    return {"run_name": name}


def graph(*nodes, **compiled):
    made = StateGraph(State)
    before = START
    for node in nodes:
        made.add_node(node.__name__, node)
        made.add_edge(before, node.__name__)
        before = node.__name__
    made.add_edge(before, END)
    return made.compile(**compiled)


def answer(state):
    return {"answer": model.invoke(state["question"]).content}


async def answer_async(state):
    return {"answer": (await model.ainvoke(state["question"])).content}


def embed_it(state):
    embed(state["question"])
    return {}


def wait(state):
    interrupt("may I?")


prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")])
chain = prompt | model | StrOutputParser()
lambdas = RunnableLambda(embed).with_config(run_name="embed") | model
question = {"question": "Why?"}


def synchronous():
    chain.invoke(question, named("invoked"))
    list(chain.stream(question, named("streamed")))
    chain.batch([question] * 3, named("batched"))
    lambdas.invoke("Why?", named("lambdas invoked"))
    list(lambdas.stream("Why?", named("lambdas streamed")))
    lambdas.batch(["Why?"] * 3, named("lambdas batched"))
    for number, _ in enumerate(lambdas.stream("Why?", named("read slowly"))):
        if number == 0:
            embed("beside")
    for _ in chain.stream(question, named("left early")):
        break
    embed("beside")
    RunnableLambda(embed_in_a_thread).invoke("Why?", named("thread inside"))
    list(RunnableLambda(embed_in_a_thread).stream("Why?", named("thread inside a stream")))
    model.invoke("bare")
    list(model.stream("bare"))
    weather.invoke({"city": "Lima"})
    RunnableParallel(one=chain, two=lambdas).invoke(question, named("parallel"))
    (Shelf() | RunnableLambda(len)).invoke("shelf", named("shelved"))
    try:
        (prompt | ChatOpenAI(model="error-400")).invoke(question, named("refused"))
    except openai.BadRequestError:
        pass
    create_agent(model, [weather], name="forecaster").invoke(asked("Lima?"))
    create_agent(model, [ask], name="asking").invoke(asked("Lima?"))
    try:
        create_agent(model, [broken], name="failing").invoke(asked("Lima?"))
    except ValueError:
        pass
    for _ in create_agent(model, [weather], name="streamed").stream(asked("Lima?"), stream_mode="messages"):
        pass
    graph(answer, embed_it).invoke(question, {**named("graph"), "configurable": {"thread_id": "talk 1"}})
    interrupted = graph(wait, checkpointer=InMemorySaver())
    interrupted.invoke(question, {**named("interrupted"), "configurable": {"thread_id": "talk 2"}})
    with posthog_context(distinct_id="ann"), posthog_span("turn", "step"):
        chain.invoke(question, named("of ann"))
        embed("beside")
    with posthog_context(privacy_mode=True):
        chain.invoke(question, named("private"))


def asked(text):
    return {"messages": [{"role": "user", "content": text}]}


async def asynchronous():
    await chain.ainvoke(question, named("async invoked"))
    async for _ in chain.astream(question, named("async streamed")):
        pass
    await chain.abatch([question] * 3, named("async batched"))
    await asyncio.gather(*(chain.ainvoke(question, named("gathered")) for _ in range(5)))
    await lambdas.ainvoke("Why?", named("async lambdas"))
    await create_agent(model, [ask], name="async agent").ainvoke(asked("Lima?"))
    async for _ in create_agent(model, [weather], name="async streamed agent").astream(asked("Lima?")):
        pass
    await graph(answer_async, embed_it).ainvoke(question, named("async graph"))
    async for event in chain.astream_events(question, named("events")):
        event.keys()

    async def of(user):
        with posthog_context(distinct_id=user):
            await chain.ainvoke(question, named(f"of {user}"))

    await asyncio.gather(of("bob"), of("cid"))
    embed("beside")


def theirs():
    """PostHog's own integrations tell of the steps: ours is silent."""
    from langchain_core.callbacks import CallbackManager
    from posthog import Posthog
    from posthog.ai.langchain import CallbackHandler
    from posthog.ai.langchain.middleware import PostHogMiddleware

    off = Posthog("phc_theirs", host="http://127.0.0.1:9", disabled=True)
    handler = CallbackHandler(client=off)
    chain.invoke(question, {**named("theirs"), "callbacks": [handler]})
    chain.invoke(question, {**named("theirs"), "callbacks": CallbackManager([handler])})
    create_agent(model, [ask], name="theirs").invoke(asked("Lima?"), {"callbacks": [handler]})
    middleware = PostHogMiddleware(client=off)
    create_agent(model, [weather], name="theirs", middleware=[middleware]).invoke(asked("Lima?"))


if __name__ == "__main__":
    thread = threading.Thread(target=chain.invoke, args=(question, named("in a thread")))
    thread.start()
    thread.join()
    synchronous()
    asyncio.run(asynchronous())
    theirs()
