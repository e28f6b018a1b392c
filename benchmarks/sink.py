"""What tools send their events to, as a process of its own: PostHog, OTLP, Datadog, Langfuse and Sentry in one.

It keeps what came and answers as they do; what came is looked at when it is asked for.

A call counts as delivered when the mark that stands in its prompt has come: so all protocols are counted alike, and a
tool that sends no content has delivered nothing.

    GET /-/reset   forget everything
    GET /-/stats   {"requests", "bytes" (on the wire, heads too), "delivered" (different marks), "paths"}
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter

from loopback import response, serve

MARK = re.compile(rb"\[call (\d+)\]")
"""In the prompt of each measured call."""

DATADOG_INFO = {
    "version": "7.70.0",
    "endpoints": ["/v0.3/traces", "/v0.4/traces", "/v0.5/traces", "/evp_proxy/v2/", "/evp_proxy/v4/", "/v0.6/stats"]
    + ["/debugger/v1/input", "/debugger/v1/diagnostics", "/debugger/v2/input"],
    "client_drop_p0s": False,
    "config": {},
}


class Sink:
    """What came since the last reset."""

    def __init__(self) -> None:
        self._kept: list[tuple[bytes, bytes, bytes]] = []
        self._head_bytes = 0

    def handle(self, line: bytes, headers: bytes, body: list[bytes]) -> bytes:
        method, path = line.split(b" ")[:2]
        if path == b"/-/reset":
            self.__init__()  # type: ignore[misc]
            return response(b"{}")
        if path == b"/-/stats":
            return response(json.dumps(self.stats()).encode())
        if path == b"/info":
            return response(json.dumps(DATADOG_INFO).encode())
        if path == b"/v1/info":  # Logfire checks its token
            return response(b'{"project_name":"bench","project_url":"http://127.0.0.1/"}')
        if method == b"POST" or method == b"PUT":
            self._kept.append((path, headers, b"".join(body)))
            self._head_bytes += len(line) + len(headers) + 6
        if path.endswith((b"/v1/traces", b"/v1/logs", b"/v1/metrics")):
            return response(b"", b"application/x-protobuf")
        if b"/traces" in path:
            return response(b'{"rate_by_service":{}}')
        if b"/envelope" in path:
            return response(b'{"id":"0123456789abcdef0123456789abcdef"}')
        return response(b'{"status":"Ok"}')

    def stats(self) -> dict[str, object]:
        marks: set[bytes] = set()
        for _, headers, body in self._kept:
            marks.update(MARK.findall(decoded(headers, body)))
        return {
            "requests": len(self._kept),
            "bytes": self._head_bytes + sum(len(body) for _, _, body in self._kept),
            "delivered": len(marks),
            "paths": Counter(path.partition(b"?")[0].decode() for path, _, _ in self._kept),
        }


def decoded(headers: bytes, body: bytes) -> bytes:
    """The body as it was before it was compressed."""
    if body.startswith(b"\x1f\x8b"):  # also where no header says so
        return gzip.decompress(body)
    if b"content-encoding: deflate" in headers:
        return zlib.decompress(body)
    if b"content-encoding: zstd" in headers:
        import zstandard  # only where a tool sends it

        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(body))
    if b"content-encoding: br" in headers:
        import brotli

        return bytes(brotli.decompress(body))
    return body


if __name__ == "__main__":
    serve(Sink().handle, keeps_bodies=True)
