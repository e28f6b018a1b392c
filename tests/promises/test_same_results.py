"""Promise: same return objects, same exceptions, same side effects, same number of HTTP requests, same exit code, same
bytes on stdout, and on stderr only our frames in a traceback more."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from support.comparison import same
from support.features import needs

from posthog_autoinstrument.testing import Answer

pytestmark = pytest.mark.promise

LOOK = """
from pydantic import BaseModel

class Book(BaseModel):
    title: str

seen = []

def look(label, value):
    tell("==", label, type(value), len(seen), "requests")
    tell(type(value).__mro__)
    tell(repr(value))
    tell(sorted(vars(value)), isinstance(value, (openai.Stream, openai.AsyncStream)))
    response = getattr(value, "response", None) or getattr(value, "http_response", None)
    if response is not None:
        stream = response.stream
        tell("response", response is seen[-1], response is getattr(value, "response", response))
        tell(type(response), response)
        tell(sorted(vars(response)), response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded)
        tell(type(stream).__name__, isinstance(stream, HTTPX.SyncByteStream), isinstance(stream, HTTPX.AsyncByteStream))
        try:
            tell(type(response.elapsed))
        except RuntimeError as error:
            tell(repr(error))

def model(value):
    tell(type(value), value.model_dump_json(), value.model_fields_set, getattr(value, "_request_id", "none"))
    try:
        again = pickle.loads(pickle.dumps(value))
    except pickle.PicklingError as error:  # the class of a parsed answer is made by pydantic
        tell(error)
    else:
        tell(again == value, type(again) is type(value), len(pickle.dumps(value)))
    tell(value.model_copy(deep=True) == value)

def ended(stream):
    response = stream.response
    tell("ended", response.is_closed, response.is_stream_consumed, type(response.elapsed))
    tell(response.num_bytes_downloaded)
"""


def test_same_objects_of_sync_calls(tmp_path: Path) -> None:
    same(
        tmp_path,
        LOOK
        + """
client = openai.OpenAI(http_client=openai.DefaultHttpxClient(event_hooks={"response": [seen.append]}))
chats, embeddings = client.chat.completions, client.embeddings
responses = client.responses  # needs responses
for label, value in [
    ("chat", chats.create(**CHAT)),
    ("chat parse", chats.parse(**CHAT, response_format=Book)),  # needs chat.completions.parse
    ("responses", responses.create(**RESPONSE)),  # needs responses
    ("responses parse", responses.parse(**RESPONSE, text_format=Book)),  # needs responses
    ("embeddings", embeddings.create(**EMBEDDING)),
    ("beta", client.beta.chat.completions.parse(**CHAT, response_format=Book)),  # needs beta.chat.completions.parse
    ("options", client.with_options(timeout=7).chat.completions.create(**CHAT, extra_headers={"x": "y"})),
]:
    look(label, value)
    model(value)

for label, make in [
    ("chat", lambda: chats.create(**CHAT, stream=True)),
    ("responses", lambda: responses.create(**RESPONSE, stream=True)),  # needs responses
]:
    stream = make()
    look(label + " stream", stream)
    tell(stream.response is stream.response, iter(stream) is stream._iterator, next(stream), type(stream._iterator))
    for chunk in stream:
        tell(type(chunk), chunk.model_dump_json(), chunk.model_fields_set)
    ended(stream)
    tell(list(stream))
    with make() as stream:
        look(label + " with", stream)
        tell(sum(1 for _ in stream))
    ended(stream)

for label, manager in [
    ("chat", chats.stream(**CHAT)),  # needs chat.completions.stream
    ("responses", responses.stream(**RESPONSE)),  # needs responses
    ("chat parsed", chats.stream(**CHAT, response_format=Book)),  # needs chat.completions.stream
]:
    tell("==", label, type(manager), len(seen), "requests")
    with manager as stream:
        tell(type(stream), sorted(vars(stream)), isinstance(stream, openai.Stream), type(stream._raw_stream))
        for event in stream:
            tell(event.type, repr(event))
    final = stream.get_final_response() if label == "responses" else stream.get_final_completion()
    tell(final.model_dump_json())
look("raw response of a helper", stream._raw_stream)  # needs chat.completions.stream

for resource, request in [
    (chats, CHAT),
    (responses, RESPONSE),  # needs responses
    (embeddings, EMBEDDING),
]:
    raw = resource.with_raw_response.create(**request)
    look("raw", raw)
    tell(raw.headers, raw.text, raw.content, raw.status_code, raw.url, raw.method, raw.is_closed)
    tell(getattr(raw, "retries_taken", "not told"))
    tell(raw.parse() is raw.parse(), raw.parse().model_dump_json(), type(raw.elapsed), raw.http_request.content)
    with resource.with_streaming_response.create(**request) as response:
        look("streaming response", response)
        tell(response.parse().model_dump_json(), response.is_closed)
    look("after", response)
    with resource.with_streaming_response.create(**request) as response:
        tell(response.read(), response.json(), response.text(), response.is_closed)
    with resource.with_streaming_response.create(**request) as response:
        tell(list(response.iter_bytes(100)))
    with resource.with_streaming_response.create(**request) as response:
        tell(response.status_code)
    look("unread", response)

raw = chats.with_raw_response.create(**CHAT, stream=True)
look("raw stream", raw)
look("parsed", raw.parse())
tell([chunk.model_dump_json() for chunk in raw.parse()])
raw = chats.with_raw_response.create(**CHAT, stream=True)
tell(list(raw.http_response.iter_raw(64)))
for again in (raw.http_response.iter_raw, raw.http_response.iter_lines, raw.http_response.read):
    try:
        tell(list(again()))
    except HTTPX.StreamError as error:
        tell(repr(error))
for how in ("iter_lines", "iter_text", "iter_bytes"):
    with chats.with_streaming_response.create(**CHAT, stream=True) as response:
        lines = getattr(response, how)()
        tell(type(lines), next(lines))
        tell(list(lines))
    tell(type(response.http_response.elapsed), response.is_closed, response.http_response.num_bytes_downloaded)
with responses.with_streaming_response.create(**RESPONSE, stream=True) as response:  # needs responses
    look("parsed", response.parse())
    tell(len(list(response.parse())))
look("post", client.post("/chat/completions", body=CHAT, cast_to=openai.types.chat.ChatCompletion))
tell(len(seen), client.is_closed(), threading.active_count() > 0)
client.close()
""",
        events="one each request",
    )


def test_same_objects_of_async_calls(tmp_path: Path) -> None:
    same(
        tmp_path,
        LOOK
        + """
import contextvars, inspect

mine = contextvars.ContextVar("mine", default=0)

async def see(response):
    seen.append(response)
    tell("hook", mine.get())
    mine.set(mine.get() + 1)

async def main():
    client = openai.AsyncOpenAI(http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [see]}))
    chats, embeddings = client.chat.completions, client.embeddings
    responses = client.responses  # needs responses
    for label, awaitable in [
        ("chat", chats.create(**CHAT)),
        ("chat parse", chats.parse(**CHAT, response_format=Book)),  # needs chat.completions.parse
        ("responses", responses.create(**RESPONSE)),  # needs responses
        ("responses parse", responses.parse(**RESPONSE, text_format=Book)),  # needs responses
        ("embeddings", embeddings.create(**EMBEDDING)),
        ("raw", chats.with_raw_response.create(**CHAT)),
    ]:
        tell(label, type(awaitable), inspect.iscoroutine(awaitable), inspect.isawaitable(awaitable), len(seen))
        tell(awaitable.__name__, awaitable.__qualname__, inspect.getcoroutinestate(awaitable))
        value = await awaitable
        look(label, value)
        tell(value.text if label == "raw" else value.model_dump_json(), mine.get())
        try:
            await awaitable
        except RuntimeError as error:
            tell(repr(error))
    task = asyncio.create_task(chats.create(**CHAT), name="t")
    tell(type(task), task.get_coro().__qualname__, (await task).model_dump_json(), mine.get())
    for make in (
        lambda: chats.create(**CHAT, stream=True),
        lambda: responses.create(**RESPONSE, stream=True),  # needs responses
    ):
        stream = await make()
        look("stream", stream)
        tell(type(aiter(stream)), await anext(stream), stream.response is stream.response)
        async for chunk in stream:
            tell(type(chunk), chunk.model_dump_json())
        ended(stream)
        async with await make() as stream:
            tell([chunk.model_dump_json() async for chunk in stream])
        ended(stream)
    for manager in (
        chats.stream(**CHAT),  # needs chat.completions.stream
        responses.stream(**RESPONSE),  # needs responses
    ):
        tell(type(manager), sorted(vars(manager)), len(seen))
        async with manager as stream:
            tell(type(stream), sorted(vars(stream)), type(stream._raw_stream))
            async for event in stream:
                tell(event.type, repr(event))
    for resource, request in [
        (chats, CHAT),
        (responses, RESPONSE),  # needs responses
        (embeddings, EMBEDDING),
    ]:
        raw = await resource.with_raw_response.create(**request)
        look("raw", raw)
        tell(raw.parse().model_dump_json(), raw.content)
        async with resource.with_streaming_response.create(**request) as response:
            look("streaming response", response)
            tell((await response.parse()).model_dump_json(), response.is_closed)
        async with resource.with_streaming_response.create(**request) as response:
            tell(await response.read())
    raw = await chats.with_raw_response.create(**CHAT, stream=True)
    look("raw stream", raw)
    tell([chunk.model_dump_json() async for chunk in raw.parse()])
    for how in ("iter_lines", "iter_text", "iter_bytes"):
        async with chats.with_streaming_response.create(**CHAT, stream=True) as response:
            tell([line async for line in getattr(response, how)()], type(response.http_response.stream).__name__)
        tell(type(response.http_response.elapsed), response.is_closed, response.http_response.num_bytes_downloaded)
    async with chats.with_streaming_response.create(**CHAT, stream=True) as response:
        tell([len(piece) async for piece in response.http_response.aiter_raw()] != [])
        try:
            await response.http_response.aread()
        except HTTPX.StreamError as error:
            tell(repr(error))
    tell([value.model_dump_json() for value in await asyncio.gather(*(chats.create(**CHAT) for _ in range(1)))])
    tell(len(seen), mine.get(), len(asyncio.all_tasks()))
    await client.close()

asyncio.run(main())
""",
        events="one each request",
    )


def test_same_streams_however_they_end(tmp_path: Path) -> None:
    same(
        tmp_path,
        """
        client = openai.OpenAI(max_retries=0)
        chats = client.chat.completions
        responses = client.responses  # needs responses

        def finish(label, stream):
            response = stream.response
            tell(label, response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded > 0)

        def follow(error):
            while error is not None:
                tell(type(error), str(error), error.args, sorted(k for k in vars(error)))
                error = error.__cause__ or error.__context__

        stream = chats.create(**chat("slow-stream"), stream=True)
        tell(next(stream).model_dump_json())
        stream.close()
        finish("closed", stream)
        for _ in range(2):
            try:
                tell("nothing more", [list(stream)][1:])  # how much had come before it was closed is nobody's business
            except (HTTPX.StreamError, *BROKEN) as error:
                follow(error)
        stream.close()

        for chunk in (stream := chats.create(**chat("long"), stream=True)):
            break
        response = stream.response
        del stream, chunk
        gc.collect()
        tell("abandoned", response.is_closed)
        del response
        chats.create(**chat("long"), stream=True)
        gc.collect()
        tell("dropped unread")

        with chats.create(**chat("long"), stream=True) as stream:
            next(stream)
        finish("with", stream)
        try:
            with chats.create(**chat("long"), stream=True) as stream:
                next(stream)
                raise KeyError("mine")
        except KeyError as error:
            follow(error)
        finish("raised in with", stream)

        for model in ("cut", "error-in-stream"):
            for make in (
                lambda: chats.create(**chat(model), stream=True),
                lambda: responses.create(model=model, input="x", stream=True),  # needs responses
            ):
                count = 0
                stream = make()
                try:
                    for chunk in stream:
                        count += 1
                except BROKEN as error:
                    follow(error)
                tell(model, count, list(stream))
                finish(model, stream)
            try:
                with chats.stream(**chat(model)) as stream:  # needs chat.completions.stream
                    for event in stream:
                        pass
                pass
            except BROKEN as error:
                follow(error)
            raw = chats.with_raw_response.create(**chat(model), stream=True)
            try:
                tell(len(list(raw.http_response.iter_lines())))
            except HTTPX.TransportError as error:
                follow(error)
        try:
            chats.create(**chat("cut"))
        except openai.APIConnectionError as error:
            follow(error)
        with chats.with_streaming_response.create(**chat("long"), stream=True) as response:
            tell(next(response.iter_lines()))
        tell(response.is_closed)
        with chats.stream(**chat("long")) as stream:  # needs chat.completions.stream
            next(iter(stream))
        tell("done")
        generator = (chunk for chunk in chats.create(**chat("long"), stream=True))
        next(generator)
        try:
            generator.throw(KeyError("thrown"))
        except KeyError as error:
            follow(error)
        """,
        events="one each request",
    )


def test_same_async_streams_however_they_end(tmp_path: Path) -> None:
    same(
        tmp_path,
        """
        def follow(error):
            while error is not None:
                tell(type(error), str(error), error.args)
                error = error.__cause__ or error.__context__

        async def main():
            client = openai.AsyncOpenAI(max_retries=0)
            chats = client.chat.completions
            responses = client.responses  # needs responses
            stream = await chats.create(**chat("slow-stream"), stream=True)
            tell((await anext(stream)).model_dump_json())
            await stream.close()
            tell("closed", stream.response.is_closed)
            try:
                tell("nothing more", [[chunk async for chunk in stream]][1:])
            except (HTTPX.StreamError, *BROKEN) as error:
                follow(error)
            async with await chats.create(**chat("long"), stream=True) as stream:
                await anext(stream)
            tell("with", stream.response.is_closed)
            for model in ("cut", "error-in-stream"):
                for make in (
                    lambda: chats.create(**chat(model), stream=True),
                    lambda: responses.create(model=model, input="x", stream=True),  # needs responses
                ):
                    count = 0
                    stream = await make()
                    try:
                        async for _ in stream:
                            count += 1
                    except BROKEN as error:
                        follow(error)
                    tell(model, count, [chunk async for chunk in stream], stream.response.is_closed)
            came = asyncio.Event()

            async def read():
                async for _ in await chats.create(**chat("slow-stream"), stream=True):
                    came.set()

            task = asyncio.create_task(read())
            await came.wait()
            task.cancel("why")
            try:
                await task
            except asyncio.CancelledError as error:
                follow(error)
            tell(task.cancelled())
            try:
                await asyncio.wait_for(chats.create(**chat("hang")), 0.2)
            except asyncio.TimeoutError as error:
                follow(error)
            task = asyncio.create_task(chats.create(**chat("hang")))
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                follow(error)
            coroutine = chats.create(**CHAT)
            coroutine.close()
            coroutine = chats.create(**CHAT)
            try:
                coroutine.throw(KeyError("thrown"))
            except KeyError as error:
                follow(error)
            stream = await chats.create(**chat("long"), stream=True)
            await anext(stream)
            del stream
            gc.collect()
            await asyncio.sleep(0)
            async with chats.stream(**chat("long")) as stream:  # needs chat.completions.stream
                await anext(stream)
            await client.close()
            tell(len(asyncio.all_tasks()))

        asyncio.run(main())
        """,
        events=None,  # a task cancelled before its first step never called anything
    )


ERRORS = """
def follow(error, indent=""):
    while error is not None:
        attributes = {name: value for name, value in vars(error).items() if name not in ("request", "response")}
        tell(indent, type(error), str(error), error.args, attributes, error.__suppress_context__)
        for name in ("request", "response"):
            value = getattr(error, name, None)
            if value is not None:
                tell(name, type(value), value.headers.get("x-request-id"), sorted(vars(value)))
        if getattr(error, "response", None) is not None:
            try:
                tell(error.response.text)
            except HTTPX.ResponseNotRead as unread:
                tell(repr(unread))
            tell(error.response.status_code, error.response.headers, error.response.is_closed)
            tell(error.response.request.content, type(error.response.elapsed), type(error.response.stream).__name__)
        cause, context = error.__cause__, error.__context__
        tell(cause is context, type(context))
        error = cause or context
"""


def test_same_errors_of_sync_calls(tmp_path: Path) -> None:
    same(
        tmp_path,
        ERRORS
        + """
import socket
from pydantic import BaseModel

class Book(BaseModel):
    title: str

def manage(manager):
    with manager as stream:
        return list(stream)

def enter(manager):
    with manager as response:
        return response.read()

client = openai.OpenAI()
refused = socket.socket()  # has the port, and does not listen
refused.bind(("127.0.0.1", 0))
port = refused.getsockname()[1]
once = client.with_options(max_retries=0)
late = client.with_options(max_retries=0, timeout=0.2)
gone = client.with_options(max_retries=0, base_url=f"http://127.0.0.1:{port}/v1")
unauthorised = client.with_options(api_key="invalid")

def shapes(client, model):
    chats = client.chat.completions
    responses = client.responses  # needs responses
    yield "create", lambda: chats.create(**chat(model))
    yield "stream", lambda: chats.create(**chat(model), stream=True)
    yield "parse", lambda: chats.parse(**chat(model), response_format=Book)  # needs chat.completions.parse
    yield "helper", lambda: manage(chats.stream(**chat(model)))  # needs chat.completions.stream
    yield "responses", lambda: responses.create(model=model, input="x")  # needs responses
    yield "responses stream", lambda: responses.create(model=model, input="x", stream=True)  # needs responses
    yield "responses parse", lambda: responses.parse(model=model, input="x", text_format=Book)  # needs responses
    yield "responses helper", lambda: manage(responses.stream(model=model, input="x"))  # needs responses
    yield "embeddings", lambda: client.embeddings.create(model=model, input="x")
    yield "raw", lambda: chats.with_raw_response.create(**chat(model))
    yield "streaming response", lambda: enter(chats.with_streaming_response.create(**chat(model)))

for who, model in [(once, "error-400"), (unauthorised, "gpt-4o-mini"), (once, "error-404"), (client, "error-429"),
                   (client, "error-500"), (late, "hang"), (gone, "gpt-4o-mini")]:
    for label, call in shapes(who, model):
        tell("==", label, model)
        try:
            tell(call())
        except openai.OpenAIError as error:
            follow(error)
        else:
            tell("no error")

for wrong in (lambda: client.chat.completions.create(model="m"), lambda: client.chat.completions.create(**CHAT, no=1),
              lambda: client.chat.completions.create("m", []),
              lambda: client.responses.parse(**RESPONSE, no=1),  # needs responses
              lambda: client.chat.completions.parse(**CHAT, response_format=BaseModel()), # needs chat.completions.parse
              lambda: client.chat.completions.stream(**CHAT, no=1),  # needs chat.completions.stream
              lambda: client.embeddings.create(**EMBEDDING, extra_headers=3),
              lambda: client.chat.completions.create(model="m", messages=[object()])):
    try:
        tell(wrong())
    except Exception as error:
        follow(error)
with client.chat.completions.with_streaming_response.create(**chat("flaky-429")) as response:
    tell(getattr(response, "retries_taken", "not told"))
tell(getattr(client.chat.completions.with_raw_response.create(**CHAT), "retries_taken", "not told"))
""",
        events=None,  # those of arguments refused are counted in the tests of capture
    )


def test_same_errors_of_async_calls(tmp_path: Path) -> None:
    same(
        tmp_path,
        ERRORS
        + """
async def manage(manager):
    async with manager as stream:
        return [event async for event in stream]

async def enter(manager):
    async with manager as response:
        return await response.read()

def shapes(client, model):
    chats = client.chat.completions
    responses = client.responses  # needs responses
    yield "create", lambda: chats.create(**chat(model))
    yield "stream", lambda: chats.create(**chat(model), stream=True)
    yield "helper", lambda: manage(chats.stream(**chat(model)))  # needs chat.completions.stream
    yield "responses stream", lambda: responses.create(model=model, input="x", stream=True)  # needs responses
    yield "responses helper", lambda: manage(responses.stream(model=model, input="x"))  # needs responses
    yield "embeddings", lambda: client.embeddings.create(model=model, input="x")
    yield "raw", lambda: chats.with_raw_response.create(**chat(model))
    yield "streaming response", lambda: enter(chats.with_streaming_response.create(**chat(model)))

async def main():
    client = openai.AsyncOpenAI()
    once = client.with_options(max_retries=0)
    late = client.with_options(max_retries=0, timeout=0.2)
    gone = client.with_options(max_retries=0, base_url="http://127.0.0.1:9/v1")
    for who, model in [(once, "error-400"), (client.with_options(api_key="invalid"), "gpt-4o-mini"),
                       (once, "error-404"), (client, "error-429"), (client, "error-500"), (late, "hang"),
                       (gone, "gpt-4o-mini")]:
        for label, call in shapes(who, model):
            tell("==", label, model)
            try:
                tell(await call())
            except openai.OpenAIError as error:
                follow(error)
            else:
                tell("no error")
    create = client.chat.completions.create
    for wrong in (lambda: create(model="m"), lambda: create(**CHAT, no=1)):
        try:
            coroutine = wrong()
            tell(type(coroutine))
            await coroutine
        except TypeError as error:
            follow(error)
    await client.close()

asyncio.run(main())
""",
        events=None,
    )


def test_same_exception_objects_of_a_custom_transport(tmp_path: Path) -> None:
    same(
        tmp_path,
        """
        class Mine(Exception):
            pass

        class Fatal(BaseException):
            pass

        class Reading(HTTPX.SyncByteStream):
            def __init__(self, error, at_close=False):
                self.error, self.at_close, self.closes = error, at_close, 0

            def __iter__(self):
                yield b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\\n\\n'
                if not self.at_close:
                    raise self.error
                yield b'data: [DONE]\\n\\n'

            def close(self):
                self.closes += 1
                if self.at_close:
                    raise self.error

        class AsyncReading(HTTPX.AsyncByteStream):
            def __init__(self, error):
                self.error, self.closes = error, 0

            async def __aiter__(self):
                yield b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\\n\\n'
                raise self.error

            async def aclose(self):
                self.closes += 1

        class Transport(HTTPX.BaseTransport, HTTPX.AsyncBaseTransport):
            def handle_request(self, request):
                self.requests += 1
                if isinstance(self.plan, BaseException):
                    raise self.plan
                return HTTPX.Response(200, stream=self.plan, headers={"content-type": "text/event-stream"})

            async def handle_async_request(self, request):
                return self.handle_request(request)

        def follow(error, wanted):
            while error is not None:
                tell(type(error), error is wanted, sorted(vars(error)), error.args == wanted.args)
                frames = [f.name for f in traceback.extract_tb(error.__traceback__)
                          if "posthog_autoinstrument" not in f.filename and "wrapt" not in f.filename]
                tell(frames)
                error = error.__cause__ or error.__context__

        transport = Transport()
        transport.requests = 0
        client = openai.OpenAI(http_client=HTTPX.Client(transport=transport), max_retries=0)
        chats = client.chat.completions
        responses = client.responses  # needs responses
        calls = [
            lambda: chats.create(**CHAT), lambda: list(chats.create(**CHAT, stream=True)),
            lambda: chats.with_raw_response.create(**CHAT), lambda: client.embeddings.create(**EMBEDDING),
            lambda: chats.with_streaming_response.create(**CHAT).__enter__(),
            lambda: responses.stream(**RESPONSE).__enter__(),  # needs responses
            lambda: chats.create(**CHAT, extra_query={"a": "b"}),
        ]
        for error in (Mine("m"), Fatal(1), KeyboardInterrupt(), SystemExit(5), HTTPX.ReadTimeout("slow"),
                      HTTPX.ConnectError("no"), StopIteration("odd"), GeneratorExit(), MemoryError()):
            for call in calls:
                transport.plan = error
                try:
                    call()
                except BaseException as caught:
                    tell(caught is error)
                    follow(caught, error)
        for error in (Mine("m"), Fatal(1), KeyboardInterrupt(), HTTPX.ReadError("broken"), OSError(5, "io")):
            for at_close in (False, True):
                transport.plan = stream = Reading(error, at_close)
                for read in (lambda: list(chats.create(**CHAT, stream=True)),
                             lambda: chats.with_raw_response.create(**CHAT, stream=True).http_response.read()):
                    stream.closes = 0
                    try:
                        tell(read())
                    except BaseException as caught:
                        follow(caught, error)
                    tell("closed", stream.closes)

        async def main():
            client = openai.AsyncOpenAI(http_client=HTTPX.AsyncClient(transport=transport), max_retries=0)
            for error in (Mine("m"), Fatal(1), HTTPX.ConnectError("no"), asyncio.CancelledError("c")):
                for kind in (error, AsyncReading(error)):
                    transport.plan = kind
                    try:
                        async for chunk in await client.chat.completions.create(**CHAT, stream=True):
                            tell(chunk.model_dump_json())
                    except BaseException as caught:
                        follow(caught, error)
                    tell(getattr(kind, "closes", None))

        asyncio.run(main())
        tell(transport.requests)
        """,
        events=None,
    )


MESSAGES: Any = [{"role": "user", "content": "x"}]


@needs("chat.completions.stream")
def test_same_attributes_of_a_stream_manager(client: Any) -> None:
    manager = client.chat.completions.stream(model="m", messages=MESSAGES)
    assert not [name for name in vars(manager) if "posthog" in name]


def test_same_type_of_the_byte_stream_of_a_response(client: Any) -> None:
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    with stream:
        assert type(stream.response.stream).__module__.partition(".")[0] in ("httpx", "httpx2")


def test_same_stderr_when_the_exception_of_the_program_cannot_be_printed(tmp_path: Path) -> None:
    same(
        tmp_path,
        """
        class Mine(BaseException):
            def __str__(self):
                raise ValueError("a str that fails")

        class Transport(HTTPX.BaseTransport):
            def handle_request(self, request):
                raise Mine

        try:
            openai.OpenAI(http_client=HTTPX.Client(transport=Transport())).chat.completions.create(**CHAT)
        except Mine as error:
            tell(type(error))
        """,
        events=1,
    )


ENDINGS = {
    "unhandled": (1, 'openai.OpenAI(max_retries=1).chat.completions.create(**chat("error-500"))'),
    "unhandled in a task": (
        1,
        """
        async def main():
            await asyncio.gather(openai.AsyncOpenAI().chat.completions.create(**chat("error-400")))
        asyncio.run(main())
        """,
    ),
    "unhandled in a thread": (
        0,
        """
        def work():
            for chunk in openai.OpenAI().chat.completions.create(**chat("error-in-stream"), stream=True):
                tell(chunk.model_dump_json())
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
        """,
    ),
    "exit code": (3, "tell(openai.OpenAI().chat.completions.create(**CHAT)); sys.exit(3)"),
    "exit message, open stream": (
        1,
        """
        import atexit
        stream = openai.OpenAI().chat.completions.create(**CHAT, stream=True)
        tell(next(stream).model_dump_json(), sys.argv, __name__, sys.stdin.read())
        sys.stdout.buffer.write(bytes(range(32, 127)))
        atexit.register(lambda: tell("at exit", next(stream).model_dump_json()))
        sys.exit("a last word")
        """,
    ),
    "interrupted": (
        -signal.SIGINT,
        """
        import signal
        for chunk in openai.OpenAI().chat.completions.create(**CHAT, stream=True):
            os.kill(os.getpid(), signal.SIGINT)
        """,
    ),
    "terminated": (
        -signal.SIGTERM,
        """
        import signal
        openai.OpenAI().chat.completions.create(**CHAT)
        os.kill(os.getpid(), signal.SIGTERM)
        """,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_same_exit(tmp_path: Path, ending: str) -> None:
    returncode, source = ENDINGS[ending]
    same(tmp_path, source, 1, returncode, args=["--flag", "a b"], stdin="given\n")


WARNED = """
import warnings

# When the collector starts by itself depends on how many objects there are, and in which order it finds them on that.
gc.disable()

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    client = openai.AsyncOpenAI()
    client.chat.completions.create(**CHAT)
    client.chat.completions.parse(**CHAT)  # needs chat.completions.parse
    gc.collect()
    client.embeddings.create(**EMBEDDING)
    client.responses.create(**RESPONSE, stream=True)  # needs responses
    client.chat.completions.with_raw_response.create(**CHAT)
    client.chat.completions.stream(**CHAT)  # needs chat.completions.stream
    gc.collect()
    tell((await client.chat.completions.create(**CHAT)).id)
    warnings.warn("mine")
    stream = await client.chat.completions.create(**chat("long"), stream=True)
    await anext(stream)
    del stream
    gc.collect()
    await asyncio.sleep(0)
    await client.close()

try:
    asyncio.run(main())
except Exception as error:
    tell(repr(error))
client = openai.OpenAI()
stream = client.chat.completions.create(**chat("long"), stream=True)
next(stream)
del stream
gc.collect()
client.chat.completions.with_raw_response.create(**CHAT, stream=True)
gc.collect()
manager = client.chat.completions.with_streaming_response.create(**CHAT)
del manager
gc.collect()
tell(client.chat.completions.create(**CHAT).id)
try:
    client.beta.assistants.list()
except (openai.APIError, DeprecationWarning) as error:
    tell(repr(error))
del client
gc.collect()
"""


@pytest.mark.parametrize("flags", [["-X", "dev"], ["-W", "error"], ["-W", "always"]], ids=" ".join)
def test_same_warnings(tmp_path: Path, flags: list[str]) -> None:
    ran = same(tmp_path, WARNED, events=None, flags=flags)
    if flags[0] != "-W" or flags[1] != "error":
        assert ran.stderr.count("was never awaited") >= 3
        assert len(ran.events) == 5


def test_same_laziness(client: Any, openai_server: Any) -> None:
    """A chunk is the program's as soon as it is there: the next one is not waited for."""
    go = threading.Event()
    piece = 'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    openai_server.script(Answer(chunks=[piece, go, piece, "data: [DONE]\n\n"]))
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert next(stream).choices[0].delta.content == "Hi"
    go.set()
    assert len(list(stream)) == 1


def test_the_program_may_keep_the_response_and_read_it_in_another_thread(client: Any, captured: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=True)
    response = raw.http_response
    del raw
    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.extend(response.iter_lines()))
    thread.start()
    thread.join()
    assert lines[-2] == "data: [DONE]"
    captured(1)
