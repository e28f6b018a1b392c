"""The differences between the wrapper's events and ours that are known and wanted. There are no others."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import ABSENT, BODIES, Case


def _ours_only(theirs: Any, ours: Any) -> bool:
    return theirs is ABSENT and ours is not ABSENT


def _any(theirs: Any, ours: Any) -> bool:
    return True


@dataclass(frozen=True)
class Wanted:
    """A difference: in which properties, how it looks, and why it is wanted."""

    keys: tuple[str, ...]
    reason: str
    shows: Callable[[Any, Any], bool] = _any
    """`(the wrapper's value, ours)`, ABSENT for none: whether this is the difference meant."""
    always: Callable[[Case], bool] | None = None
    """The cases in which it must show; None: in those that name it."""
    optional: bool = False
    """Not all of the keys need to differ."""
    rare: bool = False
    """None of them needs to."""


def _is_uuid(theirs: Any, ours: Any) -> bool:
    return theirs is ABSENT and bool(uuid.UUID(ours))


def _without_injection(theirs: Any, ours: Any) -> bool:
    asked = [{**body, "stream_options": {"include_usage": True}} for body in ours]
    return ours != theirs == asked


def _choice_each(theirs: Any, ours: Any) -> bool:
    together = [part for message in ours for part in message["content"]]
    return len(ours) > 1 and len(theirs) == 1 and theirs[0]["content"] == together


def _more_output(theirs: Any, ours: Any) -> bool:
    """Ours has all parts that theirs has, and more."""
    their_parts = [part for message in theirs for part in message["content"]]
    our_parts = [part for message in ours for part in message["content"]]
    return len(our_parts) > len(their_parts) and all(part in our_parts for part in their_parts)


def _audio_placeholder(theirs: Any, ours: Any) -> bool:
    (their_part,), (our_part,) = theirs[0]["content"], ours[0]["content"]
    told = {"data": f"[base64 audio redacted, {len(their_part['data']) * 3 // 4} bytes]"}
    return {**their_part, **told, "expires_at": our_part["expires_at"]} == our_part != their_part


def _without_sizes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_sizes(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_without_sizes(member) for member in value]
    return re.sub(r"redacted, \d+ bytes\]", "redacted]", value) if isinstance(value, str) else value


def _all_and_more(theirs: Any, ours: Any) -> bool:
    """Whatever theirs says ours says too; it says more only in members of objects and in items of lists."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return all(key in ours and _all_and_more(value, ours[key]) for key, value in theirs.items())
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(_all_and_more, theirs, ours))
    return bool(theirs == ours)


WANTED = {
    "library": Wanted(
        ("$ai_lib", "$ai_lib_version", "$lib", "$lib_version"),
        "each names itself",
        lambda theirs, ours: isinstance(theirs, str) and isinstance(ours, str),
        always=lambda case: True,
    ),
    "client facts": Wanted(
        ("$os", "$os_version", "$os_distro", "$python_runtime", "$python_version", "$context_tags"),
        "the posthog client puts these on every event it sends; they are no facts of the call",
        lambda theirs, ours: ours is ABSENT,
        always=lambda case: True,
        optional=True,
    ),
    "span": Wanted(
        ("$ai_span_id",),
        "a call can be found, rated and be the parent of others",
        _is_uuid,
        always=lambda case: True,
    ),
    "request url": Wanted(
        ("$ai_request_url",),
        "where the call really went, with an Azure deployment's name in it",
        lambda theirs, ours: theirs is ABSENT and ours.startswith("http://127.0.0.1:"),
        always=lambda case: True,
    ),
    "stream flag": Wanted(
        ("$ai_stream",),
        "latency means something else for a stream",
        lambda theirs, ours: theirs is ABSENT and isinstance(ours, bool),
        always=lambda case: True,
    ),
    "cache accounting": Wanted(
        ("$ai_cache_reporting_exclusive",),
        "PostHog guesses by the model's name, and would bill Claude behind this API twice for its cache",
        lambda theirs, ours: theirs is ABSENT and ours is False,
        always=lambda case: not case.embedding,
    ),
    "time to first token": Wanted(
        ("$ai_time_to_first_token",),
        "known for every stream that said something",
        lambda theirs, ours: theirs is ABSENT and isinstance(ours, float) and ours > 0,
    ),
    "nothing injected": Wanted(
        (BODIES,),
        "the wrapper asks for usage in every chat stream, and the program gets a chunk that it did not ask for",
        _without_injection,
        always=lambda case: case.stream and case.method.startswith("chat") and "stream_options" not in case.arguments,
    ),
    "sent parameters": Wanted(
        ("$ai_model_parameters",),
        "`chat.completions.parse` itself sends stream=false; ours are the parameters that were sent",
        lambda theirs, ours: ours == {**theirs, "stream": False} != theirs,
    ),
    "properties win": Wanted(
        ("$ai_stop_reason",),
        "a property wins over what the call says; in its streams the wrapper makes some exceptions",
        lambda theirs, ours: (theirs, ours) == ("stop", "mine"),
    ),
    "served model": Wanted(
        ("$ai_model",),
        "the response's model is the one that is billed; the request's may be an alias or a deployment",
        lambda theirs, ours: ours.startswith(theirs) or ours == "gpt-4o-2024-08-06",
    ),
    "azure": Wanted(
        ("$ai_provider",),
        "Azure has its own prices",
        lambda theirs, ours: (theirs, ours) == ("openai", "azure"),
    ),
    "choices apart": Wanted(
        ("$ai_output_choices",), "every choice of n=2 is its own message; the wrapper runs them together", _choice_each
    ),
    "nothing said": Wanted(
        ("$ai_output_choices",),
        "no answer is no message, as the wrapper has it too where the answer is not streamed",
        lambda theirs, ours: (theirs, ours) == ([{"role": "assistant", "content": []}], []),
    ),
    "audio placeholder": Wanted(
        ("$ai_output_choices",),
        "spoken output is media like images, also where it is shorter than 200 characters; and in a stream, it expires",
        _audio_placeholder,
    ),
    "media size": Wanted(
        ("$ai_input", "$ai_output_choices"),
        "how large a picture was says what it cost, and whether it was sent at all",
        lambda theirs, ours: "redacted]" in str(theirs) and _without_sizes(ours) == theirs,
        optional=True,
    ),
    "media inside a text": Wanted(
        ("$ai_input",),
        "a picture in the JSON that a tool answered is a picture; the wrapper sends it as it is",
        lambda theirs, ours: (
            "base64," in theirs[0]["content"]
            and ours[0]["content"] == '{"shot": "[base64 image redacted, 255 bytes]", "ok": true}'
        ),
    ),
    "citations": Wanted(
        ("$ai_output_choices",),
        "what an answer rests on belongs to it; the wrapper counts citations and drops them",
        lambda theirs, ours: "annotations" in str(ours) and _all_and_more(theirs, ours),
    ),
    "details of output": Wanted(
        ("$ai_output_choices",),
        "the phase of a message, the namespace of a function, the prompt of a picture as the model rewrote it",
        _all_and_more,
    ),
    "details of input": Wanted(
        ("$ai_input",),
        "members of messages that the wrapper does not know are sent to the model like the rest",
        _all_and_more,
    ),
    "items with a content": Wanted(
        ("$ai_input",),
        "reasoning and other items that are sent back stay what they are; the wrapper makes messages of them",
        lambda theirs, ours: (
            theirs[0]["role"] in ("user", "developer") and "type" not in theirs[0] and "type" in ours[0]
        ),
    ),
    "stored prompt": Wanted(
        ("$ai_input", "$ai_model_parameters"),
        "which stored prompt was used, and what was put into it",
        lambda theirs, ours: "pmpt_1" in str(ours) and "pmpt_1" not in str(theirs),
    ),
    "parts of unknown kinds": Wanted(
        ("$ai_output_choices",),
        "what the API learns to say is shown as it came; the wrapper drops it",
        _more_output,
    ),
    "modality tokens": Wanted(
        ("$ai_audio_input_tokens", "$ai_audio_output_tokens", "$ai_text_output_tokens"),
        "priced apart; the wrapper leaves them to the server to find in $ai_usage, which the local store cannot",
        _ours_only,
    ),
    "counts nobody gave": Wanted(
        ("$ai_cache_read_input_tokens", "$ai_reasoning_tokens"),
        "where the server does not say how much was cached or thought, we do not say 0",
        lambda theirs, ours: (theirs, ours) == (0, ABSENT),
        optional=True,
    ),
    "cache writes": Wanted(
        ("$ai_cache_creation_input_tokens",), "reported by OpenAI since 2026, and billed by others", _ours_only
    ),
    "reasoning text": Wanted(
        ("$ai_output_choices",),
        "DeepSeek, xAI, OpenRouter and others answer with their reasoning; the wrapper drops it",
        _more_output,
    ),
    "function_call": Wanted(
        ("$ai_input", "$ai_output_choices"),
        "the deprecated function_call is still said and sent; the wrapper drops it",
        _any,
    ),
    "streamed custom tool": Wanted(
        ("$ai_output_choices",),
        "the wrapper loses name and input of custom tools in a stream",
        lambda theirs, ours: (
            theirs[0]["content"][0]["function"] == {"name": "", "arguments": ""}
            and ours[0]["content"][0]["function"] == {"name": "sql", "arguments": "SELECT 1"}
        ),
    ),
    "cut answer": Wanted(
        ("$ai_output_choices",),
        "a Responses stream that ends too early is put together from its deltas; the wrapper shows nothing",
        lambda theirs, ours: (
            theirs == [] and ours == [{"role": "assistant", "content": [{"type": "text", "text": "Hello there."}]}]
        ),
    ),
    "failed answer": Wanted(
        ("$ai_is_error", "$ai_error"),
        "a response with status failed and an error event in a stream are errors, although nothing is raised",
        lambda theirs, ours: theirs is ABSENT and ours in (True, "The model broke."),
    ),
    "cancelled stream": Wanted(
        ("$ai_is_error", "$ai_error", "$ai_http_status"),
        "a stream whose task is cancelled is the error that a cancelled call is",
        lambda theirs, ours: (theirs, ours) in ((ABSENT, True), (ABSENT, "cancelled"), (200, 0)),
    ),
    "answer behind an error": Wanted(
        (
            "$ai_output_choices",
            "$ai_stop_reason",
            "$ai_input_tokens",
            "$ai_output_tokens",
            "$ai_usage",
        ),
        "an answer that `parse` refuses was given and is billed",
        lambda theirs, ours: theirs in (ABSENT, []) and bool(ours),
    ),
    "last service tier": Wanted(
        ("$ai_service_tier", "$ai_model_parameters"),
        "a Responses stream begins with the tier that was asked for and ends with the one that served",
        lambda theirs, ours: "default" in (ours, ours["service_tier"] if isinstance(ours, dict) else ""),
    ),
    "instructions in parts": Wanted(
        ("$ai_input",),
        "the wrapper makes the repr of a list of parts, in which pictures escape redaction",
        lambda theirs, ours: (
            theirs[0]["content"].startswith("[{'") and ours[0]["content"][-1] == {"type": "input_text", "text": "Sing."}
        ),
    ),
    "ending": Wanted(
        ("posthog_autoinstrument_ending",),
        "an answer that is not whole can be told from one that is",
        lambda theirs, ours: theirs is ABSENT,
        always=lambda case: True,
        rare=True,
    ),
    "errors": Wanted(
        ("$ai_error", "$ai_error_type"),
        "openai 3 leaves out of its message what a server says in its own shape, and what broke a connection",
        lambda theirs, ours: theirs is ABSENT or theirs in ours,
        always=lambda case: True,
        rare=True,
    ),
    "keys in errors": Wanted(
        ("$ai_error",),
        "API keys never leave the process",
        lambda theirs, ours: "sk-live-" in theirs and "sk-live-" not in ours and "[REDACTED]" in ours,
    ),
    "keys in tools": Wanted(
        ("$ai_tools",),
        "the key of an MCP server may stand in its URL",
        lambda theirs, ours: "key=secret" in theirs[0]["server_url"] and "secret" not in ours[0]["server_url"],
    ),
    "private tools": Wanted(
        ("$ai_tools",),
        "tool definitions are the program's content like its instructions",
        lambda theirs, ours: bool(theirs) and ours is None,
    ),
    "context user": Wanted(
        ("distinct_id", "$process_person_profile"),
        "posthog.identify_context counts for streams and embeddings too; the wrapper reads it for plain calls only",
        lambda theirs, ours: ours in ("user-2", ABSENT),
    ),
}
"""name -> difference. A test fails for one that is not here, and for one that is here and shows no longer."""
