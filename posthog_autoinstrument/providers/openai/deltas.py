"""Answers of OpenAI's APIs put together from the deltas they were streamed in. Pure; never raises.

`Choice` for chat and legacy completions, `Items` for Responses; both can be asked at any time for what there is so far.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..bodies import put_together
from ..parsing import as_dict, as_index, as_list, as_text, joined
from .tool_calls import ToolCall, ToolCalls


@dataclass
class Choice:
    """One choice, put together from its deltas. A message that was not streamed is one delta."""

    role: str = "assistant"
    stop_reason: str | None = None
    thinking: list[str] = field(default_factory=list)
    detailed: list[str] = field(default_factory=list)
    """The same as `reasoning_details` has it, which some servers send beside it and some alone."""
    text: list[str] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: ToolCalls = field(default_factory=ToolCalls)
    function_call: ToolCall | None = None
    """The deprecated one call of a message."""
    audio: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, choice: dict[str, Any], streamed: bool) -> bool:
        """Take one delta or message in; whether it has any output of the model."""
        # Perplexity streams the message so far beside each delta: it is looked at only where there is no delta.
        delta = as_dict(choice["delta"] if "delta" in choice else choice.get("message"))
        if len(delta) == 1 and "text" not in choice and as_text(delta.get("content")):  # most chunks of most streams
            self.stop_reason = as_text(choice.get("finish_reason")) or self.stop_reason
            self.text.append(delta["content"])
            return True
        self.role = as_text(delta.get("role")) or self.role
        self.stop_reason = as_text(choice.get("finish_reason")) or self.stop_reason
        content = choice["text"] if "text" in choice else delta.get("content")  # legacy completions have only a text
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")  # DeepSeek, xAI, or OpenRouter, Groq
        has_output = self._add_parts(as_list(content) + as_list(delta.get("images")))  # OpenRouter's drawing models
        self.annotations += as_list(delta.get("annotations"))
        details = as_list(delta.get("reasoning_details"))
        if details:
            detailed = "".join(filter(None, map(_detail, details)))
            self.detailed += [detailed] if detailed else []
            has_output = has_output or bool(detailed)
        for pieces, piece in ((self.thinking, reasoning), (self.text, content), (self.refusal, delta.get("refusal"))):
            if isinstance(piece, str) and piece:
                pieces.append(piece)
                has_output = True
        calls = as_list(delta.get("tool_calls"))
        if calls:
            has_output = (self.calls.add(calls) if streamed else self.calls.add_whole(calls)) or has_output
        function_call = as_dict(delta.get("function_call"))
        if function_call:
            self.function_call = self.function_call or ToolCall(None)
            self.function_call.add({"function": function_call})
        audio = {name: value for name, value in as_dict(delta.get("audio")).items() if value is not None}
        for name, value in audio.items():
            self.audio.setdefault(name, []).append(value)
        return has_output or bool(function_call or audio)

    def _add_parts(self, parts: list[Any]) -> bool:
        """Take in content that is a list of parts, as Mistral's reasoning models give it."""
        for part in parts:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                self.text.append(part["text"])
            elif kind == "thinking":
                thought = part.get("thinking")
                pieces = [as_dict(piece).get("text") for piece in thought] if isinstance(thought, list) else [thought]
                self.thinking += [piece for piece in pieces if isinstance(piece, str)]
            elif isinstance(part, dict):
                self.parts.append(part)
        return bool(parts)

    def message(self) -> dict[str, Any]:
        """The choice as PostHog's wrapper for OpenAI shows it, its reasoning as those for Anthropic and Gemini do."""
        content: list[dict[str, Any]] = []
        thinking = self.thinking or _without_repeats(self.detailed)
        if thinking:
            content.append({"type": "thinking", "thinking": put_together(thinking)})
        if self.text or self.annotations:
            text: dict[str, Any] = {"type": "text", "text": put_together(self.text)}
            content.append({**text, "annotations": self.annotations} if self.annotations else text)
        content.extend(self.parts)
        if self.refusal:
            content.append({"type": "refusal", "refusal": put_together(self.refusal)})
        content.extend(call.part() for call in self.calls.in_order())
        if self.function_call:
            content.append(self.function_call.part())
        if self.audio:
            growing = ("data", "transcript")
            audio = {name: joined(seen) if name in growing else seen[-1] for name, seen in self.audio.items()}
            content.append({**audio, "type": "audio"})
        return {"role": self.role, "content": content}


def _detail(detail: Any) -> str | None:
    """The text of one of OpenRouter's and MiniMax's `reasoning_details`; None for what is encrypted."""
    detail = as_dict(detail)
    return as_text(detail.get("text")) or as_text(detail.get("summary"))


def _without_repeats(pieces: list[str]) -> list[str]:
    """Pieces of a text; the last of them where each (MiniMax) is all of it so far."""
    if len(pieces) > 1 and all(late.startswith(early) for early, late in itertools.pairwise(pieces)):
        return pieces[-1:]
    return pieces


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
    "response.shell_call_command": _Streamed("shell_call", "command", "commands", "command_index"),
    # Without an output index, and without an item: they are shown as a message of their own at the end.
    "response.audio": _Streamed("audio", "data"),
    "response.audio.transcript": _Streamed("audio", "transcript"),
}


@dataclass
class Items:
    """The output items of a Responses stream as far as they were seen: needed when its last event never came."""

    begun: dict[int, dict[str, Any]] = field(default_factory=dict)
    done: dict[int, dict[str, Any]] = field(default_factory=dict)
    texts: dict[tuple[int, int, str], list[str]] = field(default_factory=dict)
    """By output index, index of the part, and name of the events."""
    parts: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    """Parts of messages that came whole, by output index and index of the part."""
    notes: dict[tuple[int, int], list[Any]] = field(default_factory=dict)
    """Annotations of parts of messages."""
    shown: dict[tuple[int, int], list[Any]] = field(default_factory=dict)
    """What shell commands wrote, by output index and number of the command."""

    def add(self, kind: str, event: dict[str, Any]) -> None:
        """Take one event in."""
        number = as_index(event.get("output_index"), 0)
        name, _, step = kind.rpartition(".")
        place = (number, as_index(event.get("content_index"), 0))
        if name == "response.output_item" and as_dict(event.get("item")):
            (self.done if step == "done" else self.begun)[number] = event["item"]
        elif name == "response.content_part" and as_dict(event.get("part")):
            # A part that begins has no text yet, and a text without anything in it would be shown.
            if step == "done" or event["part"].get("type") not in ("output_text", "refusal", "reasoning_text"):
                self.parts[place] = event["part"]
        elif kind == "response.output_text.annotation.added":
            self.notes.setdefault(place, []).append(event.get("annotation"))
        elif kind == "response.image_generation_call.partial_image" and as_text(event.get("partial_image_b64")):
            self.begun[number] = {
                "type": "image_generation_call",
                **self.begun.get(number, {}),
                "result": event["partial_image_b64"],
            }
        elif name == "response.shell_call_output_content":
            self._add_shown((number, as_index(event.get("command_index"), 0)), step, event)
        elif name in _STREAMED and step in ("delta", "done"):
            shape = _STREAMED[name]
            if shape.item_type == "audio":
                number = -1
            text = as_text(event.get("delta" if step == "delta" else shape.text))
            if text is not None:
                texts = self.texts.setdefault((number, as_index(event.get(shape.position), 0), name), [])
                if step == "done":
                    texts.clear()
                texts.append(text)

    def _add_shown(self, place: tuple[int, int], step: str, event: dict[str, Any]) -> None:
        if step == "done":
            self.shown[place] = as_list(event.get("output"))
        elif as_dict(event.get("delta")):
            self.shown.setdefault(place, []).append(event["delta"])

    def output(self) -> list[dict[str, Any]]:
        """The items in their order, those that were not done with what arrived of them."""
        items = {number: {**item} for number, item in self.begun.items()}
        grown: dict[tuple[int, str, str], dict[int, Any]] = {}
        for (number, position), part in self.parts.items():
            grown.setdefault((number, "message", "content"), {})[position] = part
        for (number, position, name), texts in self.texts.items():
            shape = _STREAMED[name]
            text = put_together(texts)
            if shape.parts is None:
                items.setdefault(number, {"type": shape.item_type})[shape.text] = text
                continue
            parts = grown.setdefault((number, shape.item_type, shape.parts), {})
            if shape.part_type:
                parts[position] = {**parts.get(position, {}), "type": shape.part_type, shape.text: text}
            else:
                parts[position] = text
        for (number, position), notes in self.notes.items():
            parts = grown.setdefault((number, "message", "content"), {})
            part = parts.get(position, {"type": "output_text", "text": ""})
            parts[position] = part if part.get("annotations") else {**part, "annotations": notes}
        for (number, item_type, name), parts in grown.items():
            item = items.setdefault(number, {"type": item_type})
            together = [parts[position] for position in sorted(parts)]
            if name == "commands":
                item["action"] = {**as_dict(item.get("action")), name: together}
            else:
                item[name] = together
        written: dict[int, list[Any]] = {}
        for number, position in sorted(self.shown):
            written.setdefault(number, []).extend(_written(self.shown[number, position]))
        for number, output in written.items():
            items.setdefault(number, {"type": "shell_call_output"})["output"] = output
        items.update(self.done)
        spoken = items.pop(-1, None)
        found = [items[number] for number in sorted(items)]
        return found if spoken is None else [*found, {"type": "message", "content": [spoken]}]


def _written(pieces: list[Any]) -> list[Any]:
    """What one shell command wrote: the pieces of both its streams put together, what came whole as it is."""
    streams: dict[str, list[str]] = {}
    whole: list[Any] = []
    for piece in pieces:
        if not isinstance(piece, dict) or "outcome" in piece:
            whole.append(piece)
            continue
        for name, text in piece.items():
            if isinstance(text, str):
                streams.setdefault(name, []).append(text)
    together = {name: "".join(texts) for name, texts in streams.items()}
    return [*whole, together] if together else whole
