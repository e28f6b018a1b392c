"""A web app under its real server program, started by the launcher; plain requests to it, and what PostHog got."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

from .documented import check_documented
from .ports import free_port
from .programs import environment
from .waiting import wait_until

SCRIPTS = Path(sysconfig.get_path("scripts"))

HEADERS = {
    "X-POSTHOG-DISTINCT-ID": "browser-user",
    "X-POSTHOG-SESSION-ID": "browser-session",
    "X-POSTHOG-WINDOW-ID": "browser-window",
}
"""As posthog-js sends them."""

ASK = """
import openai

client = openai.OpenAI()

def ask(text):
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content
"""
"""What every app here begins with. The server answers "You said: ..."."""


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def cookie(self) -> str:
        """The cookie that it sets."""
        (found,) = [value for name, value in self.headers if name.lower() == "set-cookie"]
        return found.partition(";")[0]


@dataclass
class Site:
    """A running app."""

    port: int
    openai: OpenAIServer
    posthog: PostHogServer
    output: Path
    kind: str = ""
    past: int = 0
    """How many of PostHog's events are none of the test's business."""

    def afresh(self) -> Site:
        """The same app for another test, or for the same one once more: without the events that are there already."""
        return replace(self, past=len(self.posthog.events))

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def crowd(self, path_of: Callable[[int], str], count: int) -> None:
        """Requests of so many users at once, each with a path of its own: `user-0`, `user-1`, ..."""

        def request(number: int) -> None:
            self.get(path_of(number), {"X-POSTHOG-DISTINCT-ID": f"user-{number}"})

        with ThreadPoolExecutor(30) as pool:
            list(pool.map(request, range(count)))

    def events(self, text: str) -> list[dict[str, Any]]:
        return [event for event in self.posthog.events[self.past :] if asked(event) == text]

    def event(self, text: str) -> dict[str, Any]:
        """The one event of the call that asked `text`."""
        (found,) = wait_until(lambda: self.events(text), f"no event of {text!r}: {self.output.read_text()}")
        check_documented([found])
        return found


def asked(event: dict[str, Any]) -> Any:
    """The last thing that was said to the model."""
    said = event["properties"].get("$ai_input")
    return said[-1].get("content") if isinstance(said, list) and said else None


@contextlib.contextmanager
def site(
    source: str, command: str, folder: Path, launched: bool = True, env: Mapping[str, str] | None = None
) -> Iterator[Site]:
    """Serve `source`, or the folder as it is where that is empty, by `command` (with `{port}`)."""
    folder.mkdir(parents=True, exist_ok=True)
    if source:
        (folder / "app.py").write_text(source)
    port = free_port()
    words = command.format(port=port).split()
    words[0] = str(SCRIPTS / words[0])
    if launched:
        words = [str(SCRIPTS / "posthog-instrument"), *words]
    output = folder / "output"
    with OpenAIServer() as openai_server, PostHogServer() as posthog_server, output.open("wb") as file:
        environ = environment(openai_server, posthog_server, POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S="0.05")
        environ |= {"PYTHONUNBUFFERED": "1", "POSTHOG_AUTOINSTRUMENT_RAISE": "1", **(env or {})}
        process = subprocess.Popen(
            words, cwd=folder, env=environ, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        found = Site(port, openai_server, posthog_server, output)

        def answers() -> bool:
            assert process.poll() is None, output.read_text()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False

        try:
            wait_until(answers, "the server does not start", timeout_s=120)
            yield found
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            assert "Traceback" not in output.read_text(), output.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
