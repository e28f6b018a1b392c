"""A secret goes wherever a program may put one; then everything that we write, say or send is searched for it.

`make canary` runs this. The secret stands in keys, headers, cookies, queries, addresses and errors, never in what was
said to a model: that is content, and privacy mode's business.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import sysconfig
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.features import supported
from support.programs import environment

from posthog_autoinstrument.testing import Answer, OpenAIServer, PostHogServer

KEY = "sk-proj-canary0123456789canary0123456789"
PLAIN = "4f1d9c27canary8e3b6a50"
"""A secret that looks like none."""

PROGRAM = f"""
import asyncio, io, os, signal, sys
import openai
KEY, PLAIN = {KEY!r}, {PLAIN!r}
base = os.environ["OPENAI_BASE_URL"]
SAID = [{{"role": "user", "content": "Hello"}}]
CHAT = {{"model": "gpt-4o-mini", "messages": SAID}}

def tried(call):
    try:
        call()
    except openai.OpenAIError as error:
        pass

client = openai.OpenAI(
    api_key=KEY, organization=PLAIN, max_retries=0,
    default_headers={{"Cookie": f"session={{PLAIN}}", "X-Api-Key": KEY, "Authorization-Extra": PLAIN}},
    default_query={{"api-key": PLAIN, "token": KEY}},
)
client.chat.completions.create(**CHAT)
headers = {{"Authorization": f"Bearer {{PLAIN}}", "Proxy-Authorization": PLAIN}}
client.chat.completions.create(**CHAT, extra_headers=headers)
client.chat.completions.create(**CHAT, extra_query={{"sig": PLAIN}})
list(client.chat.completions.create(**CHAT, stream=True))
client.embeddings.create(model="text-embedding-3-small", input="x")
client.post("/chat/completions", body=CHAT, cast_to=object, options={{"params": {{"key": PLAIN}}}})
tried(lambda: client.chat.completions.create(model="error-401", messages=SAID))
tried(lambda: client.chat.completions.create(model="echo-key", messages=SAID))
with_user = base.replace("http://", f"http://{{PLAIN}}:{{KEY}}@")
openai.OpenAI(api_key=KEY, base_url=with_user).chat.completions.create(**CHAT)
openai.OpenAI(api_key=KEY, base_url=f"{{base}}?api_key={{KEY}}").with_options(max_retries=0)
tried(lambda: openai.OpenAI(api_key=KEY, base_url=f"http://{{PLAIN}}@127.0.0.1:9/{{KEY}}/v1", max_retries=0)
      .chat.completions.create(**CHAT))
openai.AzureOpenAI(api_key=PLAIN, api_version="2024-10-21", azure_endpoint=base.removesuffix("/v1"),
                   azure_deployment="d").chat.completions.create(**CHAT)
address = f"https://u:{{PLAIN}}@a.example/{{KEY}}?key={{PLAIN}}"
tool = {{"type": "mcp", "server_label": "a", "server_url": address, "authorization": PLAIN}}
tool["headers"] = {{"Authorization": f"Bearer {{PLAIN}}"}}
client.responses.create(model="gpt-4o-mini", input="Hello", tools=[tool])  # needs responses

# From here on, what a spool keeps as it was sent.
CHAT_TOOL = {{"type": "function", "function": {{"name": "f", "headers": {{"Authorization": PLAIN, "X-Api-Key": KEY}}}}}}
client.chat.completions.create(**CHAT, tools=[CHAT_TOOL])
client.chat.completions.create(**CHAT, user=KEY)
client.chat.completions.create(**CHAT, extra_body={{"metadata": {{"api_key": KEY}}, "api_key": PLAIN}})
from posthog_autoinstrument import posthog_context
headers = {{"Authorization": f"Bearer {{PLAIN}}", "cookie": PLAIN, "X-Api-Key": PLAIN, "note": f"it is {{KEY}}"}}
with posthog_context(properties={{"api_key": PLAIN, "key": KEY, "request": {{"headers": headers}}}}):
    client.chat.completions.create(**CHAT)

async def main():
    async with openai.AsyncOpenAI(api_key=KEY, default_headers={{"Cookie": PLAIN}}) as client:
        await client.chat.completions.create(**CHAT)
asyncio.run(main())
if "die" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def servers() -> Iterator[tuple[OpenAIServer, PostHogServer]]:
    with OpenAIServer() as openai_server, PostHogServer() as posthog_server:
        yield openai_server, posthog_server


def forms() -> set[bytes]:
    """The secrets, plain and in what they are often wrapped in."""
    found = set()
    for secret in (KEY, PLAIN):
        found |= {secret, urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode()[:-4]}
    return {form.encode() for form in found}


def leaks(where: str, data: bytes) -> list[str]:
    return [
        f"{where}: {form!r} at {data.find(form)}: {data[max(0, data.find(form) - 80) :][:200]!r}"
        for form in forms()
        if form in data
    ]


@pytest.mark.parametrize("mode", ["posthog", "store", "spool", "spool of a killed process"])
def test_no_secret_is_written_said_or_sent(
    mode: str, tmp_path: Path, servers: tuple[OpenAIServer, PostHogServer]
) -> None:
    openai_server, posthog_server = servers
    program = tmp_path / "program.py"
    source, end = PROGRAM, PROGRAM.index("async def main")
    if mode.endswith("killed process"):  # the spool stays
        source = source[: source.index("# From here on")] + source[end:]
    program.write_text(supported(source))
    state = tmp_path / "state"
    environ = environment(openai_server, None if mode == "store" else posthog_server)
    environ |= {"POSTHOG_AUTOINSTRUMENT_DEBUG": "1", "POSTHOG_AUTOINSTRUMENT_DB": str(state / "events.db")}
    if mode.startswith("spool"):
        environ["POSTHOG_SPOOL"] = str(state / "spool")
    if mode.endswith("killed process"):
        environ["POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S"] = "3600"

    said: dict[str, bytes] = {}

    def command(name: str, *arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "posthog_autoinstrument", *arguments],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        said[name] = done.stdout + done.stderr
        return done.returncode

    dies = ["die"] if mode.endswith("killed process") else []
    returncode = command("program", sys.executable, str(program), *dies)
    assert returncode == (-9 if dies else 0), said["program"].decode()
    written = {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}
    environ |= {"OPENAI_API_KEY": KEY}
    command("doctor", "doctor")
    command("events", "events", "--json")
    if mode.startswith("spool"):
        assert command("send", "send") == 0
    sent = {f"request {number}": request.body for number, request in enumerate(posthog_server.requests)}
    sent |= {f"head {number}": repr(request.headers).encode() for number, request in enumerate(posthog_server.requests)}
    n_events = len(posthog_server.events) or said["events"].count(b"\n")
    assert n_events >= 10
    found = [leak for name, data in {**said, **written, **sent}.items() for leak in leaks(name, data)]
    assert found == []


def test_no_code_is_loaded_from_the_working_directory(
    tmp_path: Path, servers: tuple[OpenAIServer, PostHogServer]
) -> None:
    """Other launchers put it on PYTHONPATH. The program lies elsewhere, so Python itself does not look there either."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    for name in ("sitecustomize", "usercustomize", "posthog_autoinstrument", "wrapt", "requests", "hooks", "sqlite3"):
        (here / f"{name}.py").write_text(f"print('loaded {name}')\n")
    program = elsewhere / "program.py"
    program.write_text(
        "import openai\nopenai.OpenAI().chat.completions.create(model='m', messages=[{'role': 'user', 'content': 'x'}])"
    )
    launcher = Path(sysconfig.get_path("scripts")) / "posthog-instrument"
    for spool in ({}, {"POSTHOG_SPOOL": str(tmp_path / "spool")}):
        done = subprocess.run(
            [launcher, sys.executable, str(program)],
            env=environment(*servers) | spool,
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(servers[1].events) == 2


PRIVATE = f"""
import json
import openai
from openai import OpenAI
from posthog_autoinstrument import capture_feedback, capture_metric, posthog_context, posthog_span
S = {PLAIN!r}
client = OpenAI(max_retries=0)
TOOL = {{"type": "function", "function": {{"name": S, "description": S, "parameters": {{"type": "object"}}}}}}
ASKED = {{"id": "call_1", "type": "function", "function": {{"name": S, "arguments": json.dumps({{S: S}})}}}}
SAID = [
    {{"role": "user", "content": S}},
    {{"role": "assistant", "tool_calls": [ASKED]}},
    {{"role": "tool", "tool_call_id": "call_1", "content": S}},
]

def tried(call):
    try:
        call()
    except openai.OpenAIError:
        pass

with posthog_context(properties={{"plan": "pro"}}):
    client.chat.completions.create(
        model="scripted", messages=SAID[:1], tools=[TOOL], stop=[S], temperature=0.5, user=S,
        extra_body={{"metadata": {{S: S}}, "n": S, "top_p": [S]}},
    )
    client.chat.completions.create(model="gpt-4o-mini", messages=SAID, stop=S)
    tried(lambda: client.chat.completions.create(model="error-400", messages=[{{"role": "user", "content": S}}]))
    tried(lambda: client.chat.completions.create(model="scripted", messages=SAID[:1]))
    client.embeddings.create(model="text-embedding-3-small", input=S)
    tried(lambda: client.moderations.create(input=S))
    tried(lambda: client.audio.speech.create(model="tts-1", voice=S, input=S, response_format="mp3"))
    tried(lambda: client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"x"), language=S, prompt=S))
    tried(lambda: client.images.generate(model="dall-e-3", prompt=S, size="1024x1024", style=S))
    prompt = {{"id": S, "version": S, "variables": {{S: S}}}}
    client.responses.create(model="gpt-4o-mini", prompt=prompt, input=S, instructions=S, tools=[  # needs responses
        {{"type": "mcp", "server_label": S, "server_url": "https://a.example/mcp"}}])  # needs responses
    with posthog_span(S, "tool") as span:
        span.set_input(S)
        span.set_output(S)
    try:
        with posthog_span("step"):
            raise ValueError(S)
    except ValueError:
        pass
    capture_feedback(S)
    capture_metric("note", S)
    capture_metric("score", 0.5)
"""
"""Nothing in it is a credential: it is what a user, a model and a server say."""

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "service_tier": PLAIN,
    "system_fingerprint": PLAIN,
    "choices": [
        {
            "index": 0,
            "finish_reason": PLAIN,
            "message": {
                "role": "assistant",
                "content": PLAIN,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": PLAIN, "arguments": f'{{"{PLAIN}": 1}}'}}
                ],
            },
        }
    ],
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "note": PLAIN,
        "search_context_size": "low",
        PLAIN: 1,
        "details": [{"type": PLAIN, "cached_tokens": 1}],
        "prompt_tokens_details": {"cached_tokens": 1, "text": PLAIN},
    },
}


@pytest.mark.parametrize("spool", [False, True])
def test_privacy_mode_sends_and_writes_nothing_that_was_said(
    spool: bool, tmp_path: Path, servers: tuple[OpenAIServer, PostHogServer]
) -> None:
    openai_server, posthog_server = servers
    openai_server.script(Answer(body=json.dumps(ANSWER)))
    program = tmp_path / "program.py"
    program.write_text(supported(PRIVATE))
    environ = environment(openai_server, posthog_server) | {"POSTHOG_PRIVACY_MODE": "1"}
    if spool:
        environ["POSTHOG_SPOOL"] = str(tmp_path / "spool")
    done = subprocess.run(
        [sys.executable, "-m", "posthog_autoinstrument", sys.executable, str(program)],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    events = [(event["event"], event["properties"]) for event in posthog_server.events]
    found = [name for _, properties in events for name in properties if PLAIN in json.dumps({name: properties[name]})]
    assert found == []
    assert leaks("stderr", done.stderr) == []
    calls = [properties for event, properties in events if event == "$ai_generation"]
    assert calls[0]["$ai_usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "search_context_size": "low",
        "details": [{"cached_tokens": 1}],
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert calls[0]["$ai_model_parameters"]["temperature"] == 0.5
    assert calls[0]["plan"] == "pro"
    assert (calls[0]["$ai_input_tokens"], calls[0]["$ai_output_tokens"]) == (3, 2)
    metrics = {one["$ai_metric_name"]: one["$ai_metric_value"] for event, one in events if event == "$ai_metric"}
    assert metrics == {"note": None, "score": 0.5}
    names = [
        one["$ai_span_name"] for event, one in events if event == "$ai_span" and one.get("$ai_span_type") == "tool"
    ]
    assert set(names) == {"tool"}
