"""Events for the tests of what reads the local store: written through its exporter, as the agent writes them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export.local import LocalExporter
from posthog_autoinstrument.store import columns

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc).timestamp()


def call(at: float = NOON, user: str | None = "ann", name: str = "generation", **given: Any) -> dict[str, Any]:
    """An event as the agent makes it: properties are named without `$ai_`; a value of None is left out."""
    properties: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "provider": "openai",
        "base_url": "https://api.openai.com/v1/",
        "request_url": "https://api.openai.com/v1/chat/completions",
        "trace_id": "t1",
        "span_id": uuid.uuid4().hex,
        "input": [{"role": "user", "content": "Hello there"}],
        "output_choices": [{"role": "assistant", "content": "Good morning"}],
        "input_tokens": 10,
        "output_tokens": 5,
        "latency": 1.0,
        "http_status": 200,
        **given,
    }
    made = {f"$ai_{key}": value for key, value in properties.items() if value is not None}
    if user is None:
        made["$process_person_profile"] = False
    return {
        "event": f"$ai_{name}",
        "uuid": str(uuid.uuid4()),
        "timestamp": datetime.fromtimestamp(at, timezone.utc).isoformat(),
        "distinct_id": user if user is not None else properties["trace_id"],
        "properties": made,
    }


def span(at: float = NOON, name: str = "step", **given: Any) -> dict[str, Any]:
    """A step of the program."""
    nothing = dict.fromkeys(
        ("model", "provider", "base_url", "request_url", "input", "output_choices", "input_tokens", "output_tokens",
         "http_status")
    )  # fmt: skip
    return call(at, name="span", **{**nothing, "span_name": name, **given})


def write(path: Path, events: Iterable[dict[str, Any]], max_age_days: float = 10_000) -> None:
    """Store the events as one batch. They may be of any age."""
    batch = [EncodedEvent(event["uuid"], event["event"], json.dumps(event).encode()) for event in events]
    result = LocalExporter(path, columns.summary, max_age_days=max_age_days).send(batch, 30)
    assert result.kind == "delivered", result
