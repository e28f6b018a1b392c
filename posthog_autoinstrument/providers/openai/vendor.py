"""Who answered: the provider's name, as PostHog prices by it. Pure; never raises."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..generation import Generation

HOSTS = {
    # learn.microsoft.com/azure/ai-foundry/openai/latest, .../foundry-models/concepts/endpoints
    "openai.azure.com": "azure",
    "services.ai.azure.com": "azure",
    "cognitiveservices.azure.com": "azure",
    # docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html
    "amazonaws.com": "bedrock",
    # cloud.google.com/vertex-ai/generative-ai/docs/start/openai
    "aiplatform.googleapis.com": "vertex",
    # ai.google.dev/gemini-api/docs/openai
    "generativelanguage.googleapis.com": "gemini",
    # docs.claude.com/en/api/openai-sdk
    "api.anthropic.com": "anthropic",
    # openrouter.ai/docs/quickstart
    "openrouter.ai": "openrouter",
    # console.groq.com/docs/openai
    "api.groq.com": "groq",
    # docs.together.ai/docs/openai-api-compatibility
    "api.together.xyz": "together",
    "api.together.ai": "together",
    # api-docs.deepseek.com
    "api.deepseek.com": "deepseek",
    # docs.x.ai/docs/guides/migration
    "api.x.ai": "xai",
    # docs.mistral.ai/api
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    # docs.perplexity.ai/guides/chat-completions-guide
    "api.perplexity.ai": "perplexity",
    # docs.fireworks.ai/tools-sdks/openai-compatibility
    "api.fireworks.ai": "fireworks",
    # inference-docs.cerebras.ai/resources/openai
    "api.cerebras.ai": "cerebras",
    # deepinfra.com/docs/openai_api
    "api.deepinfra.com": "deepinfra",
    # docs.cohere.com/docs/compatibility-api
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    # docs.ollama.com/cloud
    "ollama.com": "ollama",
    # platform.moonshot.ai/docs/api/chat, platform.moonshot.cn/docs/api/chat
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    # docs.z.ai/guides/develop/openai/python, docs.bigmodel.cn
    "api.z.ai": "z-ai",
    "open.bigmodel.cn": "z-ai",
    # platform.minimax.io/docs/api-reference/text-openai-api, and its page for China
    "api.minimax.io": "minimax",
    "api.minimaxi.com": "minimax",
    "api.minimax.chat": "minimax",
    # www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope
    "dashscope.aliyuncs.com": "alibaba",
    "dashscope-intl.aliyuncs.com": "alibaba",
    "dashscope-us.aliyuncs.com": "alibaba",
    "maas.aliyuncs.com": "alibaba",
    # docs.api.nvidia.com/nim/reference/llm-apis
    "api.nvidia.com": "nvidia",
    # huggingface.co/docs/inference-providers, huggingface.co/docs/inference-endpoints
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "endpoints.huggingface.cloud": "huggingface",
    # docs.databricks.com/aws/en/machine-learning/foundation-model-apis/api-reference, and the same of Azure and GCP
    "azuredatabricks.net": "databricks",
    "databricks.com": "databricks",
    # developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility, .../ai-gateway/usage/chat-completion
    "api.cloudflare.com": "cloudflare",
    "gateway.ai.cloudflare.com": "cloudflare",
    # docs.github.com/en/rest/models/inference; until 2025-10 the second one (github.blog/changelog, 2025-07-17)
    "models.github.ai": "github",
    "models.inference.ai.azure.com": "github",
    # vercel.com/docs/ai-gateway/openai-compat
    "ai-gateway.vercel.sh": "vercel",
    # novita.ai/docs/guides/llm-api
    "api.novita.ai": "novita",
    # docs.siliconflow.com/en/api-reference/chat-completions/chat-completions, docs.siliconflow.cn
    "api.siliconflow.com": "siliconflow",
    "api.siliconflow.cn": "siliconflow",
    # docs.sambanova.ai/docs/en/features/openai-compatibility
    "api.sambanova.ai": "sambanova",
    # docs.tokenfactory.nebius.com; docs.studio.nebius.com before
    "tokenfactory.nebius.com": "nebius",
    "studio.nebius.com": "nebius",
    "studio.nebius.ai": "nebius",
    # docs.hyperbolic.xyz
    "api.hyperbolic.xyz": "hyperbolic",
    # docs.baseten.co/development/model-apis/overview
    "inference.baseten.co": "baseten",
}
"""Hosts, with all below them, that serve this API under another name, below where they document it. PostHog prices by
these names: they are those of its table where it has one."""

PORTS = {11434: "ollama", 1234: "lmstudio"}
"""Ports that servers on one's own machine or network listen on by default."""

SIGNS = {
    "x-groq-region": "groq",
    "x-siliconcloud-trace-id": "siliconflow",  # docs.siliconflow.com, the response's headers
    "x-ms-region": "azure",
    "apim-request-id": "azure",
    "azureml-model-session": "azure",
}
"""Headers of answers that give a server away behind a proxy that passes them on."""

_CLIENTS = {"Azure": "azure", "Bedrock": "bedrock", "Vertex": "vertex"}


def vendor_of(client_class: str, base_url: str, headers: Mapping[str, str], generation: Generation) -> str:
    """Who answers: by the client's class, then the host, then what the answer shows; "openai" otherwise."""
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
    signed = next((name for header, name in SIGNS.items() if header in headers), None)
    return signed or PORTS.get(port or 0, "openai")


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
    if "base_resp" in answer:
        return "minimax"  # platform.minimax.io/docs/api-reference/text-post
    return None
