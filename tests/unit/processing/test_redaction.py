"""What never leaves the process: media, credentials of tools, keys in URLs and messages."""

from __future__ import annotations

import base64
import copy
import json
import random
import re
from typing import Any

import pytest

from posthog_autoinstrument.processing.redaction import redact_content, redact_keys, redact_media, redact_url
from posthog_autoinstrument.scrubbing.scrubber import scrub_properties

DATA = base64.b64encode(bytes(range(256))).decode()

MEDIA: list[tuple[Any, Any]] = [
    # Chat Completions
    (
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "[base64 image redacted, 3 bytes]", "detail": "low"}},
    ),
    (
        {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "[base64 audio redacted, 256 bytes]", "format": "wav"}},
    ),
    (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "[base64 file redacted, 3 bytes]"}},
    ),
    # Responses
    (
        {"type": "input_image", "image_url": DATA},
        {"type": "input_image", "image_url": "[base64 image redacted, 256 bytes]"},
    ),
    (
        {"type": "image_generation_call", "result": DATA},
        {"type": "image_generation_call", "result": "[base64 image redacted, 256 bytes]"},
    ),
    # Text that only looks similar
    ({"type": "function_call_output", "result": DATA}, None),
    ({"content": DATA}, None),
    ({"type": "image_url", "image_url": {"url": "https://example.com/" + "a" * 300}}, None),
    ({"url": DATA}, None),
    ({"data": "short"}, None),
    ("an example: data:image/png;base64,AAAA", None),
]


@pytest.mark.parametrize(("value", "redacted"), MEDIA)
def test_media_becomes_a_placeholder_and_text_stays(value: Any, redacted: Any) -> None:
    before = copy.deepcopy(value)
    found = redact_media(value)
    assert found == (value if redacted is None else redacted)
    assert (found is value) == (redacted is None)
    assert value == before


@pytest.mark.parametrize("value", [value for value, _ in MEDIA])
def test_the_placeholders_are_those_of_posthogs_wrapper(value: Any) -> None:
    sanitization = pytest.importorskip("posthog.ai.sanitization")
    messages = [{"role": "user", "content": [value]}]
    found = json.dumps(redact_media(messages))
    assert json.loads(re.sub(r"redacted, \d+ bytes", "redacted", found)) == sanitization.redact_media(messages)


@pytest.mark.parametrize(
    ("value", "redacted"),
    [
        ({"type": "audio", "data": "UklGRg=="}, {"type": "audio", "data": "[base64 audio redacted, 4 bytes]"}),
        ({"type": "audio", "data": "[base64 audio redacted]"}, None),
        ({"b64_json": DATA}, {"b64_json": "[base64 image redacted, 256 bytes]"}),
        ("data:audio/wav;codecs=1;base64,AAAA", "[base64 audio redacted, 3 bytes]"),
        ({"data": DATA[:100] + "\n" + DATA[100:]}, {"data": "[base64 image redacted, 256 bytes]"}),
        # Pieces of a stream, each of them padded.
        ({"type": "audio", "data": "UklGRg==UklGRg=="}, {"type": "audio", "data": "[base64 audio redacted, 8 bytes]"}),
        ("data:image/png;base64,AAAA and a question", "[base64 image redacted, 3 bytes] and a question"),
        (f"![a](data:image/png;base64,{DATA}) b", "![a]([base64 image redacted, 256 bytes]) b"),
        (f'{{"x": "data:;base64,{DATA}"}}', '{"x": "[base64 image redacted, 256 bytes]"}'),
        (
            f"data:audio/wav;base64,{DATA} then DATA:application/pdf;x=1;base64,{DATA}.",
            "[base64 audio redacted, 256 bytes] then [base64 file redacted, 256 bytes].",
        ),
        (f"no head;base64,{DATA}", None),
        ("x" * 300 + ";base64,AAAA", None),
        ({"data": b"12345"}, {"data": "[base64 image redacted, 5 bytes]"}),
    ],
)
def test_more_than_the_wrapper_knows(value: Any, redacted: Any) -> None:
    assert redact_media(value) == (value if redacted is None else redacted)


def test_only_what_changes_is_copied() -> None:
    text = {"role": "user", "content": "hello"}
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}
    found = redact_media([text, picture])
    assert found[0] is text
    assert found[1]["content"][0]["image_url"]["url"] == "[base64 image redacted, 1 bytes]"


def test_media_is_kept_on_request() -> None:
    value = [{"data": DATA}]
    assert redact_media(value, keep=True) is value


def test_deep_json_is_no_problem() -> None:
    deep: Any = {"data": DATA}
    for _ in range(50_000):
        deep = [deep]
    found = redact_media(deep)
    while isinstance(found, list):
        found = found[0]
    assert found == {"data": "[base64 image redacted, 256 bytes]"}


def test_credentials_of_mcp_servers_are_redacted() -> None:
    function = {"type": "function", "function": {"name": "f", "parameters": {"headers": {"type": "object"}}}}
    mcp = {
        "type": "mcp",
        "server_label": "m",
        "server_url": "https://mcp.example.com/sse?key=abc",
        "headers": {"X-Key": "secret"},
        "authorization": "secret",
    }
    tools = [function, mcp]
    before = copy.deepcopy(tools)
    assert redact_content(tools) == [
        function,
        {
            "type": "mcp",
            "server_label": "m",
            "server_url": "https://mcp.example.com/sse?key=[REDACTED]",
            "headers": "[REDACTED]",
            "authorization": "[REDACTED]",
        },
    ]
    assert tools == before
    assert redact_content([function]) == [function]
    assert redact_content([{"type": "mcp", "authorization": None}]) == [{"type": "mcp", "authorization": None}]
    assert redact_content(None) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.openai.com/v1/chat/completions", None),
        ("https://x.openai.azure.com/openai/deployments/gpt-4o-mini-2024-07-18/chat?api-version=2024-10-21", None),
        ("https://api.openai.com/v1/responses/resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b", None),
        ("https://h/accounts/fireworks/models/llama-v3p1-405b-instruct/Qwen2.5-VL-72B-Instruct-AWQ", None),
        ("/chat/completions", None),
        ("", None),
        ("https://me:pw@h:8443/v1#frag", "https://h:8443/v1"),
        ("https://h/v1?key=abc&sig=x&plain&model=m", "https://h/v1?key=[REDACTED]&sig=[REDACTED]&plain&model=m"),
        ("https://h/v1?model=sk-abcdefgh12345", "https://h/v1?model=[REDACTED]"),
        ("https://h/sk-abcdefgh12345/v1", "https://h/[REDACTED]/v1"),
        ("https://h/phx_abcdefgh12345/v1", "https://h/[REDACTED]/v1"),
        ("https://h/s/0198c3f2-aaaa-7bbb-8ccc-0123456789ab/mcp", "https://h/s/[REDACTED]/mcp"),
        ("https://gateway.example.com/v1/0123456789abcdef0123456789abcdef/openai", None),
        ("https://[::1]:8000/v1", "https://[::1]:8000/v1"),
        ("https://[::1/v1", "[REDACTED]"),
    ],
)
def test_urls_show_where_and_not_who(url: str, shown: str | None) -> None:
    if "gateway" in url:
        shown = "https://gateway.example.com/v1/[REDACTED]/openai"
    assert redact_url(url) == (url if shown is None else shown)


def test_random_keys_in_paths_are_recognised() -> None:
    numbers = random.Random(1)
    alphabets = (
        "0123456789abcdef",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
    )
    missed = [
        key
        for alphabet in alphabets
        for key in ("".join(numbers.choices(alphabet, k=40)) for _ in range(500))
        if key in redact_url(f"https://h/{key}/v1")
    ]
    assert len(missed) <= 15, missed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: sk-abc***xyz. You can find", None),
        ("Incorrect API key provided: sk-proj-****************3x4A.", None),
        ("using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)", None),
        ("risk-assessment1 of task-12345678 failed", None),
        ("no key sk-proj-abcDEF123_456-x here", "no key [REDACTED] here"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [REDACTED]"),
        ("token phx_0123456789abcdef", "token [REDACTED]"),
        ("AIzaSyA0123456789abcdefghij", "[REDACTED]"),
        ('{"api_key": "0123456789abcdef"}', '{"api_key": "[REDACTED]"}'),
        ("cannot reach https://me:pw@h/v1", "cannot reach https://h/v1"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl", "[REDACTED]"),
    ],
)
def test_keys_in_messages_are_redacted_and_masked_ones_stay(text: str, shown: str | None) -> None:
    assert redact_keys(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    "value",
    [
        {"image_url": {"url": "\n" * 200_000 + "!"}},
        {"data": "A" * 200_000 + "!"},
        {"data": "=" * 200_000},
        {"content": "data:" * 100_000 + ";base64,"},
        {"content": ";base64," * 100_000},
        {"content": "data:;" * 100_000 + ";base64," + "!" * 300},
    ],
)
def test_no_content_takes_time_by_the_square_of_its_length(value: dict[str, object]) -> None:
    # It took minutes on a thread that holds the GIL; the suite's own timeout would end it.
    assert redact_media(value) == value


@pytest.mark.parametrize("unit", ["sk-", "eyJ-", "secret=", "Bearer ", "://a@", "AKIA", "gsk_"])
def test_no_message_takes_time_by_the_square_of_its_length(unit: str) -> None:
    assert redact_keys(unit * (100_000 // len(unit)) + "*")


def test_a_name_in_a_schema_is_no_credential_and_properties_keep_what_is_none() -> None:
    schema = {"type": "object", "properties": {"authorization": {"type": "string"}, "api_key": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    assert redact_content(tools, True) is tools
    own = {"plan": "Basic subscription", "cookies": 3, "risk": "risk-assessment1", "api_key": None, "list": ["a", 1]}
    assert scrub_properties(own) == own
    assert scrub_properties({"Cookie": "a=b", "x": [{"X-Api-Key": "short"}]}) == {
        "Cookie": "[REDACTED]",
        "x": [{"X-Api-Key": "[REDACTED]"}],
    }


_RANDOM = "A1b2C3d4E5f6G7h8J9k0"


@pytest.mark.parametrize(
    "key",
    [
        f"sk-{_RANDOM}",
        *(f"ph{kind}_{_RANDOM}" for kind in "cxsar"),
        f"AIza{_RANDOM}",
        *(f"{name}_{_RANDOM}" for name in ("gsk", "hf", "r8", "ghp", "gho", "ghs", "github_pat")),
        *(f"{name}-{_RANDOM}" for name in ("xai", "pplx", "nvapi", "fw", "csk")),
        *(f"{name}{_RANDOM}" for name in ("glpat-", "xoxb-", "sk_" + "live_", "SG.", "ya29.", "hvs.", "npm_")),
        "ASIAIOSFODNN7EXAMPLE",
    ],
)
def test_every_kind_of_key_is_redacted(key: str) -> None:
    assert redact_keys(f"it is {key} of ours") == "it is [REDACTED] of ours"
