"""Answers as no server should give them: real exchanges with their bytes, JSON, framing, headers and ends damaged.

A case is made of a seed and a number alone, so each can be made again: `make fuzz FUZZ_SEED=1 FUZZ_FROM=17
FUZZ_CASES=1`.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from posthog_autoinstrument.testing import Answer

from ..calls import SHAPES
from ..differential import cases as compared
from ..exchanges.openai import EXCHANGES

Json = dict[str, Any]

WRONG: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    "",
    "x",
    "\ud83d",
    "\x00\u2028\U0001f600",
    "9" * 5000,
    [],
    [None],
    ["x", 5],
    {},
    {"type": []},
    {"error": "x"},
    {"type": "message", "content": "x"},
)
LITERALS = ("NaN", "-Infinity", "1e999", "9" * 5000, "[" * 500 + "]" * 500, '{"a":' * 150 + "1" + "}" * 150)
"""JSON, or nearly, that `json.dumps` does not write."""
STATUSES = (200, 201, 202, 204, 400, 401, 404, 409, 413, 422, 429, 500, 502, 503)
CONTENT_TYPES = (
    "application/json",
    "application/json; charset=latin-1",
    "application/json; charset=utf-16",
    "application/json; charset=nonsense",
    "application/problem+json",
    "text/event-stream",
    "text/html; charset=utf-8",
    "text/plain",
    "application/octet-stream",
    "",
)
ENCODINGS = ("gzip", "deflate", "br", "zstd", "identity", "nonsense", "gzip, deflate")
PAGES = (
    b"",
    b"<html><body><h1>502 Bad Gateway</h1></body></html>",
    b"upstream connect error or disconnect/reset before headers",
    b"null",
    b"{}",
    b"[]",
    b'"x"',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe",
    b'{"error": {"message": "\\ud83d no", "code": null}}',
    b'{"error": "x"}',
    b"data: [DONE]\n\n",
    b": ping\n\n" * 20,
    b"data:\n\n",
    b"\n" * 1000,
)


@dataclass(frozen=True)
class Fuzzed:
    """One case: how the client calls, and what it is answered."""

    name: str
    endpoint: str
    mode: str
    is_async: bool
    answer: Answer


def corpus() -> dict[str, tuple[list[bytes], list[list[str]]]]:
    """endpoint -> the bodies, and the texts of the streams, that are damaged."""
    found: dict[str, tuple[list[bytes], list[list[str]]]] = {endpoint: ([], []) for endpoint in SHAPES}
    for exchange in EXCHANGES:
        if exchange.endpoint in found:
            found[exchange.endpoint][0].append(exchange.response)
            if exchange.chunks:
                found[exchange.endpoint][1].append(list(exchange.chunks))
    for case in compared.CASES:
        endpoint = {"chat": "chat", "responses": "responses", "embeddings": "embeddings"}[case.method.split(".")[0]]
        answer = case.answers[-1]
        if answer.chunks is not None:
            lines = "".join(piece for piece in answer.chunks if isinstance(piece, str)).split("\n")
            texts = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
            found[endpoint][1].append(texts)
        elif isinstance(answer.body, (dict, list)):
            found[endpoint][0].append(json.dumps(answer.body).encode())
    return found


CORPUS = corpus()


def make(seed: int, number: int) -> Fuzzed:
    """The case of that number."""
    dice = random.Random(f"{seed}:{number}")
    endpoint = dice.choice(("chat", "chat", "responses", "responses", "completions", "embeddings"))
    mode = dice.choice(SHAPES[endpoint].ways)
    bodies, streams = CORPUS[endpoint]
    headers = {"x-request-id": f"req_{number}", "connection": "close"}
    # Now and then the other kind of answer than the one that was asked for.
    streamed = bool(streams) and (mode in ("stream", "raw stream", "helper", "closed")) != (dice.random() < 0.1)
    if streamed:
        body = framed(dice, damaged_texts(dice, list(dice.choice(streams))))
        headers["content-type"] = "text/event-stream; charset=utf-8"
    else:
        body = damaged_json(dice, dice.choice(bodies))
        headers["content-type"] = "application/json"
    if dice.random() < 0.08:
        body = dice.choice(PAGES)
    if dice.random() < 0.25:
        body = damaged_bytes(dice, body)
    if dice.random() < 0.12:
        headers["content-type"] = dice.choice(CONTENT_TYPES)
    if dice.random() < 0.2:
        body, headers["content-encoding"] = encoded(dice, body)
    status = dice.choice(STATUSES) if dice.random() < 0.2 else 200
    cut = dice.random() < 0.12
    if streamed or dice.random() < 0.2:
        answer = Answer(status, headers, chunks=pieces(dice, body), cut=cut)
    else:
        answer = Answer(status, headers, body, cut=cut, reset=dice.random() < 0.02)
    return Fuzzed(f"{seed}:{number}", endpoint, mode, dice.random() < 0.4, answer)


# --- damage ---


def damaged_json(dice: random.Random, body: bytes) -> bytes:
    """The JSON with up to four of its values replaced, left out, doubled or written as no JSON is."""
    try:
        root = json.loads(body)
    except ValueError:  # damaged before
        return body
    literal = None
    for _ in range(dice.choice((0, 1, 1, 2, 4, 8))):
        holder, key = place(dice, root)
        if holder is None:
            break
        kind = dice.randrange(7)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.extend(holder[: dice.randrange(20)])
        elif kind == 2 and isinstance(holder, dict):
            holder["new member"] = holder.pop(key)
        elif kind == 3:
            holder[key] = "<the literal>"
            literal = dice.choice(LITERALS)
        else:
            holder[key] = copy.deepcopy(dice.choice(WRONG))  # what is put in may be damaged next
    text = json.dumps(root, ensure_ascii=dice.random() < 0.5)
    if literal is not None:
        text = text.replace('"<the literal>"', literal)
    return text.encode("utf-8", "surrogatepass" if dice.random() < 0.3 else "replace")


def place(dice: random.Random, root: Any) -> tuple[Any, Any]:
    """Some container inside a value and a key in it; (None, None) where there is none."""
    holder, key = None, None
    value = root
    while isinstance(value, (dict, list)) and value:
        holder = value
        key = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
        value = holder[key]
        if dice.random() < 0.4:
            break
    return holder, key


def damaged_texts(dice: random.Random, texts: list[str]) -> list[str]:
    """The events of a stream, some of them damaged, lost, doubled or in another order."""
    for _ in range(dice.choice((0, 0, 1, 1, 2, 3))):
        if not texts:
            break
        at = dice.randrange(len(texts))
        kind = dice.randrange(7)
        if kind == 0:
            del texts[at]
        elif kind == 1:
            texts.insert(at, texts[dice.randrange(len(texts))])
        elif kind == 2:
            other = dice.randrange(len(texts))
            texts[at], texts[other] = texts[other], texts[at]
        elif kind == 3:
            del texts[at:]
        elif kind == 4:
            texts.insert(at, dice.choice(("", "null", "[]", "5", "{", "[DONE]", "[DONE] x", '{"error": {}}', "\x00")))
        elif texts[at].startswith("{"):
            texts[at] = damaged_json(dice, texts[at].encode()).decode("utf-8", "replace")
    return texts


def framed(dice: random.Random, texts: list[str]) -> bytes:
    """The events as a stream, in one of the many ways that the standard allows."""
    end = dice.choice(("\n", "\n", "\n", "\r\n", "\r"))
    lines: list[str] = []
    for text in texts:
        if dice.random() < 0.1:
            lines += [dice.choice((": ping", "id: 1", "retry: 5", "event: error", "event:", "nonsense", "\ufeff"))]
        if text.startswith("{") and dice.random() < 0.1:
            try:
                text = json.dumps(json.loads(text), indent=1)
            except ValueError:
                pass
        lines += [("data: " if dice.random() < 0.9 else "data:") + line for line in text.split("\n")] + [""]
    return (end.join(lines) + end).encode("utf-8", "surrogatepass")


def damaged_bytes(dice: random.Random, body: bytes) -> bytes:
    """The bytes with some of them changed, lost, doubled, added or cut off."""
    damaged = bytearray(body)
    for _ in range(dice.choice((1, 1, 2, 5))):
        start = dice.randrange(len(damaged) + 1)
        end = min(len(damaged), start + dice.choice((1, 2, 20)))
        kind = dice.randrange(5)
        if kind == 0 and damaged:
            damaged[min(start, len(damaged) - 1)] = dice.randrange(256)
        elif kind == 1:
            del damaged[start:end]
        elif kind == 2:
            damaged[start:start] = dice.randbytes(dice.choice((1, 4)))
        elif kind == 3:
            damaged[end:end] = damaged[start:end]
        else:
            del damaged[start:]
    return bytes(damaged)


def encoded(dice: random.Random, body: bytes) -> tuple[bytes, str]:
    """The body in a content encoding, or only said to be; and its name."""
    name = dice.choice(ENCODINGS)
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda body: gzip.compress(body, mtime=0),
        "deflate": zlib.compress,
        "gzip, deflate": lambda body: zlib.compress(gzip.compress(body, mtime=0)),
    }
    if name in packers and dice.random() < 0.8:
        body = packers[name](body)
        if dice.random() < 0.2:
            body = body[: dice.randrange(len(body))]
    return body, name


def pieces(dice: random.Random, body: bytes) -> list[bytes]:
    """The body in pieces, cut anywhere; none of them empty, which would end it."""
    cuts = sorted({dice.randrange(1, len(body)) for _ in range(dice.choice((0, 1, 5, 40)))}) if len(body) > 1 else []
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True) if end > start]
