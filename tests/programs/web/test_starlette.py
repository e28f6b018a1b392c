"""Starlette, FastAPI and plain ASGI apps under uvicorn, hypercorn, daphne, granian and gunicorn: each call knows its
request."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.web import ASK, HEADERS, Site, site

pytestmark = pytest.mark.timeout(300)

APP = (
    ASK
    + """
import asyncio
from contextlib import asynccontextmanager
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Route
from posthog_autoinstrument import current_trace_id, posthog_context, posthog_span
from posthog_autoinstrument.context.scope import CONTEXT

client_async = openai.AsyncOpenAI()
rest = set()

async def ask_async(text):
    answer = await client_async.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": text}]
    )
    return answer.choices[0].message.content

class Backend(AuthenticationBackend):
    async def authenticate(self, connection):
        name = connection.headers.get("authorization")
        return (AuthCredentials(), SimpleUser(name)) if name else None

app = FastAPI()
app.add_middleware(AuthenticationMiddleware, backend=Backend())

class OwnBlock:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        name = dict(scope.get("headers", ())).get(b"x-block")
        if name is None:
            return await self.app(scope, receive, send)
        with posthog_context(distinct_id=name.decode()):
            await self.app(scope, receive, send)

@app.middleware("http")
async def through_a_task_of_its_own(request, call_next):
    return await call_next(request)

app.add_middleware(OwnBlock)  # outermost: in the task that uvicorn made

@app.get("/sync/{text}")
def in_a_thread(text: str):
    return PlainTextResponse(ask(text))

@app.get("/async/{text}")
async def in_the_loop(text: str):
    return PlainTextResponse(await ask_async(text))

@app.get("/stream/{text}")
async def stream(text: str):
    async def parts():
        yield "first"
        with posthog_span("part"):
            yield await ask_async(text)
    return StreamingResponse(parts())

@app.get("/sync-stream/{text}")
def sync_stream(text: str):
    def parts():
        yield "first"
        yield ask(text)
    return StreamingResponse(parts())

@app.get("/sync-stream-in-a-block/{text}")
def sync_stream_in_a_block(text: str):
    def parts():
        with posthog_context("of the block", properties={"part": text}):
            for number in range(3):
                yield ask(f"{text} {number}")
        yield ask(f"{text} after")
    return StreamingResponse(parts())

def of_whom(text: str):
    with posthog_context("of the dependency", session_id="s"):
        try:
            yield text
        finally:
            ask(f"{text} at its end")

def inside(text: str = Depends(of_whom)):
    with posthog_context(properties={"inner": True}), posthog_span("inner"):
        yield current_trace_id()

@app.get("/depends/{text}")
def depends(text: str, trace: str = Depends(inside)):
    ask(f"{text} sync")
    return PlainTextResponse(trace)

@app.get("/depends-async/{text}")
async def depends_async(text: str, trace: str = Depends(inside)):
    await ask_async(f"{text} async")
    if text == "fails":
        raise RuntimeError("theirs")
    return PlainTextResponse(trace)

@app.get("/background/{text}")
async def background(text: str, tasks: BackgroundTasks):
    tasks.add_task(ask, text)
    return PlainTextResponse("later")

@app.get("/background-in-a-block/{text}")
async def background_in_a_block(text: str, tasks: BackgroundTasks):
    with posthog_context("of the block", properties={"part": text}), posthog_span("ordered") as span:
        tasks.add_task(ask, text)
        tasks.add_task(ask_async, f"{text} async")
    tasks.add_task(ask_async, f"{text} outside")
    return PlainTextResponse(span.id, background=tasks)

@app.get("/task/{text}")
async def task(text: str):
    async def later():
        await asyncio.sleep(0.2)
        await ask_async(text)
    rest.add(asyncio.create_task(later()))
    return PlainTextResponse("later")

@app.get("/twice/{text}")
async def twice(text: str):
    await asyncio.gather(ask_async(text + " a"), ask_async(text + " b"))
    return PlainTextResponse(current_trace_id())

@app.get("/explicit/{text}")
async def explicit(text: str):
    with posthog_context(distinct_id="explicit", properties={"$request_method": "SET"}):
        return PlainTextResponse(await ask_async(text))

@app.exception_handler(RuntimeError)
async def failed(request, error):
    return PlainTextResponse(await ask_async("its handler"), 500)

@app.websocket("/socket/{text}")
async def socket(websocket: WebSocket, text: str):
    await websocket.accept()
    while (more := await websocket.receive_text()) != "end":
        await websocket.send_text(await ask_async(f"{text} {more}"))
    await websocket.close()

router = APIRouter(prefix="/items")

@router.get("/{number}/{text}")
async def item(number: int, text: str):
    return PlainTextResponse(await ask_async(text))

app.include_router(router)

async def inner(request):
    return PlainTextResponse(await ask_async(request.path_params["text"]))

app.mount("/mounted", Starlette(routes=[Route("/in/{text}", inner)]))

def named(scope):
    return dict(scope["headers"]).get(b"x-signed-in", b"").decode() or None

async def plain(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError
    body = await ask_async(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body.encode()})
"""
)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(APP, "uvicorn --port {port} app:app", tmp_path_factory.mktemp("uvicorn")) as found:
        yield found


@pytest.fixture
def uvicorn(started: Site) -> Site:
    return started.afresh()


def check(site: Site, path: str, text: str, route: str, method: str | None = "GET") -> None:
    """The event of `text` says who asked, from where."""
    event = site.event(text)
    properties = event["properties"]
    assert event["distinct_id"] == "browser-user"
    assert "$process_person_profile" not in properties
    assert properties["$session_id"] == "browser-session"
    assert properties["$window_id"] == "browser-window"
    assert properties["$request_path"] == path
    assert properties["$current_url"].partition("://")[2] == f"127.0.0.1:{site.port}{path}"
    assert properties.get("$request_method") == method
    assert properties["$request_route"] == route


@pytest.mark.parametrize("kind", ["sync", "async", "stream", "sync-stream", "background", "task"])
def test_every_way_to_answer(uvicorn: Site, kind: str) -> None:
    answer = uvicorn.get(f"/{kind}/{kind}-way?token=secret", HEADERS)
    assert answer.status == 200
    check(uvicorn, f"/{kind}/{kind}-way", f"{kind}-way", f"/{kind}/{{text}}")
    assert "secret" not in json.dumps(uvicorn.event(f"{kind}-way"))


def test_the_calls_of_a_request_are_one_trace_and_those_of_two_are_two(uvicorn: Site) -> None:
    traces = [uvicorn.get(f"/twice/{number}", HEADERS).body.decode() for number in (1, 2)]
    assert traces[0] != traces[1]
    for number, trace in zip((1, 2), traces, strict=True):
        for part in "ab":
            assert uvicorn.event(f"{number} {part}")["properties"]["$ai_trace_id"] == trace


def test_without_headers_it_is_anonymous_with_the_place_of_the_request(uvicorn: Site) -> None:
    uvicorn.get("/async/nobody")
    event = uvicorn.event("nobody")
    assert event["distinct_id"] == event["properties"]["$ai_trace_id"]
    assert event["properties"]["$process_person_profile"] is False
    assert event["properties"]["$request_path"] == "/async/nobody"
    assert "$session_id" not in event["properties"]
    assert not {"$ip", "$user_agent", "$raw_user_agent"} & set(event["properties"])


def test_the_signed_in_user_where_no_header_came(uvicorn: Site) -> None:
    uvicorn.get("/async/signed-in", {"Authorization": "ann"})
    uvicorn.get("/async/both", {"Authorization": "ann", **HEADERS})
    assert uvicorn.event("signed-in")["distinct_id"] == "ann"
    assert uvicorn.event("both")["distinct_id"] == "browser-user"


def test_a_block_in_the_request_wins(uvicorn: Site) -> None:
    uvicorn.get("/explicit/mine", HEADERS)
    event = uvicorn.event("mine")
    assert event["distinct_id"] == "explicit"
    assert event["properties"]["$request_method"] == "SET"
    assert event["properties"]["$session_id"] == "browser-session"


def test_a_synchronous_streamed_body_stays_in_its_block(uvicorn: Site) -> None:
    uvicorn.get("/sync-stream-in-a-block/parts", HEADERS)
    events = [uvicorn.event(f"parts {part}") for part in (0, 1, 2, "after")]
    assert [event["distinct_id"] for event in events] == ["of the block"] * 3 + ["browser-user"]
    assert [event["properties"].get("part") for event in events] == ["parts"] * 3 + [None]
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 1


def test_the_block_of_a_synchronous_dependency_is_that_of_the_endpoint(uvicorn: Site) -> None:
    traces = [
        uvicorn.get("/depends/one", HEADERS).body.decode(),
        uvicorn.get("/depends-async/two", HEADERS).body.decode(),
    ]
    assert uvicorn.get("/depends-async/fails", HEADERS).status == 500
    uvicorn.get("/async/afterwards", HEADERS)
    within = [uvicorn.event(text) for text in ("one sync", "two async", "fails async")]
    ends = [uvicorn.event(f"{text} at its end") for text in ("one", "two", "fails")]
    for event in within + ends:
        assert event["distinct_id"] == "of the dependency"
        assert event["properties"]["$ai_session_id"] == "s"
    assert [event["properties"].get("inner") for event in within + ends] == [True] * 3 + [None] * 3
    assert all("$ai_parent_id" in event["properties"] for event in within)
    assert [event["properties"]["$ai_trace_id"] for event in within[:2]] == traces
    assert [event["properties"]["$ai_trace_id"] for event in ends[:2]] == traces
    after = [uvicorn.event(text) for text in ("its handler", "afterwards")]
    assert [event["distinct_id"] for event in after] == ["browser-user"] * 2


def test_a_background_task_is_of_the_block_that_it_was_added_in(uvicorn: Site) -> None:
    span = uvicorn.get("/background-in-a-block/added", HEADERS).body.decode()
    events = [uvicorn.event(text) for text in ("added", "added async", "added outside")]
    assert [event["distinct_id"] for event in events] == ["of the block"] * 2 + ["browser-user"]
    assert [event["properties"].get("part") for event in events] == ["added"] * 2 + [None]
    assert [event["properties"].get("$ai_parent_id") for event in events] == [span] * 2 + [None]
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 1


def test_routes_of_included_routers_and_mounted_apps(uvicorn: Site) -> None:
    uvicorn.get("/items/7/included", HEADERS)
    uvicorn.get("/mounted/in/inside", HEADERS)
    check(uvicorn, "/items/7/included", "included", "/items/{number}/{text}")
    check(uvicorn, "/mounted/in/inside", "inside", "/mounted/in/{text}")
    assert len(uvicorn.events("inside")) == 1


def test_a_websocket_is_one_request(uvicorn: Site) -> None:
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{uvicorn.port}/socket/hey", additional_headers=HEADERS) as connection:
        for word in ("one", "two"):
            connection.send(word)
            assert connection.recv()
        connection.send("end")
    for word in ("one", "two"):
        check(uvicorn, "/socket/hey", f"hey {word}", "/socket/{text}", method=None)
    traces = {uvicorn.event(f"hey {word}")["properties"]["$ai_trace_id"] for word in ("one", "two")}
    assert len(traces) == 1


def test_a_hundred_users_at_once_are_not_mixed(uvicorn: Site) -> None:
    kinds = ["sync", "async", "stream", "sync-stream", "background"]

    def request(number: int) -> None:
        headers = {"X-POSTHOG-DISTINCT-ID": f"user-{number}", "X-POSTHOG-SESSION-ID": f"session-{number}"}
        uvicorn.get(f"/{kinds[number % 5]}/crowd-{number}", headers)

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(request, range(100)))
    events = [uvicorn.event(f"crowd-{number}") for number in range(100)]
    assert [event["distinct_id"] for event in events] == [f"user-{number}" for number in range(100)]
    assert [event["properties"]["$session_id"] for event in events] == [f"session-{number}" for number in range(100)]
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 100


def test_pipelined_requests_are_not_mixed(uvicorn: Site) -> None:
    # uvicorn starts the second one in the task of the first.
    with socket.create_connection(("127.0.0.1", uvicorn.port), 30) as connection:
        sent = b""
        for number, header in enumerate(["X-Block: first\r\n", "", "X-POSTHOG-DISTINCT-ID: third\r\n"]):
            close = "Connection: close\r\n" if number == 2 else ""
            sent += f"GET /async/piped-{number} HTTP/1.1\r\nHost: here\r\n{header}{close}\r\n".encode()
        connection.sendall(sent)
        while connection.recv(65536):
            pass
    events = [uvicorn.event(f"piped-{number}") for number in range(3)]
    assert events[0]["distinct_id"] == "first"
    assert events[1]["distinct_id"] == events[1]["properties"]["$ai_trace_id"]
    assert events[2]["distinct_id"] == "third"
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 3


def test_odd_headers(uvicorn: Site) -> None:
    def send(text: str, *headers: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", uvicorn.port), 30) as connection:
            head = b"GET /async/" + text.encode() + b" HTTP/1.1\r\nHost: user:word@here\r\nConnection: close\r\n"
            connection.sendall(head + b"".join(header + b"\r\n" for header in headers) + b"\r\n")
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer

    send("long", b"X-POSTHOG-DISTINCT-ID: " + b"x" * 5_000, b"X-POSTHOG-SESSION-ID: " + b"y" * 5_000)
    send("utf8", b"X-POSTHOG-DISTINCT-ID: J\xc3\xbcrgen", b"X-POSTHOG-SESSION-ID: x\xc3")
    send("tabs", b"X-POSTHOG-DISTINCT-ID: a\tb\xc2\x85c", b"X-POSTHOG-SESSION-ID:  \t ")
    send("two", b"X-POSTHOG-DISTINCT-ID: \xff", b"X-POSTHOG-DISTINCT-ID: second")
    long, utf8, tabs, two = (uvicorn.event(text) for text in ("long", "utf8", "tabs", "two"))
    assert (long["distinct_id"], long["properties"]["$session_id"]) == ("x" * 200, "y" * 1_000)
    assert utf8["distinct_id"] == "Jürgen"
    assert tabs["distinct_id"] == "abc"
    assert two["distinct_id"] == "second"
    for event in (utf8, tabs):
        assert "$session_id" not in event["properties"]
    assert utf8["properties"]["$current_url"] == "http://here/async/utf8"


def test_under_gunicorn(tmp_path: Path) -> None:
    command = "gunicorn -b 127.0.0.1:{port} -w 1 -k uvicorn_worker.UvicornWorker app:app"
    with site(APP, command, tmp_path) as found:
        found.get("/stream/served", HEADERS)
        check(found, "/stream/served", "served", "/stream/{text}")


@pytest.mark.parametrize(
    ("server", "command"),
    [
        ("hypercorn", "hypercorn -b 127.0.0.1:{port} app:plain"),
        ("daphne", "daphne -b 127.0.0.1 -p {port} app:plain"),
        ("granian", "granian --interface asgi --host 127.0.0.1 --port {port} app:plain"),
    ],
)
def test_a_plain_app_in_other_servers_and_a_function_that_names_the_user(
    tmp_path: Path, server: str, command: str
) -> None:
    pytest.importorskip(server)
    env = {"POSTHOG_AUTOINSTRUMENT_USER": "app:named", "POSTHOG_AUTOINSTRUMENT_TRACING_HEADERS": "anonymous"}
    with site(APP, command, tmp_path, env=env) as found:
        found.get("/named", {"X-Signed-In": "bob", **HEADERS})
        found.get("/visitor", HEADERS)
        named, visitor = found.event("/named"), found.event("/visitor")
        assert named["distinct_id"] == "bob"
        assert named["properties"]["$session_id"] == "browser-session"
        assert visitor["distinct_id"] == "browser-user"
        assert visitor["properties"]["$request_path"] == "/visitor"
        assert "$request_route" not in visitor["properties"]
        assert len({event["properties"]["$ai_trace_id"] for event in (named, visitor)}) == 2
        found.crowd(lambda number: f"/crowd-{number}", 40)
        asked = [found.event(f"/crowd-{number}") for number in range(40)]
        assert [event["distinct_id"] for event in asked] == [f"user-{number}" for number in range(40)]


@pytest.mark.promise
def test_answers_are_as_without_us(uvicorn: Site, tmp_path: Path) -> None:
    paths = ["/async/bare", "/stream/bare", "/missing", "/items/no-number/x"]

    def answers(found: Site) -> list[object]:
        got = [found.get(path, HEADERS) for path in paths]
        return [(answer.status, [pair for pair in answer.headers if pair[0] != "date"], answer.body) for answer in got]

    with site(APP, "uvicorn --port {port} app:app", tmp_path, launched=False) as bare:
        assert answers(uvicorn) == answers(bare)
        assert bare.posthog.events == []
    wait_until(lambda: len(uvicorn.events("bare")) == 2, "the calls are not captured")
