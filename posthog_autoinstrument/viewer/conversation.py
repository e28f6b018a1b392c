"""A conversation as people read it: the input and output of an event as messages of parts.

Reads what `processing.event.build` writes, and also what other SDKs of PostHog write: chat messages, items of the
Responses API, plain strings, lists of strings. Whatever it does not know is shown as the JSON that it is. Pure; never
raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..core.formatting import pretty_json

MAX_SHOWN = 100_000
"""Characters of one part that a page shows; all of it is in the event's JSON."""
FOLDED_FROM = 6_000
"""Longer texts are folded: what follows is one click away."""
_FOLD_AT = 2_000

_TEXTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text", "logs")
_MEDIA = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "image_generation_call": "image",
    "computer_screenshot": "image",
    "input_audio": "audio",
    "audio": "audio",
    "output_audio": "audio",
    "video_url": "video",
    "video": "video",
    "file": "file",
    "input_file": "file",
    "document": "file",
}
_MEDIA_DETAILS = (
    "filename", "file_id", "format", "media_type", "detail", "url", "file_url", "data", "b64_json", "result",
    "file_data",
)  # fmt: skip
_CALLS = ("function", "tool_use", "tool-call", "tool_call", "custom", "program")
_RESULTS = ("tool_result", "tool-result", "program_output", "tool_search_output", "mcp_approval_response")


@dataclass
class Part:
    """A piece of a message. `kind`: text, code, refusal, reasoning, media, call, result or json."""

    kind: str
    text: str = ""
    title: str = ""
    """Of a call the tool's name, of media what it is and where from, of JSON its type."""
    ident: str = ""
    """What joins a call and its result."""
    result: Part | None = None
    """Of a call: what the tool answered."""

    @property
    def head(self) -> str:
        """What is shown at once."""
        return self.text if len(self.text) <= FOLDED_FROM else self.text[:_FOLD_AT]

    @property
    def rest(self) -> str:
        """What is folded."""
        return "" if len(self.text) <= FOLDED_FROM else self.text[_FOLD_AT:MAX_SHOWN]

    @property
    def hidden(self) -> int:
        """Characters that the page does not show."""
        return max(0, len(self.text) - MAX_SHOWN)


@dataclass
class Message:
    """One message. `role` is the SDK's word, or "input" if there are no roles."""

    role: str
    parts: list[Part] = field(default_factory=list)
    name: str = ""


def read(content: Any) -> list[Message] | None:
    """The messages of an input, an output or a state. None: held back (privacy mode); empty: there is nothing."""
    if content is None:
        return None
    if isinstance(content, list) and content and all(isinstance(item, dict) for item in content):
        return [message for item in content for message in _message(item)]
    if isinstance(content, list) and content and all(isinstance(item, (str, list)) for item in content):
        return [Message("input", [_text_or_tokens(item)]) for item in content]
    if content in ("", [], {}):
        return []
    return [Message("input", [_text_or_tokens(content)])]


def pair(messages: Iterable[Message], more: Iterable[Message] = ()) -> None:
    """Put results of tools beside the calls that asked for them; `more` are messages of later events.

    A message of which nothing is left goes.
    """
    messages = list(messages)
    calls = {part.ident: part for message in messages for part in message.parts if part.kind == "call" and part.ident}
    for message in [*messages, *more]:
        for part in list(message.parts):
            asked = calls.get(part.ident) if part.kind == "result" else None
            if asked is not None and asked.result is None:
                asked.result = part
                message.parts.remove(part)


def _message(item: dict[str, Any]) -> Iterator[Message]:
    role = item.get("role")
    if not isinstance(role, str):
        role = "tool" if _is_result(item) else "user" if str(item.get("type")) in _TEXTS else "assistant"
        yield Message(role, [_part(item)])
        return
    name = item.get("name") if isinstance(item.get("name"), str) else ""
    if role in ("tool", "function"):
        ident = str(item.get("tool_call_id") or "")
        yield Message(role, [Part("result", _flat(item.get("content")), str(name or ""), ident)], str(name or ""))
        return
    parts = list(_parts(item))
    if not parts:  # an empty message, or an item that has a role but no content
        parts = [Part("text") if item.get("type", "message") == "message" else _part(item)]
    yield Message(role, parts, str(name or ""))


def _parts(item: dict[str, Any]) -> Iterator[Part]:
    for key in ("reasoning_content", "reasoning"):
        if isinstance(item.get(key), str) and item[key]:
            yield Part("reasoning", item[key])
    content = item.get("content")
    if isinstance(content, list):
        yield from map(_part, content)
    elif isinstance(content, str):
        if content:
            yield Part("text", content)
    elif content is not None:
        yield _json(content)
    if isinstance(item.get("refusal"), str) and item["refusal"]:
        yield Part("refusal", item["refusal"])
    if isinstance(item.get("audio"), dict):
        yield _media("audio", item["audio"])
    for call in item.get("tool_calls") or () if isinstance(item.get("tool_calls"), list) else ():
        yield _part(call)
    if isinstance(item.get("function_call"), dict):  # before tools there were functions
        yield _call(item["function_call"])


def _part(part: Any) -> Part:
    if not isinstance(part, dict):
        return Part("text", part) if isinstance(part, str) else _json(part)
    kind = str(part.get("type", ""))
    text = part.get("text", part.get("logs"))
    if (kind in _TEXTS or not kind) and isinstance(text, str):
        return Part("reasoning" if kind in ("summary_text", "reasoning_text") else "text", text)
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return Part("refusal", part["refusal"])
    if kind in ("reasoning", "thinking"):
        return _reasoning(part)
    if kind in _MEDIA:
        return _media(_MEDIA[kind], part)
    if _is_result(part):
        return _result(part)
    if kind in _CALLS or kind.endswith("_call") or (not kind and isinstance(part.get("function"), dict)):
        return _call(part)
    return _json(part)


def _is_result(part: dict[str, Any]) -> bool:
    kind = str(part.get("type", ""))
    return kind in _RESULTS or kind.endswith("_call_output")


def _call(part: dict[str, Any]) -> Part:
    kind = str(part.get("type", ""))
    function = next((part[key] for key in ("function", "custom") if isinstance(part.get(key), dict)), part)
    name = function.get("name") or part.get("toolName") or kind.removesuffix("_call") or "tool"
    arguments = next(
        (
            function[key]
            for key in ("arguments", "input", "args", "action", "code", "queries", "operation")
            if key in function
        ),
        None,
    )
    if arguments is None:
        left = {key: value for key, value in function.items() if key not in ("type", "id", "call_id", "name", "status")}
        arguments = left or ""
    ident = part.get("call_id") or part.get("id") or part.get("toolCallId") or ""
    shown = Part("call", _flat(arguments), str(name), str(ident))
    for key in ("output", "outputs", "results"):
        if part.get(key):  # tools that the provider ran itself bring their result along
            shown.result = Part("result", _flat(part[key]), str(name), str(ident))
    return shown


def _result(part: dict[str, Any]) -> Part:
    ident = part.get("call_id") or part.get("tool_use_id") or part.get("toolCallId") or part.get("id") or ""
    found = next((part[key] for key in ("output", "content", "result") if key in part), None)
    if found is None:
        found = {key: value for key, value in part.items() if key not in ("type", "id", "call_id")}
    return Part("result", _flat(found), "", str(ident))


def _reasoning(part: dict[str, Any]) -> Part:
    texts = [part[key] for key in ("text", "thinking") if isinstance(part.get(key), str)]
    for key in ("summary", "content"):
        for piece in part.get(key) or () if isinstance(part.get(key), list) else ():
            if isinstance(piece, dict) and isinstance(piece.get("text"), str):
                texts.append(piece["text"])
    return Part("reasoning", "\n\n".join(texts) or "(the provider keeps it to itself)")


def _media(kind: str, part: dict[str, Any]) -> Part:
    """What it is and where from; the bytes are not in the page, and nothing is fetched."""
    inner = next(
        (part[key] for key in ("image_url", "input_audio", "video_url", "file", "source") if key in part), part
    )
    if isinstance(inner, str):
        inner = {"url": inner}
    inner = {**part, **inner} if isinstance(inner, dict) else part
    details = []
    for key in _MEDIA_DETAILS:
        value = inner.get(key)
        if isinstance(value, str) and value:
            details.append(_source(value))
    transcript = inner.get("transcript")
    return Part("media", transcript if isinstance(transcript, str) else "", " · ".join(dict.fromkeys([kind, *details])))


def _source(value: str) -> str:
    if value[:5].lower() == "data:":
        return f"{value[5:].partition(';')[0][:60]}, {len(value):,} characters kept in the event"
    return value if len(value) <= 200 else f"{len(value):,} characters kept in the event"


def _text_or_tokens(value: Any) -> Part:
    if isinstance(value, str):
        return Part("text", value)
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return Part("text", f"{len(value):,} token ids: {', '.join(map(str, value[:20]))}{' …' if value[20:] else ''}")
    return _json(value)


def _flat(value: Any) -> str:
    """What goes into a tool or comes out of it: JSON laid out, also where it came as a string; texts of parts."""
    if isinstance(value, str):
        if value[:1] in "{[" and len(value) <= MAX_SHOWN:
            try:
                return pretty_json(json.loads(value))
            except (ValueError, RecursionError):
                pass
        return value
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "type" in item for item in value):
        parts = [_part(item) for item in value]
        if all(part.kind in ("text", "media") for part in parts):
            return "\n".join(part.text or f"[{part.title}]" for part in parts)
    return pretty_json(value)


def _json(value: Any) -> Part:
    kind = value.get("type") if isinstance(value, dict) else None
    return Part("json", pretty_json(value), str(kind or ""))
