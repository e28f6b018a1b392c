"""Who answered: the provider's name, as PostHog prices by it. Pure; never raises."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ...generation import Generation

HOSTS = {
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "models.inference.ai.azure.com": "azure",
    "amazonaws.com": "bedrock",
    "aiplatform.googleapis.com": "vertex",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.deepinfra.com": "deepinfra",
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "generativelanguage.googleapis.com": "gemini",
    "ollama.com": "ollama",
}
"""Hosts, with all below them, that serve this API under another name. PostHog prices by these names."""

PORTS = {11434: "ollama", 1234: "lmstudio"}
"""Ports that servers on one's own machine or network listen on by default."""

_CLIENTS = {"Azure": "azure", "Bedrock": "bedrock", "Vertex": "vertex"}


def provider_of(client_class: str, base_url: str, headers: Mapping[str, str], generation: Generation) -> str:
    """Who answers: by the client's class, then the host, then what the answer shows; "openai" for whom nobody knows."""
    for word, name in _CLIENTS.items():
        if word in client_class:
            return name
    known, port = _at(base_url)
    if known is not None:
        return known
    if any(name.startswith("x-litellm-") for name in headers):
        return "litellm"  # before what it passes on from whoever answered behind it
    if generation.provider is not None:
        return generation.provider
    if "x-groq-region" in headers:
        return "groq"
    if any(name in headers for name in ("x-ms-region", "apim-request-id", "azureml-model-session")):
        return "azure"
    return PORTS.get(port or 0, "openai")


@functools.lru_cache(maxsize=128)
def _at(base_url: str) -> tuple[str | None, int | None]:
    """Who is known to answer at this address; and its port."""
    try:
        parts = urlsplit(base_url if "//" in base_url else f"//{base_url}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None, None
    if host == "api.openai.com" or host.endswith(".api.openai.com"):
        return "openai", port
    return next((name for known, name in HOSTS.items() if f".{host}".endswith(f".{known}")), None), port


def server_of(answer: Mapping[str, Any]) -> str | None:
    """The server that an answer's own members give away; None for one that could be anybody's."""
    if "prompt_logprobs" in answer or "kv_transfer_params" in answer:
        return "vllm"
    if answer.get("system_fingerprint") == "fp_ollama":
        return "ollama"
    if isinstance(answer.get("provider"), str) and str(answer.get("id", "")).startswith("gen-"):
        return "openrouter"
    if "x_groq" in answer:
        return "groq"
    if "stats" in answer and "model_info" in answer:
        return "lmstudio"
    return None
