"""Who answered: the provider's name, as PostHog prices by it. Pure; never raises."""

from __future__ import annotations

from urllib.parse import urlsplit

HOSTS = {
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.deepinfra.com": "deepinfra",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gemini",
}
"""Hosts, with all below them, that serve this API under another name. PostHog prices by these names."""


def provider_of(client_class: str, base_url: str) -> str:
    """Who answers: by the class of the client, then by the host; "openai" for hosts nobody knows."""
    if "Azure" in client_class:
        return "azure"
    try:
        host = urlsplit(base_url if "//" in base_url else f"//{base_url}").hostname or ""
    except ValueError:
        host = ""
    return next((name for known, name in HOSTS.items() if f".{host}".endswith(f".{known}")), "openai")
