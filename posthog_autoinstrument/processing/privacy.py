"""Privacy mode: what is left of an event's `$ai_` properties. A list of what may pass, so that unknown properties do
not: numbers, ids, times, the model and who answered, and words of the API's own vocabulary. Pure.

The program's own properties and groups are its own to choose, and pass. `$ai_error` is a summary by then (`event`).
"""

from __future__ import annotations

import re
from typing import Any

_PREFIX = "$ai_"
EMPTY = frozenset(
    ("$ai_input", "$ai_output_choices", "$ai_instructions", "$ai_tools", "$ai_input_state", "$ai_output_state")
    + ("$ai_feedback_text", "$ai_metric_value")
)
"""Content: the property stays, since there was some, and is null."""
PLAIN = frozenset(
    ("$ai_lib", "$ai_lib_version", "$ai_model", "$ai_provider", "$ai_base_url", "$ai_request_url", "$ai_error")
    + ("$ai_error_type",)
    + ("$ai_trace_id", "$ai_span_id", "$ai_parent_id", "$ai_session_id", "$ai_span_type", "$ai_span_name")
    + ("$ai_tokens_source", "$ai_framework", "$ai_metric_name")
)
"""Texts that are no content: the agent's own, ids, addresses without their secrets, names that the program gives."""
REDUCED = frozenset(("$ai_usage", "$ai_model_parameters"))
"""Of these, numbers and words of the API's vocabulary."""
ANSWERED = frozenset(("$ai_stop_reason", "$ai_service_tier"))
"""What a server answers with one of these words."""
TOOL_TYPES = frozenset(("tool", "function", "handoff", "mcp_tools"))
"""Types of spans whose name is a tool's, which the model or a server may have chosen: they are called by their type."""

_FREE_TEXT = frozenset(("stop", "voice", "language", "prompt", "metadata", "user", "include", "chunking_strategy"))
"""Parameters whose values are the user's, whatever their type."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SIZE = re.compile(r"\d{1,5}x\d{1,5}")
WORDS = frozenset(
    # service tiers
    ("auto", "default", "flex", "priority", "scale", "standard", "batch", "standard_only", "on_demand")
    # why and how an answer ended
    + (
        "stop",
        "length",
        "tool_calls",
        "tool_call",
        "content_filter",
        "function_call",
        "completed",
        "incomplete",
        "failed",
    )
    + (
        "cancelled",
        "canceled",
        "in_progress",
        "queued",
        "expired",
        "requires_action",
        "max_output_tokens",
        "max_tokens",
    )
    + ("end_turn", "tool_use", "stop_sequence", "pause_turn", "refusal", "error", "eos", "abort", "turn_detected")
    + ("client_cancelled", "model_length", "insufficient_system_resource", "recitation", "safety", "cancelling")
    # sizes, qualities, efforts
    + ("none", "minimal", "low", "medium", "high", "xhigh", "max", "hd", "vivid", "natural", "transparent", "opaque")
    # formats
    + ("json", "text", "srt", "vtt", "verbose_json", "diarized_json", "url", "b64_json", "png", "jpeg", "webp", "sse")
    + ("audio", "mp3", "opus", "aac", "flac", "wav", "pcm", "pcm16", "g711_ulaw", "g711_alaw", "word", "segment")
    # kinds of usage
    + ("tokens", "duration", "image", "seconds", "disabled", "enabled")
)


def reduce(properties: dict[str, Any]) -> dict[str, Any]:
    """The properties of an event as they may be sent in privacy mode."""
    found = {}
    for name, value in properties.items():
        if not name.startswith(_PREFIX) or name in PLAIN:
            found[name] = value
        elif name in EMPTY:
            found[name] = value if isinstance(value, (bool, int, float)) else None  # a metric's number
        elif name in REDUCED:
            found[name] = _reduced(value)
        elif isinstance(value, (bool, int, float)) or (name in ANSWERED and isinstance(value, str) and _is_word(value)):
            found[name] = value
    if found.get(_PREFIX + "span_type") in TOOL_TYPES:
        found[_PREFIX + "span_name"] = found[_PREFIX + "span_type"]
    return found


def _is_word(text: str) -> bool:
    return text.lower() in WORDS or _SIZE.fullmatch(text) is not None


def _reduced(value: Any, depth: int = 0) -> Any:
    """Numbers, flags and known words, under names that look like an API's."""
    if isinstance(value, dict):
        if depth > 5:
            return {}
        return {
            name: _reduced(one, depth + 1)
            for name, one in value.items()
            if isinstance(name, str) and _NAME.fullmatch(name) and name not in _FREE_TEXT and _is_shown(one)
        }
    if isinstance(value, list):
        return [_reduced(one, depth + 1) for one in value if _is_shown(one)] if depth <= 5 else []
    return value if _is_shown(value) else None


def _is_shown(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, (bool, int, float, dict, list))
        or (isinstance(value, str) and _is_word(value))
    )
