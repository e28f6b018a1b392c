"""A fake OpenAI: the wire protocol of api.openai.com and of Azure on loopback, with made-up answers.

What it answers follows from the request alone (and from how often it was made), so two runs of one program against
two fresh servers see the same bytes. Tokens are counted as one for every 4 characters begun.

An unmodified program provokes faults by its model name, or by the name in square brackets in its prompt
(`"[flaky-429] Hello"`):

    error-STATUS      always this HTTP error, in OpenAI's shape: error-400, error-401, error-404, error-429, error-500
    flaky-429         429 once for each prompt, then the answer
    slow              the answer after 0.3 s
    hang              no answer until the server is closed
    cut               the connection is closed in the middle of the answer
    error-in-stream   an error event in the middle of the stream
    long              an answer of 200 words: 200 chunks with content
    slow-stream       0.02 s between two chunks

Longer than other files: it is one protocol with seven endpoints, and they share how an answer is made up.

`python -m posthog_autoinstrument.testing.openai_server --port 0` prints the base URL and serves until interrupted.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import re
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, cast

from .loopback import Answer, LoopbackServer, Request, sse

Json = dict[str, Any]

CREATED_AT = 1_750_000_000
"""Epoch seconds in every answer: constant, so that answers can be compared."""
SLOW_S = 0.3
CHUNK_DELAY_S = 0.02
LONG_CHUNKS = 200

_DATED_MODELS = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
}
_FAULTS = "error-[45][0-9][0-9]|flaky-429|slow-stream|slow|hang|cut|error-in-stream|long"
_FAULT_MODEL = re.compile(_FAULTS)
_FAULT_MARK = re.compile(rf"\[({_FAULTS})\]")
_PATH = re.compile(r"(?:/v1|/openai/deployments/(?P<deployment>[^/]+)|/openai/v1|/openai)(?P<endpoint>/.+)")
_SOURCES = {"/chat/completions": "messages", "/completions": "prompt"}
"""The parameter that carries the input, where it is not called `input`."""
_ERRORS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_STREAM_ERROR = {
    "message": "The server had an error while processing your request. Sorry about that!",
    "type": "server_error",
    "param": None,
    "code": "server_error",
}


def count_tokens(text: str) -> int:
    """Tokens this server counts for a text."""
    return (len(text) + 3) // 4


class OpenAIServer:
    """OpenAI's API on loopback; a context manager. `requests` holds everything received, in order of arrival."""

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._seen: Counter[str] = Counter()
        self._script: deque[Answer] = deque()
        self._responses: dict[str, Json] = {}
        self._polls: Counter[str] = Counter()
        self._never = threading.Event()
        self._endpoints: dict[str, Callable[[_Call], Answer]] = {
            "/chat/completions": _chat_answer,
            "/completions": _completions_answer,
            "/responses": self._responses_answer,
            "/embeddings": _embeddings_answer,
        }
        self._server = LoopbackServer(self._answer, port)
        self.requests = self._server.requests
        self.url = self._server.url
        """Without a path; what Azure clients call their endpoint."""
        self.base_url = self.url + "/v1"

    def __enter__(self) -> OpenAIServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering and drop all connections."""
        self._server.close()

    def script(self, *answers: Answer) -> None:
        """Use these answers for the next requests, one each, in this order, whatever they ask."""
        self._script.extend(answers)

    def _answer(self, request: Request) -> Answer:
        try:
            answer = self._script.popleft()
        except IndexError:
            answer = self._unscripted(request)
        headers = {
            "x-request-id": f"req_{next(self._numbers):032x}",
            "openai-processing-ms": "12",
            "openai-organization": "org-testing",
            "openai-version": "2020-10-01",
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "9999",
        }
        return replace(answer, headers={**headers, **answer.headers})

    def _unscripted(self, request: Request) -> Answer:
        if "invalid" in (
            request.headers.get("authorization", "").removeprefix("Bearer "),
            request.headers.get("api-key"),
        ):
            return _error(401, "Incorrect API key provided: invalid.")
        path, _, query = request.path.partition("?")
        place = _PATH.fullmatch(path)
        endpoint = place["endpoint"] if place else ""
        if request.method == "GET":
            answer = self._stored_answer(endpoint, query)
        elif request.method == "POST" and endpoint in self._endpoints:
            answer = self._generated_answer(request, endpoint, place["deployment"] if place else None)
        else:
            answer = None
        return answer or _error(404, f"Invalid URL ({request.method} {path})", code=None)

    def _stored_answer(self, endpoint: str, query: str) -> Answer | None:
        if endpoint == "/models":
            models = [_model(name) for name in (*_DATED_MODELS, *_DATED_MODELS.values(), "text-embedding-3-small")]
            return Answer(body={"object": "list", "data": models})
        if endpoint.startswith("/models/"):
            return Answer(body=_model(endpoint.removeprefix("/models/")))
        if endpoint.startswith("/responses/"):
            ident = endpoint.removeprefix("/responses/")
            response = self._responses.get(ident)
            if response is None:
                return _error(404, f"Response with id '{ident}' not found.", code=None)
            if "stream=true" in query:
                return sse(*_response_events(response), done=False)
            with self._lock:
                self._polls[ident] += 1
            # One who polls a background response sees it in progress once.
            pending = response["background"] and self._polls[ident] == 1
            return Answer(body=_unfinished(response, "in_progress") if pending else response)
        return None

    def _generated_answer(self, request: Request, endpoint: str, deployment: str | None) -> Answer:
        try:
            body = request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return _error(400, "We could not parse the JSON body of your request.")
        model = body.get("model") or deployment
        source = body.get(_SOURCES.get(endpoint, "input"))
        refused = _refusal(endpoint, body, model, source)
        if refused is not None:
            return refused
        prompt = _last_user_text(source)
        fault = _fault(model, prompt)
        key = f"{endpoint}\0{model}\0{prompt}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(key, digest_size=10).hexdigest()
        with self._lock:
            times = self._seen[digest]
            self._seen[digest] += 1
        if fault.startswith("error-") and fault != "error-in-stream":
            return _forced_error(int(fault.removeprefix("error-")), model)
        if fault == "flaky-429" and times == 0:
            return _forced_error(429, model)
        if fault == "hang":
            return Answer(hold=self._never)
        last = source[-1] if isinstance(source, list) and source else None
        call = _Call(
            body=body,
            ident=f"{digest}{times:04x}",
            model=_model_of(model, deployment),
            texts=_texts(source),
            prompt=prompt,
            after_tool=isinstance(last, dict) and _is_tool_result(last),
            fault=fault,
        )
        answer = self._endpoints[endpoint](call)
        return replace(answer, delay_s=SLOW_S) if fault == "slow" else answer

    def _responses_answer(self, call: _Call) -> Answer:
        response = _response(call)
        self._responses[response["id"]] = response
        if call.body.get("stream"):
            return _stream(call, _response_events(response), {"type": "error", "error": _STREAM_ERROR}, done=False)
        if response["background"]:
            return Answer(body=_unfinished(response, "queued"))
        return _whole(call, response)


@dataclass(frozen=True)
class _Call:
    """A request to generate something, checked."""

    body: Json
    ident: str
    """Part of all ids in the answer: from endpoint, model, prompt, and how often they came before."""
    model: str
    """What the answer calls the model."""
    texts: list[str]
    """All texts of the input: messages, inputs or prompts."""
    prompt: str
    """The last text of the user."""
    after_tool: bool
    """The input ends with the result of a tool."""
    fault: str


@dataclass(frozen=True)
class _Reply:
    """The made-up answer: a text, or a call of a tool."""

    text: str
    tool: str | None = None
    """The tool's name; the text is then its arguments as JSON."""
    cut_short: bool = False
    """max_tokens was reached."""

    @property
    def pieces(self) -> list[str]:
        """The text word by word, as it is streamed."""
        return re.findall(r"\S+\s*|\s+", self.text)


def _reply(call: _Call, tools: Sequence[Json], schema: Json | None, max_tokens: int | None) -> _Reply:
    """`tools` are function definitions (name, parameters); `schema` is a JSON schema that the text must satisfy."""
    if tools:
        return _Reply(json.dumps(example_of(tools[0].get("parameters") or {})), tool=tools[0]["name"])
    if schema is not None:
        text = json.dumps(example_of(schema))
    elif call.fault == "long":
        text = " ".join(f"word{number}" for number in range(LONG_CHUNKS))
    elif call.after_tool:
        text = f"According to the tool: {call.texts[-1][:200]}"
    else:
        text = f'A made-up answer to "{call.prompt[:200]}".'
    if max_tokens is not None and count_tokens(text) > max_tokens:
        return _Reply(text[: max_tokens * 4], cut_short=True)
    return _Reply(text)


def example_of(schema: Json, root: Json | None = None) -> Any:
    """A value that satisfies a JSON schema of the kind that OpenAI accepts for tools and structured output."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
            # "#" alone is the root: a recursive schema, for which an empty object is the only short answer.
            target = target[part] if part else {}
        return example_of(target, root)
    for word in ("examples", "enum"):
        if schema.get(word):
            return schema[word][0]
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            return example_of(schema[word][0], root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: example_of(part, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example_of(schema["items"], root)] if schema.get("items") else []
    return {"string": "example", "integer": 1, "number": 1.5, "boolean": True}.get(kind)


def _chat_answer(call: _Call) -> Answer:
    body, n = call.body, call.body.get("n") or 1
    functions = [tool["function"] for tool in body.get("tools") or () if "function" in tool]
    max_tokens = body.get("max_completion_tokens") or body.get("max_tokens")
    reply = _reply(call, _offered(call, functions), _schema(body.get("response_format") or {}), max_tokens)
    usage = _chat_usage(sum(map(count_tokens, call.texts)), n * count_tokens(reply.text))
    finish_reason = "tool_calls" if reply.tool else "length" if reply.cut_short else "stop"
    function = {"name": reply.tool, "arguments": reply.text}
    tool_call = {"id": f"call_{call.ident}", "type": "function", "function": function}
    if body.get("stream"):
        return _chat_stream(call, reply, tool_call, finish_reason, n, usage)
    message: Json = {
        "role": "assistant",
        "content": None if reply.tool else reply.text,
        "refusal": None,
        "annotations": [],
    }
    if reply.tool:
        message["tool_calls"] = [tool_call]
    choice = {"message": message, "logprobs": None, "finish_reason": finish_reason}
    choices = [{"index": index, **choice} for index in range(n)]
    return _whole(call, {**_chat_head(call, "chat.completion"), "choices": choices, "usage": usage})


def _chat_stream(call: _Call, reply: _Reply, tool_call: Json, finish_reason: str, n: int, usage: Json) -> Answer:
    deltas: list[Json] = []
    if reply.tool:
        opened: Json = {"index": 0, **tool_call, "function": {"name": reply.tool, "arguments": ""}}
        deltas.append({"role": "assistant", "content": None, "tool_calls": [opened], "refusal": None})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in reply.pieces]
    else:
        deltas.append({"role": "assistant", "content": "", "refusal": None})
        deltas += [{"content": piece} for piece in reply.pieces]
    choices: list[Json] = [{"delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    choices.append({"delta": {}, "logprobs": None, "finish_reason": finish_reason})
    return _choice_stream(call, _chat_head(call, "chat.completion.chunk"), choices, n, usage)


def _chat_head(call: _Call, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{call.ident}",
        "object": kind,
        "created": CREATED_AT,
        "model": call.model,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }


def _choice_stream(call: _Call, head: Json, choices: Sequence[Json], n: int, usage: Json) -> Answer:
    """`choices` are the chunks of one choice; the usage is only sent if the request asked for it."""
    asked = (call.body.get("stream_options") or {}).get("include_usage")
    more = {"usage": None} if asked else {}
    chunks = [{**head, "choices": [{"index": index, **choice}], **more} for choice in choices for index in range(n)]
    if asked:
        chunks.append({**head, "choices": [], "usage": usage})
    return _stream(call, chunks, {"error": _STREAM_ERROR}, done=True)


def _completions_answer(call: _Call) -> Answer:
    n = call.body.get("n") or 1
    reply = _reply(call, (), None, call.body.get("max_tokens"))
    finish_reason = "length" if reply.cut_short else "stop"
    prompt_tokens, completion_tokens = sum(map(count_tokens, call.texts)), n * count_tokens(reply.text)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    head = {"id": f"cmpl-{call.ident}", "object": "text_completion", "created": CREATED_AT, "model": call.model}
    if call.body.get("stream"):
        choices: list[Json] = [{"text": piece, "logprobs": None, "finish_reason": None} for piece in reply.pieces]
        choices.append({"text": "", "logprobs": None, "finish_reason": finish_reason})
        return _choice_stream(call, head, choices, n, usage)
    choice = {"text": reply.text, "logprobs": None, "finish_reason": finish_reason}
    return _whole(call, {**head, "choices": [{"index": index, **choice} for index in range(n)], "usage": usage})


def _response(call: _Call) -> Json:
    """The finished Response object."""
    body = call.body
    tools = body.get("tools") or []
    wanted = (body.get("text") or {}).get("format") or {"type": "text"}
    functions = [tool for tool in tools if tool.get("type") == "function"]
    reply = _reply(call, _offered(call, functions), _schema(wanted), body.get("max_output_tokens"))
    status = "incomplete" if reply.cut_short else "completed"
    output: list[Json] = []
    if any(str(tool.get("type")).startswith("web_search") for tool in tools):
        search = {"type": "search", "query": call.prompt[:80]}
        output.append({"id": f"ws_{call.ident}", "type": "web_search_call", "status": "completed", "action": search})
    if reply.tool:
        named = {"call_id": f"call_{call.ident}", "name": reply.tool, "arguments": reply.text}
        output.append({"id": f"fc_{call.ident}", "type": "function_call", "status": "completed", **named})
    else:
        content = [{"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}]
        message = {"status": status, "role": "assistant", "content": content}
        output.append({"id": f"msg_{call.ident}", "type": "message", **message})
    input_tokens = sum(map(count_tokens, call.texts)) + count_tokens(str(body.get("instructions") or ""))
    output_tokens = count_tokens(reply.text)
    return {
        "id": f"resp_{call.ident}",
        "object": "response",
        "created_at": CREATED_AT,
        "status": status,
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if reply.cut_short else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": call.model,
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": wanted},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": tools,
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": _cached_tokens(input_tokens), "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        },
        "user": None,
    }


def _unfinished(response: Json, status: str) -> Json:
    return {**response, "status": status, "incomplete_details": None, "output": [], "usage": None}


def _response_events(response: Json) -> list[Json]:
    """The events of a streamed Response, in the order and with the numbers of the real API."""
    events: list[Json] = []

    def add(kind: str, **fields: Any) -> None:
        events.append({"type": kind, "sequence_number": len(events), **fields})

    add("response.created", response=_unfinished(response, "in_progress"))
    add("response.in_progress", response=_unfinished(response, "in_progress"))
    for index, item in enumerate(response["output"]):
        at = {"item_id": item["id"], "output_index": index}
        opened = {**item, "status": "in_progress"}
        if item["type"] == "message":
            text = item["content"][0]["text"]
            part = {**at, "content_index": 0}
            add("response.output_item.added", output_index=index, item={**opened, "content": []})
            add("response.content_part.added", **part, part={**item["content"][0], "text": ""})
            for piece in _Reply(text).pieces:
                add("response.output_text.delta", **part, delta=piece, logprobs=[])
            add("response.output_text.done", **part, text=text, logprobs=[])
            add("response.content_part.done", **part, part=item["content"][0])
        elif item["type"] == "function_call":
            add("response.output_item.added", output_index=index, item={**opened, "arguments": ""})
            for piece in _Reply(item["arguments"]).pieces:
                add("response.function_call_arguments.delta", **at, delta=piece)
            add("response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"])
        else:
            add("response.output_item.added", output_index=index, item=opened)
            for state in ("in_progress", "searching", "completed"):
                add(f"response.web_search_call.{state}", **at)
        add("response.output_item.done", output_index=index, item=item)
    add(f"response.{response['status']}", response=response)
    return events


def _embeddings_answer(call: _Call) -> Answer:
    source = call.body["input"]
    # A string, or a list of token ids, is one input; a list of either is several.
    inputs = [source] if isinstance(source, str) or (source and isinstance(source[0], int)) else source
    dimensions = call.body.get("dimensions") or (3072 if "large" in call.model else 1536)
    data: list[Json] = []
    for index, item in enumerate(inputs):
        digest = hashlib.shake_256(str(item).encode("utf-8", "surrogatepass")).digest(dimensions)
        scale = (3 / dimensions) ** 0.5 / 127.5  # makes the vector's length about 1, as with the real models
        packed = struct.pack(f"<{dimensions}f", *[(byte - 127.5) * scale for byte in digest])
        if call.body.get("encoding_format") == "base64":
            vector: Any = base64.b64encode(packed).decode()
        else:
            vector = struct.unpack(f"<{dimensions}f", packed)
        data.append({"object": "embedding", "index": index, "embedding": vector})
    tokens = sum(count_tokens(item) if isinstance(item, str) else len(item) for item in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _whole(call, {"object": "list", "data": data, "model": call.model, "usage": usage})


def _offered(call: _Call, functions: list[Json]) -> list[Json]:
    """The functions that the model may call now: none after a tool's result, so that a round trip ends."""
    choice = call.body.get("tool_choice")
    if call.after_tool or choice == "none":
        return []
    if isinstance(choice, dict):
        named = choice.get("function", choice).get("name")
        return [function for function in functions if function["name"] == named]
    return functions


def _is_tool_result(item: Json) -> bool:
    return item.get("role") == "tool" or str(item.get("type")).endswith("_call_output")


def _schema(wanted: Json) -> Json | None:
    """The JSON schema of a chat `response_format` or a Responses `text.format`; None where the answer is plain text."""
    if wanted.get("type") == "json_schema":
        return cast(Json, wanted.get("json_schema", wanted).get("schema") or {})
    return {} if wanted.get("type") == "json_object" else None


def _chat_usage(prompt_tokens: int, completion_tokens: int) -> Json:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": _cached_tokens(prompt_tokens), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _cached_tokens(prompt_tokens: int) -> int:
    """OpenAI caches prompts from 1,024 tokens on, in steps of 128; here about half of such a prompt is cached."""
    return prompt_tokens // 256 * 128 if prompt_tokens >= 1024 else 0


def _whole(call: _Call, body: Json) -> Answer:
    return Answer(body=body, cut=call.fault == "cut")


def _stream(call: _Call, payloads: Sequence[Json], error: Json, *, done: bool) -> Answer:
    middle = len(payloads) // 2
    if call.fault == "cut":
        return replace(sse(*payloads[:middle], done=False), cut=True)
    if call.fault == "error-in-stream":
        return sse(*payloads[:middle], error, done=False)
    answer = sse(*payloads, done=done)
    return replace(answer, chunk_delay_s=CHUNK_DELAY_S) if call.fault == "slow-stream" else answer


def _refusal(endpoint: str, body: Json, model: Any, source: Any) -> Answer | None:
    """What OpenAI answers to a request that cannot be served; None for a good one."""
    stored_prompt = endpoint == "/responses" and "prompt" in body  # brings its own model and input
    if not isinstance(model, str) and not stored_prompt:
        return _error(400, "you must provide a model parameter")
    if source is None and not stored_prompt:
        name = _SOURCES.get(endpoint, "input")
        return _error(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature > 2:
        message = (
            f"Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got {temperature} instead."
        )
        return _error(400, message, param="temperature", code="decimal_above_max_value")
    options = body.get("stream_options")
    if options is not None and not (isinstance(options, dict) and body.get("stream")):
        message = "The 'stream_options' parameter is an object, and only allowed when 'stream' is enabled."
        return _error(400, message, param="stream_options")
    n = body.get("n")
    if n is not None and not (type(n) is int and 1 <= n <= 128):
        message = f"Invalid 'n': expected an integer from 1 to 128, but got {str(n)[:40]} instead."
        return _error(400, message, param="n", code="invalid_value")
    return None


def _model_of(asked: str | None, deployment: str | None) -> str:
    """The model that answers. Azure's answer names the model behind a deployment, a stored prompt brings its own."""
    default = _DATED_MODELS["gpt-4o-mini"]
    return default if asked is None else _DATED_MODELS.get(asked, default if deployment else asked)


def _fault(model: str | None, prompt: str) -> str:
    if model and _FAULT_MODEL.fullmatch(model):
        return model
    mark = _FAULT_MARK.search(prompt)
    return mark[1] if mark else ""


def _forced_error(status: int, model: str | None) -> Answer:
    message = {
        400: "Invalid value for 'model'.",
        401: "Incorrect API key provided.",
        404: f"The model `{model}` does not exist or you do not have access to it.",
        429: f"Rate limit reached for {model} in organization org-testing on requests per min (RPM): Limit 3, Used 3.",
    }.get(status, _STREAM_ERROR["message"])
    return _error(status, str(message), param="model" if status == 400 else None)


def _error(status: int, message: str, *, param: str | None = None, code: str | None = "") -> Answer:
    """An error in OpenAI's shape; without `code` the one that is usual for the status."""
    kind, usual_code = _ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    body = {"message": message, "type": kind, "param": param, "code": usual_code if code == "" else code}
    # The SDK waits 0.5 s and more before it tries again, unless a header sets the time.
    again = {"retry-after-ms": "1"} if status in (408, 409, 429) or status >= 500 else {}
    return Answer(status, again, {"error": body})


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": CREATED_AT, "owned_by": "system"}


def _texts(source: Any) -> list[str]:
    items = source if isinstance(source, list) else [source]
    return ["".join(_parts(item)) for item in items]


def _last_user_text(source: Any) -> str:
    items = source if isinstance(source, list) else [source]
    message = [item for item in items if not isinstance(item, dict) or item.get("role") == "user"]
    return "".join(_parts(message[-1] if message else items[-1] if items else ""))


def _parts(item: Any) -> Iterator[str]:
    """The texts in a message, a content part, a tool's result, or a plain string."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, list):
        for part in item:
            yield from _parts(part)
    elif isinstance(item, dict):
        for key in ("content", "text", "output"):
            if item.get(key):
                yield from _parts(item[key])


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted; the first line on stdout is the base URL."""
    parser = argparse.ArgumentParser(description="A fake OpenAI on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    with OpenAIServer(parser.parse_args(arguments).port) as server:
        print(server.base_url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
