# /// script
# requires-python = ">=3.11"
# dependencies = ["semantic-kernel"]
# ///
"""Semantic Kernel: chat completions, streams, a prompt of the kernel, embeddings."""

import asyncio

from semantic_kernel import Kernel
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
    OpenAITextEmbedding,
)
from semantic_kernel.contents import ChatHistory


async def calls():
    kernel, service = Kernel(), OpenAIChatCompletion(ai_model_id="gpt-4o-mini")
    kernel.add_service(service)
    settings = OpenAIChatPromptExecutionSettings()
    history = ChatHistory()
    history.add_user_message("Hello")
    print("chat", await service.get_chat_message_content(history, settings))
    async for chunk in service.get_streaming_chat_message_content(history, settings):
        print("chunk", chunk)
    print("prompt", await kernel.invoke_prompt("Say {{$word}}", word="yes"))
    embedding = OpenAITextEmbedding(ai_model_id="text-embedding-3-small")
    print("embeddings", len(await embedding.generate_embeddings(["One", "Two"])))


asyncio.run(calls())
