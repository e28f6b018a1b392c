"""What every part of a conversation becomes that the installed SDK knows, by its own unions of types.

A part that a newer SDK brings is passed through as JSON (the tests of samples run over all that are found), and
noticed: it is in none of the lists here.
"""

from __future__ import annotations

import copy
import json
import typing
from typing import Any

import pydantic
import pytest
from openai.types import chat
from support.exchanges.openai import chunk, delta, read
from typing_extensions import NotRequired, Required, is_typeddict

from posthog_autoinstrument.processing import redaction

types = pytest.importorskip("openai.types.responses")
if not hasattr(types, "ResponseInputItem"):
    pytest.skip("this openai has no type of all input items", allow_module_level=True)  # before 1.84

SHOWN_AS_TEXT = {"message"}
SHOWN_AS_A_FUNCTION = {"function_call"}
SHOWN_AS_THEY_ARE = {
    "additional_tools", "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction",
    "compaction_trigger", "computer_call", "computer_call_output", "configuration_update", "custom_tool_call",
    "custom_tool_call_output", "file_search_call", "function_call_output", "image_generation_call",
    "item_reference", "local_shell_call", "local_shell_call_output", "mcp_approval_request",
    "mcp_approval_response", "mcp_call", "mcp_list_tools", "program", "program_output", "reasoning",
    "shell_call", "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call",
}  # fmt: skip
"""Items of the Responses API, sent and answered. Their nulls are left out, media and credentials in them redacted."""
SENT_PARTS = {"input_text", "input_image", "input_file", "output_text", "refusal", "text", "image_url", "input_audio"}
SENT_PARTS |= {"file", "computer_screenshot", "summary_text", "reasoning_text", "logs", "image"}
"""Parts of messages: what is sent is shown as it was sent."""
GROWING = {
    "response.output_text",
    "response.refusal",
    "response.reasoning_text",
    "response.reasoning_summary_text",
    "response.function_call_arguments",
    "response.custom_tool_call_input",
    "response.mcp_call_arguments",
    "response.code_interpreter_call_code",
    "response.shell_call_command",
    "response.shell_call_output_content",
    "response.audio",
    "response.audio.transcript",
}
"""Pairs of stream events, `.delta` and `.done`, that make an item grow."""
WHOLE = {
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.annotation.added",
    "response.image_generation_call.partial_image",
    "response.created",
    "response.in_progress",
    "response.queued",
    "response.completed",
    "response.incomplete",
    "response.failed",
    "error",
}
"""Stream events with something in them that is shown."""
SILENT = {
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.shell_call_command.added",
    *(
        f"response.{item}.{state}"
        for item, states in {
            "code_interpreter_call": "in_progress interpreting completed",
            "compaction": "compacting",
            "file_search_call": "in_progress searching completed",
            "image_generation_call": "in_progress generating completed",
            "mcp_call": "in_progress completed failed",
            "mcp_list_tools": "in_progress completed failed",
            "web_search_call": "in_progress searching completed",
        }.items()
        for state in states.split()
    ),
}
"""Stream events that say how far something is, or what another event says too."""


def members(union: Any) -> list[Any]:
    """The classes of a union, unions in it opened."""
    if typing.get_origin(union) is typing.Annotated:
        return members(typing.get_args(union)[0])
    arguments = typing.get_args(union)
    is_class = isinstance(union, type) or is_typeddict(union) or not arguments
    return [union] if is_class else [one for argument in arguments for one in members(argument)]


def fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    return typing.get_type_hints(kind)


def sample(kind: Any, name: str = "", depth: int = 0) -> Any:
    """A value of a type, everything that may be in it in it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Annotated, Required, NotRequired):
        return sample(arguments[0], name, depth)
    if origin is typing.Literal:
        return arguments[0]
    if origin is dict:
        return {"key": sample(arguments[1], name, depth + 1)}
    if origin is not None and arguments and isinstance(origin, type) and issubclass(origin, typing.Iterable):
        return [sample(arguments[0], name, depth + 1)] if depth < 6 else []
    if arguments:
        return sample(next(one for one in arguments if one is not type(None)), name, depth)
    if is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)):
        return {key: sample(value, key, depth + 1) for key, value in fields(kind).items()} if depth < 8 else {}
    known = {str: f"the {name}", int: 1, float: 1.5, bool: True}
    return known.get(kind, {"any": "object"})


def typed(kind: Any) -> str:
    """The `type` of a class of the SDK."""
    return str(sample(fields(kind)["type"]))


INPUT_ITEMS = {kind.__name__: kind for kind in members(types.ResponseInputItem)}
OUTPUT_ITEMS = {kind.__name__: kind for kind in members(types.ResponseOutputItem)}
EVENTS = {typed(kind): kind for kind in members(types.ResponseStreamEvent)}
CONTENT_PARTS = {
    kind.__name__: kind
    for union in (types.ResponseInputContent, chat.ChatCompletionContentPartParam)
    for kind in members(union)
}


def test_every_part_of_the_sdk_is_listed() -> None:
    items = {typed(kind) for kind in (*INPUT_ITEMS.values(), *OUTPUT_ITEMS.values())}
    assert items <= SHOWN_AS_TEXT | SHOWN_AS_A_FUNCTION | SHOWN_AS_THEY_ARE, "new: it is shown as JSON; list it"
    assert {typed(kind) for kind in CONTENT_PARTS.values()} <= SENT_PARTS, "new: it is shown as JSON; list it"
    steps = {f"{name}.{step}" for name in GROWING for step in ("delta", "done")}
    assert set(EVENTS) <= steps | WHOLE | SILENT, "new: does an answer that is cut off there lose something?"


@pytest.mark.parametrize("name", sorted(INPUT_ITEMS))
def test_items_sent(name: str) -> None:
    item = sample(INPUT_ITEMS[name])
    (shown,) = read("responses", {"input": [item]}).input
    if item["type"] == "message":
        assert shown == {key: item[key] for key in ("role", "content", "phase") if key in item} | {
            "content": shown["content"]
        }
        assert "the text" in json.dumps(shown) or shown["content"] == "the content"
    else:
        assert shown == item


@pytest.mark.parametrize("name", sorted(OUTPUT_ITEMS))
def test_items_answered(name: str) -> None:
    item = sample(OUTPUT_ITEMS[name])
    body = {"object": "response", "status": "completed", "output": [item]}
    whole = read("responses", None, body).output or []
    shown = copy.deepcopy(whole[0]["content"][0])
    if item["type"] == "message":
        (part,) = item["content"]
        assert shown == {
            "type": "text",
            "text": "the text",
            "annotations": part["annotations"],
            **({"phase": "commentary"} if "phase" in item else {}),
        }
    elif item["type"] == "function_call":
        assert shown.pop("function") == {"name": "the name", "arguments": "the arguments"}
        assert shown.pop("type") == "function"
        assert shown.pop("id") == "the call_id"
        assert shown.items() <= item.items()
        assert {"namespace", "caller"} & set(item) <= set(shown)
    elif item["type"] == "image_generation_call":
        assert {**shown, "id": item["id"]} == item
    else:
        assert shown == item
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    for events in ([done], [{"type": "response.completed", "response": body}], [done, {"type": "x", "response": body}]):
        assert read("responses", None, None, events).output == whole


@pytest.mark.parametrize("name", sorted(CONTENT_PARTS))
def test_parts_of_messages_sent(name: str) -> None:
    part = sample(CONTENT_PARTS[name])
    message = {"role": "user", "content": [part]}
    assert read("responses", {"input": [message]}).input == [message]
    assert read("chat", {"messages": [message]}).input == [message]


@pytest.mark.parametrize("kind", members(chat.ChatCompletionMessageParam), ids=lambda kind: kind.__name__)
def test_chat_messages_sent(kind: Any) -> None:
    message = sample(kind)
    assert read("chat", {"messages": [message]}).input == [message]


def test_a_chat_message_answered() -> None:
    """Everything that a message of the SDK can hold is shown, streamed or not."""
    message = sample(chat.ChatCompletionMessage)
    notes, audio = message["annotations"], message["audio"]
    calls = [sample(kind) for kind in members(chat.ChatCompletionMessageToolCallUnion)] + [{"type": "new", "id": "c"}]
    message["tool_calls"] = calls
    whole = read("chat", None, {"choices": [{"index": 0, "message": message}]})
    numbered = [{**call, "index": number} for number, call in enumerate(calls)]
    streamed = read("chat", None, None, [chunk(delta(**{**message, "tool_calls": numbered}))])
    expected = [
        {"type": "text", "text": "the content", "annotations": notes},
        {"type": "refusal", "refusal": "the refusal"},
        {"type": "function", "id": "the id", "function": {"name": "the name", "arguments": "the arguments"}},
        {"type": "function", "id": "the id", "function": {"name": "the name", "arguments": "the input"}},
        {"type": "new", "id": "c"},
        {"type": "function", "id": None, "function": {"name": "the name", "arguments": "the arguments"}},
        {**audio, "type": "audio"},
    ]
    assert whole.output == streamed.output == [{"role": "assistant", "content": expected}]


@pytest.mark.parametrize("kind", sorted(EVENTS))
def test_every_event_can_be_the_last(kind: str) -> None:
    """An answer that is cut off there shows what it said, and what is not listed as silent says something."""
    event = sample(EVENTS[kind])
    begun = {"type": "message", "content": []} if "output_text" in kind else {"type": "new_call"}
    generation = read(
        "responses", None, None, [{"type": "response.output_item.added", "output_index": 1, "item": begun}, event]
    )
    assert generation.output is not None
    said = json.dumps(generation.output)
    if kind.rpartition(".")[0] in GROWING and kind not in SILENT:
        assert '"the ' in said or kind in ("response.audio.done", "response.audio.transcript.done")  # they say nothing
    elif kind in SILENT:
        assert said in ("[]", json.dumps([{"role": "assistant", "content": [begun]}]))


CUT: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        [
            {"type": "response.shell_call_command.delta", "output_index": 0, "command_index": 1, "delta": "pw"},
            {"type": "response.shell_call_command.delta", "output_index": 0, "command_index": 0, "delta": "ls"},
            {"type": "response.shell_call_command.delta", "output_index": 0, "command_index": 1, "delta": "d"},
        ],
        [{"type": "shell_call", "action": {"commands": ["ls", "pwd"]}}],
    ),
    (
        [
            {"type": "response.shell_call_output_content.delta", "command_index": 0, "delta": {"stdout": "a"}},
            {"type": "response.shell_call_output_content.delta", "command_index": 0, "delta": {"stdout": "b"}},
            {"type": "response.shell_call_output_content.delta", "command_index": 0, "delta": {"stderr": "c"}},
        ],
        [{"type": "shell_call_output", "output": [{"stdout": "ab", "stderr": "c"}]}],
    ),
    (
        [
            {"type": "response.output_text.delta", "content_index": 0, "delta": "Rain."},
            {
                "type": "response.output_text.annotation.added",
                "content_index": 0,
                "annotation": {"type": "file_citation", "file_id": "file-1"},
            },
        ],
        [{"type": "text", "text": "Rain.", "annotations": [{"type": "file_citation", "file_id": "file-1"}]}],
    ),
    (
        [{"type": "response.content_part.added", "content_index": 0, "part": {"type": "output_3d", "mesh": "m"}}],
        [{"type": "output_3d", "mesh": "m"}],
    ),
    (
        [{"type": "response.image_generation_call.partial_image", "output_index": 0, "partial_image_b64": "iVBO"}],
        [{"type": "image_generation_call", "result": "iVBO", "status": None}],
    ),
    (
        [
            {"type": "response.audio.delta", "delta": "UklG"},
            {"type": "response.audio.transcript.delta", "delta": "Hel"},
            {"type": "response.audio.delta", "delta": "Rg=="},
            {"type": "response.audio.transcript.delta", "delta": "lo"},
        ],
        [{"type": "audio", "data": "UklGRg==", "transcript": "Hello"}],
    ),
]


@pytest.mark.parametrize(("events", "content"), CUT, ids=lambda value: value[0]["type"])
def test_answers_cut_off(events: list[dict[str, Any]], content: list[dict[str, Any]]) -> None:
    assert read("responses", None, None, events).output == [{"role": "assistant", "content": content}]


SECRET = "s3cr3t"


@pytest.mark.parametrize("keep_media", [False, True])
@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output"])
def test_credentials_of_tools_inside_the_conversation_stay_here(kind: str, keep_media: bool) -> None:
    tools = [
        {"type": "mcp", "server_label": "a", "headers": {"Authorization": SECRET}, "authorization": SECRET},
        {"type": "namespace", "name": "n", "tools": [{"type": "mcp", "authorization": SECRET}]},
        {
            "type": "shell",
            "environment": {
                "type": "container_auto",
                "network_policy": {
                    "type": "allowlist",
                    "domain_secrets": [{"domain": "example.com", "name": "KEY", "value": SECRET}],
                },
            },
        },
    ]
    item = {"type": kind, "role": "developer", "tools": tools}
    for found in (
        redaction.redact_content(read("responses", {"input": [item]}).input, keep_media),
        redaction.redact_content(read("responses", None, {"output": [item]}).output, keep_media),
        redaction.redact_content(read("responses", {"tools": tools}).tools, keep_media),
    ):
        assert SECRET not in json.dumps(found)
        assert json.dumps(found).count(redaction.REDACTED) == 4
        assert "example.com" in json.dumps(found)


def test_where_the_api_puts_media() -> None:
    """Each place of the API's that holds base64, with a picture of 300 bytes in it."""
    data = "iVBO" * 100
    url = f"data:image/png;base64,{data}"
    sent = [
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": url}},
        {"type": "function_call_output", "output": [{"type": "input_image", "image_url": url}]},
        {"type": "function_call_output", "output": [{"type": "input_file", "file_data": data, "filename": "a.pdf"}]},
        {"type": "custom_tool_call_output", "output": f'{{"shot": "{url}"}}'},
        {"type": "image_generation_call", "result": data},
        {"type": "code_interpreter_call", "outputs": [{"type": "image", "url": url}]},
        {"type": "mcp_call", "output": f"![shot]({url})"},
        {"role": "user", "content": [{"type": "input_image", "image_url": url}]},
        {"role": "user", "content": [{"type": "input_file", "file_data": url}]},
    ]
    kept = redaction.redact_content(read("responses", {"input": sent}).input, keep_media=True)
    shown = redaction.redact_content(read("responses", {"input": sent}).input)
    assert json.dumps(kept).count(data) == len(sent)
    assert data[:40] not in json.dumps(shown)
    assert json.dumps(shown).count("redacted, 300 bytes]") == len(sent)
    image = {"images": [{"type": "image_url", "image_url": {"url": url}}]}  # OpenRouter
    for drawn in (
        read("chat", None, {"choices": [{"index": 0, "message": image}]}),
        read("chat", None, None, [chunk(delta(**image))]),
    ):
        assert drawn.output is not None
        assert redaction.redact_content(drawn.output)[0]["content"] == [
            {"type": "image_url", "image_url": {"url": "[base64 image redacted, 300 bytes]"}}
        ]
