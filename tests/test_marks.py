"""Looking for marks in long bytes: as a plain search would, and wherever they stand."""

from __future__ import annotations

import json
import random
import re

import pytest

from posthog_autoinstrument.core.records import Call, Identity
from posthog_autoinstrument.export.spool.byte_search import _SHORT, Marks
from posthog_autoinstrument.export.spool.writer import _holds_secrets, _text_holds_secrets
from posthog_autoinstrument.processing import redaction

WORDS = (b"api_key", b'"mcp"', b"-Api-Key", b"uthorization", b"AIza", b"sk-", b"aa_", b"zzz")
KEYS = re.compile(rb"(?<![a-z])(?:sk-|AIza)[0-9]{3}")
RANDOM = "A1b2C3d4E5f6G7h8J9k0"


def test_it_finds_what_a_plain_search_finds() -> None:
    dice = random.Random(7)
    patterns = {word: KEYS if word in (b"sk-", b"AIza") else None for word in WORDS}
    marks = Marks(patterns)
    pieces = [*WORDS, *(word[:-1] for word in WORDS), *(word[1:] for word in WORDS), b"123", b" ", b"-", b"_", b"z"]
    seen = {True: 0, False: 0}
    for _ in range(20_000):
        data = b"".join(dice.choices(pieces, k=dice.randrange(6)))
        wanted = KEYS.search(data) is not None or any(w in data for w, pattern in patterns.items() if pattern is None)
        assert marks.in_(data) is wanted, data
        assert marks.in_(b" " * _SHORT + data) is wanted, data
        seen[wanted] += 1
    assert min(seen.values()) > 2_000


@pytest.mark.parametrize("offset", range(-12, 12))
def test_nothing_is_lost_in_a_long_text(offset: int) -> None:
    data = bytearray(b"." * (3 * 65_536))
    for word in (b"api_key", b"AIza", b"sk-", b"aa_b"):
        marks = Marks({word: None})
        for edge in (65_536, 2 * 65_536):
            at = edge + offset
            assert marks.in_(bytes(data[:at] + word + data[at:]))
    assert not marks.in_(bytes(data))


@pytest.mark.parametrize(
    "key",
    [
        f"sk-{RANDOM}",
        *(f"ph{kind}_{RANDOM}" for kind in "cxsar"),
        f"AIza{RANDOM}",
        *(f"{name}_{RANDOM}" for name in ("gsk", "hf", "r8", "ghp", "gho", "ghs", "github_pat")),
        *(f"{name}-{RANDOM}" for name in ("xai", "pplx", "nvapi", "fw", "csk")),
        *(f"{name}{RANDOM}" for name in ("glpat-", "xoxb-", "sk_" + "live_", "SG.", "ya29.", "hvs.", "npm_")),
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl",
    ],
)
def test_every_key_that_is_redacted_is_found_on_the_way_to_the_disk(key: str) -> None:
    assert redaction.redact_keys(key) == "[REDACTED]"
    for text in (key, f'{{"user":"{key}"}}', f"said \\n{key} " * 3, "x " * 100_000 + key):
        assert _text_holds_secrets(text)
    assert not _text_holds_secrets(f"mask{key.replace('.', '')} of {key[:5]}")
    identity = Identity(distinct_id=None, trace_id="t")
    said = Call("openai", "chat", "u", "s", "OpenAI", "", "", 0.0, 0.0, "complete", False, identity)
    assert not _holds_secrets(said)
    for request in (
        key,
        json.dumps({"user": key}),
        json.dumps({"metadata": {"note": [f"it is {key}"]}}),
        f'{{"{key}":1}}',
    ):
        said.request = request.encode()
        assert _holds_secrets(said), request
    said.request = None
    identity.properties = {"note": f'"{key}"'}
    assert _holds_secrets(said)


@pytest.mark.parametrize(
    ("request_", "secret"),
    [
        ({"messages": [{"role": "user", "content": f"what is sk-{RANDOM}"}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "my api_key and my cookie"}]}]}, False),
        ({"input": [[1, 2, 3]], "model": "m"}, False),
        ({"input": [f"AIza{RANDOM}"]}, False),
        ({"tools": [{"type": "mcp", "server_label": "a"}]}, True),
        ({"tools": [{"type": "function", "function": {"name": "f", "headers": {"AUTHORIZATION": "x"}}}]}, True),
        ({"input": [{"content": [{"ApiKey": "x"}]}]}, True),
        ({"metadata": {"request": '{"Cookie": "x"}'}}, True),
        ({"tools": [{"environment": {"domain_secrets": []}}]}, True),
        ({"messages": [], "user": f"sk-{RANDOM}"}, True),
        ({"messages": [], "metadata": {"note": "password=hunter2"}}, True),
        ({"messages": [], "metadata": {"note": "https://me:hunter2@example.com/"}}, True),
        ({"messages": [], "metadata": {"text": f"sk-{RANDOM}"}}, True),
        ({"messages": [], "tools": [{"function": {"description": f"with sk-{RANDOM}"}}]}, True),
        ([{"type": "response.create", "response": {"metadata": {"content": f"sk-{RANDOM}"}}}], True),
    ],
)
def test_what_is_said_to_a_model_is_no_secret_and_everything_beside_may_be(request_: object, secret: bool) -> None:
    identity = Identity(distinct_id=None, trace_id="t")
    said = Call("openai", "chat", "u", "s", "OpenAI", "", "", 0.0, 0.0, "complete", False, identity)
    said.request = json.dumps(request_).encode()
    assert _holds_secrets(said) is secret
