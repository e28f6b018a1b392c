"""An event of each kind, made by a real program under the launcher against the bundled servers."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import Regions
from .package import OpenAIServer, PostHogServer

PROGRAM = Path(__file__).with_name("example.py")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
_MEASURED = {"$ai_latency": 0.42, "timestamp": "2026-01-02T03:04:05.678901+00:00"}

Event = dict[str, Any]


@functools.cache
def captured() -> tuple[Event, ...]:
    """The events of PROGRAM, by kind and time: which batch an event was in differs from run to run."""
    with OpenAIServer() as openai, PostHogServer() as posthog:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
        environ.update(
            OPENAI_BASE_URL=openai.base_url,
            OPENAI_API_KEY="sk-example",
            POSTHOG_PROJECT_TOKEN="phc_example",
            POSTHOG_HOST=posthog.url,
        )
        command = [sys.executable, "-m", "posthog_autoinstrument", sys.executable, str(PROGRAM)]
        subprocess.run(command, env=environ, check=True, timeout=60)
        return tuple(sorted(posthog.events, key=lambda event: (event["event"], event["timestamp"])))


def shown(kind: str, **where: Any) -> str:
    """The first event of a kind whose properties are as in `where`, as a block of JSON.

    Ids, times and the fake server's address, which differ from run to run, are replaced.
    """
    ids: dict[str, str] = {}
    text = ""
    for event in captured():
        # In one order for all, so that an id is the same in each event that is shown.
        written = _ADDRESS.sub("https://api.openai.com", json.dumps(_settled(event), indent=2, ensure_ascii=False))
        written = _ID.sub(
            lambda match: ids.setdefault(match[0], f"0198{len(ids):04x}-0000-7000-8000-000000000000"), written
        )
        found = event["properties"]
        if (
            not text
            and event["event"] == kind
            and all(found.get(f"$ai_{name}") == value for name, value in where.items())
        ):
            text = written
    if not text:
        raise LookupError(f"{PROGRAM.name} made no {kind} with {where}")
    return f"```json\n{text}\n```\n"


def _settled(event: Event) -> Event:
    """The event with the time of the documents in place of what was measured."""
    properties = {name: _MEASURED.get(name, value) for name, value in event["properties"].items()}
    return {name: _MEASURED.get(name, value) for name, value in {**event, "properties": properties}.items()}


def program() -> str:
    """The program, as a block of Python without its docstring."""
    _, _, code = PROGRAM.read_text().partition('"""\n\n')
    return f"```python\n{code}```\n"


REGIONS: Regions = {
    "example-program": program,
    "example-generation": lambda: shown("$ai_generation", stop_reason="tool_calls"),
    "example-embedding": lambda: shown("$ai_embedding"),
    "example-span": lambda: shown("$ai_span", span_type="tool"),
    "example-trace": lambda: shown("$ai_trace"),
    "example-feedback": lambda: shown("$ai_feedback"),
    "example-metric": lambda: shown("$ai_metric"),
}
