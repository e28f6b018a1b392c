"""Responses that came over a WebSocket: Responses, whose events are those of its streams, and Realtime. Pure.

Realtime as openai 1.60 to 3.54 describe it: the beta's events and those that took their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..generation import Failure, Generation
from ..parsing import as_dict, as_index, as_list, as_text, failure_of, parse, read_events
from .common import PARAMETERS, Message, read_usage
from .deltas import Items
from .responses import input_messages, output_messages, read_responses, with_instructions

_BETA_NAMES = {
    "response.text": "response.output_text",
    "response.audio": "response.output_audio",
    "response.audio_transcript": "response.output_audio_transcript",
}


def read_responses_socket(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """One response of a connection of `responses.connect()`. `request` is its `response.create`."""
    generation = read_responses(request, response, chunks)
    if generation.failure is not None:
        generation.failure.raised = False  # an error event is an event like the others there
    return generation


def read_realtime(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """One response of a connection of `realtime.connect()`. `request` is the array of the messages before it."""
    generation = Generation()
    final: dict[str, Any] = {}
    items = Items()
    events, generation.failure = read_events(chunks or ())
    if generation.failure is not None:
        generation.failure.raised = False
    for index, event in events:
        name, _, step = (as_text(event.get("type")) or "").rpartition(".")
        items.add(f"{_BETA_NAMES.get(name, name)}.{step}", event)
        final = as_dict(event.get("response")) or final
        if step == "delta" and generation.first_output_chunk is None:
            generation.first_output_chunk = index
    output = as_list(final.get("output")) or items.output()
    details = as_dict(final.get("status_details"))
    status = as_text(final.get("status"))
    if status == "failed":
        generation.failure = failure_of(as_dict(details.get("error"))) if details.get("error") else Failure()
    if status in ("completed", "failed", "incomplete", "cancelled"):
        reason = as_text(details.get("reason"))
        generation.stop_reason = reason if reason and status in ("incomplete", "cancelled") else status
    usage = as_dict(final.get("usage"))
    generation.usage = read_usage(
        {
            **usage,
            "input_tokens_details": usage.get("input_token_details"),
            "output_tokens_details": usage.get("output_token_details"),
        }
    )
    generation.usage.raw = usage or None
    generation.response_id = as_text(final.get("id"))
    generation.output = output_messages(output)
    _read_request(generation, as_list(parse(request)))
    return generation


def _read_request(generation: Generation, messages: list[Any]) -> None:
    """Take in what the conversation was: the session's settings, then those of the response itself."""
    session: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    for event in map(as_dict, messages):
        if event.get("type") in ("session.created", "session.updated"):
            session = as_dict(event.get("session"))
        elif event.get("type") == "response.create":
            asked = {name: value for name, value in as_dict(event.get("response")).items() if value is not None}
    settings = {**session, **asked}
    generation.model = as_text(settings.get("model"))
    generation.parameters = {name: settings[name] for name in PARAMETERS if settings.get(name) is not None}
    generation.tools = as_list(settings.get("tools")) or None
    generation.instructions = as_text(settings.get("instructions")) or None
    items = as_list(asked["input"]) if "input" in asked else _items(messages)
    generation.input = with_instructions(input_messages([*map(_shown, items)]), generation.instructions)


def _items(messages: list[Any]) -> list[dict[str, Any]]:
    """The items of the conversation in their order: as the program sent them, as the server has them for the rest."""
    items: dict[str, dict[str, Any]] = {}
    mine: list[str] = []  # sent, and not yet confirmed
    for number, event in enumerate(map(as_dict, messages)):
        kind, item = event.get("type"), as_dict(event.get("item"))
        key = as_text(item.get("id")) or f"item {number}"
        if kind == "conversation.item.create":
            mine.append(key)
            items[key] = {**item}
        elif kind in ("conversation.item.created", "conversation.item.added"):
            confirmed = next((name for name in mine if name == key or _alike(items.get(name), item)), None)
            if confirmed is not None:
                mine.remove(confirmed)
                items = {key if name == confirmed else name: value for name, value in items.items()}
            items.setdefault(key, {**item})
        elif kind in ("conversation.item.done", "response.output_item.done"):
            if key in items and item.get("role") != "user":
                items[key] = {**item}
        elif kind == "conversation.item.deleted":
            items.pop(as_text(event.get("item_id")) or "", None)
        elif kind == "conversation.item.input_audio_transcription.completed":
            _transcribe(items.get(as_text(event.get("item_id")) or ""), event)
    return list(items.values())


def _alike(mine: dict[str, Any] | None, confirmed: dict[str, Any]) -> bool:
    """Whether an item that was sent without an id may be this one."""
    return mine is not None and "id" not in mine and all(mine.get(at) == confirmed.get(at) for at in ("type", "role"))


def _transcribe(item: dict[str, Any] | None, event: dict[str, Any]) -> None:
    if item is not None:
        parts = [{**as_dict(part)} for part in as_list(item.get("content"))]
        position = as_index(event.get("content_index"), 0)
        if position < len(parts):
            parts[position]["transcript"] = event.get("transcript")
        item["content"] = parts


def _shown(item: Any) -> Any:
    """An item as the input of Responses shows it: without what only the server needs, sound as its transcript."""
    shown: Message = {name: value for name, value in as_dict(item).items() if name not in ("id", "object", "status")}
    if isinstance(shown.get("content"), list):
        shown["content"] = [
            {name: value for name, value in as_dict(part).items() if value is not None and name != "audio"}
            for part in shown["content"]
        ]
    return shown
