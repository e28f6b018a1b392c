"""PostHog's events: from a recorded call and its generation to the `$ai_` properties PostHog documents.

This module writes those names and `store.columns` reads them; `privacy` and `kept_events` list some of them. Values and
shapes are those of PostHog's own wrapper (`posthog.ai.openai`, posthog 7.91.1) for every call it captures too; the
differences that are wanted are listed in the differential test.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

from .._version import __version__
from ..core import guard, reasoning_tokens
from ..core.records import Call, Error, Feedback, Identity, Record, Span
from ..providers import bodies
from ..providers.generation import Failure, Generation, Usage
from ..providers.provider import Provider
from ..scrubbing import scrubber
from . import privacy, redaction, sanitize
from .truncation import TRUNCATED

LIBRARY = "posthog-autoinstrument"

_TOKEN_PROPERTIES = frozenset(
    (
        "$ai_input_tokens",
        "$ai_output_tokens",
        "$ai_cache_read_input_tokens",
        "$ai_cache_creation_input_tokens",
        "$ai_cache_creation_5m_input_tokens",
        "$ai_cache_creation_1h_input_tokens",
        "$ai_total_tokens",
        "$ai_reasoning_tokens",
    )
)
"""Token counts that a program may pass as properties; then they are the program's, not the SDK's."""

LIBRARY_PROPERTIES = frozenset(
    (
        "framework",
        "agent_tools",
        "agent_handoffs",
        "agent_output_type",
        "handoff_from_agent",
        "handoff_to_agent",
        "guardrail_triggered",
        "mcp_data",
        "mcp_server",
        "mcp_tools",
    )
)
"""Properties of a library's steps, named as PostHog's own integrations name them (`posthog.ai`)."""

Event = dict[str, Any]
"""event, uuid, timestamp (ISO 8601, UTC), distinct_id, properties."""


def read(call: Call, provider: Provider) -> Generation:
    """What the provider's reader makes of a call; an empty generation where it fails."""
    endpoint = provider.endpoint(call.endpoint)
    if endpoint is None:
        return Generation()
    if max(len(call.request or b""), len(call.response or b"")) <= bodies.MAX_BYTES:
        request, response = call.request, call.response
    else:
        request, response = (
            body and guard.attempt("shorten a body", bodies.shortened, body) for body in (call.request, call.response)
        )
    generation = guard.attempt("read an answer", endpoint.read, request, response, call.chunks) or Generation()
    generation.truncated = request is not call.request or response is not call.response
    return generation


def build(
    call: Call,
    generation: Generation,
    provider: Provider,
    keep_media: bool = False,
    process_provider: str | None = None,
) -> Event:
    """The event of one call. Each part is made on its own: a part that fails leaves the others in place.

    `process_provider` is the provider of every event of the process, unless the call has one of its own.
    """
    endpoint = provider.endpoint(call.endpoint)
    kind = endpoint.kind if endpoint is not None else "generation"
    if kind == "span":
        return _span(call, generation, provider, keep_media, process_provider)
    is_embedding = kind == "embedding"
    properties: dict[str, Any] = {"$ai_lib": LIBRARY, "$ai_lib_version": __version__}
    parts = (
        ("write the tags", lambda: _values(call.identity.tags)),
        ("name the call", lambda: _call_properties(call, generation, is_embedding)),
        ("name the provider", lambda: _provider(call, generation, provider, process_provider)),
        ("write the content", lambda: _content(call, generation, is_embedding, keep_media)),
        ("write the tokens", lambda: _tokens(generation.usage, call, properties, is_embedding)),
        ("write the timings", lambda: _timings(call, generation)),
        ("write the identity", lambda: _identity(call)),
        ("write the properties", lambda: _own_properties(call)),
        # What follows, no property takes the place of.
        ("write the groups", lambda: _groups(call)),
        ("write the error", lambda: _error(call, generation)),
    )
    for step, part in parts:
        properties.update(guard.attempt(step, part) or {})
    if generation.truncated:
        properties[TRUNCATED] = True
    ending = guard.attempt("write how it ended", _ending, call, generation)
    if ending is not None:
        properties[ENDING] = ending
    if not is_embedding:
        passed = not _TOKEN_PROPERTIES.isdisjoint(call.identity.properties)
        properties["$ai_tokens_source"] = "passthrough" if passed else "sdk"
    return _envelope("$ai_embedding" if is_embedding else "$ai_generation", call, properties)


ENDING = "posthog_autoinstrument_ending"
"""Property of an answer that is no error and yet not all that was asked for: how it ended."""
_LIMITS = frozenset(("length", "max_tokens", "max_output_tokens", "model_length"))
_FILTERS = frozenset(("content_filter", "safety", "recitation"))
_MARK_THEIR_END = frozenset(("chat", "completions", "responses"))
"""Endpoints whose streams have an event for their end."""


def _ending(call: Call, generation: Generation) -> str | None:
    """Why an answer is not whole: "length", "content_filter", "refusal"; of a stream "left early" by the program, or
    "cut short" where it stopped without its end. None for a whole answer, and for errors."""
    if call.error is not None or generation.failure is not None or (call.status or 0) >= 400:
        return None
    reason = (generation.stop_reason or "").lower()
    if reason in _LIMITS:
        return "length"
    if reason in _FILTERS:
        return "content_filter"
    parts = (part for message in generation.output or () for part in message.get("content") or ())
    if reason == "refusal" or any(isinstance(part, dict) and part.get("type") == "refusal" for part in parts):
        return "refusal"
    is_over = bool(reason) or bool(call.chunks and call.chunks[-1].startswith("[DONE]"))
    if not call.stream or is_over or call.endpoint not in _MARK_THEIR_END or generation.pending:
        return None
    if call.end in ("closed", "abandoned"):
        return "left early"
    return "cut short" if call.end == "complete" and call.chunks else None


def _span(
    call: Call, generation: Generation, provider: Provider, keep_media: bool, process_provider: str | None
) -> Event:
    """The event of a call that is no generation (a moderation): a span with what went in and what came out."""
    properties: dict[str, Any] = {"$ai_lib": LIBRARY, "$ai_lib_version": __version__}
    parts = (
        ("write the tags", lambda: _values(call.identity.tags)),
        ("name the call", lambda: _span_call_properties(call, generation)),
        ("name the provider", lambda: _provider(call, generation, provider, process_provider)),
        ("write the content", lambda: _states(call, generation, keep_media)),
        ("write the timings", lambda: {"$ai_latency": call.duration_s}),
        ("write the identity", lambda: _identity(call)),
        ("write the properties", lambda: _own_properties(call)),
        ("write the groups", lambda: _groups(call)),
        ("write the error", lambda: _error(call, generation)),
    )
    for step, part in parts:
        properties.update(guard.attempt(step, part) or {})
    properties.setdefault("$ai_span_name", call.endpoint)
    return _envelope("$ai_span", call, properties, CONTENT | STATES)


def build_span(span: Span, keep_media: bool = False) -> Event:
    """The event of a step that the program names: `$ai_span`, or `$ai_trace` for the properties of the whole trace."""
    properties: dict[str, Any] = {"$ai_lib": LIBRARY, "$ai_lib_version": __version__}
    parts = (
        ("write the tags", lambda: _values(span.identity.tags)),
        ("name the span", lambda: _step_properties(span)),
        ("write the content", lambda: _step_states(span, keep_media)),
        ("write the identity", lambda: _identity(span)),
        ("write the properties", lambda: _own_properties(span)),
        ("write the groups", lambda: _groups(span)),
        ("write the error", lambda: _step_error(span)),
    )
    for step, part in parts:
        properties.update(guard.attempt(step, part) or {})
    if span.of_trace:
        properties.pop("$ai_parent_id", None)
    properties["$ai_span_name"] = span.name
    return _envelope("$ai_trace" if span.of_trace else "$ai_span", span, properties)


def _step_properties(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {"$ai_trace_id": sanitize.clip_id(span.identity.trace_id)}
    # PostHog adds the latencies of a trace and of its outermost spans up: a trace has none of its own.
    if not span.of_trace:
        found["$ai_span_id"] = span.span_id
        found["$ai_latency"] = span.duration_s
    if span.type is not None:
        found["$ai_span_type"] = span.type
    for name, text in span.facts.items():
        if name in LIBRARY_PROPERTIES:
            found[f"$ai_{name}"] = json.loads(text)
    return found


def _step_states(span: Span, keep_media: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in (("$ai_input_state", span.input_state), ("$ai_output_state", span.output_state)):
        if text is not None:
            private = span.identity.privacy_mode
            found[name] = None if private else redaction.redact_content(json.loads(text), keep_media)
    return found


def _step_error(span: Span) -> dict[str, Any]:
    error = span.error
    if error is None:
        return {}
    text = (_matching(error.name, _CLASS) or "Exception") if span.identity.privacy_mode else error.message or error.name
    return {"$ai_is_error": True, "$ai_error": redaction.redact_keys(text)}


def build_feedback(feedback: Feedback) -> Event:
    """The event of feedback or a metric: `$ai_feedback` or `$ai_metric`."""
    properties: dict[str, Any] = {"$ai_lib": LIBRARY, "$ai_lib_version": __version__}
    parts = (
        ("write the tags", lambda: _values(feedback.identity.tags)),
        ("write the identity", lambda: _identity(feedback)),
        ("write the properties", lambda: _own_properties(feedback)),
        ("write the groups", lambda: _groups(feedback)),
        ("write the feedback", lambda: _feedback(feedback)),
    )
    for step, part in parts:
        properties.update(guard.attempt(step, part) or {})
    return _envelope("$ai_feedback" if feedback.name is None else "$ai_metric", feedback, properties)


def _feedback(feedback: Feedback) -> dict[str, Any]:
    value = json.loads(feedback.value)
    trace = {"$ai_trace_id": sanitize.clip_id(feedback.identity.trace_id)}
    if feedback.name is None:
        private = feedback.identity.privacy_mode  # what people write of an answer quotes it
        return {**trace, "$ai_feedback_text": None if private else value}
    return {**trace, "$ai_metric_name": feedback.name, "$ai_metric_value": value}


def _span_call_properties(call: Call, generation: Generation) -> dict[str, Any]:
    found = _call_properties(call, generation, is_embedding=True)
    del found["$ai_stream"]
    return found


def _states(call: Call, generation: Generation, keep_media: bool) -> dict[str, Any]:
    private = call.identity.privacy_mode
    return {
        "$ai_input_state": None if private else redaction.redact_media(generation.input, keep_media),
        "$ai_output_state": None if private else redaction.redact_media(generation.output, keep_media),
    }


CONTENT = frozenset(("$ai_input", "$ai_output_choices", "$ai_instructions", "$ai_tools"))
"""Content: sent as it is, without media and the credentials of tools."""
STATES = frozenset(("$ai_input_state", "$ai_output_state"))
"""The same of a call that is a span."""


_IDS = frozenset(("$ai_trace_id", "$ai_session_id", "$session_id", "$ai_parent_id", "$ai_span_id", "$window_id"))


def _envelope(name: str, call: Record, properties: dict[str, Any], content: frozenset[str] = CONTENT) -> Event:
    properties = guard.attempt("scrub an event", scrubber.scrub_properties, properties, content, _IDS) or {}
    if call.identity.privacy_mode:
        properties = guard.attempt("leave the content out", privacy.reduce, properties) or {}
    properties.update({"$lib": LIBRARY, "$lib_version": __version__, "$geoip_disable": True, "$is_server": True})
    identity = call.identity
    return {
        "event": name,
        "uuid": call.uuid,
        "timestamp": datetime.datetime.fromtimestamp(call.ended_at, datetime.timezone.utc).isoformat(),
        "distinct_id": _user(identity) or scrubber.scrub_id(sanitize.clip_id(identity.trace_id) or call.uuid),
        "properties": properties,
    }


SHARED_IDS = frozenset(
    ("0", "00000000-0000-0000-0000-000000000000", "[object object]", "anonymous", "anonymous-user", "backend",
     "distinct_id", "distinctid", "email", "false", "guest", "id", "nan", "none", "not_authenticated", "null", "system",
     "true", "undefined", "user")
)  # fmt: skip
"""Distinct ids, in lower case, that PostHog makes no person of (capture's v1 list)."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MAX_NAME_BYTES = 200


def repair(changed: Event, built: Event) -> Event:
    """What the user's hook made of `built`, as PostHog takes it: a malformed id, name or time becomes what it was.

    PostHog refuses a whole batch for one of them.
    """
    name, uuid, when = changed.get("event"), changed.get("uuid"), changed.get("timestamp")
    properties = changed.get("properties")
    if not (isinstance(name, str) and 0 < len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES):
        name = built["event"]
    return {
        **changed,
        "event": name,
        "uuid": uuid if isinstance(uuid, str) and _UUID.fullmatch(uuid) else built["uuid"],
        "timestamp": when if _is_time(when) else built["timestamp"],
        "distinct_id": sanitize.clip_id(changed.get("distinct_id")) or built["distinct_id"],
        "properties": properties if isinstance(properties, dict) else {},
    }


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) is not None
    except ValueError:
        return False


def _provider(call: Call, generation: Generation, provider: Provider, process_provider: str | None) -> dict[str, Any]:
    name = process_provider or provider.vendor_of(call.client, call.base_url, call.headers, generation)
    return {"$ai_provider": name}


def _values(texts: Mapping[str, str]) -> dict[str, Any]:
    return {key: json.loads(text) for key, text in texts.items()}


def _call_properties(call: Call, generation: Generation, is_embedding: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "$ai_model": generation.model or call.model,
        "$ai_stream": call.stream or generation.parameters.get("stream") is True,  # one that was refused too
        "$ai_base_url": redaction.redact_url(call.base_url),
        "$ai_request_url": redaction.redact_url(call.request_url),
        "$ai_span_id": call.span_id,
        "$ai_trace_id": sanitize.clip_id(call.identity.trace_id),
    }
    if call.status is not None or call.error is not None:  # a fake client below the call site has no status
        found["$ai_http_status"] = _status(call, generation)
    if not is_embedding:
        found["$ai_model_parameters"] = generation.parameters
    if generation.service_tier is not None:
        # The tier that served, whatever was asked for: it makes the price.
        found["$ai_model_parameters"] = {**generation.parameters, "service_tier": generation.service_tier}
        found["$ai_service_tier"] = generation.service_tier
    if generation.stop_reason is not None:
        found["$ai_stop_reason"] = generation.stop_reason
    cost = generation.cost_usd if generation.cost_usd is not None else call.cost_usd
    if cost is not None:
        found["$ai_total_cost_usd"] = cost
        found["$ai_cost_passthrough"] = True
    return found


def _status(call: Call, generation: Generation) -> int:
    """200 and the like; 0 for an error that is no HTTP answer, as PostHog's wrapper has it."""
    if call.error is not None:
        return call.error.status or 0
    if generation.failure is not None and generation.failure.raised:
        return 0
    return call.status or 0


def _content(call: Call, generation: Generation, is_embedding: bool, keep_media: bool) -> dict[str, Any]:
    private = call.identity.privacy_mode
    found: dict[str, Any] = {"$ai_input": None if private else redaction.redact_content(generation.input, keep_media)}
    if not is_embedding:
        found["$ai_output_choices"] = None if private else redaction.redact_content(generation.output or [], keep_media)
    if generation.instructions is not None:
        found["$ai_instructions"] = None if private else redaction.redact_content(generation.instructions, keep_media)
    if generation.tools:
        found["$ai_tools"] = None if private else redaction.redact_content(generation.tools, keep_media)
    return found


def _tokens(usage: Usage, call: Call, properties: dict[str, Any], is_embedding: bool) -> dict[str, Any]:
    """The counts, as PostHog prices them by the model that the event will name."""
    found: dict[str, Any] = {}
    own = call.identity.properties.get("$ai_model")
    model = properties.get("$ai_model") if own is None else json.loads(own)
    beside = bool(usage.reasoning_tokens) and reasoning_tokens.are_beside_output(model)
    for name in ("input_tokens", "output_tokens"):
        value = getattr(usage, name)
        if value is not None:
            found[f"$ai_{name}"] = value
    for name in (
        "audio_input_tokens",
        "audio_output_tokens",
        "image_input_tokens",
        "image_output_tokens",
        "cache_read_audio_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "reasoning_tokens",
        "web_search_count",
    ):
        value = getattr(usage, name)
        # The wrapper writes these two for streams even when they are 0.
        if value or (value == 0 and call.stream and name in ("cache_read_input_tokens", "reasoning_tokens")):
            found[f"$ai_{name}"] = value
    if beside and usage.output_tokens is not None:
        found["$ai_output_tokens"] = max(0, usage.output_tokens - (usage.reasoning_tokens or 0))
    # PostHog prices text output by itself as output minus audio and images; a count of our own matters beside those.
    if usage.text_output_tokens is not None and not beside and (usage.audio_output_tokens or usage.image_output_tokens):
        found["$ai_text_output_tokens"] = usage.text_output_tokens
    if usage.raw is not None and not is_embedding:
        found["$ai_usage"] = usage.raw
    if is_embedding:
        return found
    # OpenAI-shaped usage includes cached tokens in the input. PostHog's server would guess by the model's name, and
    # bill Claude behind an OpenAI-compatible endpoint twice for its cache.
    found["$ai_cache_reporting_exclusive"] = False
    return found


def _timings(call: Call, generation: Generation) -> dict[str, Any]:
    found: dict[str, Any] = {"$ai_latency": call.duration_s}
    first = generation.first_output_chunk
    if call.stream and first is not None and first < len(call.chunk_offsets_s):
        # A test of the host may turn even this clock back.
        found["$ai_time_to_first_token"] = max(0.0, call.chunk_offsets_s[first])
    return found


def _identity(call: Record) -> dict[str, Any]:
    identity = call.identity
    found: dict[str, Any] = {}
    for name, value in (
        ("$ai_session_id", identity.session_id),
        ("$session_id", identity.replay_session_id),
        ("$ai_parent_id", identity.parent_id),
        ("$ai_span_name", identity.span_name),
    ):
        if value is not None:
            found[name] = sanitize.clip_id(value, 1_000)
    if _user(identity) is None:
        found["$process_person_profile"] = False
    return found


def _user(identity: Identity) -> str | None:
    """The distinct id; None where it is a credential, which identifies no person."""
    found = sanitize.clip_id(identity.distinct_id)
    return found if found is not None and scrubber.scrub_id(found) == found else None


def _own_properties(call: Record) -> dict[str, Any]:
    """The program's own properties: they replace those of the call, and are replaced by an overridden provider."""
    found = {key: json.loads(text) for key, text in call.identity.properties.items()}
    if call.identity.provider:
        found["$ai_provider"] = call.identity.provider
    return found


def _groups(call: Record) -> dict[str, Any]:
    groups = {key: json.loads(text) for key, text in call.identity.groups.items()}
    return {"$groups": groups} if groups else {}


def _error(call: Call, generation: Generation) -> dict[str, Any]:
    error, failure = call.error, generation.failure
    if error is None and failure is None and (call.status or 0) < 400:
        return {}
    if call.end == "cancelled":
        text = "cancelled"
    elif call.identity.privacy_mode:
        text = _error_summary(error, failure, call)
    elif error is not None:
        text = _error_text(error, failure)
    elif failure is not None:
        text = failure.message or " ".join(dict.fromkeys(filter(None, (failure.code, failure.type))))
    else:
        text = ""
    found = {"$ai_is_error": True, "$ai_error": redaction.redact_keys(text or f"HTTP status {call.status}")}
    kind = _kind_of_error(error, failure)
    return found if kind is None else {**found, "$ai_error_type": kind}


def _kind_of_error(error: Error | None, failure: Failure | None) -> str | None:
    """The exception's class, or what the server calls an error that the SDK did not raise."""
    if error is not None:
        return _matching(error.name, _CLASS)
    return _matching((failure.type or failure.code) if failure is not None else None, _CODE)


def _error_text(error: Error, failure: Failure | None) -> str:
    """`NotFoundError: Error code: 404 - the server's message [code type] (caused by ...)`, each part once.

    openai 3 has only `error.message` of a body in its own message, and nothing where a server names it otherwise.
    """
    text = error.message
    reason = failure.message if failure is not None else None
    if reason and reason not in text and repr(reason)[1:-1] not in text:
        text = f"{text} - {reason}" if text else reason
    text = f"{error.name}: {text}" if text else error.name
    words = [word for source in (error, failure) if source is not None for word in (source.code, source.type)]
    missing = [word for word in dict.fromkeys(words) if word and word not in text]
    if missing:
        text += f" [{' '.join(missing)}]"
    if error.reasons:
        text += f" (caused by {'; '.join(error.reasons)})"
    return text


# What may stand in an error of a private call: words of a provider's own vocabulary, never prose. The rules of
# posthog 7.91.1 (posthog/ai/utils.py), which the JS SDK shares.
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}")
_REQUEST = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def _matching(value: str | None, grammar: re.Pattern[str]) -> str | None:
    return value if value is not None and grammar.fullmatch(value) else None


def _error_summary(error: Error | None, failure: Failure | None, call: Call) -> str:
    """`RateLimitError: 429 rate_limit_exceeded requests param=x request_id=req_1 (caused by ReadTimeout)`."""
    summary = _matching(error.name if error is not None else "APIError", _CLASS) or "Exception"
    status = error.status if error is not None else call.status if (call.status or 0) >= 400 else None
    if status is not None and 100 <= status <= 599:
        summary += f": {status}"
    codes: dict[str, None] = {}
    params: list[str] = []
    for source in (error, failure):
        if source is not None:
            for value in (source.code, source.type):
                code = _matching(value, _CODE)
                if code is not None:
                    codes[code] = None
            param = _matching(source.param, _PARAM)
            if param is not None:
                params.append(param)
    summary += "".join(f" {code}" for code in codes)
    if params:
        summary += f" param={params[0]}"
    # The exception that the SDK raises for an error event has no request id.
    raised_in_stream = failure is not None and failure.raised
    known_id = error.request_id if error is not None else None if raised_in_stream else call.request_id
    request_id = _matching(known_id, _REQUEST)
    if request_id is not None:
        summary += f" request_id={request_id}"
    causes = [_matching(name, _CLASS) or "Exception" for name in error.causes] if error is not None else []
    if causes:
        summary += f" (caused by {', '.join(causes)})"
    return summary
