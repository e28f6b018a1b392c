"""One call of the real client as a program makes it, and all that the program sees of it, as plain data.

Runs in the instrumented process and, as a script, in one that never heard of the agent: lines of JSON in, lines of
JSON out.
"""

from __future__ import annotations

import asyncio
import functools
import json
import operator
import sys
import warnings
from collections.abc import Callable
from typing import Any

import openai
import pydantic

TIMEOUT_S = 60.0


class Answer(pydantic.BaseModel):
    """What `parse` is asked to make of an answer."""

    city: str


def call(
    client: Any,
    way: str,
    say: Callable[[Any], None],
    resource: str,
    arguments: dict[str, Any],
    format_argument: str | None,
) -> None:
    """Make one call and say everything that comes of it."""
    methods = operator.attrgetter(resource)(client)
    if way == "create":
        say(methods.create(**arguments))
    elif way == "parse":
        say(methods.parse(**arguments, **{str(format_argument): Answer}))
    elif way == "raw":
        raw = methods.with_raw_response.create(**arguments)
        say((raw.http_response.status_code, raw.content))
        say(raw.parse())
    elif way in ("streaming", "unread"):
        with methods.with_streaming_response.create(**arguments) as response:
            say(response.status_code)
            if way == "streaming":
                say(b"".join(response.iter_bytes()))
    elif way == "raw stream":
        with methods.with_streaming_response.create(**arguments, stream=True) as response:
            say(list(response.iter_lines()))
    elif way == "helper":
        with methods.stream(**arguments) as stream:
            for event in stream:
                say(event)
    else:
        stream = methods.create(**arguments, stream=True)
        for event in stream:
            say(event)
            if way == "closed":
                break
        stream.close()


async def call_async(
    client: Any,
    way: str,
    say: Callable[[Any], None],
    resource: str,
    arguments: dict[str, Any],
    format_argument: str | None,
) -> None:
    """The same with the asynchronous client."""
    methods = operator.attrgetter(resource)(client)
    if way == "create":
        say(await methods.create(**arguments))
    elif way == "parse":
        say(await methods.parse(**arguments, **{str(format_argument): Answer}))
    elif way == "raw":
        raw = await methods.with_raw_response.create(**arguments)
        say((raw.http_response.status_code, raw.content))
        say(raw.parse())
    elif way in ("streaming", "unread"):
        async with methods.with_streaming_response.create(**arguments) as response:
            say(response.status_code)
            if way == "streaming":
                say(b"".join([piece async for piece in response.iter_bytes()]))
    elif way == "raw stream":
        async with methods.with_streaming_response.create(**arguments, stream=True) as response:
            say([line async for line in response.iter_lines()])
    elif way == "helper":
        async with methods.stream(**arguments) as stream:
            async for event in stream:
                say(event)
    else:
        stream = await methods.create(**arguments, stream=True)
        async for event in stream:
            say(event)
            if way == "closed":
                break
        await stream.close()


def outcome(base_url: str, way: str, is_async: bool, **shape: Any) -> list[str]:
    """Everything that the program saw, as text. The call is as `calls.CallShape.called` describes it."""
    seen: list[str] = []

    def say(value: Any) -> None:
        seen.append(f"{type(value).__qualname__} {_text(value)}")

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic's, of values that are not what the SDK's models say
            client, async_client, loop = _clients(base_url)
            if is_async:
                loop.run_until_complete(call_async(async_client, way, say, **shape))
            else:
                call(client, way, say, **shape)
    except Exception as error:
        cause: BaseException | None = error
        for _ in range(5):
            if cause is None:
                break
            seen.append(f"raised {type(cause).__module__}.{type(cause).__qualname__} {_text(cause, str)}")
            cause = cause.__cause__ or cause.__context__
    return seen


@functools.cache
def _clients(base_url: str) -> tuple[openai.OpenAI, openai.AsyncOpenAI, asyncio.AbstractEventLoop]:
    """Made once: what they cost is the reading of certificates."""
    settings: dict[str, Any] = {"base_url": base_url, "api_key": "sk-test", "max_retries": 0, "timeout": TIMEOUT_S}
    return openai.OpenAI(**settings), openai.AsyncOpenAI(**settings), asyncio.new_event_loop()


def close(base_url: str) -> None:
    """Close the clients of `outcome`.

    The SDK leaves its generators suspended behind the last event of a stream, and the loop closes those one a few turns
    after another; Python 3.13 warns of what a loop closed too early leaves (openai 3.57, with or without the agent).
    """
    client, async_client, loop = _clients(base_url)
    client.close()
    loop.run_until_complete(async_client.close())
    while loop._asyncgens or loop._ready:  # type: ignore[attr-defined]
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    _clients.cache_clear()


def _text(value: Any, write: Callable[[Any], str] = repr) -> str:
    try:
        return write(value).encode("utf-8", "backslashreplace").decode()
    except Exception as error:
        return f"cannot be written: {type(error).__name__} {error}"


if __name__ == "__main__":
    for line in sys.stdin:
        told = json.loads(line)
        sys.stdout.write(json.dumps(outcome(**told)) + "\n")
        sys.stdout.flush()
    close(told["base_url"])
