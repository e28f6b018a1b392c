"""What every provider must keep. `check_provider(provider, exchanges)` raises AssertionError where one does not.

`exchanges` are sample calls, at least one for each endpoint; `test_contract.py` takes them from the provider's own
test, `test_<name>_readers.EXCHANGES`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from posthog_autoinstrument.providers.generation import Failure, Generation, Usage
from posthog_autoinstrument.providers.provider import Endpoint, Provider


@dataclass(frozen=True)
class Exchange:
    """One call: the request's body, the answer's body, and where the endpoint streams the same answer as SSE texts."""

    endpoint: str
    request: bytes
    response: bytes
    chunks: tuple[str, ...] | None = None


DEEP = 100_000
"""Nesting that no JSON parser of Python's follows."""

JUNK_BODIES = (
    None,
    b"",
    b" \n",
    b"null",
    b"true",
    b"0",
    b"[]",
    b"[null]",
    b"{}",
    b'"x"',
    b"{",
    b"\xff\xfe\xfa",
    b"\x80{}",
    b"\xef\xbb\xbf{}",
    b"<html><body>502 Bad Gateway</body></html>",
    b"data: {}\n\n",
    b'{"error": null}',
    b'{"error": 5}',
    b'{"error": []}',
    b'{"detail": [{"loc": ["body"], "msg": "required"}]}',
    b'{"n": ' + b"9" * 5000 + b"}",
    b'{"usage": NaN, "choices": Infinity}',
    b'{"model": "\\ud800", "choices": [{"message": {"content": "\\udfff"}}]}',
    b"[" * DEEP,
    b'{"a":' * DEEP,
)
JUNK_CHUNKS: tuple[tuple[str, ...] | None, ...] = (
    None,
    (),
    ("",),
    ("[DONE]",),
    ("[DONE] ", "{"),
    ("null", "[]", '"x"', "5", "{}", "[DONE]"),
    ("{", "}"),
    ("<html>",),
    ("\ud800",),
    ('{"error": {}}', '{"error": {"message": 5}}', '{"error": "x"}'),
    ('{"type": null}', '{"type": {}}', '{"type": "error"}', '{"choices": null}', '{"choices": [null, 5, {}]}'),
    ("[" * DEEP,),
)
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    10**400,
    "",
    "x",
    [],
    [None],
    ["x", 5],
    [[]],
    {},
    {"a": None},
    {"type": []},
)
"""Put in the place of every value of a sample, one at a time."""


def check_provider(provider: Provider, exchanges: Sequence[Exchange]) -> None:
    """Check everything; the first thing that is wrong is raised."""
    check_tables(provider)
    covered = {exchange.endpoint for exchange in exchanges}
    assert covered == {endpoint.name for endpoint in provider.endpoints}, "each endpoint needs a sample exchange"
    for endpoint in provider.endpoints:
        check_junk(endpoint)
    for exchange in exchanges:
        endpoint = named(provider, exchange.endpoint)
        check_pure(endpoint, exchange)
        check_damage(endpoint, exchange)
        if exchange.chunks is not None:
            check_streaming(endpoint, exchange)


def named(provider: Provider, name: str) -> Endpoint:
    """The endpoint of that name, which must exist."""
    endpoint = provider.endpoint(name)
    assert endpoint is not None, f"{provider.name} has no endpoint {name!r}"
    return endpoint


def check_tables(provider: Provider) -> None:
    """Names and paths are unique, sites refer to endpoints, and every method has its twin."""
    names = [endpoint.name for endpoint in provider.endpoints]
    paths = [endpoint.path for endpoint in provider.endpoints]
    assert len(set(names)) == len(names)
    assert len({(endpoint.method, endpoint.path) for endpoint in provider.endpoints}) == len(paths)
    assert all(path.startswith("/") and not path.endswith("/") and "?" not in path for path in paths)
    assert {site.endpoint for site in provider.methods} <= set(names)
    methods = [(site.module, site.cls, name) for site in provider.methods for name in (*site.methods, *site.streams)]
    assert len(set(methods)) == len(methods)
    for site in provider.methods:
        assert site.methods or site.streams
        assert not set(site.methods) & set(site.streams)
        assert site.module.split(".")[0] == provider.package
    shapes = [(site.module, site.endpoint, site.methods, site.streams, site.is_async) for site in provider.methods]
    assert {shape[:4] for shape in shapes if shape[4]} == {shape[:4] for shape in shapes if not shape[4]}
    for module in (provider.transport.base_module, provider.transport.streaming_module):
        assert module.split(".")[0] == provider.package
    for client, url in (("", ""), ("X", "http://[::1"), ("X", "\ud800"), ("X", "http://localhost:99999999/v1")):
        assert provider.vendor_of(client, url, {}, Generation())


def check_junk(endpoint: Endpoint) -> None:
    """Nothing that can arrive makes the reader raise."""
    for body in JUNK_BODIES:
        check_shape(endpoint, endpoint.read(body, None, None))
        check_shape(endpoint, endpoint.read(None, body, None))
        check_shape(endpoint, endpoint.read(body, body, ()))
    for chunks in JUNK_CHUNKS:
        check_shape(endpoint, endpoint.read(None, None, chunks))
        check_shape(endpoint, endpoint.read(b"{}", b"{}", chunks))


def check_damage(endpoint: Endpoint, exchange: Exchange) -> None:
    """A sample cut at every 7th byte, with bytes that are not UTF-8, or with any value replaced is still read."""
    request, response = exchange.request, exchange.response
    for cut in range(0, len(response), 7):
        check_shape(endpoint, endpoint.read(request, response[:cut], None))
        check_shape(endpoint, endpoint.read(request, response[:cut] + b"\xff" + response[cut:], None))
    for cut in range(0, len(request), 7):
        check_shape(endpoint, endpoint.read(request[:cut], response, None))
    for body in replaced(request):
        check_shape(endpoint, endpoint.read(body.encode(), response, None))
    for body in replaced(response):
        check_shape(endpoint, endpoint.read(request, body.encode(), None))
    chunks = exchange.chunks or ()
    for position, chunk in enumerate(chunks):
        before, after = chunks[:position], chunks[position + 1 :]
        check_shape(endpoint, endpoint.read(request, None, before))
        check_shape(endpoint, endpoint.read(request, None, after))
        check_shape(endpoint, endpoint.read(request, None, (*before, chunk[:-1], *after)))
        if chunk.startswith("{"):
            for text in replaced(chunk.encode()):
                check_shape(endpoint, endpoint.read(request, None, (*before, text, *after)))


def check_pure(endpoint: Endpoint, exchange: Exchange) -> None:
    """The same in gives the same out, whatever was done to an earlier result; what went in is left as it was."""
    for chunks in (None, exchange.chunks):
        given = None if chunks is None else list(chunks)
        first = endpoint.read(exchange.request, exchange.response, given)
        kept = copy.deepcopy(first)
        first.parameters.clear()
        for messages in (first.input, first.output, first.tools):
            if isinstance(messages, list):
                messages.clear()
        assert endpoint.read(exchange.request, exchange.response, given) == kept
        assert given == (None if chunks is None else list(chunks))


def check_streaming(endpoint: Endpoint, exchange: Exchange) -> None:
    """A streamed answer is understood as the same answer in one piece is, and the clock of its first output stops."""
    assert exchange.chunks is not None
    whole = endpoint.read(exchange.request, exchange.response, None)
    streamed = endpoint.read(exchange.request, None, exchange.chunks)
    assert streamed.output == whole.output
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.model == whole.model
    assert streamed.response_id == whole.response_id
    assert streamed.usage == whole.usage
    assert streamed.failure == whole.failure
    assert whole.first_output_chunk is None
    assert streamed.first_output_chunk in range(len(exchange.chunks))
    first = streamed.first_output_chunk
    assert first is not None
    assert endpoint.read(exchange.request, None, exchange.chunks[:first]).first_output_chunk is None


def check_shape(endpoint: Endpoint, generation: Generation) -> None:
    """A generation is what `generation.py` says it is, whatever it was read from."""
    assert isinstance(generation, Generation)
    for text in (generation.model, generation.stop_reason, generation.service_tier, generation.response_id):
        assert text is None or isinstance(text, str)
    assert isinstance(generation.parameters, dict)
    assert generation.tools is None or isinstance(generation.tools, list)
    assert generation.cost_usd is None or isinstance(generation.cost_usd, float)
    assert generation.first_output_chunk is None or isinstance(generation.first_output_chunk, int)
    if endpoint.kind == "embedding":
        assert generation.output is None
    elif endpoint.kind == "span":
        json.dumps([generation.input, generation.output])
    else:
        assert generation.input is None or isinstance(generation.input, list)
        assert isinstance(generation.output, list)
        for message in generation.output:
            assert set(message) == {"role", "content"}
            assert isinstance(message["role"], str)
            assert all(isinstance(part, dict) for part in message["content"])
    assert isinstance(generation.usage, Usage)
    for name, value in vars(generation.usage).items():
        kind = dict if name == "raw" else int
        assert value is None or (isinstance(value, kind) and not isinstance(value, bool))
    if generation.failure is not None:
        assert isinstance(generation.failure, Failure)
        failure = generation.failure
        for text in (failure.message, failure.code, failure.type, failure.param):
            assert text is None or isinstance(text, str)


def replaced(body: bytes) -> Iterator[str]:
    """The JSON with every value in it replaced by every wrong one, and with every member left out."""
    root = json.loads(body)
    for path in _paths(root):
        holder = root
        for step in path[:-1]:
            holder = holder[step]
        kept = holder[path[-1]]
        for wrong in WRONG:
            holder[path[-1]] = wrong
            yield json.dumps(root)
        holder[path[-1]] = kept
        if isinstance(holder, dict):
            members = dict(holder)
            del holder[path[-1]]
            yield json.dumps(root)
            holder.clear()
            holder.update(members)


def _paths(value: Any) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        members = list(value.items())
    elif isinstance(value, list):
        members = list(enumerate(value[:3]))
    else:
        return []
    return [path for key, member in members for path in [(key,), *((key, *rest) for rest in _paths(member))]]
