"""Promise: one switch turns capture off, and a program that uses `posthog_*` arguments goes on working."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.comparison import assert_same, folder_of_sitecustomize, plain, run, sent

pytestmark = pytest.mark.promise

CALLS = """
from pydantic import BaseModel

class Book(BaseModel):
    title: str

# All the arguments that PostHog's wrapper takes; a bare run has nobody to take them out.
EXTRA = {
    "posthog_distinct_id": "u", "posthog_trace_id": "t", "posthog_properties": {"a": 1}, "posthog_groups": {"g": "h"},
    "posthog_privacy_mode": True, "posthog_provider_override": "p",
} if "--extra" in sys.argv else {}

client = openai.OpenAI(max_retries=0)
chats, embeddings = client.chat.completions, client.embeddings
responses = client.responses  # needs responses
tell(chats.create(**CHAT, **EXTRA).model_dump_json())
tell(chats.parse(**CHAT, response_format=Book, **EXTRA).model_dump_json())  # needs chat.completions.parse
tell([chunk.model_dump_json() for chunk in chats.create(**CHAT, stream=True, **EXTRA)])
with chats.stream(**CHAT, **EXTRA) as stream:  # needs chat.completions.stream
    tell(stream.get_final_completion().model_dump_json())
tell(responses.create(**RESPONSE, **EXTRA).model_dump_json())  # needs responses
tell(responses.parse(**RESPONSE, text_format=Book, **EXTRA).model_dump_json())  # needs responses
tell([chunk.model_dump_json() for chunk in responses.create(**RESPONSE, stream=True, **EXTRA)])  # needs responses
with responses.stream(**RESPONSE, **EXTRA) as stream:  # needs responses
    tell(stream.get_final_response().model_dump_json())
tell(embeddings.create(**EMBEDDING, **EXTRA).model_dump_json())
for resource, request in (
    (chats, CHAT),
    (responses, RESPONSE),  # needs responses
    (embeddings, EMBEDDING),
):
    tell(resource.with_raw_response.create(**request, **EXTRA).text)
    with resource.with_streaming_response.create(**request, **EXTRA) as response:
        tell(response.read())
tell(client.beta.chat.completions.parse(**CHAT, response_format=Book, **EXTRA).id)  # needs beta.chat.completions.parse
tell(client.completions.create(model="gpt-3.5-turbo-instruct", prompt="x", **EXTRA).id)
try:
    chats.create(**chat("error-400"), **EXTRA)
except openai.BadRequestError as error:
    tell(error)

async def main():
    async with openai.AsyncOpenAI() as client:
        chats, embeddings = client.chat.completions, client.embeddings
        responses = client.responses  # needs responses
        tell((await chats.create(**CHAT, **EXTRA)).model_dump_json())
        tell((await chats.parse(**CHAT, response_format=Book, **EXTRA)).to_json())  # needs chat.completions.parse
        tell([chunk.id async for chunk in await chats.create(**CHAT, stream=True, **EXTRA)])
        async with chats.stream(**CHAT, **EXTRA) as stream:  # needs chat.completions.stream
            tell((await stream.get_final_completion()).model_dump_json())
        tell((await responses.create(**RESPONSE, **EXTRA)).model_dump_json())  # needs responses
        tell((await responses.parse(**RESPONSE, text_format=Book, **EXTRA)).model_dump_json())  # needs responses
        async with responses.stream(**RESPONSE, **EXTRA) as stream:  # needs responses
            tell((await stream.get_final_response()).model_dump_json())
        tell((await embeddings.create(**EMBEDDING, **EXTRA)).model_dump_json())
        tell((await chats.with_raw_response.create(**CHAT, **EXTRA)).text)
        async with embeddings.with_streaming_response.create(**EMBEDDING, **EXTRA) as response:
            tell(await response.read())

asyncio.run(main())
tell(sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio")))
if EXTRA:  # the public names still work
    import posthog_autoinstrument
    with posthog_autoinstrument.posthog_context(distinct_id="u"):
        assert chats.create(**CHAT).id
    assert posthog_autoinstrument.flush(1)
else:
    chats.create(**CHAT)
"""


NO_TOKEN = (
    "posthog-autoinstrument: nothing is captured: POSTHOG_PROJECT_TOKEN is not set "
    "(POSTHOG_AUTOINSTRUMENT_LOCAL=1 keeps events on this machine)\n"
)


def test_switched_off_the_program_goes_on(tmp_path: Path) -> None:
    off = {"POSTHOG_AUTOINSTRUMENT_DISABLED": "1", "XDG_STATE_HOME": str(tmp_path / "xdg")}
    path = os.pathsep.join([folder_of_sitecustomize(), os.environ.get("PYTHONPATH", "")])
    woken = {"PYTHONPATH": path, "XDG_STATE_HOME": str(tmp_path / "xdg")}
    ways: dict[str, dict[str, Any]] = {
        "bare": {"launched": False},
        "switched off": {"args": ["--extra"], "env": off},
        "switched off, no token": {"args": ["--extra"], "env": off, "token": False},
        "woken, no launcher, no token": {"args": ["--extra"], "env": woken, "token": False, "launched": False},
    }
    with ThreadPoolExecutor(2) as pool:
        bare, *others = pool.map(lambda options: run(tmp_path, CALLS, **options), ways.values())
    assert bare.returncode == 0, bare.stderr
    lines = {"woken, no launcher, no token": NO_TOKEN}
    for way, ran in zip(list(ways)[1:], others, strict=True):
        assert ran.returncode == 0, (way, ran.stderr)
        assert_same(f"stdout, {way},", plain(bare.stdout), plain(ran.stdout))
        assert_same(f"stderr, {way},", lines.get(way, "") + plain(bare.stderr), plain(ran.stderr))
        assert_same("requests", "\n".join(map(sent, bare.requests)), "\n".join(map(sent, ran.requests)))
        assert ran.events == [], way
    assert not (tmp_path / "state").exists()
    assert not (tmp_path / "xdg").exists()


def test_the_switch_in_the_other_position(tmp_path: Path) -> None:
    """The same program, captured: the test above would also pass if the launcher did nothing at all."""
    on = run(tmp_path, CALLS, args=["--extra"], env={"POSTHOG_AUTOINSTRUMENT_DISABLED": "0"})
    assert on.returncode == 0, on.stderr
    assert len(on.events) == len(on.requests) >= 15
