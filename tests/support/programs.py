"""Programs that tests start: their environment, and what is left of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

TOKEN = "phc_test_token_of_the_test_suite"


@dataclass
class Ran:
    """A finished program: its exit code, output, and the events that PostHog got from it."""

    returncode: int
    stdout: str
    stderr: str
    events: list[dict[str, Any]]


def environment(openai_server: OpenAIServer, posthog_server: PostHogServer | None, **extra: str) -> dict[str, str]:
    """The environment of a program under test: the bundled servers, and nothing of the test process's settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
    environ.update({"OPENAI_BASE_URL": openai_server.base_url, "OPENAI_API_KEY": "sk-test"})
    if posthog_server is not None:
        environ.update({"POSTHOG_PROJECT_TOKEN": TOKEN, "POSTHOG_HOST": posthog_server.url})
    environ.update(extra)
    return environ
