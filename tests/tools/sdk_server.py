"""An API for the SDK's own tests, on loopback: every endpoint answers with what the installed SDK says it returns.

    python tests/tools/sdk_server.py        # prints its URL, serves until its standard input ends

The endpoints are read out of the source of `openai.resources`: each `self._post("/path", ..., cast_to=Type)` is one.
The answer is made from the type: every field filled, the first variant of every union, lists of one item, streams with
one event of each kind. So it is what the tests' `assert_matches_type` accepts, strict or loose, of any SDK version.
"""

from __future__ import annotations

import ast
import base64
import datetime
import importlib
import inspect
import json
import pkgutil
import re
import sys
import threading
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import unquote, urlsplit

import openai.resources
import pydantic
import typing_extensions

from posthog_autoinstrument.testing import Answer, LoopbackServer, Request, sse

_VERBS = {"_get": "GET", "_post": "POST", "_put": "PUT", "_patch": "PATCH", "_delete": "DELETE", "_get_api_list": "GET"}
_MAX_DEPTH = 12
_MANY_FIELDS = 2_000
_LISTS = (list, Iterable, Sequence)
_SCALARS: dict[Any, Any] = {
    str: "string",
    int: 1,
    float: 1.5,
    bool: True,
    bytes: base64.b64encode(b"bytes").decode(),
    datetime.datetime: "2026-01-31T12:00:00Z",
    datetime.date: "2026-01-31",
    type(None): None,
    object: "anything",
    Any: "anything",
}


@dataclass(frozen=True)
class Endpoint:
    """One call of `self._get`, `self._post`, ... in a resource: what is asked, and the source of what it returns."""

    verb: str
    path: re.Pattern[str]
    query: str
    """What the path itself has of a query: beta endpoints differ from others by it."""
    n_placeholders: int
    module: types.ModuleType
    cast_to: ast.expr
    """An expression in `module`: a type, or a call that chooses one by the request's `response_format`."""
    stream_cls: ast.expr | None

    def result(self, response_format: str) -> Any:
        """The type of the answer."""
        return self._evaluate(self.cast_to, response_format)

    def stream_item(self) -> Any:
        """The type of a stream's events."""
        if self.stream_cls is None:
            return None
        stream = self._evaluate(self.stream_cls, "json")
        if not get_args(stream):  # a subclass: class SessionStream(Stream[SessionEvent])
            stream = next(base for base in stream.__orig_bases__ if get_args(base))
        return get_args(stream)[0]

    def _evaluate(self, expression: ast.expr, response_format: str) -> Any:
        code = compile(ast.Expression(expression), self.module.__name__, "eval")
        return eval(code, dict(vars(self.module)), {"response_format": response_format})


def endpoints() -> list[Endpoint]:
    """Those of the installed SDK, the most literal paths first."""
    found: list[Endpoint] = []
    for info in pkgutil.walk_packages(openai.resources.__path__, "openai.resources."):
        module = importlib.import_module(info.name)
        for cls in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(cls, ast.ClassDef) and not cls.name.startswith("Async"):
                found += _of_class(module, cls)
    return sorted(found, key=lambda endpoint: (endpoint.n_placeholders, -len(endpoint.query)))


def _of_class(module: types.ModuleType, cls: ast.ClassDef) -> Iterator[Endpoint]:
    for call in ast.walk(cls):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _VERBS):
            continue
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        template = _template(call.args[0] if call.args else keywords.get("path"))
        cast_to = keywords.get("page") or keywords.get("cast_to")
        if template is None or cast_to is None:
            continue
        verb = _VERBS[call.func.attr]
        if isinstance(keywords.get("method"), ast.Constant):
            verb = keywords["method"].value.upper()
        address = urlsplit(template)
        pieces = re.split(r"\{[^}]*\}", address.path)
        yield Endpoint(
            verb,
            re.compile("[^/]+".join(map(re.escape, pieces)) + "$"),
            address.query,
            len(pieces) - 1,
            module,
            _without_cast(cast_to),
            keywords.get("stream_cls"),
        )


def _template(path: ast.expr | None) -> str | None:
    """`"/x"`, `f"/x/{id}"` and `path_template("/x/{id}", id=id)` as `"/x/{}"`; None for other expressions."""
    if isinstance(path, ast.Call) and path.args:
        path = path.args[0]
    if isinstance(path, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in path.values)
    return path.value if isinstance(path, ast.Constant) and isinstance(path.value, str) else None


def _without_cast(expression: ast.expr) -> ast.expr:
    """`cast(Any, Type)` as `Type`."""
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name) and expression.func.id == "cast":
        return expression.args[1]
    return expression


class Impossible(Exception):
    """No finite value of this type: it contains itself."""


class Example:
    """Makes one JSON value of a type. `full`: optional fields are filled too, as deep as a type does not come again."""

    def __init__(self, full: bool) -> None:
        self._full = full
        self._inside: list[Any] = []
        self._n_fields = 0

    def of(self, wanted: Any) -> Any:
        wanted = _bare(wanted)
        if wanted in _SCALARS:
            return _SCALARS[wanted]
        origin, arguments = get_origin(wanted) or wanted, get_args(wanted)
        if origin in (Literal, typing_extensions.Literal):
            return arguments[0]
        if origin in (Union, types.UnionType):
            return self._first(variant for variant in arguments if variant is not type(None))
        if origin is dict:
            return {"key": self.of(arguments[1])} if arguments else {}
        if origin in _LISTS:
            try:
                return [self.of(arguments[0])] if arguments else []
            except Impossible:
                return []
        if inspect.isclass(wanted) and issubclass(wanted, pydantic.BaseModel):
            return self._model(wanted)
        if isinstance(wanted, TypeVar):
            return self.of(wanted.__bound__) if wanted.__bound__ is not None else None
        raise TypeError(f"no example of {wanted!r}")

    def _first(self, variants: Iterator[Any]) -> Any:
        for variant in variants:
            try:
                return self.of(variant)
            except Impossible:
                continue
        raise Impossible

    def _model(self, model: type[pydantic.BaseModel]) -> dict[str, Any]:
        if model in self._inside or len(self._inside) > _MAX_DEPTH:
            raise Impossible
        self._inside.append(model)
        try:
            made: dict[str, Any] = {}
            for name, field in model.model_fields.items():
                self._n_fields += 1
                if not field.is_required() and (not self._full or self._n_fields > _MANY_FIELDS):
                    continue
                try:
                    made[field.alias or name] = self.of(field.annotation)
                except Impossible:
                    if field.is_required():
                        raise
            return made
        finally:
            self._inside.pop()


def _bare(wanted: Any) -> Any:
    """Without `Annotated[...]` and names of type aliases."""
    while True:
        if hasattr(wanted, "__value__"):
            wanted = wanted.__value__
        elif hasattr(wanted, "__metadata__"):
            wanted = get_args(wanted)[0]
        else:
            return wanted


def example(wanted: Any) -> Any:
    """A JSON value of the type: a full one if pydantic takes it, else one with only what must be there."""
    for full in (True, False):
        try:
            made = Example(full).of(wanted)
            pydantic.TypeAdapter(wanted).validate_python(made)
        except (pydantic.ValidationError, Impossible):
            continue
        return made
    return Example(full=False).of(wanted)


def _variants(wanted: Any) -> list[Any]:
    bare = _bare(wanted)
    return list(get_args(bare)) if get_origin(bare) in (Union, types.UnionType) else [wanted]


class SdkServer:
    """Answers every endpoint of the installed SDK."""

    def __init__(self) -> None:
        self._endpoints = endpoints()
        self._made: dict[tuple[int, str, bool], Answer] = {}
        self._lock = threading.Lock()
        self._server = LoopbackServer(self.answer)
        self.url = self._server.url

    def answer(self, request: Request) -> Answer:
        address = urlsplit(request.path)
        path = unquote(address.path)
        for endpoint in self._endpoints:
            if (
                endpoint.verb == request.method
                and endpoint.path.match(path)
                and (not endpoint.query or endpoint.query in address.query)
            ):
                break
        else:
            print(f"no endpoint: {request.method} {path}", file=sys.stderr, flush=True)
            return Answer(404, body={"error": {"message": f"no endpoint {request.method} {path}"}})
        response_format, stream = _asked(request)
        key = (id(endpoint), response_format, stream)
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(endpoint, response_format, stream)
            return self._made[key]

    def _make(self, endpoint: Endpoint, response_format: str, stream: bool) -> Answer:
        try:
            if stream and (item := endpoint.stream_item()) is not None:
                return sse(*[example(variant) for variant in _variants(item)])
            result = endpoint.result(response_format)
            if getattr(result, "__name__", "") == "HttpxBinaryResponseContent":
                return Answer(headers={"content-type": "application/octet-stream"}, body=b"some bytes")
            if result is str:
                return Answer(headers={"content-type": "text/plain"}, body="some text")
            if result is type(None):
                return Answer(204)
            return Answer(body=json.dumps(example(result)))
        except Exception as error:
            print(f"no answer for {endpoint.verb} {endpoint.path.pattern}: {error!r}", file=sys.stderr, flush=True)
            return Answer(500, body={"error": {"message": repr(error)}})


def _asked(request: Request) -> tuple[str, bool]:
    """The request's `response_format`, where it is a word, and whether it asks for a stream; JSON or a form."""
    try:
        body = request.json() if request.body else {}
    except ValueError:
        form = dict(re.findall(rb'name="(response_format|stream)"\r\n(?:[^\r]+\r\n)*\r\n([^\r]*)\r\n', request.body))
        body = {
            "response_format": form.get(b"response_format", b"json").decode(),
            "stream": form.get(b"stream") == b"true",
        }
    if not isinstance(body, dict):
        return "json", False
    response_format = body.get("response_format")
    return response_format if isinstance(response_format, str) else "json", body.get("stream") is True


if __name__ == "__main__":
    print(SdkServer().url, flush=True)
    sys.stdin.read()
