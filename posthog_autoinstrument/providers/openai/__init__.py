"""OpenAI and the APIs made like it, through the `openai` SDK. Read in 1.0.0 to 3.54.0; see `METHODS` for what moved.

Input, output, tools and parameters have the shapes that PostHog's own wrapper gives them (posthog 7.91.1,
posthog/ai/openai/openai_converter.py and posthog/ai/utils.py), so that events of both can be read side by side. Wanted
differences: every choice is a message of its own, reasoning and legacy completions are kept, the model and the service
tier are those of the final answer, and an answer cut midway is put together from what arrived.
"""

from __future__ import annotations

from ..provider import Endpoint, Methods, Provider, Transport, WebSocket, deferred

read_chat = deferred("providers.openai.chat", "read_chat")
read_completions = deferred("providers.openai.chat", "read_completions")
read_responses = deferred("providers.openai.responses", "read_responses")
read_embeddings = deferred("providers.openai.embeddings", "read_embeddings")
read_images = deferred("providers.openai.images", "read_images")
read_speech = deferred("providers.openai.audio", "read_speech")
read_transcription = deferred("providers.openai.audio", "read_transcription")
read_moderations = deferred("providers.openai.moderations", "read_moderations")
read_decisions = deferred("providers.openai.moderations", "read_decisions")
read_responses_socket = deferred("providers.openai.websockets", "read_responses_socket")
read_realtime = deferred("providers.openai.websockets", "read_realtime")

HEADERS = (
    "x-litellm-call-id",
    "x-litellm-version",
    "x-litellm-model-id",
    "x-groq-region",
    "x-siliconcloud-trace-id",
    "x-ms-region",
    "apim-request-id",
    "azureml-model-session",
)
"""Headers that give a server away, whatever its address: a proxy of LiteLLM, Groq, Azure, ... `vendor` reads them."""


def _either(name: str) -> tuple[str, str]:
    """A method of Responses and of its beta (2.54 on), which asks with `?beta=true`."""
    return f"responses.{name}", f"beta.responses.{name}"


ENDPOINTS = (
    Endpoint("chat", "/chat/completions", "generation", read_chat, asks_usage=True),
    Endpoint("responses", "/responses", "generation", read_responses),
    Endpoint("response", "/responses/{}", "poll", read_responses, method="GET", transport_only=_either("retrieve")),
    Endpoint("response_cancel", "/responses/{}/cancel", "poll", read_responses, transport_only=_either("cancel")),
    Endpoint("response_compact", "/responses/compact", "generation", read_responses),
    Endpoint("completions", "/completions", "generation", read_completions, asks_usage=True),
    Endpoint("embeddings", "/embeddings", "embedding", read_embeddings, bulky=True),
    Endpoint("image", "/images/generations", "generation", read_images, bulky=True),
    Endpoint("image_edit", "/images/edits", "generation", read_images, bulky=True),
    Endpoint("image_variation", "/images/variations", "generation", read_images, bulky=True),
    Endpoint("speech", "/audio/speech", "generation", read_speech, bulky=True),
    Endpoint("transcription", "/audio/transcriptions", "generation", read_transcription),
    Endpoint("translation", "/audio/translations", "generation", read_transcription),
    Endpoint("moderation", "/moderations", "span", read_moderations),
    Endpoint("decision", "/decisions", "generation", read_decisions),
)


# --- where the SDK is patched ---


def _pair(
    module: str, cls: str, endpoint: str, methods: tuple[str, ...], streams: tuple[str, ...] = ()
) -> tuple[Methods, Methods]:
    """A class and its asynchronous twin. `stream` is a plain `def` in both."""
    return (
        Methods(module, cls, endpoint, methods, streams=streams),
        Methods(module, f"Async{cls}", endpoint, methods, is_async=True, streams=streams),
    )


METHODS = (
    *_pair(
        "openai.resources.chat.completions.completions", "Completions", "chat", ("create", "parse"), ("stream",)
    ),  # 1.68 on; parse and stream from 1.92
    *_pair("openai.resources.chat.completions", "Completions", "chat", ("create",)),  # 1.0 to 1.60; later a re-export
    *_pair("openai.resources.beta.chat.completions", "Completions", "chat", ("parse",), ("stream",)),  # 1.60 to 1.76
    *_pair(
        "openai.resources.responses.responses", "Responses", "responses", ("create", "parse"), ("stream",)
    ),  # 1.68 on
    *_pair("openai.resources.responses.responses", "Responses", "response_compact", ("compact",)),  # 2.9 on
    *_pair("openai.resources.beta.responses.responses", "Responses", "responses", ("create",)),  # 2.54 on
    *_pair("openai.resources.beta.responses.responses", "Responses", "response_compact", ("compact",)),
    *_pair("openai.resources.embeddings", "Embeddings", "embeddings", ("create",)),
    *_pair("openai.resources.completions", "Completions", "completions", ("create",)),
    *_pair("openai.resources.images", "Images", "image", ("generate",)),
    *_pair("openai.resources.images", "Images", "image_edit", ("edit",)),
    *_pair("openai.resources.images", "Images", "image_variation", ("create_variation",)),
    *_pair("openai.resources.audio.speech", "Speech", "speech", ("create",)),
    *_pair("openai.resources.audio.transcriptions", "Transcriptions", "transcription", ("create",)),
    *_pair("openai.resources.audio.translations", "Translations", "translation", ("create",)),
    *_pair("openai.resources.moderations", "Moderations", "moderation", ("create",)),
    *_pair("openai.resources.decisions", "Decisions", "decision", ("create",)),  # 3.54
)

RESPONSES_SOCKET = Endpoint("responses_socket", "/responses", "generation", read_responses_socket)
REALTIME_SOCKET = Endpoint("realtime_socket", "/realtime", "generation", read_realtime)


def _sockets(module: str, cls: str, endpoint: Endpoint, in_turn: bool) -> tuple[WebSocket, WebSocket]:
    return WebSocket(module, cls, endpoint, in_turn), WebSocket(module, f"Async{cls}", endpoint, in_turn)


WEBSOCKETS = (
    *_sockets("openai.resources.responses.responses", "ResponsesConnection", RESPONSES_SOCKET, True),  # 2.30 on
    *_sockets("openai.resources.beta.responses.responses", "ResponsesConnection", RESPONSES_SOCKET, True),  # 2.54 on
    *_sockets("openai.resources.realtime.realtime", "RealtimeConnection", REALTIME_SOCKET, False),  # 1.109 on
    *_sockets("openai.resources.beta.realtime.realtime", "RealtimeConnection", REALTIME_SOCKET, False),  # 1.60 on
)

TRANSPORT = Transport(
    base_module="openai._base_client",
    sync_client="SyncAPIClient",
    async_client="AsyncAPIClient",
    streaming_module="openai._streaming",
    sync_stream="Stream",
    async_stream="AsyncStream",
)

PROVIDER = Provider(
    "openai",
    "openai",
    TRANSPORT,
    METHODS,
    ENDPOINTS,
    deferred("providers.openai.vendor", "vendor_of"),
    response_headers=HEADERS,
    websockets=WEBSOCKETS,
    usage_hosts=frozenset(("api.openai.com", "eu.api.openai.com", "us.api.openai.com")),
    versions=("1.0", "1.30", "4"),
)
