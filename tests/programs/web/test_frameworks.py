"""What web frameworks have in common: who wins, what is imported when, what happens when something fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.programs import Ran
from support.web import ASK, asked

APP = (
    ASK
    + """
import sys
from flask import Flask
from posthog_autoinstrument import current_trace_id, posthog_context
from posthog_autoinstrument.context.scope import CONTEXT

app = Flask("app")
web = app.test_client()
headers = {"X-POSTHOG-DISTINCT-ID": "header", "X-POSTHOG-SESSION-ID": "header"}

@app.get("/<text>")
def view(text):
    return ask(text)
"""
)


def by_text(ran: Ran) -> dict[str, dict[str, Any]]:
    assert ran.returncode == 0, ran.stderr
    return {asked(event): event for event in ran.events}


def test_each_source_wins_over_the_next_one(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
import posthog

@app.get("/package/<text>")
def package(text):
    with posthog.new_context():
        posthog.identify_context("package")
        posthog.set_context_session("package")
        posthog.tag("$request_method", "package")
        return ask(text)

@app.get("/block/<text>")
def block(text):
    with posthog.new_context(), posthog_context(distinct_id="block", properties={"$request_method": "block"}):
        posthog.identify_context("package")
        posthog.tag("$request_method", "package")
        return ask(text)

@app.get("/argument/<text>")
def argument(text):
    with posthog_context(distinct_id="block", trace_id="block", properties={"$request_method": "block"}):
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": text}], posthog_distinct_id="argument",
            posthog_trace_id="argument", posthog_properties={"$request_method": "argument"},
        )
        return text

web.get("/default")
for path in ("/header", "/package/package", "/block/block", "/argument/argument"):
    web.get(path, headers=headers)
""",
        env={
            "POSTHOG_DISTINCT_ID": "default",
            "POSTHOG_AUTOINSTRUMENT_PROPERTIES": json.dumps({"$request_method": "default", "other": "default"}),
        },
    )
    events = by_text(ran)
    assert list(events) == ["default", "header", "package", "block", "argument"]
    for text, event in events.items():
        properties = event["properties"]
        assert event["distinct_id"] == text
        assert properties["other"] == "default"
        assert properties["$request_method"] == {"default": "GET", "header": "GET"}.get(text, text)
        wanted = {"default": None, "package": "package"}.get(text, "header")
        assert properties.get("$session_id") == wanted
    assert events["argument"]["properties"]["$ai_trace_id"] == "argument"


def test_another_service_tells_its_context(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
told = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "baggage": "posthog.trace_id=t-1,posthog.parent_id=p-1,posthog.distinct_id=user%2042,posthog.session_id=s-1",
}
web.get("/told", headers=told)
web.get("/both", headers={**told, **headers})
web.get("/foreign", headers={"traceparent": told["traceparent"], "baggage": "key=value"})
web.get("/private", headers={"baggage": "posthog.trace_id=t-2,posthog.privacy_mode=1"})
web.get("/broken", headers={"baggage": "posthog.trace_id=%zz,posthog.distinct_id=%"})
""",
        env={"POSTHOG_AUTOINSTRUMENT_TRUST_BAGGAGE": "1"},
    )
    events = by_text(ran)
    told, both = events["told"], events["both"]
    assert told["distinct_id"] == "user 42"
    assert told["properties"]["$ai_trace_id"] == "t-1"
    assert told["properties"]["$ai_parent_id"] == "p-1"
    assert told["properties"]["$ai_session_id"] == "s-1"
    assert both["distinct_id"] == "header"  # the browser's own word
    assert both["properties"]["$ai_trace_id"] == "t-1"
    for text in ("foreign", "broken"):
        assert events[text]["properties"]["$ai_trace_id"] not in ("t-1", "", None)
        assert "$ai_parent_id" not in events[text]["properties"]
        assert events[text]["properties"]["$process_person_profile"] is False
    (private,) = [event for event in ran.events if event["properties"]["$ai_trace_id"] == "t-2"]
    assert private["properties"]["$ai_input"] is None


@pytest.mark.promise
@pytest.mark.parametrize("headers_setting", ["1", "anonymous", "0"])
def test_the_baggage_of_a_visitor_says_nothing(run_program: Callable[..., Ran], headers_setting: str) -> None:
    ran = run_program(
        APP
        + """
web.get("/ann", headers={"X-POSTHOG-DISTINCT-ID": "ann"})
names = ("trace_id", "parent_id", "distinct_id", "session_id", "replay_session_id")
forged = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "baggage": ",".join([*(f"posthog.{name}=of-ann" for name in names), "posthog.privacy_mode=1"]),
}
web.get("/visitor", headers=forged)
web.get("/visitor-again", headers=forged)
""",
        env={"POSTHOG_AUTOINSTRUMENT_TRACING_HEADERS": headers_setting},
    )
    events = by_text(ran)
    for text in ("visitor", "visitor-again"):
        assert "of-ann" not in json.dumps(events[text])
        assert "0af76519" not in json.dumps(events[text])
        assert events[text]["properties"]["$process_person_profile"] is False
        assert "$ai_parent_id" not in events[text]["properties"]
    assert ran.stderr.count("POSTHOG_AUTOINSTRUMENT_TRUST_BAGGAGE=1") == 1


def test_the_user_of_a_request_goes_along_into_a_child_program(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
import subprocess

CHILD = "import openai; openai.OpenAI().chat.completions.create(" \\
    "model='gpt-4o-mini', messages=[{'role': 'user', 'content': 'child'}])"

@app.get("/started/<text>")
def started(text):
    ask(text)
    subprocess.run([sys.executable, "-c", CHILD], check=True)
    return "done"

web.get("/started/here", headers=headers)
"""
    )
    events = by_text(ran)
    assert events["child"]["distinct_id"] == events["here"]["distinct_id"] == "header"
    assert events["child"]["properties"]["$session_id"] == "header"
    assert events["child"]["properties"]["$ai_trace_id"] == events["here"]["properties"]["$ai_trace_id"]


def test_a_block_around_the_server_stays_in_force_but_for_its_trace(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
with posthog_context(distinct_id="worker", trace_id="worker", properties={"part": "web"}):
    web.get("/one", headers=headers)
    web.get("/two")
    ask("beside")
"""
    )
    events = by_text(ran)
    assert {event["distinct_id"] for event in events.values()} == {"worker"}
    assert {event["properties"]["part"] for event in events.values()} == {"web"}
    assert len({event["properties"]["$ai_trace_id"] for event in events.values()}) == 3
    assert events["beside"]["properties"]["$ai_trace_id"] == "worker"
    assert "$request_path" not in events["beside"]["properties"]


def test_a_request_in_a_request_is_its_own(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
@app.get("/outer/<text>")
def outer(text):
    web.get("/inner", headers={"X-POSTHOG-DISTINCT-ID": "inner"})
    return ask(text)
web.get("/outer/outer", headers=headers)
print(CONTEXT.get())
"""
    )
    events = by_text(ran)
    assert ran.stdout == "None\n"
    assert events["inner"]["distinct_id"] == "inner"
    assert events["inner"]["properties"]["$request_path"] == "/inner"
    assert events["outer"]["distinct_id"] == "header"
    assert events["outer"]["properties"]["$request_path"] == "/outer/outer"


def test_one_request_through_two_frameworks_is_opened_once(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
import asyncio
from a2wsgi import WSGIMiddleware
from starlette.applications import Starlette
from starlette.routing import Mount

traces = []

@app.get("/traced/<text>")
def traced(text):
    traces.append(current_trace_id())
    return ask(text)

outer = Starlette(routes=[Mount("/flask", WSGIMiddleware(app))])

@app.before_request
def before():
    traces.append(current_trace_id())

async def call(path):
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
        "scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"here"), (b"x-posthog-distinct-id", b"mounted")], "asgi": {"version": "3.0"},
    }
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        sent.append(message)
    sent = []
    await outer(scope, receive, send)
    print(sent[0]["status"], CONTEXT.get())

asyncio.run(call("/flask/traced/through"))
print(len(set(traces)))
""",
    )
    events = by_text(ran)
    assert ran.stdout == "200 None\n1\n", ran.stderr
    assert events["through"]["distinct_id"] == "mounted"
    assert events["through"]["properties"]["$request_path"] == "/flask/traced/through"


def test_a_request_that_is_started_inside_another_one_is_its_own(run_program: Callable[..., Ran]) -> None:
    # As asyncio does where a server goes on reading a connection in the task of the request before.
    ran = run_program(
        APP
        + """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def answer(request):
    return PlainTextResponse(ask(request.user))

outer = Starlette(routes=[Route("/", answer)])
started = []

async def call(users):
    scope = {
        "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "root_path": "", "query_string": b"",
        "scheme": "http", "http_version": "1.1", "headers": [(b"host", b"here")], "user": users[0],
    }
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        if message["type"] == "http.response.body" and users[1:]:
            started.append(asyncio.create_task(call(users[1:])))
            await started[-1]
    await outer(scope, receive, send)

asyncio.run(call(["ann", "bob", "eve"]))
"""
    )
    events = by_text(ran)
    assert {text: event["distinct_id"] for text, event in events.items()} == {"ann": "ann", "bob": "bob", "eve": "eve"}
    assert len({event["properties"]["$ai_trace_id"] for event in events.values()}) == 3


def test_the_framework_may_be_loaded_first(run_program: Callable[..., Ran]) -> None:
    ran = run_program("import flask, django.core.handlers.wsgi\n" + APP + "web.get('/late', headers=headers)\n")
    assert by_text(ran)["late"]["distinct_id"] == "header"


def test_nothing_of_a_framework_is_loaded_that_is_not_used(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        """
import sys
import openai
ours = sorted(name for name in sys.modules if name.startswith("posthog_autoinstrument.integrations.web"))
print(ours, [name for name in ("flask", "django", "starlette", "uvicorn", "gunicorn") if name in sys.modules])
import flask
print(sorted(name for name in sys.modules if name.startswith("posthog_autoinstrument.integrations.web.")))
"""
    )
    first, second = ran.stdout.splitlines()
    assert first == "[] []"
    assert "posthog_autoinstrument.integrations.web.flask" in second
    assert "django" not in second


@pytest.mark.promise
def test_switched_off_nothing_is_patched(run_program: Callable[..., Ran]) -> None:
    source = APP + "print(web.get('/off', headers=headers).data, 'posthog' in repr(vars(Flask)['__call__'].__code__))"
    off = run_program(source, env={"POSTHOG_AUTOINSTRUMENT_DISABLED": "1"})
    on = run_program(source)
    assert off.stdout.endswith("False\n")
    assert on.stdout.endswith("True\n")
    assert off.events == []
    assert off.stdout.split()[:-1] == on.stdout.split()[:-1]


@pytest.mark.promise
@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("lambda request: 1 / 0", "could not ask POSTHOG_AUTOINSTRUMENT_USER (ZeroDivisionError"),
        ("lambda request: object()", "the user by POSTHOG_AUTOINSTRUMENT_USER of type object cannot be made into text"),
        ("lambda request: False", ""),
        ("lambda request: ask('asked by the function') and None", ""),
        ("del", "POSTHOG_AUTOINSTRUMENT_USER=__main__:named: the program has no attribute 'named'"),
    ],
)
def test_a_function_that_fails_costs_its_answer_only(run_program: Callable[..., Ran], function: str, line: str) -> None:
    named = f"named = {function}\n" if function != "del" else ""
    ran = run_program(
        APP + named + "print(web.get('/still', headers={'X-POSTHOG-SESSION-ID': 's'}).status)\n",
        env={"POSTHOG_AUTOINSTRUMENT_USER": "__main__:named"},
    )
    assert ran.stdout == "200 OK\n"
    event = by_text(ran)["still"]
    assert event["properties"]["$session_id"] == "s"
    assert event["distinct_id"] == event["properties"]["$ai_trace_id"]
    assert line in ran.stderr if line else not ran.stderr


@pytest.mark.promise
def test_huge_headers_are_read_once_only(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
from posthog_autoinstrument.integrations.web import asgi, request
from posthog_autoinstrument.settings.config import Config
web.get("/huge", headers={"X-POSTHOG-DISTINCT-ID": "u" * 1_000_000, "X-POSTHOG-SESSION-ID": "s" * 1_000_000})

class Counted(list):
    n_read = 0
    def __iter__(self):
        self.n_read += 1
        return super().__iter__()

many = Counted((b"x-%d" % n, b"v") for n in range(10_000))
many.append((b"x-posthog-distinct-id", b"x" + b"\\xc3\\xbc" * 500_000))
scope = {"type": "http", "method": "GET", "path": "/", "headers": many}
opened = asgi.at_server(request.Web(Config(tracing_headers="1")), scope)
print(many.n_read)
print({len(opened.scope.fields().distinct_id) for _ in range(10)}, many.n_read)
"""
    )
    # Once for the trace that another service may tell, then once for the headers and once for the host.
    assert ran.stdout == "1\n{200} 3\n", ran.stderr
    event = by_text(ran)["huge"]
    assert event["distinct_id"] == "u" * 200
    assert len(event["properties"]["$session_id"]) == 1_000


def test_the_trace_of_opentelemetry_where_it_is_wanted(run_program: Callable[..., Ran]) -> None:
    pytest.importorskip("opentelemetry.trace")
    ran = run_program(
        APP
        + """
from opentelemetry import trace
span = trace.NonRecordingSpan(trace.SpanContext(0x1234, 0x56, is_remote=False))

@app.get("/otel/<text>")
def otel(text):
    with trace.use_span(span):
        ask(text)
        return str(current_trace_id())
print(web.get("/otel/inside").text)
""",
        env={"POSTHOG_AUTOINSTRUMENT_OTEL_TRACE_ID": "1"},
    )
    assert ran.stdout == f"{0x1234:032x}\n", ran.stderr
    assert by_text(ran)["inside"]["properties"]["$ai_trace_id"] == f"{0x1234:032x}"


@pytest.mark.parametrize(
    ("value", "wanted"), [("1", "1"), ("on", "1"), ("0", "0"), ("no", "0"), ("Anonymous", "anonymous"), ("2", "1")]
)
def test_the_setting(value: str, wanted: str) -> None:
    from posthog_autoinstrument.core import diagnostics, guard
    from posthog_autoinstrument.settings import loader

    before = guard.raise_failures, diagnostics.debug, diagnostics.main_pid
    try:
        read = loader.load({"POSTHOG_AUTOINSTRUMENT_TRACING_HEADERS": value})
    finally:
        guard.raise_failures, diagnostics.debug, diagnostics.main_pid = before
    assert read.tracing_headers == wanted
    assert bool(read.problems) == (value == "2")
