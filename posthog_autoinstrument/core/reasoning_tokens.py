"""Where PostHog expects reasoning tokens: inside the output, but beside it for some models. Pure."""

from __future__ import annotations

import re

_BESIDE = re.compile(r"gemini-(?:2\.5|3(?:\.\d+)?)-")


def are_beside_output(model: object) -> bool:
    """Whether PostHog, pricing `model`, adds its reasoning tokens to its output tokens (as of 2026-11).

    Gemini's own API counts them so. For all others PostHog takes reasoning for a part of the output.
    """
    return isinstance(model, str) and _BESIDE.match(model.lower().rpartition("/")[2]) is not None
