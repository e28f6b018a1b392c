# /// script
# dependencies = ["posthog", "langchain-openai", "langchain"]
# ///
"""LangChain with `posthog.ai.langchain.CallbackHandler`, given in each way that LangChain knows."""

import asyncio
import os

import openai
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from posthog import Posthog
from posthog.ai.langchain import CallbackHandler

posthog = Posthog("phc_theirs", host=os.environ["THEIR_POSTHOG"])
handler = CallbackHandler(client=posthog)
config = {"callbacks": [handler]}
plain = ChatOpenAI(model="gpt-4o-mini")
carrying = ChatOpenAI(model="gpt-4o-mini", callbacks=[handler])
responses = ChatOpenAI(model="gpt-4o-mini", use_responses_api=True, callbacks=[handler])
direct = openai.OpenAI()


def ask(prompt):
    return direct.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])


async def ask_async(prompt):
    async with openai.AsyncOpenAI() as client:
        await client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}])


def fails(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except openai.APIError:
        return
    raise AssertionError("it did not fail")


class Wrapping(BaseChatModel):
    """A model of the program's own that has another one answer."""

    @property
    def _llm_type(self):
        return "wrapping"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        answer = ask(messages[0].content)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer.choices[0].message.content))])


@tool
def look_up(subject: str) -> str:
    """Looks something up with a model of its own."""
    ask("ours: called in a tool")
    return "nothing"


# Synchronous.
carrying.invoke("theirs: constructor")
plain.invoke("theirs: per call", config=config)
plain.invoke("ours: no handler")
ask("ours: the sdk beside it")
list(carrying.stream("theirs: stream"))
list(plain.stream("theirs: stream per call", config=config))
list(plain.stream("ours: stream without"))
stream = carrying.stream("theirs: stream left early")
next(stream)
stream.close()
for number, _ in enumerate(carrying.stream("theirs: stream consumed slowly")):
    if number == 0:
        ask("ours: between two chunks")
carrying.batch([f"theirs: batch {number}" for number in range(4)])
plain.batch([f"theirs: batch per call {number}" for number in range(4)], config=config)
plain.batch([f"ours: batch {number}" for number in range(4)])
list(plain.batch_as_completed([f"theirs: as completed {number}" for number in range(3)], config=config))
responses.invoke("theirs: responses")
list(responses.stream("theirs: responses stream"))
ChatOpenAI(model="gpt-4o-mini", use_responses_api=True).invoke("ours: responses without")
OpenAI(model="gpt-3.5-turbo-instruct", callbacks=[handler]).invoke("theirs: legacy")
list(OpenAI(model="gpt-3.5-turbo-instruct").stream("theirs: legacy stream", config=config))
OpenAI(model="gpt-3.5-turbo-instruct").invoke("ours: legacy without")
schema = {"title": "Book", "description": "a book", "type": "object", "properties": {"title": {"type": "string"}}}
for method in ("json_schema", "function_calling"):
    for model, who in ((carrying, "theirs"), (plain, "ours")):
        model.with_structured_output(schema, method=method, include_raw=True).invoke(f"{who}: structured by {method}")
fails(ChatOpenAI(model="error-400", callbacks=[handler]).invoke, "theirs: failed")
fails(ChatOpenAI(model="error-400").invoke, "ours: failed without")
fails(lambda: list(ChatOpenAI(model="error-400", callbacks=[handler]).stream("theirs: failed stream")))

# Chains: the handler is inherited; what a chain calls beside LangChain is not seen by it.
template = ChatPromptTemplate.from_template("{text}")
(template | plain).invoke({"text": "theirs: chain"}, config=config)
list((template | plain).stream({"text": "theirs: chain stream"}, config=config))
(template | plain).invoke({"text": "ours: chain without"})
RunnableLambda(lambda _: ask("ours: the sdk in a chain").id).invoke(1, config=config)
RunnableLambda(lambda _: plain.invoke("theirs: model in a lambda")).invoke(1, config=config)
look_up.invoke({"subject": "x"}, config=config)
Wrapping().invoke("theirs: a model of its own", config=config)
Wrapping().invoke("ours: a model of its own without")

# Embeddings have no callbacks.
OpenAIEmbeddings(check_embedding_ctx_length=False).embed_query("ours: embedded")
OpenAIEmbeddings(check_embedding_ctx_length=False).embed_documents(["ours: embedded documents"])
RunnableLambda(
    lambda _: OpenAIEmbeddings(check_embedding_ctx_length=False).embed_query("ours: embedded in a chain")
).invoke(1, config=config)

# Agents.
create_agent(plain, tools=[]).invoke({"messages": [("user", "theirs: agent")]}, config=config)
create_agent(plain, tools=[]).invoke({"messages": [("user", "ours: agent without")]})


# Asynchronous.
async def main():
    await carrying.ainvoke("theirs: async")
    await plain.ainvoke("theirs: async per call", config=config)
    await plain.ainvoke("ours: async without")
    await ask_async("ours: the async sdk beside it")
    [_ async for _ in carrying.astream("theirs: async stream")]
    [_ async for _ in plain.astream("ours: async stream without")]
    between = carrying.astream("theirs: async stream with a call between")
    await between.__anext__()
    await ask_async("ours: between two async chunks")
    [_ async for _ in between]
    [_ async for _ in plain.astream_events("theirs: events", config=config, version="v2")]
    [_ async for _ in plain.astream_events("ours: events without", version="v2")]
    await carrying.abatch([f"theirs: async batch {number}" for number in range(4)])
    await asyncio.gather(
        carrying.ainvoke("theirs: gathered"), plain.ainvoke("ours: gathered"), ask_async("ours: gathered sdk")
    )
    await responses.ainvoke("theirs: async responses")
    [_ async for _ in responses.astream("theirs: async responses stream")]
    await (template | plain).ainvoke({"text": "theirs: async chain"}, config=config)
    await Wrapping().ainvoke("theirs: in an executor", config=config)
    await OpenAIEmbeddings(check_embedding_ctx_length=False).aembed_query("ours: async embedded")
    agent = create_agent(plain, tools=[])
    await agent.ainvoke({"messages": [("user", "theirs: async agent")]}, config=config)
    [_ async for _ in agent.astream({"messages": [("user", "theirs: async agent stream")]}, config=config)]
    # LangChain tells the handler of a cancelled stream, not of a cancelled invoke.
    for who, call in (
        ("ours: cancelled", ChatOpenAI(model="hang", callbacks=[handler]).ainvoke),
        ("theirs: cancelled stream", lambda text: drain(ChatOpenAI(model="hang", callbacks=[handler]).astream(text))),
    ):
        try:
            await asyncio.wait_for(call(who), 1.0)
        except asyncio.TimeoutError:
            continue
        raise AssertionError("it answered")


async def drain(stream):
    return [chunk async for chunk in stream]


asyncio.run(main())

private = CallbackHandler(client=posthog, privacy_mode=True)
plain.invoke("theirs: private, without input", config={"callbacks": [private]})

# Switched off, the integration sends nothing, and so do we for its calls.
off = Posthog("phc_theirs", host=os.environ["THEIR_POSTHOG"], disabled=True)
plain.invoke("nobody: disabled", config={"callbacks": [CallbackHandler(client=off)]})
posthog.shutdown()
