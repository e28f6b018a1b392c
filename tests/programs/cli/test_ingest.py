"""`posthog-instrument view --receive`: PostHog's capture endpoints on this machine, by its own SDK and by hand."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import signal
import threading
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from support.viewing import Viewer, end, settled, start

from posthog_autoinstrument.store.database import Store
from posthog_autoinstrument.viewer import server
from posthog_autoinstrument.viewer.ingest import Ingest, IngestGate

View = Callable[..., Viewer]
TOKEN = "phc_any"
KEY = {"Authorization": f"Bearer {TOKEN}"}
V1 = {
    **KEY,
    "PostHog-Sdk-Info": "posthog-go/1.0.0",
    "PostHog-Attempt": "1",
    "PostHog-Request-Id": "r1",
    "PostHog-Request-Timestamp": "2026-11-25T10:00:00Z",
}


Arrived = Callable[[], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("received") / "events.db"


@pytest.fixture(scope="module")
def receiving(store: Path) -> Iterator[Viewer]:
    """A page that receives."""
    viewer = start(store, "--port", "0", "--receive")
    yield viewer
    end(viewer)


@pytest.fixture
def arrived(receiving: Viewer, store: Path) -> Arrived:
    """`arrived()`: the events that have been stored since the test began."""
    before = len(stored(store))
    return lambda: stored(store)[before:]


def stored(path: Path) -> list[dict[str, Any]]:
    with Store(path) as store:
        return [json.loads(body) for (body,) in store.rows("SELECT body FROM events ORDER BY rowid")]


def generation(**more: Any) -> dict[str, Any]:
    said = {"$ai_model": "gpt-4o", "$ai_trace_id": "t1", "$ai_input": [{"role": "user", "content": "Hello"}]}
    return {"event": "$ai_generation", "distinct_id": "ann", "properties": said, **more}


def batch(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"api_key": TOKEN, "batch": list(events), **more}


def send(
    viewer: Viewer, path: str, body: Any, headers: dict[str, str] | None = None, method: str = "POST"
) -> tuple[int, str]:
    """As a program does that has never seen the page."""
    connection = http.client.HTTPConnection(urlsplit(viewer.base).netloc, timeout=60)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


PROGRAM = """
import os
from posthog import Posthog
from posthog.ai.openai import OpenAI

posthog = Posthog("phc_any", host=os.environ["RECEIVER"], **{settings})
client = OpenAI(posthog_client=posthog)
client.chat.completions.create(
    model="gpt-4o-mini", messages=[{{"role": "user", "content": "Hello"}}], posthog_distinct_id="ann")
client.embeddings.create(model="text-embedding-3-small", input="Hello", posthog_distinct_id="ann")
posthog.capture("page viewed", distinct_id="ann")
posthog.shutdown()
"""


@pytest.mark.parametrize(
    "settings",
    ["{}", "{'enable_full_ai_capture': True}", "{'gzip': True}", "{'capture_mode': 'v1', 'gzip': True}"],
    ids=["batch", "ai path", "gzip", "v1"],
)
def test_what_posthogs_own_wrapper_sends(run_program: Any, tmp_path: Path, settings: str) -> None:
    viewer = start(tmp_path / "received.db", "--port", "0", "--receive")
    ran = run_program(PROGRAM.format(settings=settings), launched=False, env={"RECEIVER": viewer.base}, token=False)
    assert ran.returncode == 0, ran.stderr
    events = {event["event"]: event for event in stored(tmp_path / "received.db")}
    assert set(events) == {"$ai_generation", "$ai_embedding"}
    assert {event["distinct_id"] for event in events.values()} == {"ann"}
    assert events["$ai_generation"]["properties"]["$ai_input"] == [{"role": "user", "content": "Hello"}]
    page = viewer.page("/calls")
    assert "gpt-4o-mini" in page.text
    assert "text-embedding-3-small" in page.text
    viewer.process.send_signal(signal.SIGINT)
    out, err = viewer.process.communicate(timeout=20)
    assert (viewer.process.returncode, err) == (0, "")
    assert "AI events received: 2; other events, not stored: 1." in out


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/batch/", batch(generation())),
        ("/batch", batch(generation(), token=TOKEN)),
        ("/i/v0/ai/batch/", batch(generation())),
        ("/i/v0/e/", {"api_key": TOKEN, **generation()}),
        ("/i/v0/e/", batch(generation())),
        ("/capture/", {"token": TOKEN, **generation()}),
        ("/e/", [{"api_key": TOKEN, **generation()}]),
        ("/batch/", batch(generation(distinct_id=None, properties={"distinct_id": "ann", "token": TOKEN}))),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_the_ways_in(receiving: Viewer, arrived: Arrived, path: str, body: Any, pack: Callable[[bytes], bytes]) -> None:
    assert send(receiving, path, pack(json.dumps(body).encode())) == (200, '{"status":"Ok"}')
    (event,) = arrived()
    assert (event["event"], event["distinct_id"]) == ("$ai_generation", "ann")
    assert uuid.UUID(event["uuid"]).version == 7
    assert event["timestamp"]
    assert TOKEN not in json.dumps(event)


def test_v1(receiving: Viewer, arrived: Arrived) -> None:
    first, second, other = (str(uuid.uuid4()) for _ in range(3))
    at = {"timestamp": "2026-11-25T10:00:00Z"}
    sent = {
        "created_at": "2026-11-25T10:00:01Z",
        "batch": [
            generation(uuid=first, **at),
            generation(uuid=second, **at),
            {"event": "page viewed", "distinct_id": "ann", "uuid": other, **at},
        ],
    }
    packed = zlib.compress(json.dumps(sent).encode())
    status, text = send(receiving, "/i/v1/ai/events", packed, {**V1, "Content-Encoding": "deflate"})
    assert status == 200
    assert json.loads(text)["results"] == {
        first: {"result": "ok"},
        second: {"result": "ok"},
        other: {"result": "drop", "details": "misrouted_event"},
    }
    assert [event["uuid"] for event in arrived()] == [first, second]
    assert arrived()[0]["timestamp"] == at["timestamp"]
    assert send(receiving, "/i/v1/ai/events", b"x", {**V1, "Content-Encoding": "br"})[0] == 415
    assert send(receiving, "/i/v1/ai/events", sent, KEY)[0] == 400
    assert send(receiving, "/i/v1/ai/events", sent, {**V1, "Authorization": "Bearer phx_personal"})[0] == 401
    twice = {"batch": [generation(uuid=first, **at)] * 2}
    assert send(receiving, "/i/v1/analytics/events", twice, V1)[0] == 400


def test_an_event_in_parts(receiving: Viewer, arrived: Arrived) -> None:
    def part(name: str, kind: str, content: bytes) -> bytes:
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n'
        return head.encode() + content + b"\r\n"

    event = {"event": "$ai_generation", "distinct_id": "ann"}
    parts = [
        part("event", "application/json", json.dumps(event).encode()),
        part("event.properties", "application/json", b'{"$ai_model": "gpt-4o"}'),
        part("event.properties.$ai_input", "application/json", b'[{"role": "user", "content": "Hello"}]'),
        part("event.properties.$ai_output_choices", "text/plain", "Grüße".encode()),
        part("event.properties.picture", "image/png", bytes(range(256))),
        b"--b--\r\n",
    ]
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert send(receiving, "/i/v0/ai", b"".join(parts), {**KEY, **kind})[0] == 200
    (kept,) = arrived()
    assert kept["properties"] == {
        "$ai_model": "gpt-4o",
        "$ai_input": [{"role": "user", "content": "Hello"}],
        "$ai_output_choices": "Grüße",
        "picture": "[image/png, 256 bytes]",
    }
    assert send(receiving, "/i/v0/ai", b"".join(parts[1:]), {**KEY, **kind})[0] == 400
    assert send(receiving, "/i/v0/ai", b"".join(parts), kind)[0] == 401
    assert send(receiving, "/i/v0/ai", batch(generation()), KEY)[0] == 400
    for properties in ([1], "x", 1, True):
        wrong = part("event", "application/json", json.dumps({**event, "properties": properties}).encode())
        status, words = send(receiving, "/i/v0/ai", wrong + parts[-1], {**KEY, **kind})
        assert (status, words) == (400, "failed to parse request: properties is not an object")


ANY_TYPE = (None, [], {}, "", 0, -1, 1.5, 1e308, 1.5e308, 10**400, True, "text", ["x", {"a": [None]}], {"a": [[[]]]})
SAID = (
    "trace_id", "span_id", "parent_id", "session_id", "model", "provider", "input", "output_choices", "input_state",
    "output_state", "input_tokens", "output_tokens", "cache_read_input_tokens", "reasoning_tokens", "latency",
    "time_to_first_token", "http_status", "is_error", "error", "base_url", "request_url", "tools", "model_parameters",
    "stop_reason", "stream", "usage", "total_cost_usd", "span_name", "span_type", "instructions", "web_search_count",
    "service_tier", "metric_name", "metric_value", "feedback_text", "tokens_source",
)  # fmt: skip


def test_properties_of_any_type_are_shown(view: View, tmp_path: Path) -> None:
    viewer = view(tmp_path / "events.db", "--receive", "--port", "0")
    events = [
        generation(event=f"$ai_{kind}", uuid=str(uuid.uuid4()), properties={f"$ai_{name}": value for name in SAID})
        for value in ANY_TYPE
        for kind in ("generation", "span", "trace", "metric")
    ]
    assert send(viewer, "/batch/", batch(*events)) == (200, '{"status":"Ok"}')
    settled(viewer, len(ANY_TYPE))
    for path in ("/traces", "/calls", "/calls?errors=1", "/sessions", "/export.jsonl", "/export.csv"):
        assert viewer.get(path).status_code == 200, path
    for event in events:
        assert viewer.get(f"/event?id={event['uuid']}").status_code == 200, event
    for trace in viewer.page("/traces").links("/trace?"):
        assert viewer.get(trace).status_code == 200, trace


TIMES = (
    "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
    "1969-12-31T23:00:00Z", "2026-11-25", "2026-02-30T00:00:00Z", "nope", -1, 10**300, 1e308, [], {"a": 1}, True,
)  # fmt: skip


def test_times_of_any_kind_are_shown(view: View, tmp_path: Path) -> None:
    viewer = view(tmp_path / "events.db", "--receive", "--port", "0")
    said = {"$ai_trace_id": "one", "$ai_latency": 8e12}
    events = [generation(uuid=str(uuid.uuid4()), timestamp=when, properties=said) for when in TIMES]
    for event in events:
        assert send(viewer, "/batch/", batch(event)) == (200, '{"status":"Ok"}'), event
    settled(viewer, len(TIMES))
    for path in ("/", "/?since=0001-01-01", "/traces", "/calls", "/sessions", "/trace?id=one", "/export.csv"):
        assert viewer.get(path).status_code == 200, path
    for event in events:
        assert viewer.get(f"/event?id={event['uuid']}").status_code == 200, event


def test_a_trace_of_more_steps_than_its_page_reads(view: View, tmp_path: Path) -> None:
    viewer = view(tmp_path / "events.db", "--receive", "--port", "0")
    said = {"$ai_trace_id": "huge", "$ai_model": "m", "$ai_input_tokens": 2, "$ai_output_tokens": 1}
    for _ in range(6):
        assert send(viewer, "/batch/", batch(*[generation(properties=said) for _ in range(1_000)]))[0] == 200
    settled(viewer, 6_000)
    page = viewer.page("/trace?id=huge")
    assert "The first 1,000 of 6,000 steps." in page.text
    assert "Calls 6,000 Errors 0 Tokens 12,000 → 6,000" in page.text


LONG = "x" * (1 << 20)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/batch/", b"{", 400, "failed to parse request"),
        ("/batch/", b"\xff\xfe", 400, "failed to parse request"),
        ("/batch/", b"[" * 100_000, 400, "failed to parse request"),
        ("/batch/", b'{"api_key": "phc_any", "batch": [{"event": "e", "distinct_id": "a", "properties": {"x": NaN}}]}',
         400, "failed to parse request"),
        ("/batch/", b'{"api_key": "phc_any", "batch": [{"event": "e", "distinct_id": "a", "properties": [1e999]}]}',
         400, "out of range"),
        ("/batch/", [], 400, "not an object"),
        ("/batch/", batch(), 400, "empty batch"),
        ("/batch/", {"api_key": TOKEN, "batch": {}}, 400, "not a list"),
        ("/batch/", {"api_key": TOKEN, "batch": ["x"]}, 400, "not a list"),
        ("/batch/", {"batch": [generation()]}, 401, "API key is not provided"),
        ("/batch/", {"api_key": "phx_mine", "batch": [generation()]}, 401, "personal_api_key"),
        ("/e/", [generation(token="phc_a"), generation(token="phc_b")], 401, "several different tokens"),
        ("/batch/", batch(generation(event="")), 400, "event name"),
        ("/batch/", batch(generation(distinct_id="")), 400, "distinct_id"),
        ("/batch/", batch(generation(uuid="x")), 400, "malformed uuid"),
        ("/batch/", batch(generation(properties=[])), 400, "properties"),
        ("/batch/", batch(generation(properties={"x": "\ud800"})), 400, "surrogate"),
        ("/batch/", batch(generation(), generation(properties={"$ai_input": LONG})), 413, "over the 983040-byte limit"),
        ("/i/v0/ai/batch/", batch(generation(properties={"$ai_input": LONG * 9})), 413, "over the 8388608-byte limit"),
        ("/i/v0/ai/batch/", batch(generation(event="page viewed")), 400, "not an AI event"),
        ("/i/v0/ai/batch/", batch(generation(event="\ud800")), 400, "surrogate"),
        ("/batch/", gzip.compress(b"{}", mtime=0)[:-9], 400, "failed to decode"),
        ("/batch/", b"\x1f\x8b" + b"no gzip at all", 400, "failed to decode"),
        ("/batch/", gzip.compress(bytes(120 << 20), mtime=0), 413, "when it is decompressed"),
        ("/batch/", b" " * (21 << 20), 413, "over the 20971520-byte limit"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)  # fmt: skip
def test_what_is_refused(receiving: Viewer, arrived: Arrived, path: str, body: Any, status: int, words: str) -> None:
    found = send(receiving, path, body)
    assert found[0] == status
    assert words in found[1]
    assert arrived() == []
    assert send(receiving, "/batch/", batch(generation()))[0] == 200  # the next one is taken


def test_a_body_whose_length_nobody_says(receiving: Viewer) -> None:
    connection = http.client.HTTPConnection(urlsplit(receiving.base).netloc, timeout=60)
    connection.request("POST", "/batch/", iter([json.dumps(batch(generation())).encode()]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    connection = http.client.HTTPConnection(urlsplit(receiving.base).netloc, timeout=60)
    connection.putrequest("POST", "/batch/")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    connection.close()  # in the middle
    assert send(receiving, "/batch/", batch(generation()))[0] == 200


def test_a_body_that_does_not_come(tmp_path: Path) -> None:
    listener = server.listen(0)
    port = listener.getsockname()[1]
    ingest = Ingest(tmp_path / "received.db", body_timeout_s=0.2)
    config = uvicorn.Config(IngestGate(PlainTextResponse("the page"), ingest, port), log_level="error", lifespan="off")
    serving = uvicorn.Server(config)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("POST", "/batch/")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"{")
        assert connection.getresponse().status == 408
        connection.close()
    finally:
        serving.should_exit = True
        thread.join(30)
        listener.close()


def test_what_is_sent_again_is_there_once(receiving: Viewer, arrived: Arrived) -> None:
    sent = batch(generation(uuid=str(uuid.uuid4())))
    assert [send(receiving, "/batch/", sent)[0] for _ in range(3)] == [200] * 3
    assert len(arrived()) == 1


def test_many_programs_at_once(receiving: Viewer, arrived: Arrived) -> None:
    answers: list[int] = []

    def program(number: int) -> None:
        for turn in range(5):
            answers.append(send(receiving, "/batch/", batch(*[generation(distinct_id=f"{number}-{turn}")] * 10))[0])

    threads = [threading.Thread(target=program, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 50
    assert Counter(event["distinct_id"] for event in arrived()) == {f"{n}-{t}": 10 for n in range(10) for t in range(5)}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.test"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
    ],
)
def test_web_sites_cannot_send(receiving: Viewer, arrived: Arrived, headers: dict[str, str], status: int) -> None:
    for path in ("/batch/", "/i/v0/ai/batch/", "/capture/", "/i/v1/ai/events", "/i/v0/ai"):
        assert send(receiving, path, batch(generation()), headers)[0] == status
    assert arrived() == []


def test_the_rest_of_the_page_stays_closed(receiving: Viewer) -> None:
    for path in ("/", "/calls", "/delete", "/batch/x"):
        assert send(receiving, path, b"", method="GET")[0] == 403
    assert send(receiving, "/delete", b"secret=x")[0] == 403
    assert send(receiving, "/batch/", b"", method="GET")[0] == 405


def test_without_the_option_nothing_is_received(view: View, tmp_path: Path) -> None:
    viewer = view(tmp_path / "received.db", "--port", "0")
    assert send(viewer, "/batch/", batch(generation()))[0] == 403
    assert stored(tmp_path / "received.db") == []


def test_a_store_that_cannot_be_written_is_asked_again(view: View, tmp_path: Path) -> None:
    receiving = view(tmp_path / "received.db", "--port", "0", "--receive")
    with Store(tmp_path / "received.db") as store:
        store.run("DROP TABLE events")
    status, text = send(receiving, "/batch/", batch(generation()))
    assert status == 503
    assert re.search(r"received\.db", text)


def test_there_are_no_feature_flags(receiving: Viewer) -> None:
    for path in ("/flags/?v=2", "/flags", "/decide/?v=3"):
        status, text = send(receiving, path, json.dumps({"token": TOKEN, "distinct_id": "d"}).encode())
        assert (status, json.loads(text)["flags"]) == (200, {})
    for body in (b'{"token": "phx_personal"}', b"{}", b"[1]", b"{"):
        assert send(receiving, "/flags/?v=2", body)[0] == 401
    assert send(receiving, "/flags/", b"{}", {"Host": "evil.test"})[0] == 421
