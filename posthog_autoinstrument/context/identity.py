"""Who makes a call, in which trace: what is read when the call starts (`Intent`), and the precedence (`resolve`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core import guard, ids
from . import call_arguments, opentelemetry, posthog_sdk, scope
from .fields import NO_FIELDS, Fields, merge

if TYPE_CHECKING:
    from ..core.records import Identity

OPENTELEMETRY = "opentelemetry.trace"


class Intent:
    """What is in force when a call starts: its `posthog_*` arguments, the open block, the posthog package's context,
    the web request, OpenTelemetry's active span. Read on the caller's thread."""

    __slots__ = ("call_fields", "context", "opentelemetry", "sdk_fields", "web_fields")

    def __init__(self, overrides: Mapping[str, Any] | None, inside: scope.Context | None = None) -> None:
        self.context = inside or scope.current()
        self.opentelemetry = guard.quietly(opentelemetry.active_ids) if OPENTELEMETRY in sys.modules else None
        """Trace id and span id of its active span."""
        self.call_fields = call_arguments.fields_of(overrides) if overrides else NO_FIELDS
        self.sdk_fields = (guard.quietly(posthog_sdk.fields) or NO_FIELDS) if "posthog" in sys.modules else NO_FIELDS
        request = scope.request_around(self.context)
        self.web_fields = NO_FIELDS
        if request is not None:
            self.web_fields = guard.attempt("read a web request", request.fields) or NO_FIELDS


def intent_of(overrides: Mapping[str, Any] | None) -> Intent:
    """The intent of a call that starts here; the same empty object where nothing is in force."""
    modules = sys.modules
    if overrides or scope.CONTEXT.get() is not None or "posthog" in modules or OPENTELEMETRY in modules:
        return Intent(overrides)
    return NO_INTENT


NO_INTENT = Intent.__new__(Intent)
NO_INTENT.context, NO_INTENT.call_fields, NO_INTENT.sdk_fields = None, NO_FIELDS, NO_FIELDS
NO_INTENT.opentelemetry = None
NO_INTENT.web_fields = NO_FIELDS


def resolve(intent: Intent, defaults: Fields) -> Identity:
    """The identity of a call, by precedence: per-call argument, `posthog_context`, the posthog package's context, the
    web request, the defaults. A call is private if any of them is.
    """
    from ..core.records import Identity  # on the flusher's thread: `import openai` does not wait for it

    own = intent.context.fields if intent.context is not None else NO_FIELDS
    web = intent.web_fields
    sources = (intent.call_fields, own, intent.sdk_fields, web, defaults)
    fields = NO_FIELDS
    for source in reversed(sources):
        if source is not NO_FIELDS:
            fields = merge(source, fields)
    tags = intent.sdk_fields.properties
    properties = {**defaults.properties, **web.properties, **tags, **own.properties, **intent.call_fields.properties}
    trace_id, parent_id = fields.trace_id, fields.parent_id
    if own.parent_id and parent_id == own.parent_id and trace_id != own.trace_id:
        parent_id = None  # the call names another trace than that of the span around it
    active = intent.opentelemetry
    if active is not None:
        names = {"otel_trace_id": f'"{active[0]}"', "otel_span_id": f'"{active[1]}"'}
        properties = {**names, **properties}
        if trace_id in (None, web.trace_id) and scope.opentelemetry_trace_ids:
            trace_id = active[0]
    if tags:
        # As in PostHog's wrapper, a tag replaces no property that the agent sets; a property of the program's does.
        named = {*own.properties, *intent.call_fields.properties}
        properties = {key: text for key, text in properties.items() if key in named or key not in tags}
    return Identity(
        distinct_id=fields.distinct_id,
        trace_id=trace_id or ids.new_trace_id(),
        session_id=fields.session_id,
        replay_session_id=fields.replay_session_id,
        properties=properties,
        groups=fields.groups,
        tags=tags,
        privacy_mode=scope.started_private or any([source.privacy_mode for source in sources]),  # noqa: C419  half the time, on every call
        parent_id=parent_id,
        span_name=fields.span_name,
        provider=fields.provider,
    )
