# /// script
# requires-python = ">=3.11"
# dependencies = ["llama-index-llms-openai", "llama-index-embeddings-openai"]
# ///
"""LlamaIndex: chat, complete, streams, a function agent, structured prediction, an index over embeddings; async."""

import asyncio
import os

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI, OpenAIResponses
from openai import BadRequestError
from pydantic import BaseModel


class Book(BaseModel):
    """A book."""

    title: str
    pages: int


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def said(text):
    return [ChatMessage(role="user", content=text)]


def sync_calls(llm):
    print("complete", llm.complete("Hello"))
    print("chat", llm.chat(said("Hello, chat")))
    print("stream", [part.delta for part in llm.stream_chat(said("Tell me a story"))])
    print("stream complete", [part.delta for part in llm.stream_complete("And another")])
    print("structured", llm.structured_predict(Book, PromptTemplate("A book about {topic}"), topic="tea"))
    try:
        llm.chat(said("[error-400] Refuse this"))
    except BadRequestError as error:
        print("refused", error)


def query(llm, embedding):
    documents = [
        Document(text=f"The {thing} is in the {place}.") for thing, place in (("key", "box"), ("box", "attic"))
    ]
    index = VectorStoreIndex.from_documents(documents, embed_model=embedding)
    print("query", index.as_query_engine(llm=llm, similarity_top_k=1).query("Where is the key?"))
    streamed = index.as_query_engine(llm=llm, similarity_top_k=1, streaming=True).query("Where is the box?")
    print("streamed query", list(streamed.response_gen))


async def async_calls(llm, embedding):
    print("achat", await llm.achat(said("Hello, async")))
    print("astream", [part.delta async for part in await llm.astream_chat(said("An async story"))])
    print("gather", [str(one) for one in await asyncio.gather(*(llm.acomplete(f"Gathered {n}") for n in range(5)))])
    print("async embeddings", [one[:2] for one in await embedding.aget_text_embedding_batch(["five", "six"])])
    agent = FunctionAgent(tools=[weather], llm=llm, system_prompt="Use the tool.")
    print("agent", await agent.run("What is the weather in Lima?"))


def main():
    base = os.environ["OPENAI_BASE_URL"]
    llm = OpenAI(model="gpt-4o-mini", api_base=base)
    embedding = OpenAIEmbedding(model="text-embedding-3-small", api_base=base)
    sync_calls(llm)
    responses = OpenAIResponses(model="gpt-4.1-mini", api_base=base)
    print("responses", responses.chat(said("Hello, Responses")))
    print("responses stream", [part.delta for part in responses.stream_chat(said("Stream a Response"))])
    print("embeddings", [one[:2] for one in embedding.get_text_embedding_batch(["one", "two", "three"])])
    query(llm, embedding)
    asyncio.run(async_calls(OpenAI(model="gpt-4o-mini", api_base=base), embedding))


main()
