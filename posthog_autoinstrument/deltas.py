"""Answers of OpenAI's APIs put together from the deltas they were streamed in. Pure; never raises.

`Choice` for chat and legacy completions, `Items` for Responses; both can be asked at any time for what there is so far.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .reading import as_dict, as_index, as_list, as_text, joined

_FUNCTION_CALL = "function_call"
"""Where the deprecated `function_call` of a message is kept among its tool calls, which have numbers."""


@dataclass
class _Call:
    """A tool call as far as it was seen."""

    id: str | None = ""
    name: str = ""
    arguments: list[Any] = field(default_factory=list)


@dataclass
class Choice:
    """One choice, put together from its deltas. A message that was not streamed is one delta."""

    role: str = "assistant"
    stop_reason: str | None = None
    thinking: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int | str, _Call] = field(default_factory=dict)
    audio: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, choice: dict[str, Any], streamed: bool) -> bool:
        """Take one delta or message in; whether the model said anything in it."""
        # Perplexity streams the message so far beside each delta: it is looked at only where there is no delta.
        delta = as_dict(choice["delta"] if "delta" in choice else choice.get("message"))
        self.role = as_text(delta.get("role")) or self.role
        self.stop_reason = as_text(choice.get("finish_reason")) or self.stop_reason
        content = choice["text"] if "text" in choice else delta.get("content")  # legacy completions have only a text
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")  # DeepSeek, xAI, or OpenRouter, Groq
        said = self._add_parts(as_list(content))
        for pieces, piece in ((self.thinking, reasoning), (self.text, content), (self.refusal, delta.get("refusal"))):
            if isinstance(piece, str) and piece:
                pieces.append(piece)
                said = True
        for position, call in enumerate(as_list(delta.get("tool_calls"))):
            if isinstance(call, dict):
                self._add_call(self._key(call) if streamed else position, call)
                said = True
        function_call = as_dict(delta.get("function_call"))
        if function_call:
            self._add_call(_FUNCTION_CALL, {"function": function_call})
        audio = {name: value for name, value in as_dict(delta.get("audio")).items() if value is not None}
        for name, value in audio.items():
            self.audio.setdefault(name, []).append(value)
        return said or bool(function_call or audio)

    def _add_parts(self, parts: list[Any]) -> bool:
        """Take in content that is a list of parts, as Mistral's reasoning models give it."""
        for part in parts:
            if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
                self.text.append(part["text"])
            elif isinstance(part, dict):
                self.parts.append(part)
        return bool(parts)

    def _key(self, delta: dict[str, Any]) -> int | str:
        """Which call a delta belongs to: by its index; without one by its id; else a name begins a call."""
        index = delta.get("index")
        if isinstance(index, int):
            return index
        call_id = as_text(delta.get("id"))
        for key, call in self.calls.items():
            if call_id and call.id == call_id:
                return key
        begins = call_id or as_text(as_dict(delta.get("function")).get("name"))
        if self.calls and not begins:
            return next(reversed(self.calls))
        return f"call {len(self.calls)}"  # no number: one that the server gives later must not meet it

    def _add_call(self, key: int | str, delta: dict[str, Any]) -> None:
        call = self.calls.setdefault(key, _Call(id=None if key == _FUNCTION_CALL else ""))
        function = as_dict(delta.get("function")) or as_dict(delta.get("custom"))
        call.id = as_text(delta.get("id")) or call.id
        call.name = as_text(function.get("name")) or call.name
        arguments = function.get("arguments", function.get("input"))  # a custom tool takes free text as `input`
        if arguments is not None and arguments != "":
            call.arguments.append(arguments)

    def message(self) -> dict[str, Any]:
        """The choice as PostHog's wrapper for OpenAI shows it, its reasoning as those for Anthropic and Gemini do."""
        content: list[dict[str, Any]] = []
        if self.thinking:
            content.append({"type": "thinking", "thinking": "".join(self.thinking)})
        if self.text:
            content.append({"type": "text", "text": "".join(self.text)})
        content.extend(self.parts)
        if self.refusal:
            content.append({"type": "refusal", "refusal": "".join(self.refusal)})
        for call in self.calls.values():
            function = {"name": call.name, "arguments": joined(call.arguments) if call.arguments else ""}
            content.append({"type": "function", "id": call.id, "function": function})
        if self.audio:
            growing = ("data", "transcript")
            audio = {name: joined(seen) if name in growing else seen[-1] for name, seen in self.audio.items()}
            content.append({**audio, "type": "audio"})
        return {"role": self.role, "content": content}


class _Streamed(NamedTuple):
    """How a pair of events `<name>.delta` and `<name>.done` grows an item: one text in it, or in a list of parts."""

    item_type: str
    text: str
    parts: str | None = None
    position: str = ""
    part_type: str = ""


_STREAMED = {
    "response.output_text": _Streamed("message", "text", "content", "content_index", "output_text"),
    "response.output_audio_transcript": _Streamed("message", "transcript", "content", "content_index", "output_audio"),
    "response.refusal": _Streamed("message", "refusal", "content", "content_index", "refusal"),
    "response.reasoning_text": _Streamed("reasoning", "text", "content", "content_index", "reasoning_text"),
    "response.reasoning_summary_text": _Streamed("reasoning", "text", "summary", "summary_index", "summary_text"),
    "response.function_call_arguments": _Streamed("function_call", "arguments"),
    "response.custom_tool_call_input": _Streamed("custom_tool_call", "input"),
    "response.mcp_call_arguments": _Streamed("mcp_call", "arguments"),
    "response.code_interpreter_call_code": _Streamed("code_interpreter_call", "code"),
}


@dataclass
class Items:
    """The output items of a Responses stream as far as they were seen: needed when its last event never came."""

    begun: dict[int, dict[str, Any]] = field(default_factory=dict)
    done: dict[int, dict[str, Any]] = field(default_factory=dict)
    texts: dict[tuple[int, int, str], list[str]] = field(default_factory=dict)
    """By output index, index of the part, and name of the events."""

    def add(self, kind: str, event: dict[str, Any]) -> None:
        """Take one event in."""
        number = as_index(event.get("output_index"), 0)
        name, _, step = kind.rpartition(".")
        if name == "response.output_item" and as_dict(event.get("item")):
            (self.done if step == "done" else self.begun)[number] = event["item"]
        elif name in _STREAMED and step in ("delta", "done"):
            shape = _STREAMED[name]
            text = as_text(event.get("delta" if step == "delta" else shape.text))
            if text is not None:
                texts = self.texts.setdefault((number, as_index(event.get(shape.position), 0), name), [])
                if step == "done":
                    texts.clear()
                texts.append(text)

    def output(self) -> list[dict[str, Any]]:
        """The items in their order, those that were not done with the texts that arrived."""
        items = {number: {**item} for number, item in self.begun.items()}
        grown: set[tuple[int, str]] = set()
        for (number, _, name), texts in sorted(self.texts.items()):
            shape = _STREAMED[name]
            item = items.setdefault(number, {"type": shape.item_type})
            if shape.parts is None:
                item[shape.text] = "".join(texts)
                continue
            before = item[shape.parts] if (number, shape.parts) in grown else []
            item[shape.parts] = [*before, {"type": shape.part_type, shape.text: "".join(texts)}]
            grown.add((number, shape.parts))
        items.update(self.done)
        return [items[number] for number in sorted(items)]
