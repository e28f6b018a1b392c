"""Fixtures: the bundled servers, an instrumented test process, and programs run under the launcher.

The test process itself is instrumented once, by hand, before anything imports openai; its events go to one recording
server for the whole session, and each test reads those of its own trace.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.documented import check_documented
from support.features import supported
from support.own_process import POSTHOG
from support.programs import Ran, environment

import posthog_autoinstrument
from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

pytest_plugins = ("support.viewing",)

TESTS = Path(__file__).resolve().parent

WEB = ("programs/web/", "programs/workers/", "unit/integrations/", "unit/propagation/", "browser/test_chat.py")
"""The folders and modules of `make web`."""


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(WEB):
            item.add_marker(pytest.mark.web)


@pytest.fixture
def posthog_events() -> Callable[[], list[dict[str, Any]]]:
    """Everything that PostHog got from the test process so far, asked again at each call."""
    return lambda: list(POSTHOG.events)


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def posthog_server() -> Iterator[PostHogServer]:
    """A recording server of this test's own, for programs it starts. What it has recorded must be documented."""
    with PostHogServer() as server:
        yield server
        check_documented(server.events)


@pytest.fixture
def trace() -> Iterator[str]:
    """The trace id of everything the test process calls in this test."""
    from posthog_autoinstrument import posthog_context

    with posthog_context() as _:
        from posthog_autoinstrument import current_trace_id

        yield str(current_trace_id())


@pytest.fixture
def captured(trace: str) -> Callable[..., list[dict[str, Any]]]:
    """`captured(n)`: the events of this test so far, after making sure that there are exactly `n`."""

    def read(count: int | None = None, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        assert posthog_autoinstrument.flush(timeout_s), "the flusher did not finish"
        found = [event for event in POSTHOG.events if event["properties"].get("$ai_trace_id") == trace]
        check_documented(found)
        if count is not None:
            assert len(found) == count, [event["event"] for event in found]
        return found

    return read


@pytest.fixture
def client(openai_server: OpenAIServer) -> Iterator[Any]:
    import openai

    with openai.OpenAI(base_url=openai_server.base_url, api_key="sk-test") as made:
        yield made


@pytest.fixture(scope="session")
def error_of_a_broken_stream() -> type[Exception]:
    """What the bare SDK raises when the connection breaks in the middle of a stream: it depends on the version."""
    ask = (
        "import openai\ntry:\n"
        "    list(openai.OpenAI().chat.completions.create(model='cut', messages=[], stream=True))\n"
        "except Exception as error:\n    print(type(error).__module__, type(error).__name__)"
    )
    with OpenAIServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", ask], env=environment(server, None), stdout=subprocess.PIPE, text=True, check=True
        )
    module, name = done.stdout.split()
    found = getattr(importlib.import_module(module), name)
    assert issubclass(found, Exception)
    return found


@pytest.fixture
def run_program(tmp_path: Path, openai_server: OpenAIServer, posthog_server: PostHogServer) -> Callable[..., Ran]:
    """Run Python source as a program of its own: `run_program(source, launched=True, args=(), env={}, token=True)`.

    Lines that end with `# needs PATH` are left out where the SDK lacks it: see `features.supported`."""

    def run(
        source: str,
        launched: bool = True,
        args: Sequence[str] = (),
        env: dict[str, str] | None = None,
        token: bool = True,
        name: str = "program.py",
        timeout_s: float = 110.0,
    ) -> Ran:
        path = tmp_path / name
        path.write_text(supported(textwrap.dedent(source)))
        command = [sys.executable, str(path), *args]
        if launched:
            command = [sys.executable, "-m", "posthog_autoinstrument", *command]
        environ = environment(openai_server, posthog_server if token else None, **(env or {}))
        environ.setdefault("POSTHOG_AUTOINSTRUMENT_DB", str(tmp_path / "state" / "events.db"))
        before = len(posthog_server.events)
        done = subprocess.run(
            command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr, posthog_server.events[before:])

    return run
