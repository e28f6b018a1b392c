"""Real servers in real processes: requests come in, each makes calls, the server is stopped; not an event is lost.

Nothing is sent before the end (the interval is an hour), so what arrives was delivered by the ways out of a process.
Each server runs bare and launched, and must end the same way.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sysconfig
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.ports import free_port
from support.programs import environment
from support.waiting import wait_until

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

pytestmark = pytest.mark.timeout(450)
SCRIPTS = Path(sysconfig.get_path("scripts"))
N_REQUESTS = 12

APP = """
import os, threading
import openai

client = openai.OpenAI()
async_client = None

def question(text):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}

if os.environ.get("CALL_AT_IMPORT"):
    with openai.OpenAI() as own:  # a connection of its own: those of the other would be shared by the workers
        own.chat.completions.create(**question("at import"))

def wsgi(environ, start_response):
    client.chat.completions.create(**question(environ["PATH_INFO"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

async def asgi(scope, receive, send):
    global async_client
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    async_client = async_client or openai.AsyncOpenAI()
    await async_client.chat.completions.create(**question(scope["path"]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

with open("loaded", "a") as loaded:
    print(os.getpid(), file=loaded)
"""


@dataclass(frozen=True)
class Server:
    """One way to serve."""

    command: str
    package: str
    at_import: bool = False
    """The application makes a call when it is imported, once, in the process that forks the workers."""
    stop: signal.Signals = signal.SIGTERM
    interval_s: float = 3600

    @property
    def n_importers(self) -> int:
        """How many processes import the application. Gunicorn fails when it is told to stop before they have."""
        return 2 if {"-w", "--workers"} & set(self.command.split()) and "--preload" not in self.command else 1

    def present(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


SERVERS = {
    "gunicorn sync": Server("gunicorn -b 127.0.0.1:{port} -w 2 app:wsgi", "gunicorn"),
    "gunicorn gthread": Server("gunicorn -b 127.0.0.1:{port} -w 2 -k gthread --threads 4 app:wsgi", "gunicorn"),
    "gunicorn gevent": Server("gunicorn -b 127.0.0.1:{port} -w 2 -k gevent app:wsgi", "gunicorn"),
    "gunicorn preload": Server("gunicorn -b 127.0.0.1:{port} -w 2 --preload app:wsgi", "gunicorn", at_import=True),
    "gunicorn max-requests": Server("gunicorn -b 127.0.0.1:{port} -w 2 --max-requests 3 app:wsgi", "gunicorn"),
    "gunicorn interrupted": Server("gunicorn -b 127.0.0.1:{port} -w 2 app:wsgi", "gunicorn", stop=signal.SIGINT),
    "gunicorn uvicorn": Server(
        "gunicorn -b 127.0.0.1:{port} -w 2 -k uvicorn_worker.UvicornWorker app:asgi", "uvicorn_worker"
    ),
    "gunicorn uvicorn preload": Server(
        "gunicorn -b 127.0.0.1:{port} -w 2 --preload -k uvicorn_worker.UvicornWorker app:asgi",
        "uvicorn_worker",
        at_import=True,
    ),
    "uvicorn": Server("uvicorn --port {port} app:asgi", "uvicorn"),
    "uvicorn interrupted": Server("uvicorn --port {port} app:asgi", "uvicorn", stop=signal.SIGINT),
    "uvicorn workers": Server("uvicorn --port {port} --workers 2 app:asgi", "uvicorn"),
    "uvicorn reload": Server("uvicorn --port {port} --reload app:asgi", "uvicorn"),
    "hypercorn": Server("hypercorn -b 127.0.0.1:{port} app:asgi", "hypercorn"),
    "hypercorn workers": Server("hypercorn -b 127.0.0.1:{port} -w 2 app:asgi", "hypercorn"),
    "uwsgi": Server("{uwsgi} --enable-threads --threads 4", "pyuwsgi"),
    # uWSGI's master ends without running any Python: what is captured in it is sent while it lives.
    "uwsgi master": Server(
        "{uwsgi} --enable-threads --master --processes 2", "pyuwsgi", at_import=True, interval_s=0.3
    ),
    "uwsgi lazy": Server("{uwsgi} --enable-threads --master --lazy-apps", "pyuwsgi"),
}
UWSGI = "pyuwsgi --http-socket 127.0.0.1:{port} --wsgi-file app.py --callable wsgi --die-on-term --need-app"


@dataclass
class Served:
    """How a server ended, and what became of its calls."""

    returncode: int
    output: str
    n_requests: int
    pids: set[str]
    events: list[dict[str, Any]]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@contextlib.contextmanager
def started(command: list[str], folder: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def serve(server: Server, folder: Path, launched: bool) -> Served:
    folder.mkdir()
    (folder / "app.py").write_text(APP)
    port = free_port()
    command = server.command.format(uwsgi=UWSGI.format(port=port), port=port).split()
    command[0] = str(SCRIPTS / command[0])
    if launched:
        command = [str(SCRIPTS / "posthog-instrument"), *command]
    with OpenAIServer() as openai_server, PostHogServer() as posthog_server:
        environ = environment(openai_server, posthog_server)
        environ |= {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": str(server.interval_s), "PYTHONUNBUFFERED": "1"}
        environ["POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S"] = "20"  # a busy machine needs more than the 3 s
        if server.at_import:
            environ["CALL_AT_IMPORT"] = "1"
        with started(command, folder, environ) as process:

            def get(path: str) -> str:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=60) as response:
                    return response.read().decode()

            def answers() -> str | None:
                assert process.poll() is None, (folder / "output").read_text()
                with contextlib.suppress(OSError):
                    return get("first")
                return None

            first = wait_until(answers, "the server does not answer", timeout_s=120)
            with ThreadPoolExecutor(4) as pool:
                pids = {first, *pool.map(get, map(str, range(N_REQUESTS)))}
            loaded = folder / "loaded"
            wait_until(
                lambda: len(set(loaded.read_text().split())) >= server.n_importers,
                "a worker does not start",
                timeout_s=120,
            )
            if "{uwsgi}" in server.command:  # it runs no Python in a worker that is told to end before it is done
                wait_until(
                    lambda: (folder / "output").read_text().count("=> generated") > N_REQUESTS,
                    "uWSGI does not finish its requests",
                    timeout_s=60,
                )
            if server.at_import and server.interval_s < 60 and launched:
                wait_until(lambda: posthog_server.events, "the master has not sent what it captured", timeout_s=60)
            process.send_signal(server.stop)
            returncode = process.wait(90)
        return Served(
            returncode,
            (folder / "output").read_text(),
            len(openai_server.requests),
            pids,
            list(posthog_server.events),
        )


@pytest.mark.parametrize("name", SERVERS)
def test_no_call_of_a_server_is_lost(name: str, tmp_path: Path) -> None:
    server = SERVERS[name]
    if not server.present():
        pytest.skip(f"{server.package} is not installed")
    with ThreadPoolExecutor(2) as pool:
        bare = pool.submit(serve, server, tmp_path / "bare", False)
        launched = pool.submit(serve, server, tmp_path / "launched", True)
    assert bare.result().events == []
    ran = launched.result()
    assert ran.n_requests >= N_REQUESTS + 1, ran.output
    assert len(ran.events) == ran.n_requests, ran.output
    assert len({event["uuid"] for event in ran.events}) == ran.n_requests
    assert ran.returncode == bare.result().returncode, ran.output
    assert "posthog-autoinstrument" not in ran.output.replace(str(tmp_path), ""), ran.output
