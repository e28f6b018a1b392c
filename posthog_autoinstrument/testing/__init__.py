"""Fake services for tests and for the demo: OpenAI and PostHog on loopback, over real HTTP, standard library only.

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

with OpenAIServer() as openai_server, PostHogServer() as posthog_server:
    ...  # run the program with OPENAI_BASE_URL=openai_server.base_url, POSTHOG_HOST=posthog_server.url
    events = posthog_server.wait_for(3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core import package
from .loopback import Answer, LoopbackServer, Request, sse

if TYPE_CHECKING:
    from .openai_server import OpenAIServer
    from .posthog_server import CaptureRequest, Fault, PostHogServer

__all__ = ["Answer", "CaptureRequest", "Fault", "LoopbackServer", "OpenAIServer", "PostHogServer", "Request", "sse"]

# Imported on first use: `python -m posthog_autoinstrument.testing.openai_server` warns if that module is already
# imported when it runs.
_LAZY = {
    "OpenAIServer": "openai_server",
    "CaptureRequest": "posthog_server",
    "Fault": "posthog_server",
    "PostHogServer": "posthog_server",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(package.load(f"testing.{_LAZY[name]}"), name)
