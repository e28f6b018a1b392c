"""The web programs of `examples/`, each under the server that its docstring names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from support.paths import ROOT
from support.programs import environment
from support.waiting import wait_until
from support.web import HEADERS, site

from posthog_autoinstrument.testing import OpenAIServer

pytestmark = pytest.mark.timeout(300)
EXAMPLES = ROOT / "examples"
JSON = {"Content-Type": "application/json"}


def test_the_fastapi_chat(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLES / "fastapi_chat", tmp_path / "chat"))
    with site("", "uvicorn --port {port} app:app", folder) as found:
        page = found.get("/").body.decode()
        assert all(f'"{name}"' in page for name in HEADERS)
        answer = found.get("/chat", {**HEADERS, **JSON}, "POST", json.dumps({"text": "How are you?"}).encode())
        trace = dict(answer.headers)["x-trace-id"]
        said = json.dumps({"trace_id": trace, "text": "Good"}).encode()
        assert found.get("/feedback", {**HEADERS, **JSON}, "POST", said).status == 200
        wait_until(lambda: len(found.posthog.events) == 5, f"not all events: {found.posthog.events}")
        by_name = {event["event"]: event["properties"] for event in found.posthog.events}
        spans = {
            event["properties"]["$ai_span_name"]: event["properties"]
            for event in found.posthog.events
            if event["event"] == "$ai_span"
        }
        assert sorted(by_name) == ["$ai_feedback", "$ai_generation", "$ai_span", "$ai_trace"]
        assert {event["distinct_id"] for event in found.posthog.events} == {"browser-user"}
        for event in found.posthog.events:
            assert event["properties"]["$ai_trace_id"] == trace
            assert event["properties"]["$session_id"] == "browser-session"
        assert by_name["$ai_generation"]["$ai_parent_id"] == spans["answer"]["$ai_span_id"]
        assert spans["look up"]["$ai_parent_id"] == spans["answer"]["$ai_span_id"]
        assert spans["answer"]["$ai_output_state"] == answer.body.decode()
        assert by_name["$ai_generation"]["$request_route"] == "/chat"


def test_the_fastapi_chat_without_the_launcher(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLES / "fastapi_chat", tmp_path / "chat"))
    with site("", "uvicorn --port {port} app:app", folder, launched=False) as found:
        answer = found.get("/chat", {**HEADERS, **JSON}, "POST", json.dumps({"text": "How are you?"}).encode())
        trace = dict(answer.headers)["x-trace-id"]
        for _ in range(2):
            said = json.dumps({"trace_id": trace, "text": "Good"}).encode()
            assert found.get("/feedback", {**HEADERS, **JSON}, "POST", said).status == 200
        assert b"How are you?" in answer.body
        assert found.output.read_text().count("nothing is captured in this process") == 1
        assert found.posthog.events == []


def test_the_flask_chat(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "flask_chat.py", tmp_path)
    with site("", "gunicorn -b 127.0.0.1:{port} flask_chat:app", tmp_path) as found:
        cookie = found.get("/login/ann").cookie()
        assert found.get("/ask?text=Hello", {"Cookie": cookie}).status == 200
        event = found.event("Hello")
        assert event["distinct_id"] == "ann"
        assert event["properties"]["$request_route"] == "/ask"


@pytest.mark.parametrize(
    "command", ["gunicorn -b 127.0.0.1:{port} chat.wsgi", "uvicorn --port {port} chat.asgi:application"]
)
def test_the_django_project(tmp_path: Path, command: str) -> None:
    folder = Path(shutil.copytree(EXAMPLES / "django_chat", tmp_path / "chat"))
    with OpenAIServer() as openai_server:
        environ = environment(openai_server, None, DJANGO_SUPERUSER_PASSWORD="word")
        for words in ("migrate", "createsuperuser --noinput --username ann --email ann@example.com"):
            subprocess.run(
                [sys.executable, "manage.py", *words.split()], cwd=folder, env=environ, check=True, capture_output=True
            )
    with site("", command, folder) as found:
        form = found.get("/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.body.decode())
        assert token is not None
        body = urlencode({"username": "ann", "password": "word", "csrfmiddlewaretoken": token[1]}).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": form.cookie()}
        entered = found.get("/login/", kind, "POST", body)
        session = next(value for _, value in entered.headers if value.startswith("sessionid=")).partition(";")[0]
        assert found.get("/ask?text=Hello", {"Cookie": session}).status == 200
        event = found.event("Hello")
        assert event["distinct_id"] == "1"
        assert event["properties"]["$request_route"] == "/ask"
