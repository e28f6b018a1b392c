"""The exporter that posts to PostHog: what it sends, and what it makes of every kind of answer."""

from __future__ import annotations

import contextlib
import contextvars
import gzip
import json
import os
import select
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trustme
import truststore
from support.ports import free_port

from posthog_autoinstrument import __version__
from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export import http_session, posthog
from posthog_autoinstrument.export.posthog import AI_PATH, ANALYTICS_MAX_EVENT_BYTES, ANALYTICS_PATH, PostHogExporter
from posthog_autoinstrument.processing.sanitize import dumps
from posthog_autoinstrument.settings import loader
from posthog_autoinstrument.settings.parsing import ingestion_host
from posthog_autoinstrument.testing import PostHogServer
from posthog_autoinstrument.testing.posthog_server import Fault

TOKEN = "phc_sink"
UUID = "0198c3f2-0000-7000-8000-00000000000"


def event(number: int = 1, text: str = "héllo") -> EncodedEvent:
    uuid = f"{UUID}{number}"
    body = {
        "event": "$ai_generation",
        "uuid": uuid,
        "timestamp": "2026-11-23T12:00:00+00:00",
        "distinct_id": "d",
        "properties": {"text": text},
    }
    return EncodedEvent(uuid, "$ai_generation", dumps(body))


@pytest.fixture
def server() -> Iterator[PostHogServer]:
    with PostHogServer() as server:
        yield server


@pytest.fixture
def exporter(server: PostHogServer) -> Iterator[PostHogExporter]:
    exporter = PostHogExporter(TOKEN, server.url, library="posthog-autoinstrument")
    yield exporter
    exporter.close()


class Bare:
    """An HTTP server that gives one fixed answer and keeps what it was sent."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        seen = self.seen = []  # type: list[tuple[str, dict[str, str], bytes]]

        class Answers(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                seen.append((self.path, dict(self.headers), sent))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


# --- what is sent ---


def test_the_events_own_bytes_are_posted_gzipped(server: PostHogServer, exporter: PostHogExporter) -> None:
    assert exporter.send([event(1), event(2)], 5).kind == "delivered"
    (request,) = server.requests
    assert request.path == AI_PATH
    assert b"[" + event(1).body + b"," + event(2).body + b"]}" in request.body
    body = request.json()
    assert body["api_key"] == TOKEN
    assert abs(datetime.fromisoformat(body["sent_at"]) - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["user-agent"] == f"posthog-autoinstrument/{__version__}"


def test_nothing_to_send_is_no_request(server: PostHogServer, exporter: PostHogExporter) -> None:
    assert exporter.send([], 5).kind == "delivered"
    assert server.requests == []


def test_the_connection_is_used_again_and_netrc_and_cookies_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Bare(200, body=b'{"status":"Ok"}') as bare:
        exporter = PostHogExporter(TOKEN, bare.url, library="x/1")
        exporter.send([event()], 5)
        (pool,) = exporter._session.get_adapter(bare.url).poolmanager.pools._container.values()
        exporter.send([event()], 5)
        assert pool.num_connections == 1
        exporter.close()
    assert [headers.get("Authorization") for _, headers, _ in bare.seen] == [None, None]
    assert bare.seen[0][1]["User-Agent"] == "x/1"
    assert json.loads(gzip.decompress(bare.seen[0][2]))["batch"] == [json.loads(event().body)]


# --- what the answers mean ---


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (400, "invalid"),
        (401, "paused"),
        (402, "paused"),
        (403, "paused"),
        (405, "retry"),
        (407, "retry"),
        (408, "retry"),
        (413, "too_large"),
        (422, "invalid"),
        (429, "retry"),
        (500, "retry"),
        (503, "retry"),
    ],
)
def test_statuses(server: PostHogServer, exporter: PostHogExporter, status: int, kind: str) -> None:
    server.fail_next(Fault(status=status))
    result = exporter.send([event(text="a secret prompt")], 5)
    assert (result.kind, result.fate_unknown) == (kind, False)
    if kind != "delivered":
        assert str(status) in result.detail
    assert "secret" not in result.detail
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("in an hour", 3000, 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_retry_after(server: PostHogServer, exporter: PostHogExporter, header: str, least: float, most: float) -> None:
    if header == "in an hour":  # made here: processes that share the work must collect the same names
        header = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=3600), usegmt=True)
    server.fail_next(Fault(status=429, headers={"Retry-After": header}))
    retry_after_s = exporter.send([event()], 5).retry_after_s
    assert retry_after_s is not None
    assert least <= retry_after_s <= most


@pytest.mark.parametrize("header", ["soon", "nan", "-1", "inf", ""])
def test_a_senseless_retry_after_is_none(server: PostHogServer, exporter: PostHogExporter, header: str) -> None:
    server.fail_next(Fault(status=503, headers={"Retry-After": header}))
    result = exporter.send([event()], 5)
    assert (result.kind, result.retry_after_s) == ("retry", None)


@pytest.mark.parametrize(
    ("limited", "kind"),
    [
        (["llm_events"], "paused"),
        (["recordings", "llm_events"], "paused"),
        (["something new"], "paused"),
        (True, "paused"),
        ({"llm_events": True}, "paused"),
        ([{"resource": "llm_events"}], "paused"),
        (["recordings", "surveys"], "delivered"),
        ([], "delivered"),
        (None, "delivered"),
    ],
)
def test_a_quota_is_told_though_the_status_is_200(
    server: PostHogServer, exporter: PostHogExporter, limited: Any, kind: str
) -> None:
    server.fail_next(Fault(200, body={"status": 1, "quota_limited": limited}))
    result = exporter.send([event()], 5)
    assert result.kind == kind
    assert ("quota" in result.detail) == (kind == "paused")


def paths(server: PostHogServer) -> list[str]:
    return [request.path for request in server.requests]


def test_a_host_without_ai_path_gets_the_other_one_for_good(server: PostHogServer, exporter: PostHogExporter) -> None:
    server.ai_path = False
    assert [exporter.send([event(1)], 5).kind for _ in range(3)] == ["retry", "retry", "delivered"]
    assert exporter.send([event(2)], 5).kind == "delivered"
    assert paths(server) == [AI_PATH, AI_PATH, AI_PATH, ANALYTICS_PATH, ANALYTICS_PATH]
    assert exporter.max_event_bytes == ANALYTICS_MAX_EVENT_BYTES


def test_a_404_for_a_moment_changes_no_path(server: PostHogServer, exporter: PostHogExporter) -> None:
    for missing in (2, 1, 2):
        server.fail_next(*[Fault(404)] * missing)
        assert [exporter.send([event()], 5).kind for _ in range(missing)] == ["retry"] * missing
        assert exporter.send([event()], 5).kind == "delivered"
    assert set(paths(server)) == {AI_PATH}


@pytest.mark.parametrize("ai_path", [True, False])
def test_a_404_where_something_was_taken_is_an_accident(
    server: PostHogServer, exporter: PostHogExporter, ai_path: bool
) -> None:
    server.ai_path = ai_path
    while exporter.send([event()], 5).kind != "delivered":
        pass
    path, before = paths(server)[-1], len(server.requests)
    server.fail_next(*[Fault(404)] * 50)
    assert {exporter.send([event()], 5).kind for _ in range(50)} == {"retry"}
    assert exporter.send([event()], 5).kind == "delivered"
    assert set(paths(server)[before:]) == {path}


def test_somebody_on_the_way_who_answers_for_the_other_path_changes_nothing(
    server: PostHogServer, exporter: PostHogExporter
) -> None:
    server.fail_next(Fault(404), Fault(404), Fault(404), Fault(502))
    assert [exporter.send([event()], 5).kind for _ in range(4)] == ["retry", "retry", "retry", "delivered"]
    assert paths(server) == [AI_PATH, AI_PATH, AI_PATH, ANALYTICS_PATH, AI_PATH]


def test_events_over_the_other_paths_limit_come_back(server: PostHogServer, exporter: PostHogExporter) -> None:
    server.ai_path = False
    big = event(text="x" * ANALYTICS_MAX_EVENT_BYTES)
    assert len(big.body) < exporter.max_event_bytes
    assert [exporter.send([big], 5).kind for _ in range(3)] == ["retry", "retry", "too_large"]
    assert exporter.max_event_bytes == ANALYTICS_MAX_EVENT_BYTES
    assert exporter.send([event()], 5).kind == "delivered"


def test_a_host_that_is_no_posthog_is_asked_for_a_minute_and_then_now_and_then() -> None:
    with Bare(404) as bare:
        exporter = PostHogExporter(TOKEN, bare.url, library="x")
        outcomes = [exporter.send([event()], 5) for _ in range(11)]
        exporter.close()
    assert [result.kind for result in outcomes] == ["retry"] * 9 + ["paused"] * 2
    assert "127.0.0.1: there is no PostHog capture service" in outcomes[-1].detail
    assert {path for path, _, _ in bare.seen} == {AI_PATH, ANALYTICS_PATH}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(server: PostHogServer, status: int) -> None:
    with Bare(status, {"Location": server.url + AI_PATH}) as bare:
        exporter = PostHogExporter(TOKEN, bare.url, library="x")
        result = exporter.send([event()], 5)
        exporter.close()
    assert result.kind == "retry"
    assert "redirects to 127.0.0.1" in result.detail
    assert server.requests == []


# --- when there is no answer ---


def test_a_refused_connection_is_retried_and_nothing_was_sent() -> None:
    result = PostHogExporter(TOKEN, f"http://127.0.0.1:{free_port()}", library="x").send([event()], 5)
    assert (result.kind, result.fate_unknown) == ("retry", False)
    assert "127.0.0.1" in result.detail
    assert "refused" in result.detail.lower()


def test_an_unknown_name_is_retried_and_nothing_was_sent() -> None:
    result = PostHogExporter(TOKEN, "http://nowhere.invalid", library="x").send([event()], 10)
    assert (result.kind, result.fate_unknown) == ("retry", False)


def test_a_proxy_that_is_down_is_retried_and_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    result = PostHogExporter(TOKEN, "http://posthog.invalid", library="x").send([event()], 5)
    assert (result.kind, result.fate_unknown) == ("retry", False)


def test_no_answer_in_time_leaves_the_fate_unknown(server: PostHogServer, exporter: PostHogExporter) -> None:
    server.fail_next(Fault(hang=True, recorded=True))
    result = exporter.send([event()], 0.5)  # without the limit it would not end
    assert (result.kind, result.fate_unknown) == ("retry", True)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nA: ", "retry"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n", "delivered"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n", "delivered"),
        (b"HTTP/1.1 503 OK\r\nContent-Length: 4000\r\n\r\n", "retry"),
    ],
    ids=["head", "body", "chunks", "refusal"],
)
def test_an_answer_that_comes_a_byte_at_a_time_is_not_waited_for(begin: bytes, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(begin)
                while True:
                    connection.sendall(b"1")
                    select.select([], [], [], 0.05)

        threading.Thread(target=answer, daemon=True).start()
        exporter = PostHogExporter(TOKEN, f"http://127.0.0.1:{listening.getsockname()[1]}", library="x")
        result = exporter.send([event()], 1.0)  # else 4,000 bytes take 200 s, and 64 KiB of a header an hour
        assert result.kind == kind
        exporter.close()


def test_a_web_page_is_not_posthogs_answer() -> None:
    """The login page of a network, say: it has not taken the events, and those of a spool would be gone."""
    with Bare(200, body=b"\n<!doctype html><title>Log in</title>") as bare:
        exporter = PostHogExporter(TOKEN, bare.url, library="x")
        result = exporter.send([event()], 5)
        exporter.close()
    assert result.kind == "retry"
    assert "a web page" in result.detail


def test_a_reset_leaves_the_fate_unknown(server: PostHogServer, exporter: PostHogExporter) -> None:
    server.fail_next(Fault(reset=True))
    result = exporter.send([event()], 5)
    assert (result.kind, result.fate_unknown) == ("retry", True)
    assert exporter.send([event()], 5).kind == "delivered"


def test_a_server_without_tls_is_retried_and_nothing_was_sent() -> None:
    with Bare(200) as bare:
        result = PostHogExporter(TOKEN, bare.url.replace("http:", "https:"), library="x").send([event()], 5)
    assert (result.kind, result.fate_unknown) == ("retry", False)
    assert bare.seen == []


@pytest.mark.parametrize("host", ["http://", "ftp://h", "http://h:port", "no scheme"])
def test_an_impossible_host_is_refused(host: str) -> None:
    assert PostHogExporter(TOKEN, host, library="x").send([event()], 5).kind == "stopped"


def test_a_missing_ca_bundle_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    result = PostHogExporter(TOKEN, f"https://127.0.0.1:{free_port()}", library="x").send([event()], 5)
    assert result.kind == "retry"
    assert "/nowhere/ca.pem" in result.detail


class Taking(BaseHTTPRequestHandler):
    """Takes everything, and remembers where it was said to go."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def taking() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as listening:
        listening.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def test_the_proxy_of_the_environment_is_used_but_for_those_it_leaves_out(
    taking: Any, server: PostHogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{taking.server_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    assert PostHogExporter(TOKEN, "http://posthog.example", library="x").send([event()], 5).kind == "delivered"
    assert taking.asked == [f"http://posthog.example{AI_PATH}"]
    assert PostHogExporter(TOKEN, server.url, library="x").send([event()], 5).kind == "delivered"
    assert len(taking.asked) == len(server.events) == 1


def test_tls_is_verified_against_the_bundle_of_the_environment(
    taking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    taking.socket = context.wrap_socket(taking.socket, server_side=True)
    host = f"https://127.0.0.1:{taking.server_port}"
    refused = PostHogExporter(TOKEN, host, library="x").send([event()], 5)
    assert (refused.kind, refused.fate_unknown, taking.asked) == ("retry", False, [])
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    assert PostHogExporter(TOKEN, host, library="x").send([event()], 5).kind == "delivered"
    assert taking.asked == [AI_PATH]


def test_what_truststore_trusts_is_trusted(taking: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It replaces `ssl.SSLContext`, of which delivery has a copy."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    taking.socket = context.wrap_socket(taking.socket, server_side=True)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))  # what OpenSSL has for a system's store
    exporter = PostHogExporter(TOKEN, f"https://127.0.0.1:{taking.server_port}", library="x")
    assert exporter.send([event()], 5).kind == "retry"
    truststore.inject_into_ssl()
    try:
        assert exporter.send([event()], 5).kind == "delivered"
    finally:
        truststore.extract_from_ssl()
    assert PostHogExporter(TOKEN, exporter.host, library="x").send([event()], 5).kind == "retry"
    assert taking.asked == [AI_PATH]


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.skipif(os.name != "posix", reason="sockets are no descriptors")
def test_a_connection_that_the_program_has_closed_is_left_to_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    with Bare(200, body=b"{}") as server:
        host, port = server.url, int(server.url.rpartition(":")[2])
        if secure:
            authority = trustme.CA()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
            authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
            host = host.replace("http:", "https:")
        exporter = PostHogExporter(TOKEN, host, library="x")
        before = sockets()
        assert exporter.send([event(1)], 5).kind == "delivered"
        (ours,) = {number for number, _ in sockets() - before if is_connected_to(number, port)}
        file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
        os.dup2(file, ours)  # closes it, and opens the file under its number
        assert exporter.send([event(2)], 5).kind == "delivered"
        exporter.close()
        assert os.fstat(ours).st_ino == os.fstat(file).st_ino
        assert os.fstat(file).st_size == 0
        os.close(ours)
        os.close(file)
        assert len(server.seen) == 2


def sockets() -> set[tuple[int, str]]:
    """The open descriptors of this process that are sockets."""
    found = set()
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.add((int(name), str(os.fstat(int(name)).st_ino)))
    return found


def is_connected_to(number: int, port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
        return bool(one.getpeername()[1] == port)
    return False


# --- forks and imports ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own_session(server: PostHogServer, exporter: PostHogExporter) -> None:
    assert exporter.send([event(1)], 5).kind == "delivered"
    parents = exporter._session
    child = os.fork()
    if child == 0:
        status = 1
        try:
            delivered = exporter.send([event(2)], 5).kind == "delivered"
            status = 0 if delivered and exporter._session is not parents and parents in exporter._inherited else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert exporter.send([event(3)], 5).kind == "delivered"
    assert exporter._session is parents
    assert [found["uuid"][-1] for found in server.events] == ["1", "2", "3"]


def test_a_copy_of_requests_is_loaded_by_the_first_send_and_nothing_is_imported_by_the_post_itself(
    server: PostHogServer,
) -> None:
    program = """
import sys
from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export import http_session, posthog
exporter = posthog.PostHogExporter("phc_x", sys.argv[1], library="x")
assert "requests" not in sys.modules and "ssl" not in sys.modules
http_session.requests()
assert "requests" not in sys.modules and "urllib3" not in sys.modules
before = set(sys.modules)
body = b'{"event":"$ai_span","distinct_id":"d","properties":{}}'
assert exporter.send([EncodedEvent("u", "$ai_span", body)], 5).kind == "delivered"
print(sorted(set(sys.modules) - before))
"""
    root = Path(posthog.__file__).parent.parent.parent
    ran = subprocess.run(
        [sys.executable, "-c", program, server.url.replace("127.0.0.1", "localhost")],
        cwd=root,
        env={name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


# --- OpenTelemetry ---


def test_opentelemetry_is_told_to_look_away(
    server: PostHogServer, exporter: PostHogExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("current")
    current.set({})
    during: list[dict[str, Any]] = []
    fake: Any = ModuleType("opentelemetry.context")
    fake._SUPPRESS_INSTRUMENTATION_KEY = "suppress_instrumentation-1234"
    fake.set_value = lambda key, value, context=None: {**(current.get() if context is None else context), key: value}
    fake.attach = current.set
    fake.detach = current.reset
    monkeypatch.setitem(sys.modules, "opentelemetry.context", fake)
    requests = http_session.requests()
    send = requests.Session.send
    monkeypatch.setattr(requests.Session, "send", lambda *a, **k: during.append(current.get()) or send(*a, **k))

    assert exporter.send([event()], 5).kind == "delivered"
    assert during == [{"suppress_instrumentation": True, "suppress_instrumentation-1234": True}]
    assert current.get() == {}

    del fake.set_value  # half imported
    assert exporter.send([event()], 5).kind == "delivered"


# --- the host ---


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("https://us.i.posthog.com/", "https://us.i.posthog.com"),
        ("https://app.posthog.com", "https://us.i.posthog.com"),
        ("http://us.posthog.com/project/1", "https://us.i.posthog.com"),
        ("EU.posthog.com", "https://eu.i.posthog.com"),
        ("https://eu.posthog.com//", "https://eu.i.posthog.com"),
        ("posthog.example.com", "https://posthog.example.com"),
        ("localhost:8000", "https://localhost:8000"),
        (" http://localhost:8000/ingest/ ", "http://localhost:8000/ingest"),
    ],
)
def test_hosts_become_base_urls(host: str, base_url: str) -> None:
    assert ingestion_host(host) == base_url


@pytest.mark.parametrize(
    ("host", "guessed"),
    [("localhost:8000", True), ("https://localhost:8000", False), ("app.posthog.com/project/1", False)],
)
def test_where_http_may_have_been_meant(monkeypatch: pytest.MonkeyPatch, host: str, guessed: bool) -> None:
    monkeypatch.setenv("POSTHOG_HOST", host)
    assert loader.scheme_is_guessed(ingestion_host(host)) is guessed


@pytest.mark.parametrize("host", ["ftp://h", "http://", "a b", "http://[::1"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError):
        ingestion_host(host)
