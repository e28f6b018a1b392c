"""Sentry's integration, which switches itself on; tracing and content are asked for, and each call is a transaction.

In an event loop its asyncio integration is needed, which must be set up inside the loop.
"""

import os
from contextlib import AbstractContextManager
from typing import Any

import openai
import sentry_sdk
from sentry_sdk.integrations.asyncio import AsyncioIntegration

address = os.environ["BENCH_SINK_URL"].partition("://")[2]
settings: dict[str, Any] = {
    "dsn": f"http://of_the_benchmark@{address}/1",
    "traces_sample_rate": 1.0,
    "send_default_pii": True,
}
sentry_sdk.init(**settings)


def AsyncOpenAI(**arguments: Any) -> Any:
    sentry_sdk.init(**settings, integrations=[AsyncioIntegration()])
    return openai.AsyncOpenAI(**arguments)


def around() -> AbstractContextManager[Any]:
    return sentry_sdk.start_transaction(op="ai-inference", name="The result of the AI inference")


def flush() -> None:
    sentry_sdk.flush(timeout=60)
