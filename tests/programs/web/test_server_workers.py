"""What workers of real servers say: a wrong token is said once for all of them, and so is what was lost by it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import web
from support.programs import environment
from support.waiting import wait_until

from posthog_autoinstrument.core import diagnostics
from posthog_autoinstrument.testing import Answer, LoopbackServer, OpenAIServer

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX"),
    pytest.mark.timeout(300),
]

WSGI = (
    web.ASK
    + """
def app(environ, start_response):
    ask("hi")
    start_response("200 OK", [])
    return [str(__import__("os").getpid()).encode()]
"""
)
ASGI = (
    web.ASK
    + """
async def app(scope, receive, send):
    if scope["type"] == "http":
        ask("hi")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(__import__("os").getpid()).encode()})
"""
)
SERVERS = {
    "gunicorn": (WSGI, "gunicorn -w 2 --log-level error -b 127.0.0.1:{port} app:app"),
    "gunicorn preload": (WSGI, "gunicorn -w 2 --preload --log-level error -b 127.0.0.1:{port} app:app"),
    "uvicorn": (ASGI, "uvicorn --workers 2 --lifespan off --log-level error --port {port} app:app"),
}


@pytest.fixture
def refusing() -> Iterator[LoopbackServer]:
    """A PostHog that does not know the token."""
    server = LoopbackServer(lambda request: Answer(401))
    yield server
    server.close()


def ours(text: str) -> list[str]:
    return [line.removeprefix(diagnostics.PREFIX) for line in text.splitlines() if line.startswith(diagnostics.PREFIX)]


def check(said: list[str]) -> None:
    assert len([line for line in said if line.startswith("401 from 127.0.0.1: the project token")]) == 1, said
    assert len([line for line in said if " lost " in line]) == 1, said
    assert len(said) == 2, said


@pytest.mark.parametrize("server", SERVERS)
def test_web_servers(tmp_path: Path, refusing: LoopbackServer, server: str) -> None:
    source, command = SERVERS[server]
    environ = {"POSTHOG_HOST": refusing.url, "XDG_RUNTIME_DIR": str(tmp_path), "POSTHOG_PROJECT_TOKEN": "phc_wrong"}
    with web.site(source, command, tmp_path / "site", env=environ) as site:
        seen = set()

        def both_have_answered() -> bool:
            seen.add(site.get("/").body)
            return len(seen) >= 2

        wait_until(both_have_answered, "only one worker answers", timeout_s=60)
        wait_until(lambda: len(refusing.requests) >= 2, "they do not both try to deliver", timeout_s=60)
    check(ours(site.output.read_text()))


CELERY = """
import os
import celery

app = celery.Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": os.environ["FOLDER"] + "/queue",
    "data_folder_out": os.environ["FOLDER"] + "/queue",
    "control_folder": os.environ["FOLDER"] + "/control",
}
app.conf.worker_hijack_root_logger = False

@app.task
def ask(text):
    import openai
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
"""


def test_celery(tmp_path: Path, openai_server: OpenAIServer, refusing: LoopbackServer) -> None:
    pytest.importorskip("celery")
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    (tmp_path / "tasks.py").write_text(CELERY)
    environ = environment(
        openai_server, None, FOLDER=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path), POSTHOG_PROJECT_TOKEN="phc_wrong",
        POSTHOG_HOST=refusing.url,
    )  # fmt: skip
    send = "import tasks\nfor number in range(6): tasks.ask.delay(str(number))\n"
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=environ, check=True, timeout=120)
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-c", "2", "-P", "prefork", "-l", "error"]
    command = [sys.executable, "-m", "posthog_autoinstrument", sys.executable, "-m", "celery", "-A", "tasks", "worker"]
    with (tmp_path / "output").open("wb") as output:
        worker = subprocess.Popen(
            [*command, *options], cwd=tmp_path, env=environ, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: len(openai_server.requests) >= 6, "the tasks do not run", timeout_s=120)
        wait_until(lambda: len(refusing.requests) >= 2, "they do not both try to deliver", timeout_s=60)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(90) == 0, (tmp_path / "output").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    check(ours((tmp_path / "output").read_text()))
