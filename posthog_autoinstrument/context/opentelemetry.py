"""What OpenTelemetry has active where a call starts. opentelemetry-api 1.0 to 1.45."""

from __future__ import annotations

import sys


def active_ids() -> tuple[str, str] | None:
    """Trace id and span id of OpenTelemetry's active span, in hexadecimal (W3C); None where there is none.

    opentelemetry-api 1.0 to 1.45: `trace.get_current_span().get_span_context()`; an invalid context has ids of 0.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.trace_id else None
