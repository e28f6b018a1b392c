"""Who answered: by the client's class, the address, and what the answer shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from posthog_autoinstrument.providers.generation import Generation
from posthog_autoinstrument.providers.openai import PROVIDER
from posthog_autoinstrument.providers.openai.vendor import vendor_of


@pytest.mark.parametrize(
    ("client", "base_url", "provider"),
    [
        ("OpenAI", "https://api.openai.com/v1/", "openai"),
        ("AsyncOpenAI", "https://eu.api.openai.com/v1/", "openai"),
        ("AzureOpenAI", "https://example.com/openai/", "azure"),
        ("AsyncAzureOpenAI", "http://localhost:8080", "azure"),
        ("BedrockOpenAI", "https://example.com/", "bedrock"),
        ("OpenAI", "https://my-resource.openai.azure.com/openai/v1/", "azure"),
        ("OpenAI", "https://my-resource.services.ai.azure.com/openai/v1/", "azure"),
        ("OpenAI", "https://my-resource.cognitiveservices.azure.com/openai/v1/", "azure"),
        ("OpenAI", "https://openrouter.ai/api/v1", "openrouter"),
        ("OpenAI", "https://api.groq.com/openai/v1", "groq"),
        ("OpenAI", "https://api.together.xyz/v1", "together"),
        ("OpenAI", "https://API.DeepSeek.com:443", "deepseek"),
        ("OpenAI", "https://api.x.ai/v1", "xai"),
        ("OpenAI", "https://api.mistral.ai/v1", "mistral"),
        ("OpenAI", "https://api.perplexity.ai", "perplexity"),
        ("OpenAI", "https://api.anthropic.com/v1/", "anthropic"),
        ("OpenAI", "https://generativelanguage.googleapis.com/v1beta/openai/", "gemini"),
        ("OpenAI", "https://api.moonshot.ai/v1", "moonshotai"),
        ("OpenAI", "https://api.moonshot.cn/v1", "moonshotai"),
        ("OpenAI", "https://api.z.ai/api/paas/v4", "z-ai"),
        ("OpenAI", "https://open.bigmodel.cn/api/paas/v4/", "z-ai"),
        ("OpenAI", "https://api.minimax.io/v1", "minimax"),
        ("OpenAI", "https://api.minimaxi.com/v1", "minimax"),
        ("OpenAI", "https://dashscope.aliyuncs.com/compatible-mode/v1", "alibaba"),
        ("OpenAI", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "alibaba"),
        ("OpenAI", "https://integrate.api.nvidia.com/v1", "nvidia"),
        ("OpenAI", "https://router.huggingface.co/v1", "huggingface"),
        ("OpenAI", "https://u9x.us-east-1.aws.endpoints.huggingface.cloud/v1/", "huggingface"),
        ("OpenAI", "https://adb-1.2.azuredatabricks.net/serving-endpoints", "databricks"),
        ("OpenAI", "https://dbc-1.cloud.databricks.com/serving-endpoints", "databricks"),
        ("OpenAI", "https://1.2.gcp.databricks.com/serving-endpoints", "databricks"),
        ("OpenAI", "https://api.cloudflare.com/client/v4/accounts/a/ai/v1", "cloudflare"),
        ("OpenAI", "https://gateway.ai.cloudflare.com/v1/a/g/compat", "cloudflare"),
        ("OpenAI", "https://models.github.ai/inference", "github"),
        ("OpenAI", "https://models.inference.ai.azure.com", "github"),
        ("OpenAI", "https://ai-gateway.vercel.sh/v1", "vercel"),
        ("OpenAI", "https://api.novita.ai/v3/openai", "novita"),
        ("OpenAI", "https://api.siliconflow.com/v1", "siliconflow"),
        ("OpenAI", "https://api.siliconflow.cn/v1", "siliconflow"),
        ("OpenAI", "https://api.sambanova.ai/v1", "sambanova"),
        ("OpenAI", "https://api.studio.nebius.com/v1/", "nebius"),
        ("OpenAI", "https://api.tokenfactory.nebius.com/v1/", "nebius"),
        ("OpenAI", "https://notapi.x.ai/v1", "openai"),
        ("OpenAI", "https://notdatabricks.com/v1", "openai"),
        ("OpenAI", "https://openrouter.ai.example.com/v1", "openai"),
        ("OpenAI", "http://localhost:11434/v1", "ollama"),
        ("OpenAI", "http://192.168.1.20:11434/v1", "ollama"),
        ("OpenAI", "http://127.0.0.1:1234/v1", "lmstudio"),
        ("OpenAI", "https://llm.example.com/v1", "openai"),
        ("OpenAI", "api.groq.com/openai/v1", "groq"),
        ("OpenAI", "", "openai"),
        ("OpenAI", "http://[", "openai"),
        ("OpenAI", "http://localhost:99999999/v1", "openai"),
    ],
)
def test_by_class_and_address(client: str, base_url: str, provider: str) -> None:
    assert vendor_of(client, base_url, {}, Generation()) == provider


@pytest.mark.parametrize(
    ("headers", "provider"),
    [
        ({"x-litellm-call-id": "b2c1"}, "litellm"),
        ({"x-litellm-version": "1.70.0", "x-groq-region": "us"}, "litellm"),
        ({"x-groq-region": "us-west-1"}, "groq"),
        ({"x-siliconcloud-trace-id": "ti_1"}, "siliconflow"),
        ({"apim-request-id": "5f2c", "x-ms-region": "East US"}, "azure"),
        ({}, "openai"),
    ],
)
def test_by_the_headers_of_an_unknown_host(headers: dict[str, str], provider: str) -> None:
    assert vendor_of("OpenAI", "https://llm.example.com/v1", headers, Generation()) == provider
    assert vendor_of("OpenAI", "https://api.openai.com/v1", headers, Generation()) == "openai"


ANSWER: dict[str, Any] = {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "message": {"content": "Hi"}}]}


@pytest.mark.parametrize(
    ("extra", "provider"),
    [
        ({"prompt_logprobs": None, "kv_transfer_params": None}, "vllm"),
        ({"system_fingerprint": "fp_ollama"}, "ollama"),
        ({"id": "gen-1717", "provider": "Anthropic"}, "openrouter"),
        ({"x_groq": {"id": "req_1"}}, "groq"),
        ({"stats": {"tokens_per_second": 51.4}, "model_info": {}}, "lmstudio"),
        ({"base_resp": {"status_code": 0, "status_msg": ""}}, "minimax"),
        ({"system_fingerprint": "fp_44709d6fcb"}, "openai"),
    ],
)
def test_by_the_answer_of_an_unknown_host(extra: dict[str, Any], provider: str) -> None:
    chat = PROVIDER.endpoint("chat")
    assert chat is not None
    answer = {**ANSWER, **extra}
    whole = chat.read(b"{}", json.dumps(answer).encode(), None)
    assert vendor_of("OpenAI", "https://llm.example.com/v1", {}, whole) == provider
    streamed = chat.read(b"{}", None, [json.dumps(answer), "[DONE]"])
    assert vendor_of("OpenAI", "https://llm.example.com/v1", {}, streamed) == provider
