"""The page of `posthog-instrument view` as tests drive it: a running viewer, its pages, stores to show."""

from __future__ import annotations

import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from .programs import Ran
from .waiting import wait_until

COMMAND = [sys.executable, "-m", "posthog_autoinstrument", "view", "--no-browser"]
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "'; DROP TABLE events; --",
    '=HYPERLINK("http://evil.test")',
    "+1+1",
    "@SUM(A1)",
    "red \x1b[31m text \x07",
    "abc\u202edef\u2066ghi\u200bjkl",
    "tags \U000e0041\U000e0042",
]


@dataclass
class Viewer:
    """A running page, with a browser's session that has opened the printed address."""

    process: subprocess.Popen[str]
    address: str
    http: requests.Session = field(default_factory=requests.Session)

    @property
    def base(self) -> str:
        return self.address.partition("/?")[0]

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.http.get(self.base + path, timeout=30, **options)

    def post(self, path: str, data: dict[str, str], origin: str | None = None) -> requests.Response:
        headers = {"Origin": self.base if origin is None else origin}
        return self.http.post(
            self.base + path,
            data=data,
            headers={k: v for k, v in headers.items() if v},
            timeout=30,
            allow_redirects=False,
        )

    def page(self, path: str) -> Page:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text[:500]
        return Page(answer.text)


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its elements, and the text between them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.source = source
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def links(self, start: str) -> list[str]:
        found = [attrs.get("href") or "" for tag, attrs in self.elements if tag == "a"]
        return [href for href in found if href.startswith(start)]

    def field(self, name: str) -> str:
        return next(str(a.get("value")) for tag, a in self.elements if tag == "input" and a.get("name") == name)


def clean_environment(**extra: str) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("POSTHOG_", "OPENAI_"))}
    return {**environ, "PYTHONUNBUFFERED": "1", **extra}


def run_demo(path: Path) -> None:
    """The real demo, its calls in the store at `path`. It has a store of its own, beside the one that is set."""
    command = [sys.executable, "-m", "posthog_autoinstrument", "--local", "demo"]
    environ = clean_environment(POSTHOG_AUTOINSTRUMENT_DB=str(path))
    subprocess.run(command, env=environ, cwd=path.parent, capture_output=True, timeout=60, check=True)
    for file in path.parent.glob("demo.db*"):
        file.rename(path.parent / file.name.replace("demo.db", path.name))


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that the real demo leaves."""
    path = tmp_path_factory.mktemp("demo") / "events.db"
    run_demo(path)
    return path


@pytest.fixture
def store(demo_store: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test."""
    for file in demo_store.parent.glob("events.db*"):
        shutil.copy(file, tmp_path / file.name)
    return tmp_path / "events.db"


def start(path: Path, *options: str, **environ: str) -> Viewer:
    """The page of a store, at a free port unless `options` say otherwise."""
    command = [*COMMAND, "--db", str(path), *(options or ("--port", "0"))]
    return started(command, clean_environment(**environ), Path(path.anchor))


def started(command: list[str], environ: dict[str, str], folder: Path) -> Viewer:
    """The page that a command serves, opened."""
    process = subprocess.Popen(
        command, env=environ, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    address = re.search(r"http://\S+", process.stdout.readline())
    if address is None:
        raise AssertionError(process.communicate(timeout=10)[1])
    viewer = Viewer(process, address[0])
    try:
        assert viewer.http.get(viewer.address, timeout=30).status_code == 200
    except BaseException:
        process.kill()  # nobody else would: there is no viewer to end
        process.communicate()
        raise
    return viewer


def end(viewer: Viewer) -> None:
    """Ctrl-C; the page ends at once, with nothing on standard error."""
    viewer.http.close()
    viewer.process.send_signal(signal.SIGINT)
    out, err = viewer.process.communicate(timeout=20)
    assert (viewer.process.returncode, err) == (0, "")
    assert "Traceback" not in out


@pytest.fixture
def view() -> Iterator[Callable[..., Viewer]]:
    """`view(path)`: the page of a store; ended after the test."""
    opened: list[Viewer] = []

    def view(path: Path, *options: str, **environ: str) -> Viewer:
        opened.append(start(path, *options, **environ))
        return opened[-1]

    yield view
    for viewer in opened:
        end(viewer)


@pytest.fixture(scope="module")
def viewer(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """The page of what the demo left, for tests that change nothing."""
    path = tmp_path_factory.mktemp("shown") / "events.db"
    for file in demo_store.parent.glob("events.db*"):
        shutil.copy(file, path.parent / file.name)
    viewer = start(path)
    settled(viewer, 8)
    yield viewer
    end(viewer)


def settled(viewer: Viewer, calls: int) -> None:
    """Wait until all calls are read in, priced and searchable."""

    def is_settled() -> bool:
        text = viewer.page("/").text
        return f"{calls:,} in total" in text and "still being processed" not in text

    wait_until(is_settled, f"the overview does not show {calls} calls, or says that it is not complete")


@pytest.fixture
def hostile(tmp_path: Path, run_program: Callable[..., Ran]) -> Path:
    """A store of calls whose every text is hostile, as a program would have made them."""
    done = run_program(
        """
        import json, sys
        import openai
        from posthog_autoinstrument import posthog_context
        client = openai.OpenAI()
        for text in json.loads(sys.argv[1]):
            ids = {name: text for name in ("distinct_id", "session_id", "trace_id", "span_name")}
            with posthog_context(**ids, properties={text: text}):
                tool = {"type": "function", "function": {"name": "f", "description": text, "parameters": {}}}
                messages = [
                    {"role": "system", "content": text},
                    {"role": "assistant", "tool_calls": [{"id": "1", "type": "function",
                        "function": {"name": text, "arguments": text}}]},
                    {"role": "tool", "tool_call_id": "1", "content": text},
                    {"role": "user", "content": [{"type": "text", "text": text},
                        {"type": "image_url", "image_url": {"url": text}}, {"type": text, text: text}]},
                ]
                client.chat.completions.create(model=text, messages=messages, tools=[tool], user=text)
        """,
        args=[json.dumps(HOSTILE)],
        token=False,
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "state" / "events.db"
