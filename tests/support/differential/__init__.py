"""One scripted HTTP exchange, made through PostHog's own wrapper and through the agent; the two events side by side.

cases -> run (twice) -> normalised -> differences -> wanted. `answers` makes up what the server says.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import json
import operator
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

from posthog_autoinstrument.testing import Answer, OpenAIServer

from ..features import httpx
from ..waiting import wait_until

Json = dict[str, Any]


class _Absent:
    def __repr__(self) -> str:
        return "<absent>"


ABSENT: Any = _Absent()
"""Stands for a property that an event does not have."""

LATENCY, TRACE, BODIES = "<seconds>", "<the trace>", "(requests)"


@dataclass(frozen=True)
class Case:
    """A call of the SDK and what the server answers to it."""

    name: str
    method: str
    """On the client: `chat.completions.create`."""
    arguments: Json
    answers: tuple[Answer, ...]
    wanted: tuple[str, ...] = ()
    """The differences of `WANTED` that show in this case, beside those that always do."""
    around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    """What the program does around the call."""
    client: Json = field(default_factory=dict)
    """Settings of the client."""
    azure: bool = False
    read: int | None = None
    """How many chunks of a stream the program reads before it closes it; None: all."""
    cancelled: bool = False
    """The task that waits for the answer, or for the chunk after `read`, is cancelled (asynchronous clients only)."""

    @property
    def embedding(self) -> bool:
        return self.method.startswith("embeddings")

    @property
    def stream(self) -> bool:
        return bool(self.arguments.get("stream"))


def run(case: Case, client_class: Callable[..., Any], server: OpenAIServer, **settings: Any) -> None:
    """Make the call of a case and read its answer, as a program would; its exception is its own business."""
    import openai

    where = {"azure_endpoint": server.url, "api_version": "2024-10-21"} if case.azure else {"base_url": server.base_url}
    client = client_class(api_key="sk-test", **where, **{"max_retries": 2, **case.client}, **settings)
    server.script(*case.answers)
    broken = (openai.OpenAIError, json.JSONDecodeError, httpx().TransportError)
    with case.around(), contextlib.suppress(*broken):
        if not isinstance(client, openai.AsyncOpenAI):
            with client:
                _call(case, client)
        elif case.cancelled:
            asyncio.run(_call_and_cancel(case, client, server))
        else:
            asyncio.run(_call_async(case, client))


def _call(case: Case, client: Any) -> None:
    answer = operator.attrgetter(case.method)(client)(**case.arguments)
    if case.stream:
        for _ in itertools.islice(answer, case.read):
            pass
        if case.read is not None:
            answer.close()


async def _call_async(case: Case, client: Any, reached: Callable[[], None] = lambda: None) -> None:
    async with client:
        answer = await operator.attrgetter(case.method)(client)(**case.arguments)
        if case.stream and case.read is None:
            async for _ in answer:
                pass
        elif case.stream:
            for _ in range(case.read or 0):
                await answer.__anext__()
            if case.cancelled:
                reached()
                await answer.__anext__()
            await answer.close()


async def _call_and_cancel(case: Case, client: Any, server: OpenAIServer) -> None:
    waits = asyncio.Event()
    task = asyncio.create_task(_call_async(case, client, waits.set))
    if case.stream:
        await waits.wait()
    else:
        before = len(server.requests)
        await asyncio.to_thread(wait_until, lambda: len(server.requests) > before, "no request came")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def normalised(event: Json, requests: list[Json], case: Case) -> Json:
    """The event as one flat object, with what changes from call to call checked and replaced by its kind."""
    found = dict(event["properties"])
    found.update({key: value for key, value in event.items() if key != "properties"})
    assert uuid.UUID(found["uuid"]).version in (4, 7)
    assert datetime.datetime.fromisoformat(found["timestamp"]).utcoffset() == datetime.timedelta(0)
    found.update({"uuid": "<uuid>", "timestamp": "<time>", BODIES: requests})
    if type(found.get("$ai_latency")) is float and found["$ai_latency"] > 0:
        found["$ai_latency"] = LATENCY
    trace = found["$ai_trace_id"]
    if found["distinct_id"] == trace:
        found["distinct_id"] = TRACE
    if "posthog_trace_id" not in case.arguments:
        uuid.UUID(trace)
        found["$ai_trace_id"] = TRACE
    if "$ai_usage" in found:  # the wrapper dumps a model and adds nulls; `test_usage_nulls` says when it stops
        found["$ai_usage"] = without_nulls(found["$ai_usage"])
    return found


def without_nulls(value: Any) -> Any:
    """The JSON value with the null members of every object in it left out."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return list(map(without_nulls, value)) if isinstance(value, list) else value


def differences(theirs: Json, ours: Json) -> dict[str, tuple[Any, Any]]:
    """key -> (the wrapper's value, ours), ABSENT where one of them has none. 1, 1.0 and True are three values."""
    pairs = {key: (theirs.get(key, ABSENT), ours.get(key, ABSENT)) for key in {**theirs, **ours}}
    return {key: pair for key, pair in pairs.items() if not _same(*pair)}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and cast(bool, one == other)
