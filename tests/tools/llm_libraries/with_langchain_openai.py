# /// script
# requires-python = ">=3.11"
# dependencies = ["langchain-openai"]
# ///
"""LangChain: invoke, stream, batch, a bound tool, structured output, embeddings, and their async twins."""

import asyncio

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from openai import BadRequestError
from pydantic import BaseModel


class Book(BaseModel):
    title: str
    pages: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def show(label, message):
    print(label, repr(message.content), message.tool_calls, message.usage_metadata)


def tool_round_trip(model):
    asked = [HumanMessage("What is the weather in Lima?")]
    answer = model.invoke(asked)
    show("tool asked", answer)
    results = [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]
    show("tool told", model.invoke([*asked, answer, *results]))


def sync_calls(model):
    show("invoke", model.invoke("Hello"))
    print("stream", [chunk.content for chunk in model.stream("Tell me a story")])
    with_usage = list(model.stream("Count tokens", stream_usage=True))
    print("stream with usage", [chunk.usage_metadata for chunk in with_usage if chunk.usage_metadata])
    chain = ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{question}")]) | model
    print("chain", (chain | StrOutputParser()).invoke({"question": "Why?"}))
    for answer in model.batch([f"Batch {number}" for number in range(6)], config={"max_concurrency": 3}):
        show("batch", answer)
    tool_round_trip(model.bind_tools([weather]))
    print("structured", model.with_structured_output(Book).invoke("A book, please"))
    print("function", model.with_structured_output(Book, method="function_calling").invoke("A book by function"))
    print("json", model.with_structured_output(None, method="json_mode").invoke("Some JSON"))
    try:
        model.invoke("[error-400] Refuse this")
    except BadRequestError as error:
        print("refused", type(error), error)
    abandoned = model.stream("[long] To be left early")
    print("abandoned", next(abandoned).content)
    abandoned.close()


def responses_calls(model):
    print("responses", model.invoke("Hello, Responses").content)
    streamed = AIMessage("")
    for chunk in model.stream("Stream a Response"):
        streamed = chunk if not streamed.content else streamed + chunk
    print("responses stream", streamed.content, streamed.usage_metadata)
    tool_round_trip(model.bind_tools([weather]))
    print("responses structured", model.with_structured_output(Book, method="json_schema").invoke("A book again"))


async def async_calls(model, embeddings):
    show("ainvoke", await model.ainvoke("Hello, async"))
    print("astream", [chunk.content async for chunk in model.astream("An async story")])
    for answer in await asyncio.gather(*(model.ainvoke(f"Gathered {number}") for number in range(5))):
        show("gather", answer)
    for answer in await model.abatch([f"Async batch {number}" for number in range(4)]):
        show("abatch", answer)
    print("async structured", await model.with_structured_output(Book).ainvoke("An async book"))
    print("async embedding", (await embeddings.aembed_query("An async question"))[:2])


def main():
    model = ChatOpenAI(model="gpt-4o-mini", temperature=0)
    # Without tiktoken, which would fetch its tables.
    embeddings = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
    sync_calls(model)
    responses_calls(ChatOpenAI(model="gpt-4.1-mini", use_responses_api=True))
    print("embeddings", [vector[:2] for vector in embeddings.embed_documents(["one", "two", "three"])])
    print("embedding", embeddings.embed_query("A question")[:2])
    print("completion", OpenAI(model="gpt-3.5-turbo-instruct").invoke("Once upon a time"))
    asyncio.run(async_calls(model, embeddings))


main()
