"""Functions that settings name as `module:function`: found where the program would find them, never by running the
program again; and one that may hide something is never passed over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.programs import Ran, environment

from posthog_autoinstrument.settings import hook_loader
from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

CALL = """
from openai import OpenAI
client = OpenAI()
def call(content="Hello"):
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": content}])
"""
SITE = (
    "print('runs as', __name__, flush=True)\n"
    + CALL
    + """
import threading, urllib.request
from wsgiref.simple_server import WSGIRequestHandler, make_server

class Quiet(WSGIRequestHandler):
    def log_message(self, *_): pass

def application(environ, start_response):
    call(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]

server = make_server("127.0.0.1", 0, application, handler_class=Quiet)

def ask(path):
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=20).read()
    thread.join()
"""
)
WHO = "def who(environ):\n    return 'user-1'\n"


def users(events: list[dict]) -> dict[str, str]:
    """Who made each call, by what was asked; "" for nobody."""
    found = {}
    for event in events:
        properties = event["properties"]
        nobody = event["distinct_id"] == properties["$ai_trace_id"]
        found[properties["$ai_input"][0]["content"]] = "" if nobody else event["distinct_id"]
    return found


@pytest.fixture
def run(tmp_path: Path, openai_server: OpenAIServer, posthog_server: PostHogServer) -> Callable[..., Ran]:
    """`run(hook variable, hook, *command)`: a program in the test's folder."""

    def run(variable: str, hook: str, *command: str, **env: str) -> Ran:
        environ = environment(openai_server, posthog_server, **{variable: hook}, **env)
        words = [sys.executable, "-m", "posthog_autoinstrument", sys.executable, *command]
        done = subprocess.run(
            words, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr, posthog_server.events)

    return run


USER, BEFORE_SEND = "POSTHOG_AUTOINSTRUMENT_USER", "POSTHOG_AUTOINSTRUMENT_BEFORE_SEND"


@pytest.mark.parametrize(
    ("hook", "command"),
    [
        ("app:who", "app.py"),
        ("app.who", "app.py"),
        ("app:who", "./inner/../app.py"),
        ("app:who", "-m app"),
        ("inner.app:who", "-m inner.app"),
        ("inner.app:who", "inner/app.py"),
        ("app:who", "inner/app.py"),
        ("inner.__main__:who", "-m inner"),
        ("__main__:who", "app.py"),
        ("app:who", "-c import runpy; runpy.run_path('app.py', run_name='__main__')"),
    ],
)
def test_the_program_is_not_run_a_second_time(run: Callable[..., Ran], tmp_path: Path, hook: str, command: str) -> None:
    source = SITE + WHO + "ask('/a')\nask('/b')\nprint('ends')\n"
    (tmp_path / "inner").mkdir()
    for path in ("app.py", "inner/app.py", "inner/__main__.py"):
        (tmp_path / path).write_text(source)
    (tmp_path / "inner" / "__init__.py").write_text("")
    words = command.split(maxsplit=1) if command.startswith("-") else [command]
    ran = run(USER, hook, *words, **({"PYTHONPATH": "."} if hook == "inner.app:who" else {}))
    assert ran.stdout.splitlines() == ["runs as __main__", "ends"], ran.stderr
    assert users(ran.events) == {"/a": "user-1", "/b": "user-1"}
    assert ran.stderr == ""


def test_a_program_whose_body_has_ended(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        SITE
        + WHO
        + "def late():\n    threading.main_thread().join()\n    ask('/late')\n"
        + "threading.Thread(target=late).start()\n"
    )
    ran = run(USER, "app:who", "app.py")
    assert ran.stdout.splitlines() == ["runs as __main__"], ran.stderr
    assert users(ran.events) == {"/late": "user-1"}


def test_what_the_program_defines_later_is_used_then(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SITE + "ask('/early')\n" + WHO + "ask('/later')\n")
    ran = run(USER, "app:who", "app.py")
    assert ran.stdout.splitlines() == ["runs as __main__"], ran.stderr
    assert users(ran.events) == {"/early": "", "/later": "user-1"}


def test_events_wait_for_a_hook_that_the_program_defines_later(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        CALL
        + "import posthog_autoinstrument\ncall('early')\nprint(posthog_autoinstrument.flush(0.5))\n"
        + "def mark(event):\n    event['properties']['mine'] = __name__\n    return event\n"
        + "call('later')\n"
    )
    ran = run(BEFORE_SEND, "app:mark", "app.py", POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S="0.05")
    assert ran.stdout == "False\n"
    assert [event["properties"]["mine"] for event in ran.events] == ["__main__", "__main__"], ran.stderr


def test_a_module_beside_the_program(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "hooks.py").write_text("print('hooks')\ndef who(environ):\n    return 'bob'\n")
    (tmp_path / "inner" / "app.py").write_text(SITE + "ask('/a')\n")
    ran = run(USER, "hooks:who", "inner/app.py")
    assert ran.stdout.splitlines() == ["runs as __main__", "hooks"]
    assert users(ran.events) == {"/a": "bob"}


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ("mine.scrub", "No module named 'mine'"),
        ("hooks.nope", "module 'hooks' has no attribute 'nope'"),
        ("hooks.number", "number is not callable"),
        ("hooks:number", "number is not callable"),
        ("scrub", "is not accepted (wanted: module:function); no event is sent"),
        ("hooks:", "is not accepted (wanted: module:function); no event is sent"),
        ("hooks.py:scrub", "No module named 'hooks.py'"),
        ("hooks:scrub()", "is not accepted (wanted: module:function); no event is sent"),
        ("app:nope", "the program has no attribute 'nope'"),
    ],
)
def test_a_hook_that_cannot_be_used_sends_nothing(run: Callable[..., Ran], tmp_path: Path, hook: str, why: str) -> None:
    (tmp_path / "hooks.py").write_text("number = 3\ndef scrub(event): return event\n")
    (tmp_path / "app.py").write_text(CALL + "call('a')\ncall('b')\n")
    ran = run(BEFORE_SEND, hook, "app.py")
    assert ran.events == []
    said, lost = ran.stderr.splitlines()
    assert BEFORE_SEND in said
    assert why in said
    assert "2 events were lost (2: before_send could not be loaded)" in lost


def test_a_dot_in_place_of_the_colon(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(
        "def scrub(event):\n    event['properties']['$ai_input'] = None\n    return event\n"
    )
    (tmp_path / "app.py").write_text(CALL + "call('secret')\n")
    ran = run(BEFORE_SEND, "hooks.scrub", "app.py")
    assert [event["properties"]["$ai_input"] for event in ran.events] == [None]
    assert ran.stderr == ""


@pytest.mark.parametrize("n_calls", [1, 25])
@pytest.mark.parametrize("by", ["environment", "code"])
def test_a_hook_that_forgets_to_return_the_event(
    run: Callable[..., Ran], tmp_path: Path, by: str, n_calls: int
) -> None:
    (tmp_path / "hooks.py").write_text("def scrub(event):\n    event['properties'].pop('$ai_input')\n")
    configured = "import hooks, posthog_autoinstrument\nposthog_autoinstrument.configure(before_send=hooks.scrub)\n"
    source = CALL + (configured if by == "code" else "") + f"for _ in range({n_calls}): call()\n"
    (tmp_path / "app.py").write_text(source)
    ran = run(BEFORE_SEND, "hooks:scrub" if by == "environment" else "", "app.py")
    assert ran.events == []
    (line,) = ran.stderr.splitlines()
    which = "the only event" if n_calls == 1 else f"all {min(n_calls, 20)} events"
    assert f"before_send returned None for {which} so far" in line


def test_a_hook_that_returns_some_is_not_asked_about(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(
        "def some(event):\n    return event if event['properties']['$ai_input'][0]['content'] == '1' else None\n"
    )
    (tmp_path / "app.py").write_text(CALL + "for n in range(25): call(str(n))\n")
    ran = run(BEFORE_SEND, "hooks:some", "app.py")
    assert list(users(ran.events)) == ["1"]
    assert ran.stderr == ""


def test_an_async_hook_is_named(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text("async def scrub(event):\n    return event\n")
    (tmp_path / "app.py").write_text(CALL + "call()\n")
    ran = run(BEFORE_SEND, "hooks:scrub", "app.py")
    assert ran.events == []
    said, lost = ran.stderr.splitlines()
    assert "before_send returned coroutine" in said
    assert "1 event was lost" in lost


@pytest.mark.parametrize("text", ["", "f", ":", "a:", ":f", "a b:f", "a:f()", "a/b:f", "a.:f", "1a:f", "a:f:g", "a..f"])
def test_what_names_no_function(text: str) -> None:
    with pytest.raises(hook_loader.HookError):
        hook_loader.load(text)


def test_what_names_one() -> None:
    assert hook_loader.load(" os.path:join ") is os.path.join
    assert hook_loader.load("os.path.join") is os.path.join
    assert hook_loader.load("pathlib:Path.home") == Path.home
