"""aiohttp.web, Tornado and Sanic, each its own server: each call knows its request."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.web import ASK, HEADERS, Site, site

pytestmark = pytest.mark.timeout(300)

BEGIN = (
    ASK
    + """
import asyncio, sys

client_async = openai.AsyncOpenAI()

async def ask_async(text):
    answer = await client_async.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": text}]
    )
    return answer.choices[0].message.content

PORT = int(sys.argv[1])
"""
)
AIOHTTP = (
    BEGIN
    + """
from aiohttp import web

async def call(request):
    return web.Response(text=await ask_async(request.match_info["text"]))

async def thread(request):
    return web.Response(text=await asyncio.to_thread(ask, request.match_info["text"]))

async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first")
    await response.write((await ask_async(request.match_info["text"])).encode())
    return response

async def socket(request):
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        await response.send_str(await ask_async(message.data))
    return response

async def fail(request):
    await ask_async(request.match_info["text"])
    raise RuntimeError("theirs")

app, inner = web.Application(), web.Application()
app.add_routes([
    web.get("/call/{text}", call), web.get("/thread/{text}", thread), web.get("/stream/{text}", stream),
    web.get("/socket", socket), web.get("/fail/{text}", fail),
])
inner.add_routes([web.get("/in/{text}", call)])
app.add_subapp("/mounted", inner)
import logging
logging.disable()
web.run_app(app, host="127.0.0.1", port=PORT, print=None)
"""
)
TORNADO = (
    BEGIN
    + """
import logging
logging.disable()
from tornado import gen, ioloop, web, websocket

class Base(web.RequestHandler):
    def get_current_user(self):
        return self.request.headers.get("x-signed-in")
    def prepare(self):
        self.current_user

class Call(Base):
    async def get(self, text):
        self.write(await ask_async(text))

class Thread(Base):
    def initialize(self, how=None):
        self.how = how
    @gen.coroutine
    def get(self, text):
        loop = asyncio.get_running_loop()
        self.write((yield loop.run_in_executor(None, ask, text)))

class Stream(Base):
    async def get(self, text):
        self.write("first")
        await self.flush()
        self.write(await ask_async(text))

class Socket(websocket.WebSocketHandler):
    async def on_message(self, message):
        await self.write_message(await ask_async(message))

class Fail(Base):
    async def get(self, text):
        await ask_async(text)
        raise RuntimeError("theirs")

async def main():
    app = web.Application([
        ("/call/([^/]+)", Call), ("/thread/(?P<text>[^/]+)", Thread), ("/stream/([^/]+)", Stream), ("/socket", Socket),
        ("/fail/([^/]+)", Fail), ("/mounted/in/([^/]+)", Call),
    ])
    app.listen(PORT, "127.0.0.1")
    await asyncio.Event().wait()

import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
asyncio.run(main())
"""
)
SANIC = (
    BEGIN
    + """
from sanic import Blueprint, Sanic
from sanic.response import text as answer

app = Sanic("app")

@app.get("/call/<text:str>", unquote=True)
async def call(request, text):
    return answer(await ask_async(text))

@app.get("/thread/<text:str>", unquote=True)
async def thread(request, text):
    return answer(await asyncio.to_thread(ask, text))

@app.get("/stream/<text:str>", unquote=True)
async def stream(request, text):
    response = await request.respond()
    await response.send("first")
    await response.send(await ask_async(text))
    await response.eof()

@app.websocket("/socket")
async def socket(request, ws):
    async for message in ws:
        await ws.send(await ask_async(message))

@app.get("/fail/<text:str>", unquote=True)
async def fail(request, text):
    await ask_async(text)
    raise RuntimeError("theirs")

inner = Blueprint("inner", url_prefix="/mounted")

@inner.get("/in/<text:str>", unquote=True)
async def inside(request, text):
    return answer(await ask_async(text))

app.blueprint(inner)
if __name__ == "__main__":
    import logging
    logging.disable()
    app.run("127.0.0.1", PORT, single_process=True, motd=False, access_log=False)
"""
)
APPS = {"aiohttp": AIOHTTP, "tornado": TORNADO, "sanic": SANIC}
ROUTES = {
    "aiohttp": {
        "call": "/call/{text}",
        "thread": "/thread/{text}",
        "stream": "/stream/{text}",
        "mounted/in": "/mounted/in/{text}",
    },
    "tornado": {
        "call": "/call/([^/]+)",
        "thread": "/thread/(?P<text>[^/]+)",
        "stream": "/stream/([^/]+)",
        "mounted/in": "/mounted/in/([^/]+)",  # two rules lead to this handler: the one that matches
    },
    "sanic": {
        "call": "/call/<text:str>",
        "thread": "/thread/<text:str>",
        "stream": "/stream/<text:str>",
        "mounted/in": "/mounted/in/<text:str>",
    },
}


@pytest.fixture(scope="module", params=APPS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pytest.importorskip(request.param)
    with site(APPS[request.param], "python app.py {port}", tmp_path_factory.mktemp(request.param)) as found:
        found.kind = request.param
        yield found


@pytest.fixture
def app(started: Site) -> Site:
    return started.afresh()


@pytest.mark.parametrize("kind", ["call", "thread", "stream", "mounted/in"])
def test_a_call_knows_its_request(app: Site, kind: str) -> None:
    text = kind.replace("/", "-") + "-é"
    path = f"/{kind}/{kind.replace('/', '-')}-%C3%A9"
    answer = app.get(f"{path}?token=secret", HEADERS)
    assert answer.status == 200
    assert text in answer.body.decode()
    event = app.event(text)
    said = event["properties"]
    assert event["distinct_id"] == "browser-user"
    assert (said["$session_id"], said["$window_id"]) == ("browser-session", "browser-window")
    assert (said["$request_method"], said["$request_path"]) == ("GET", f"/{kind}/{text}")
    assert said["$current_url"] == f"http://127.0.0.1:{app.port}/{kind}/{text}"
    assert said["$request_route"] == ROUTES[app.kind][kind]
    assert "secret" not in json.dumps(event)


def test_two_requests_of_one_connection_are_two_traces(app: Site) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=60)
    for path, headers in (("/call/first", {"X-POSTHOG-DISTINCT-ID": "J\xfcrgen".encode()}), ("/call/second", {})):
        connection.request("GET", path, headers=headers)
        connection.getresponse().read()
    connection.close()
    first, second = app.event("first"), app.event("second")
    assert first["distinct_id"] == "Jürgen"
    assert second["distinct_id"] == second["properties"]["$ai_trace_id"] != first["properties"]["$ai_trace_id"]
    assert second["properties"]["$request_path"] == "/call/second"


def test_a_websocket_is_one_request(app: Site) -> None:
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{app.port}/socket", additional_headers=HEADERS) as connection:
        for word in ("one", "two"):
            connection.send(word)
            assert connection.recv()
    events = [app.event(word) for word in ("one", "two")]
    assert {event["distinct_id"] for event in events} == {"browser-user"}
    assert {event["properties"]["$request_path"] for event in events} == {"/socket"}
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 1


def test_a_failing_request_and_what_comes_after_it(app: Site) -> None:
    assert app.get("/fail/broken", HEADERS).status == 500
    app.get("/call/afterwards")
    assert app.event("broken")["distinct_id"] == "browser-user"
    after = app.event("afterwards")
    assert after["distinct_id"] == after["properties"]["$ai_trace_id"]
    assert app.get("/missing").status == 404


def test_fifty_users_at_once_are_not_mixed(app: Site) -> None:
    kinds = ["call", "thread", "stream"]
    app.crowd(lambda number: f"/{kinds[number % 3]}/crowd-{number}", 50)
    events = [app.event(f"crowd-{number}") for number in range(50)]
    assert [event["distinct_id"] for event in events] == [f"user-{number}" for number in range(50)]
    assert len({event["properties"]["$ai_trace_id"] for event in events}) == 50


def test_the_user_that_a_tornado_handler_has_found(app: Site) -> None:
    if app.kind != "tornado":
        pytest.skip("these have no user of their own")
    app.get("/call/signed-in", {"X-Signed-In": "ann"})
    assert app.event("signed-in")["distinct_id"] == "ann"


def test_sanic_under_uvicorn_and_a_function_that_names_the_user(tmp_path) -> None:
    pytest.importorskip("sanic")
    source = SANIC.replace("PORT = int(sys.argv[1])", "def who(request): return 'of the function'")
    with site(source, "uvicorn --port {port} app:app", tmp_path, env={"POSTHOG_AUTOINSTRUMENT_USER": "app:who"}) as app:
        app.get("/call/inside")
        event = app.event("inside")
        assert event["distinct_id"] == "of the function"
        assert event["properties"]["$request_route"] == "/call/<text:str>"
        assert len(app.events("inside")) == 1
