"""Django under gunicorn (WSGI) and uvicorn (ASGI): each call knows its request and who is signed in."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.web import ASK, HEADERS, Site, site

pytestmark = pytest.mark.timeout(300)

APP = (
    ASK
    + """
import os, threading
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="not one",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="app",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
)
django.setup()

from django.contrib.auth import get_user_model, login, logout
from django.contrib.auth.decorators import login_required
from django.core.management import call_command
from django.db import connection, transaction
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.urls import include, path

async def ask_async(text):
    # Under WSGI each request has an event loop of its own, and a client belongs to one: shared by loops that run at the
    # same time, its calls may wait forever.
    async with openai.AsyncOpenAI() as client:
        answer = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": text}]
        )
    return answer.choices[0].message.content

def plain(request, text):
    return HttpResponse(ask(text))

def stream(request, text):
    def parts():
        yield "first"
        yield ask(text)
    return StreamingHttpResponse(parts())

async def asynchronous(request, text):
    return HttpResponse(await ask_async(text))

async def async_stream(request, text):
    async def parts():
        yield "first"
        yield await ask_async(text)
    return StreamingHttpResponse(parts())

def sign_in(request, name):
    user, _ = get_user_model().objects.get_or_create(username=name, id=4711)
    login(request, user)
    return HttpResponse(ask(f"{name} comes in"))

def members(request, text):
    return HttpResponse(f"{request.user.is_authenticated} {ask(text)}")

async def async_members(request, text):
    user = await request.auser()
    return HttpResponse(f"{user.is_authenticated} {await ask_async(text)}")

def counting(seen):
    return connection.execute_wrapper(lambda execute, sql, *rest: (seen.append(sql), execute(sql, *rest))[1])

def queries(request, text):
    seen = []
    with counting(seen):
        ask(text)
        ask(text)
    return HttpResponse(str(seen))

def atomic(request, text):
    seen = []
    with transaction.atomic(), counting(seen):
        ask(text)
    return HttpResponse(str(seen))

def sign_out(request, text):
    logout(request)
    return HttpResponse(ask(text))

def file(request):
    return FileResponse(open(__file__, "rb"))

urlpatterns = [
    path("ask/<text>", plain),
    path("stream/<text>", stream),
    path("async/<text>", asynchronous),
    path("async-stream/<text>", async_stream),
    path("sign-in/<name>", sign_in),
    path("members/<text>", members),
    path("async-members/<text>", async_members),
    path("queries/<text>", queries),
    path("atomic/<text>", atomic),
    path("sign-out/<text>", sign_out),
    path("file", file),
    path("nested/", include([path("<int:number>/<text>", lambda request, number, text: plain(request, text))])),
]

if not os.path.exists("db.sqlite3"):
    # uvicorn may load this in its event loop, where Django refuses to ask the database.
    migrating = threading.Thread(target=call_command, args=("migrate",), kwargs={"verbosity": 0})
    migrating.start()
    migrating.join()
wsgi = WSGIHandler()
asgi = ASGIHandler()
"""
)

COMMANDS = {
    "gunicorn": "gunicorn -b 127.0.0.1:{port} -w 1 -k gthread --threads 8 app:wsgi",
    "uvicorn": "uvicorn --port {port} --lifespan off app:asgi",
}


@pytest.fixture(scope="module", params=COMMANDS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(APP, COMMANDS[request.param], tmp_path_factory.mktemp(request.param)) as found:
        found.kind = request.param
        yield found


@pytest.fixture
def server(started: Site) -> Site:
    return started.afresh()


def check(site: Site, path: str, text: str, route: str) -> None:
    """The event of `text` says who asked, from where."""
    event = site.event(text)
    properties = event["properties"]
    assert event["distinct_id"] == "browser-user"
    assert properties["$session_id"] == "browser-session"
    assert properties["$window_id"] == "browser-window"
    assert properties["$request_path"] == path
    assert properties["$current_url"] == f"http://127.0.0.1:{site.port}{path}"
    assert properties["$request_method"] == "GET"
    assert properties["$request_route"] == route


def test_every_way_to_answer(server: Site) -> None:
    kinds = ["ask", "stream", "async"] + ["async-stream"] * (server.kind == "uvicorn")
    for kind in kinds:
        assert server.get(f"/{kind}/{kind}-way?token=secret", HEADERS).status == 200
        check(server, f"/{kind}/{kind}-way", f"{kind}-way", f"/{kind}/<text>")
    server.get("/nested/7/inside", HEADERS)
    check(server, "/nested/7/inside", "inside", "/nested/<int:number>/<text>")


def test_the_signed_in_user(server: Site) -> None:
    cookie = server.get("/sign-in/ann").cookie()
    has_auser = int(version("django").partition(".")[0]) >= 5
    kinds = ["members"] + ["async-members"] * (server.kind == "uvicorn" and has_auser)
    for kind in kinds:
        assert server.get(f"/{kind}/{kind}", {"Cookie": cookie}).body.startswith(b"True")
        assert server.event(kind)["distinct_id"] == "4711"
    assert server.event("ann comes in")["distinct_id"] == "4711"
    server.get("/members/both", {"Cookie": cookie, **HEADERS})
    assert server.event("both")["distinct_id"] == "browser-user"
    server.get("/members/visitor")
    assert server.event("visitor")["distinct_id"] == server.event("visitor")["properties"]["$ai_trace_id"]


def test_a_user_that_nobody_looked_at(server: Site) -> None:
    cookie = server.get("/sign-in/ann").cookie()
    for path in ["/ask", "/stream"]:
        text = f"unseen{path[1:]}"
        answer = server.get(f"{path}/{text}", {"Cookie": cookie})
        assert server.event(text)["distinct_id"] == "4711"
        assert not [name for name, _ in answer.headers if name.lower() in ("vary", "set-cookie")]
    # Who signs out in this request is nobody's user in it.
    server.get("/sign-out/left", {"Cookie": cookie})
    assert server.event("left")["distinct_id"] == server.event("left")["properties"]["$ai_trace_id"]
    server.get("/ask/stranger", {"Cookie": "sessionid=abcdefghijklmnopqrstuvwxyz012345"})
    assert server.event("stranger")["distinct_id"] == server.event("stranger")["properties"]["$ai_trace_id"]


@pytest.mark.promise
def test_the_database_is_asked_once_and_never_in_a_transaction(server: Site) -> None:
    cookie = server.get("/sign-in/ann").cookie()
    seen = server.get("/queries/counted", {"Cookie": cookie}).body.decode()
    assert seen.count("SELECT") == 1
    assert "django_session" in seen
    assert server.get("/queries/with-header", {"Cookie": cookie, **HEADERS}).body == b"[]"
    assert server.get("/queries/visitor").body == b"[]"
    assert server.get("/atomic/whole", {"Cookie": cookie}).body == b"[]"
    wait_until(lambda: len(server.events("counted")) == 2, "the calls are not captured")
    assert {event["distinct_id"] for event in server.events("counted")} == {"4711"}
    assert server.event("whole")["distinct_id"] == server.event("whole")["properties"]["$ai_trace_id"]


def test_many_users_at_once_are_not_mixed(server: Site) -> None:
    kinds = ["ask", "stream", "async"]
    server.crowd(lambda number: f"/{kinds[number % 3]}/crowd-{number}", 100)
    events = [server.event(f"crowd-{number}") for number in range(100)]
    assert [event["distinct_id"] for event in events] == [f"user-{number}" for number in range(100)]
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 100


@pytest.mark.promise
def test_answers_are_as_without_us(server: Site, tmp_path: Path) -> None:
    paths = ["/ask/bare", "/stream/bare", "/missing", "/file"]

    def answers(found: Site) -> list[object]:
        got = [found.get(path, HEADERS) for path in paths]
        return [
            (answer.status, [pair for pair in answer.headers if pair[0].lower() != "date"], answer.body)
            for answer in got
        ]

    with site(APP, COMMANDS[server.kind], tmp_path, launched=False) as bare:
        assert answers(server) == answers(bare)
    wait_until(lambda: len(server.events("bare")) == 2, "the calls are not captured")
