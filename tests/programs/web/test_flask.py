"""Flask and plain WSGI apps under gunicorn, waitress, werkzeug, wsgiref, cheroot, granian and uWSGI: each call knows
its request."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.ports import free_port
from support.programs import Ran
from support.waiting import wait_until
from support.web import ASK, HEADERS, Site, site

pytestmark = pytest.mark.timeout(300)

APP = (
    ASK
    + """
import io, os, threading
from flask import Blueprint, Flask, Response, request, send_file, session, stream_with_context
from flask_login import LoginManager, UserMixin, login_required, login_user, logout_user
from posthog_autoinstrument import posthog_context, posthog_span
from posthog_autoinstrument.context.scope import CONTEXT

app = Flask("app")
app.secret_key = "not one"
login = LoginManager(app)

class User(UserMixin):
    def __init__(self, id):
        self.id = id

@login.user_loader
def load(id):
    return User(id)

@app.get("/ask/<text>")
def plain(text):
    return ask(text)

@app.get("/stream/<text>")
def stream(text):
    def parts():
        yield "first"
        with posthog_span("part"):
            yield ask(text)
    return Response(parts())

@app.get("/with-context/<text>")
def with_context(text):
    def parts():
        yield request.path
        yield ask(text)
    return Response(stream_with_context(parts()))

@app.get("/async/<text>")
async def view(text):
    return ask(text)

@app.get("/login/<name>")
def log_in(name):
    login_user(User(name))
    return "in"

@app.get("/logout/<text>")
def log_out(text):
    logout_user()
    return ask(text)

@app.get("/members/<text>")
@login_required
def members(text):
    return ask(text)

@app.get("/file")
def file():
    return send_file(__file__)

@app.get("/left")
def left():
    # What this thread of the server had around the app, before this request's own context.
    return str(CONTEXT.get().outer)

blueprint = Blueprint("items", "app", url_prefix="/items")

@blueprint.get("/<int:number>/<text>")
def item(number, text):
    return ask(text)

app.register_blueprint(blueprint)

class Parts:
    closed = 0
    def __init__(self, text):
        self.texts = iter(["first", text])
    def __iter__(self):
        return self
    def __next__(self):
        text = next(self.texts)
        return b"first" if text == "first" else ask(text).encode()
    def close(self):
        Parts.closed += 1

def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    kind, text = path.strip("/").split("/")
    if kind == "closed":
        body = [str(Parts.closed).encode()]
    elif kind == "parts":
        body = Parts(text)
    elif kind == "generator":
        def generated():
            start_response("200 OK", [("Content-Type", "text/plain")])
            yield ask(text).encode()
        return generated()
    elif kind == "left":
        body = [str(set(left_behind)).encode()]
    else:
        body = [ask(text).encode()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return body

left_behind = []

def named(environ):
    return environ.get("HTTP_X_SIGNED_IN")
"""
)

SERVERS = (
    APP
    + """
if __name__ == "__main__":
    import sys, cheroot.wsgi, waitress, werkzeug.serving, wsgiref.simple_server
    first = int(sys.argv[1])

    class Server(wsgiref.simple_server.WSGIServer):
        def process_request(self, *args):
            super().process_request(*args)
            left_behind.append(CONTEXT.get())

    servers = [
        waitress.create_server(wsgi, port=first).run,
        lambda: werkzeug.serving.run_simple("127.0.0.1", int(sys.argv[2]), wsgi, threaded=True),
        wsgiref.simple_server.make_server("127.0.0.1", int(sys.argv[3]), wsgi, Server).serve_forever,
        cheroot.wsgi.Server(("127.0.0.1", int(sys.argv[4])), wsgi).start,
    ]
    for server in servers[1:]:
        threading.Thread(target=server, daemon=True).start()
    servers[0]()
"""
)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    command = "gunicorn -b 127.0.0.1:{port} -w 1 -k gthread --threads 8 app:app"
    with site(APP, command, tmp_path_factory.mktemp("gunicorn")) as found:
        yield found


@pytest.fixture
def gunicorn(started: Site) -> Site:
    return started.afresh()


def check(site: Site, path: str, text: str, route: str | None) -> None:
    """The event of `text` says who asked, from where."""
    event = site.event(text)
    properties = event["properties"]
    assert event["distinct_id"] == "browser-user"
    assert properties["$session_id"] == "browser-session"
    assert properties["$window_id"] == "browser-window"
    assert properties["$request_path"] == path
    assert properties["$current_url"] == f"http://127.0.0.1:{site.port}{path}"
    assert properties["$request_method"] == "GET"
    assert properties.get("$request_route") == route


@pytest.mark.parametrize("kind", ["ask", "stream", "with-context", "async"])
def test_every_way_to_answer(gunicorn: Site, kind: str) -> None:
    answer = gunicorn.get(f"/{kind}/{kind}-way?token=secret", HEADERS)
    assert answer.status == 200
    check(gunicorn, f"/{kind}/{kind}-way", f"{kind}-way", f"/{kind}/<text>")
    assert "secret" not in json.dumps(gunicorn.event(f"{kind}-way"))


def test_the_route_of_a_blueprint(gunicorn: Site) -> None:
    gunicorn.get("/items/7/blue", HEADERS)
    check(gunicorn, "/items/7/blue", "blue", "/items/<int:number>/<text>")


def test_the_user_of_flask_login(gunicorn: Site) -> None:
    cookie = gunicorn.get("/login/ann").cookie()
    for path in ("/members/member", "/ask/remembered", "/stream/streamed", "/logout/gone"):
        assert gunicorn.get(path, {"Cookie": cookie}).status == 200
    gunicorn.get("/members/both", {"Cookie": cookie, **HEADERS})
    for text in ("member", "remembered", "streamed"):
        assert gunicorn.event(text)["distinct_id"] == "ann"
    gone = gunicorn.event("gone")
    assert gone["distinct_id"] == gone["properties"]["$ai_trace_id"]
    assert gunicorn.event("both")["distinct_id"] == "browser-user"


def test_a_hundred_users_at_once_are_not_mixed(gunicorn: Site) -> None:
    def request(number: int) -> None:
        kind = ["ask", "stream", "with-context"][number % 3]
        headers = {"X-POSTHOG-DISTINCT-ID": f"user-{number}", "X-POSTHOG-SESSION-ID": f"session-{number}"}
        gunicorn.get(f"/{kind}/crowd-{number}", headers if number % 4 else {})

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(request, range(100)))
    for number in range(100):
        event = gunicorn.event(f"crowd-{number}")
        trace = event["properties"]["$ai_trace_id"]
        assert event["distinct_id"] == (f"user-{number}" if number % 4 else trace)
        assert event["properties"].get("$session_id") == (f"session-{number}" if number % 4 else None)
    assert len({gunicorn.event(f"crowd-{number}")["properties"]["$ai_trace_id"] for number in range(100)}) == 100


@pytest.mark.promise
def test_answers_are_as_without_us(gunicorn: Site, tmp_path: Path) -> None:
    # The session is not looked at by us: Flask would say `Vary: Cookie`.
    paths = ["/ask/bare", "/stream/bare", "/missing", "/login/ann", "/file"]

    def answers(found: Site) -> list[object]:
        volatile = ("Date", "Last-Modified", "ETag")
        got = [found.get(path, HEADERS) for path in paths]
        return [
            (answer.status, [pair for pair in answer.headers if pair[0] not in volatile], answer.body) for answer in got
        ]

    command = "gunicorn -b 127.0.0.1:{port} -w 1 -k gthread --threads 8 app:app"
    with site(APP, command, tmp_path, launched=False) as bare:
        ours, theirs = answers(gunicorn), answers(bare)
    for one, other, path in zip(ours, theirs, paths, strict=True):
        if path == "/login/ann":  # a cookie has the time in it
            assert [name for name, _ in one[1]] == [name for name, _ in other[1]]  # type: ignore[index]
        else:
            assert one == other
    wait_until(lambda: len(gunicorn.events("bare")) == 2, "the calls are not captured")


def test_plain_apps_in_other_servers(tmp_path: Path) -> None:
    ports = [free_port(), free_port(), free_port()]
    command = f"python app.py {{port}} {ports[0]} {ports[1]} {ports[2]}"
    env = {"POSTHOG_AUTOINSTRUMENT_USER": "__main__:named"}
    with site(SERVERS, command, tmp_path, env=env) as found:
        for number, port in enumerate([found.port, *ports]):
            found.port = port
            wait_until(lambda: "second" in found.get("/a/second").body.decode(), "no answer")
            for kind in ("ask", "parts", "generator"):
                text = f"{kind}-{number}"
                found.get(f"/{kind}/{text}", HEADERS)
                check(found, f"/{kind}/{text}", text, None)
            found.get(f"/parts/named-{number}", {"X-Signed-In": "bob"})
            assert found.event(f"named-{number}")["distinct_id"] == "bob"
            assert found.get("/closed/x").body.decode() == str(2 * (number + 1))
        assert found.get("/left/x").body == b"{None}"


def test_a_lazy_body_is_made_inside_the_context_and_read_outside(run_program: Callable[..., Ran]) -> None:
    ran = run_program(
        APP
        + """
from werkzeug.test import Client
with posthog_context(session_id="the test's"):
    before = CONTEXT.get()
    response = app.test_client().get("/stream/lazy", headers={"X-POSTHOG-DISTINCT-ID": "ann"})
    parts = response.iter_encoded()
    for part in parts:
        print(len(part) > 0, CONTEXT.get() is before)
    print(response.close(), CONTEXT.get() is before)
    print(Client(app).get("/missing").status)
    environ = {"wsgi.file_wrapper": type("Wrapper", (), {"__init__": lambda self, file, size=0: None, "filelike": 1})}
    body = app(app.test_request_context("/file", environ_overrides=environ).request.environ, lambda *args: None)
    print(type(body).__name__)
"""
    )
    assert ran.stdout.splitlines() == ["True True", "True True", "None True", "404 NOT FOUND", "Wrapper"], ran.stderr
    (event,) = [event for event in ran.events if event["event"] == "$ai_generation"]
    assert event["distinct_id"] == "ann"
    assert event["properties"]["$ai_session_id"] == "the test's"
    assert event["properties"]["$request_path"] == "/stream/lazy"


@pytest.mark.parametrize(
    "command",
    ["gunicorn -b 127.0.0.1:{port} -w 1 -k gevent app:wsgi", "hypercorn -b 127.0.0.1:{port} wsgi:app:wsgi"],
    ids=["gevent", "hypercorn"],
)
def test_a_plain_app_whose_requests_run_at_once(tmp_path: Path, command: str) -> None:
    with site(APP, command, tmp_path) as found:

        def request(number: int) -> None:
            found.get(f"/parts/crowd-{number}", {"X-POSTHOG-DISTINCT-ID": f"user-{number}"})

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(request, range(20)))
        assert [found.event(f"crowd-{n}")["distinct_id"] for n in range(20)] == [f"user-{n}" for n in range(20)]


@pytest.mark.skipif(importlib.util.find_spec("pyuwsgi") is None, reason="pyuwsgi is not installed")
def test_headers_that_are_not_to_be_read_under_uwsgi(tmp_path: Path) -> None:
    command = (
        "pyuwsgi --http-socket 127.0.0.1:{port} --wsgi-file app.py --callable app --die-on-term --enable-threads"
        " --need-app"
    )
    with site(APP, command, tmp_path, env={"POSTHOG_AUTOINSTRUMENT_TRACING_HEADERS": "0"}) as found:
        for kind in ("ask", "stream", "with-context"):
            found.get(f"/{kind}/{kind}", HEADERS)
            event = found.event(kind)
            assert event["distinct_id"] == event["properties"]["$ai_trace_id"]
            assert not {"$session_id", "$window_id"} & set(event["properties"])
            assert event["properties"]["$request_route"] == f"/{kind}/<text>"
        assert found.get("/left").body == b"None"
        assert found.get("/file").body == (tmp_path / "app.py").read_bytes()


def test_a_plain_app_under_granian(tmp_path: Path) -> None:
    pytest.importorskip("granian")
    command = "granian --interface wsgi --host 127.0.0.1 --port {port} app:wsgi"
    with site(APP, command, tmp_path, env={"POSTHOG_AUTOINSTRUMENT_USER": "app:named"}) as found:
        for kind in ("ask", "parts"):  # it has no generator begin its own response
            found.get(f"/{kind}/{kind}-there", HEADERS)
            check(found, f"/{kind}/{kind}-there", f"{kind}-there", None)
        found.get("/parts/named", {"X-Signed-In": "bob"})
        assert found.event("named")["distinct_id"] == "bob"
        assert found.get("/closed/x").body == b"2"
