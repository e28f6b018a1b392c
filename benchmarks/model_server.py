"""A fake model as a process of its own: answers made before the first request, cycled.

The base URL says what is wanted: `/v1` answers chat and embeddings (100 vectors of 1536 dimensions, in base64 as the
SDK asks for them), `/chunks-200/v1` streams 200 chunks.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import re
import struct
from typing import Any

from loopback import response, serve
from prose import prose

N_ANSWERS = 50
ANSWER_CHARS = 300
REQUEST_ID = b"x-request-id: req_0123456789abcdef0123456789abcdef\r\nopenai-processing-ms: 1\r\n"


def completion(number: int) -> bytes:
    message = {"role": "assistant", "content": prose(number * ANSWER_CHARS, ANSWER_CHARS), "refusal": None}
    usage = {
        "prompt_tokens": 250 + number,
        "completion_tokens": 75,
        "total_tokens": 325 + number,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    answer = {
        "id": f"chatcmpl-{number:029d}",
        "object": "chat.completion",
        "created": 1750000000 + number,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }
    return response(json.dumps(answer).encode(), more=REQUEST_ID)


@functools.lru_cache
def stream(n_chunks: int) -> bytes:
    """Each event is a chunk of HTTP of its own, as a model's are; one write, so that this server costs little."""
    head = {"id": f"chatcmpl-{0:029d}", "object": "chat.completion.chunk", "created": 1750000000}
    head |= {"model": "gpt-4o-mini-2024-07-18", "service_tier": "default", "system_fingerprint": "fp_0123456789"}

    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return b"data: %s\n\n" % json.dumps({**head, "choices": [choice]}, separators=(",", ":")).encode()

    words = prose(0, 12 * n_chunks).split()
    events = [event({"role": "assistant", "content": ""})]
    events += [event({"content": words[number % len(words)] + " "}) for number in range(n_chunks - 2)]
    events += [event({}, "stop"), b"data: [DONE]\n\n"]
    body = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in events)
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
        + REQUEST_ID
        + b"\r\n"
        + body
        + b"0\r\n\r\n"
    )


@functools.lru_cache
def embeddings(n_inputs: int = 100, n_dimensions: int = 1536) -> bytes:
    numbers = [((7919 * number) % 10007) / 10007 - 0.5 for number in range(n_dimensions + n_inputs)]
    data = []
    for index in range(n_inputs):
        vector = struct.pack(f"<{n_dimensions}f", *numbers[index : index + n_dimensions])
        data.append({"object": "embedding", "index": index, "embedding": base64.b64encode(vector).decode()})
    usage = {"prompt_tokens": 800, "total_tokens": 800}
    answer = {"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage}
    return response(json.dumps(answer).encode(), more=REQUEST_ID)


def main() -> None:
    answers = itertools.cycle([completion(number) for number in range(N_ANSWERS)])

    def handle(line: bytes, headers: bytes, body: list[bytes]) -> bytes:
        path = line.split(b" ")[1]
        if path.endswith(b"/embeddings"):
            return embeddings()
        wanted = re.match(rb"/chunks-(\d+)/", path)
        return stream(int(wanted[1])) if wanted else next(answers)

    serve(handle, keeps_bodies=False)


if __name__ == "__main__":
    main()
