"""What has ended becomes a plain record. On the flusher's thread, and loaded there: `import openai` must not wait."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..context import posthog_sdk
from ..context.identity import resolve
from ..core import guard, ids
from ..core.finished import FinalRecord, Finished
from ..core.records import Call, Error, Feedback, Record, Span
from ..providers import event_stream
from .calls import OpenCall
from .feedback import FinishedFeedback
from .multipart import Form
from .owner import is_gateway
from .response import Content
from .spans import FinishedSpan


@functools.singledispatch
def finalize(item: Finished) -> Record | None:
    """The plain record of what has ended; None where it must not be recorded."""
    raise TypeError(f"cannot finalize a {type(item).__name__}")


@finalize.register(FinalRecord)
def _(item: FinalRecord) -> Record:
    return item.record


@finalize.register(FinishedSpan)
def _(item: FinishedSpan) -> Span | None:
    if guard.quietly(posthog_sdk.is_disabled):
        return None
    span = item.span
    identity = resolve(span.intent, item.defaults)
    return Span(
        name=span.name,
        type=span.type,
        uuid=ids.new_ids(item.ended_at)[0],
        span_id=span.id,
        ended_at=item.ended_at,
        duration_s=max(0.0, span.duration_s),
        # In its own context it is the parent of what is captured there.
        identity=replace(
            identity,
            parent_id=span.parent_id,
            span_name=None,
            properties={**identity.properties, **span.properties},
        ),
        input_state=span.input_state,
        output_state=span.output_state,
        error=Error(*span.error) if span.error is not None else None,
        of_trace=item.of_trace,
        facts=span.facts,
    )


@finalize.register(FinishedFeedback)
def _(item: FinishedFeedback) -> Feedback | None:
    if guard.quietly(posthog_sdk.is_disabled):
        return None
    identity = resolve(item.intent, item.defaults)
    return Feedback(
        uuid=ids.new_ids(item.ended_at)[0],
        ended_at=item.ended_at,
        identity=replace(identity, parent_id=None, span_name=None),
        name=item.name,
        value=item.value,
    )


@finalize.register(OpenCall)
def _(call: OpenCall) -> Call | None:
    if call.repeated and call.n_finalized:
        return None
    call.n_finalized += 1
    call.assemble()
    base_url = str(call.base_url) if call.base_url is not None else ""
    if guard.quietly(posthog_sdk.is_disabled) or is_gateway(base_url):
        return None
    headers = call.headers
    content = call.response.content() if call.response is not None else Content()
    body, texts = content.body, content.texts
    if body is not None and content.is_raw:
        encoding = headers.get("content-encoding", "") if headers else ""
        body = event_stream.decompressed(body, encoding)
        if body is None and call.end != "complete" and call.error is None and event_stream.is_known(encoding):
            # The transport raised it above the bytes that we see (httpx, httpx2: `Response.iter_bytes`).
            call.error = ("DecodingError", f"the body is not {encoding}, as its content-encoding says")
    media = _media_type(headers) if call.endpoint.bulky else None
    if body is not None and media is not None:
        body = _sound_or_picture(body, media, content.n_bytes, call.calls.keep_media)
    elif body is not None and (call.stream or event_stream.is_event_stream(headers)):
        found = event_stream.texts(body)
        if found or event_stream.looks_like_events(body):
            texts, body = found, None
    uuid, span_id = ids.new_ids(call.ended_at)
    started = call.started
    return Call(
        sdk=call.calls.provider.name,
        endpoint=call.endpoint.name,
        uuid=uuid,
        span_id=span_id,
        client=call.client,
        base_url=base_url,
        request_url=call.url or "",
        ended_at=call.ended_at,
        duration_s=max(0.0, call.duration_s),  # a test of the host may turn even this clock back
        end=call.end or "abandoned",
        stream=call.stream,
        identity=resolve(call.intent, call.calls.defaults),
        status=call.status,
        request_id=headers.get("x-request-id") if headers is not None else None,
        headers={
            name: value
            for name in call.calls.provider.response_headers
            if headers is not None and (value := headers.get(name)) is not None
        },
        error=Error(*call.error) if call.error is not None else None,
        model=call.model,
        cost_usd=guard.quietly(_reported_cost, headers) if headers is not None else None,
        request=call.sent.to_json() if isinstance(call.sent, Form) else call.sent,
        response=body,
        chunks=tuple(texts) if texts is not None else None,
        chunk_offsets_s=tuple([time - started for time in content.times]),
        cut=content.cut,
    )


def _media_type(headers: Mapping[str, str] | None) -> str | None:
    """The content type of an answer that is no text."""
    kind = str(headers.get("content-type", "")).partition(";")[0].strip().lower() if headers is not None else ""
    return kind if kind.startswith(("audio/", "image/", "video/", "application/octet-stream")) else None


def _sound_or_picture(body: bytes, media: str, size: int, keep: bool) -> bytes:
    """An answer of sound or pictures, described as `provider.Reader` documents."""
    described: dict[str, Any] = {"content_type": media, "bytes": size}
    if keep:
        described["data"] = base64.b64encode(body).decode("ascii")
    return json.dumps(described).encode()


def _reported_cost(headers: Mapping[str, str]) -> float | None:
    """The cost in US dollars that a LiteLLM proxy reports of its answers."""
    cost = headers.get("x-litellm-response-cost")
    return float(cost) if cost is not None else None
