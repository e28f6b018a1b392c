"""Answers the client's requests inside its own process: no sockets, so that very many calls take minutes."""

from __future__ import annotations

import sys
from typing import Any

from model_server import completion


def http_client(openai: Any) -> tuple[Any, Any]:
    """An HTTP client for `openai.OpenAI(http_client=...)`, of the library that this version of openai uses; and its
    transport, whose `n_bytes` counts the content of requests and answers."""
    http = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
    bodies = [completion(number).partition(b"\r\n\r\n")[2] for number in range(50)]

    class Transport(http.BaseTransport):  # type: ignore[misc, name-defined]
        n_asked = 0
        n_bytes = 0

        def handle_request(self, request: Any) -> Any:
            self.n_asked += 1
            body = bytes(bytearray(bodies[self.n_asked % 50]))  # of its own, as one that came over a socket is
            self.n_bytes += len(request.content) + len(body)
            headers = {"content-type": "application/json", "x-request-id": f"req_{self.n_asked}"}
            return http.Response(200, headers=headers, content=body)

    transport = Transport()
    return http.Client(transport=transport), transport
