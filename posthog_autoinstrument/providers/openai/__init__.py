"""OpenAI and the APIs made like it, through the `openai` SDK. Read in 1.0.0 to 3.54.0; see `SITES` for what moved.

Input, output, tools and parameters have the shapes that PostHog's own wrapper gives them (posthog 7.91.1,
posthog/ai/openai/openai_converter.py and posthog/ai/utils.py), so that events of both can be read side by side. Wanted
differences: every choice is a message of its own, reasoning and legacy completions are kept, the model and the service
tier are those of the final answer, and an answer cut midway is put together from what arrived.
"""

from __future__ import annotations

from .. import Endpoint, Provider, Site, Wire
from .chat import read_chat, read_completions
from .embeddings import read_embeddings
from .names import provider_of
from .responses import read_responses

ENDPOINTS = (
    Endpoint("chat", "/chat/completions", "generation", read_chat),
    Endpoint("responses", "/responses", "generation", read_responses),
    Endpoint("embeddings", "/embeddings", "embedding", read_embeddings, bulky=True),
    Endpoint("completions", "/completions", "generation", read_completions),
)


# --- where the SDK is patched ---


def _pair(
    module: str, cls: str, endpoint: str, methods: tuple[str, ...], streams: tuple[str, ...] = ()
) -> tuple[Site, Site]:
    """A class and its asynchronous twin. `stream` is a plain `def` in both."""
    return (
        Site(module, cls, endpoint, methods, streams=streams),
        Site(module, f"Async{cls}", endpoint, methods, is_async=True, streams=streams),
    )


SITES = (
    *_pair(
        "openai.resources.chat.completions.completions", "Completions", "chat", ("create", "parse"), ("stream",)
    ),  # 1.68 on; parse and stream from 1.92
    *_pair("openai.resources.chat.completions", "Completions", "chat", ("create",)),  # 1.0 to 1.60; later a re-export
    *_pair("openai.resources.beta.chat.completions", "Completions", "chat", ("parse",), ("stream",)),  # 1.60 to 1.76
    *_pair(
        "openai.resources.responses.responses", "Responses", "responses", ("create", "parse"), ("stream",)
    ),  # 1.68 on
    *_pair("openai.resources.embeddings", "Embeddings", "embeddings", ("create",)),
    *_pair("openai.resources.completions", "Completions", "completions", ("create",)),
)

WIRE = Wire(
    base_module="openai._base_client",
    sync_client="SyncAPIClient",
    async_client="AsyncAPIClient",
    streaming_module="openai._streaming",
    sync_stream="Stream",
    async_stream="AsyncStream",
)

PROVIDER = Provider("openai", "openai", WIRE, SITES, ENDPOINTS, provider_of)
