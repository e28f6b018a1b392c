# /// script
# requires-python = ">=3.11"
# dependencies = ["instructor"]
# ///
"""Instructor: models by tool call, by JSON schema and by JSON mode; partial and iterable streams; async."""

import asyncio

import instructor
from instructor.core import InstructorRetryException
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel


class Book(BaseModel):
    title: str
    pages: int


def asked(text):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}


def sync_calls():
    client = instructor.from_openai(OpenAI())
    print("tools", client.chat.completions.create(response_model=Book, **asked("A book")))
    book, completion = client.chat.completions.create_with_completion(
        response_model=Book, **asked("And its completion")
    )
    print("with completion", book, completion.id, completion.usage.total_tokens)
    print("partial", list(client.chat.completions.create_partial(response_model=Book, **asked("In parts"))))
    print("iterable", list(client.chat.completions.create_iterable(response_model=Book, **asked("Several books"))))
    print("no model", client.chat.completions.create(response_model=None, **asked("Only words")).choices[0].message)
    for mode in (instructor.Mode.JSON, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(OpenAI(), mode=mode)
        try:
            print(mode, client.chat.completions.create(response_model=Book, max_retries=2, **asked(f"By {mode}")))
        except InstructorRetryException as error:  # each attempt is a call
            print(mode, type(error).__name__, error.n_attempts)


async def async_calls():
    client = instructor.from_openai(AsyncOpenAI())
    print("async", await client.chat.completions.create(response_model=Book, **asked("An async book")))
    books = (client.chat.completions.create(response_model=Book, **asked(f"Gathered {number}")) for number in range(5))
    print("gather", await asyncio.gather(*books))
    parts = client.chat.completions.create_partial(response_model=Book, **asked("Async, in parts"))
    print("async partial", [part async for part in parts])


sync_calls()
asyncio.run(async_calls())
