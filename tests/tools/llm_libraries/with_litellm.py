# /// script
# requires-python = ">=3.11"
# dependencies = ["litellm", "mcp"]
# ///
"""LiteLLM: completion, streams, tools, structured output, embeddings, batches, Responses, the router; async.

Its calls with tools import the mcp package (1.106).
"""

import asyncio
import os

import litellm
from pydantic import BaseModel

litellm.telemetry = False
litellm.suppress_debug_info = True
litellm.disable_streaming_logging = True

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


class Book(BaseModel):
    title: str
    pages: int


def asked(text, **more):
    return {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": text}], **more}


def show(label, answer):
    print(label, repr(answer.choices[0].message.content), answer.usage.prompt_tokens, answer.usage.completion_tokens)


def sync_calls():
    show("completion", litellm.completion(**asked("Hello")))
    print("stream", [chunk.choices[0].delta.content for chunk in litellm.completion(**asked("A story", stream=True))])
    counted = litellm.completion(**asked("Count", stream=True, stream_options={"include_usage": True}))
    print("counted", [chunk.usage.total_tokens for chunk in counted if getattr(chunk, "usage", None)])
    answer = litellm.completion(**asked("What is the weather in Lima?", tools=TOOLS)).choices[0].message
    call = answer.tool_calls[0]
    print("tool asked", call.function.name, call.function.arguments)
    told = {"role": "tool", "tool_call_id": call.id, "content": "rain in Lima"}
    messages = [{"role": "user", "content": "What is the weather in Lima?"}, answer.model_dump(), told]
    show("tool told", litellm.completion(model="openai/gpt-4o-mini", messages=messages, tools=TOOLS))
    show("structured", litellm.completion(**asked("A book, please", response_format=Book)))
    batch = [[{"role": "user", "content": f"Batch {number}"}] for number in range(5)]
    for answer in litellm.batch_completion(model="openai/gpt-4o-mini", messages=batch, max_workers=3):
        show("batch", answer)
    vectors = litellm.embedding(model="openai/text-embedding-3-small", input=["one", "two"])
    print("embeddings", [item["embedding"][:2] for item in vectors.data], vectors.usage.prompt_tokens)
    text = litellm.text_completion(model="text-completion-openai/gpt-3.5-turbo-instruct", prompt="Once upon a time")
    print("text completion", text.choices[0].text)
    try:
        litellm.completion(**asked("[error-400] Refuse this", num_retries=0))
    except litellm.BadRequestError as error:
        print("refused", error.status_code)


async def async_calls():
    print("aresponses", (await litellm.aresponses(model="openai/gpt-4.1-mini", input="Hello, Responses")).output_text)
    show("acompletion", await litellm.acompletion(**asked("Hello, async")))
    stream = await litellm.acompletion(**asked("An async story", stream=True))
    print("async stream", [chunk.choices[0].delta.content async for chunk in stream])
    for answer in await asyncio.gather(*(litellm.acompletion(**asked(f"Gathered {number}")) for number in range(5))):
        show("gather", answer)
    vectors = await litellm.aembedding(model="openai/text-embedding-3-small", input=["three"])
    print("async embedding", vectors.data[0]["embedding"][:2])
    parameters = {"model": "openai/gpt-4o-mini", "api_base": os.environ["OPENAI_API_BASE"]}
    router = litellm.Router([{"model_name": "mine", "litellm_params": parameters}])
    show("router", await router.acompletion(model="mine", messages=[{"role": "user", "content": "By the router"}]))


sync_calls()
asyncio.run(async_calls())
