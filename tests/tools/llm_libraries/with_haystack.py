# /// script
# requires-python = ">=3.11"
# dependencies = ["haystack-ai"]
# ///
"""Haystack: generators, streams by callback, a pipeline, embedders of texts and documents, async."""

import asyncio
import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from haystack import Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage, Document


def generator(**more):
    return OpenAIChatGenerator(model="gpt-4o-mini", **more)


def texts(answer):
    return [message.text for message in answer["replies"]]


def sync_calls():
    print("run", texts(generator().run([ChatMessage.from_user("Hello")])))
    streamed = generator(streaming_callback=lambda chunk: print("chunk", chunk.content))
    print("stream", texts(streamed.run([ChatMessage.from_user("In parts")])))
    pipeline = Pipeline()
    pipeline.add_component("prompt", ChatPromptBuilder([ChatMessage.from_user("Say {{word}}")]))
    pipeline.add_component("model", generator())
    pipeline.connect("prompt", "model")
    print("pipeline", texts(pipeline.run({"prompt": {"word": "yes"}})["model"]))
    print("text", len(OpenAITextEmbedder().run("A text")["embedding"]))
    documents = [Document(content=f"Document {number}") for number in range(3)]
    print("documents", len(OpenAIDocumentEmbedder(progress_bar=False).run(documents)["documents"]))


async def async_calls():
    print("async", texts(await generator().run_async([ChatMessage.from_user("Hello, async")])))


sync_calls()
asyncio.run(async_calls())
