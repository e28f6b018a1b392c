"""The exporter that posts batches to PostHog's capture service.

Endpoints, limits and statuses: PostHog's `rust/capture` (v0 handlers) and `posthog.com/docs`, as read in November 2026.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Sequence
from datetime import datetime, timezone
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._version import __version__
from ..core.guard import guarded, quietly
from ..core.records import EncodedEvent
from ..settings import loader
from . import http_session
from .exporter import ExportResult

if TYPE_CHECKING:  # tools that bundle programs look for imports; it is `http_session` that loads a copy
    import requests  # noqa: F401

AI_PATH = "/i/v0/ai/batch/"
ANALYTICS_PATH = "/batch/"
"""Served by every capture; a self-hosted one without AI mode answers 404 on `AI_PATH`."""
MISSING_ATTEMPTS = 3
"""So many 404 of `AI_PATH`, one behind the other, before `ANALYTICS_PATH` is tried: a proxy answers 404, too, for the
moment in which there is nothing behind it."""
ABSENT_ATTEMPTS = 10
"""So many, and as many of the other path, before there is none at all: about a minute."""

AI_MAX_EVENT_BYTES = 8 * 1024 * 1024 - 64 * 1024
"""capture's `ai_max_event_bytes` is 8 MiB of the event as it re-serialises it; 64 KiB for what it adds."""
ANALYTICS_MAX_EVENT_BYTES = 900 * 1024
"""On `ANALYTICS_PATH` production refuses AI events over 960 KiB, with the whole request."""
_MAX_EVENT_BYTES = {AI_PATH: AI_MAX_EVENT_BYTES, ANALYTICS_PATH: ANALYTICS_MAX_EVENT_BYTES}
MAX_BATCH_BYTES = 5 * 1024 * 1024
"""Uncompressed. The service takes 20 MiB of compressed bytes; a smaller batch loses less when its fate is unknown."""

_GZIP_LEVEL = 4
"""Measured. 100 chats of 1 KB, an event: level 1 14 us 533 bytes, 3 16 us 472, 4 24 us 467, 6 37 us 450. 100 chats with
history: 3 13 us 356 bytes, 4 26 us 301, 6 37 us 284. One event alone: 1,700 bytes at all levels. 2 MB of source code: 4
31 ms 317 KB, 6 60 ms 289 KB. So 6 is 1.5 times the CPU of 4 and more, for 4 to 9 %; 3 loses what repeats."""
_GZIP_WINDOW = 31
"""15 for the largest window, plus 16 for a gzip header instead of zlib's (`zlib.compressobj`)."""

_REMEDY = "POSTHOG_PROJECT_TOKEN; see posthog-instrument doctor"
_STATUS_MEANS = {
    400: "some event is malformed",
    401: f"the project token is not accepted ({_REMEDY})",
    402: "the project is over its quota",
    403: f"the project token is not allowed to send here ({_REMEDY})",
    404: "there is no PostHog capture service at this address",
    407: "the proxy wants a password",
    408: "the request took too long",
    413: "too large",
    422: "some event is malformed",
    429: "too many requests",
}


# --- the exporter ---


class PostHogExporter:
    """Posts batches to one PostHog project. `host` is a base URL as `ingestion_host` gives it.

    `library` names the sender in the User-Agent: a name, or name/version.
    TLS is always verified. Proxies and CA bundles of the environment are honoured, as `requests` does by itself.
    """

    name = "PostHog"

    def __init__(self, token: str, host: str, *, library: str = "posthog-autoinstrument") -> None:
        self.host = host.rstrip("/")
        self.max_event_bytes = AI_MAX_EVENT_BYTES
        self.max_batch_bytes = MAX_BATCH_BYTES
        self.token = token
        self._user_agent = library if "/" in library else f"{library}/{__version__}"
        self._path = AI_PATH
        self._is_served = False
        """Whether something was ever taken: a 404 is an accident from then on."""
        self._n_missing = 0
        """404s, one behind the other."""
        self._session: Any = None
        self._session_pid = 0
        self._inherited: list[Any] = []

    @guarded("send events to PostHog", ExportResult("retry", "unexpected failure of the agent"))
    def send(self, events: Sequence[EncodedEvent], timeout_s: float) -> ExportResult:
        """Try once to deliver `events`, giving up after about `timeout_s` seconds. Never raises."""
        if not events:
            return ExportResult("delivered")
        deadline = time.monotonic() + timeout_s
        result = self._send_to(self._path, events, timeout_s)
        if result is not None:
            self._n_missing = 0
            self.max_event_bytes = _MAX_EVENT_BYTES[self._path]
            return result
        self._n_missing += 1
        if self._path == AI_PATH and not self._is_served and self._n_missing >= MISSING_ATTEMPTS:
            result = self._send_to(ANALYTICS_PATH, events, deadline - time.monotonic())
            if result is not None:
                is_there = max(len(event.body) for event in events) <= ANALYTICS_MAX_EVENT_BYTES
                self.max_event_bytes = ANALYTICS_MAX_EVENT_BYTES
                if is_there and result.kind != "retry":  # else a proxy may have answered
                    self._path, self._n_missing = ANALYTICS_PATH, 0
                return result
        detail = self._absent()
        is_absent = not self._is_served and self._n_missing >= ABSENT_ATTEMPTS
        return ExportResult("paused" if is_absent else "retry", detail)

    def close(self) -> None:
        """Let connections go. Never raises."""
        session, self._session = self._session, None
        if session is None:
            return
        if self._session_pid == os.getpid():
            quietly(session.close)
        else:
            self._inherited.append(session)

    def _send_to(self, path: str, events: Sequence[EncodedEvent], timeout_s: float) -> ExportResult | None:
        """One attempt on one path; None for a 404."""
        largest = max(len(event.body) for event in events)
        if largest > _MAX_EVENT_BYTES[path]:
            return ExportResult("too_large", f"an event of {largest} bytes; {_MAX_EVENT_BYTES[path]} are allowed")
        body = self._body(events)
        try:
            requests = http_session.requests()
        except ImportError as error:
            return ExportResult("stopped", f"the requests package cannot be imported ({type(error).__name__})")
        try:
            return self._post(requests, path, body, max(timeout_s, 0.1))
        except requests.exceptions.RequestException as error:
            return self._failure(requests, error)
        except OSError as error:  # requests raises it for a CA bundle that is not there
            return ExportResult("retry", f"cannot reach {self._shown_host()}: {error.strerror or error}")

    def _body(self, events: Sequence[EncodedEvent]) -> bytes:
        """The gzipped request body. The events' own bytes are spliced in; they were serialised and sized before."""
        sent_at = datetime.now(timezone.utc).isoformat()
        head = json.dumps({"api_key": self.token, "sent_at": sent_at, "batch": []})
        # In one call: each releases the interpreter's lock and has to take it again.
        bodies = b",".join([event.body for event in events])
        packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
        return packer.compress(b"".join((head[:-2].encode("utf-8"), bodies, b"]}"))) + packer.flush()

    def _post(self, requests: ModuleType, path: str, body: bytes, timeout_s: float) -> ExportResult | None:
        headers = {
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
            "User-Agent": self._user_agent,
        }
        # `total` counts connecting, sending and waiting together; requests' own pair of numbers would add up.
        timeout = requests.adapters.TimeoutSauce(total=timeout_s, connect=timeout_s / 2)
        suppression = quietly(_suppress_opentelemetry)
        try:
            with self._own_session().post(
                self.host + path,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,  # the body holds what users wrote to their models
                stream=True,
            ) as response:
                return self._result_of(response)
        finally:
            if suppression is not None:
                undo, token = suppression
                quietly(undo, token)

    def _own_session(self) -> Any:
        """This process's session. One inherited over a fork is kept unused: closing it is the parent's business."""
        pid = os.getpid()
        if self._session is not None and self._session_pid != pid:
            self._inherited.append(self._session)
            self._session = None
        if self._session is None:
            self._session = http_session.open_session()
            self._session_pid = pid
        return self._session

    def _result_of(self, response: Any) -> ExportResult | None:
        status = int(response.status_code)
        if 200 <= status < 300:
            # Read what is left, so that the connection can be used again. It is about 20 bytes.
            body = quietly(lambda: response.raw.read(4096, decode_content=True)) or b""
            if body.lstrip()[:1] == b"<":  # the login page of a network, or a host that is something else
                return ExportResult(
                    "retry",
                    f"{status} from {self._shown_host()}: a web page, not PostHog's answer{self._leave_path_out()}",
                )
            answer = quietly(lambda: json.loads(body or b"{}"))
            self._is_served = True
            if _drops_ours(answer.get("quota_limited") if isinstance(answer, dict) else None):
                return ExportResult(
                    "paused", f"{status} from {self._shown_host()}: {_STATUS_MEANS[402]}, it drops the events"
                )
            return ExportResult("delivered")
        if status == 404:
            return None
        detail = f"{status} from {self._shown_host()}: {_STATUS_MEANS.get(status, 'not now')}"
        if status in (401, 402, 403):
            return ExportResult("paused", detail)
        if status == 413:
            return ExportResult("too_large", detail)
        if status in (408, 429) or status >= 500:
            return ExportResult("retry", detail, retry_after_s=_retry_after_s(response.headers.get("Retry-After")))
        if status in (400, 422):
            return ExportResult("invalid", detail)
        if 300 <= status < 400:
            where = quietly(lambda: urlsplit(response.headers.get("Location", "")).hostname) or "another path"
            return ExportResult(
                "retry", f"{status} from {self._shown_host()}: redirects to {where}, which is not followed"
            )
        return ExportResult("retry", detail)  # of a proxy (407): it means nothing for the events

    def _failure(self, requests: ModuleType, error: Exception) -> ExportResult:
        """What an exception of requests means for the batch."""
        known = requests.exceptions
        host = self._shown_host()
        if isinstance(error, (known.InvalidURL, known.InvalidSchema, known.MissingSchema, known.InvalidHeader)):
            return ExportResult("stopped", f"cannot send to {host} ({type(error).__name__})")
        if isinstance(error, known.ReadTimeout):
            return ExportResult("retry", f"no answer from {host} in time{self._remedy(False)}", fate_unknown=True)
        detail = f"cannot reach {host}: {_cause(error)}{self._remedy(isinstance(error, known.ProxyError))}"
        if isinstance(error, (known.ConnectTimeout, known.ProxyError, known.SSLError)):
            return ExportResult("retry", detail)
        reason = getattr(error.args[0], "reason", None) if error.args else None
        # urllib3: the connection could not be made (NameResolutionError is a NewConnectionError).
        unsent = any(kind.__name__ == "NewConnectionError" for kind in type(reason).__mro__)
        return ExportResult("retry", detail, fate_unknown=not unsent)

    def _absent(self) -> str:
        return f"404 from {self._shown_host()}: {_STATUS_MEANS[404]}{self._leave_path_out()}"

    def _leave_path_out(self) -> str:
        path = urlsplit(self.host).path
        return f" (POSTHOG_HOST has a path, {path[:60]}: leave the path out)" if path else ""

    def _remedy(self, is_of_proxy: bool) -> str:
        """What to change where the host cannot be reached, as far as the settings show it."""
        found = loader.proxy_of(self.host) if is_of_proxy else None
        if found is not None:
            variable, proxy = found
            return (
                f" (the proxy {proxy} of {variable} does not answer: correct {variable}, or add the host to NO_PROXY)"
            )
        if loader.scheme_is_guessed(self.host):
            plain = self.host.replace("https://", "http://", 1)
            return f" (POSTHOG_HOST names no scheme, so https:// was added: write {plain}, if that is meant)"
        return ""

    def _shown_host(self) -> str:
        return urlsplit(self.host).hostname or "the host"


def _suppress_opentelemetry() -> tuple[Any, Any] | None:
    """Where OpenTelemetry is loaded, keep its instrumentations from recording this thread's HTTP.

    Returns the function and the argument that undo it. Keys: opentelemetry-api's `context/__init__.py`, and the plain
    string that its instrumentations read since 0.30.
    """
    module = sys.modules.get("opentelemetry.context")
    if module is None:
        return None
    context = module.set_value("suppress_instrumentation", True)
    for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        key = getattr(module, name, None)
        if key is not None:
            context = module.set_value(key, True, context)
    return module.detach, module.attach(context)


_QUOTAS_OF_OTHERS = frozenset(("exceptions", "feature_flags", "recordings", "surveys"))


def _drops_ours(quota_limited: Any) -> bool:
    """Whether PostHog has dropped our events, by the `quota_limited` of its answer: `llm_events` are ours, and an
    unknown name may be."""
    named = quota_limited if isinstance(quota_limited, (list, dict)) else [quota_limited] if quota_limited else []
    return any(str(name) not in _QUOTAS_OF_OTHERS for name in named)


def _retry_after_s(header: str | None) -> float | None:
    """Seconds from now of a `Retry-After` header: a number or an HTTP date."""
    if not header:
        return None
    try:
        seconds = float(header)
        return seconds if 0 <= seconds < 1e9 else None
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime  # loaded by http.client long before

    try:
        when = parsedate_to_datetime(header)
    except (ValueError, TypeError):  # TypeError: of some malformed dates
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _cause(error: BaseException) -> str:
    """The innermost reason in words ("Connection refused"), without the request that requests quotes."""
    words = type(error).__name__
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            break
        if isinstance(link, OSError) and link.strerror:
            words = link.strerror
        link = link.__cause__ or link.__context__
    return words


# --- whether the host answers ---


def answers(host: str, timeout_s: float = 5.0) -> str | None:
    """Why `host` does not answer as PostHog's capture service does, in words; None when it does.

    Asks the capture paths with GET, which they refuse (405): nothing is sent, and the token is not checked.
    """
    exporter = PostHogExporter("", host)
    try:
        requests = http_session.requests()
    except ImportError as error:
        return f"the requests package cannot be imported ({type(error).__name__})"
    try:
        with exporter._own_session() as session:
            for path in (AI_PATH, ANALYTICS_PATH):
                with session.get(
                    exporter.host + path, timeout=timeout_s, allow_redirects=False, stream=True
                ) as response:
                    if response.status_code == 404:
                        continue
                    if response.status_code == 405:
                        return None
                    result = exporter._result_of(response)
                    return result.detail if result is not None and result.kind == "retry" else None
        return exporter._absent()
    except requests.exceptions.RequestException as error:
        return exporter._failure(requests, error).detail
    except OSError as error:  # requests raises it for a CA bundle that is not there
        return f"cannot reach {exporter._shown_host()}: {error.strerror or error}"
