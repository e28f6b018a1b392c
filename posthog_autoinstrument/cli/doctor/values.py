"""The settings: their values, where these come from, and the functions that they name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...processing import redaction
from ...scrubbing import scrubber
from ...settings.config import NOT_ACCEPTED, SETTINGS, Config, Setting, mask
from . import named_functions
from .report import Check


def check(settings: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    """Every setting, and what is wrong with them."""
    for setting in SETTINGS:
        value = getattr(settings, setting.field)
        yield Check(setting.variable, f"{_shown(setting, value)}  ({_origin(setting, value, environ)})")
    for problem in settings.problems:
        if "does not look like a project token" not in problem:  # `destination` asks PostHog about it
            yield Check("", problem=problem)
    if settings.disabled:
        yield Check("", problem="POSTHOG_AUTOINSTRUMENT_DISABLED is set: nothing is captured")


def check_functions(settings: Config, folders: Sequence[str]) -> Iterator[Check]:
    """The functions that settings name. They are searched for, not loaded: that might run the program."""
    for variable, named, without in (
        ("POSTHOG_AUTOINSTRUMENT_BEFORE_SEND", settings.before_send, "no event would be sent"),
        ("POSTHOG_AUTOINSTRUMENT_USER", settings.user, "events would have no user"),
    ):
        if named is None or named == NOT_ACCEPTED:
            continue
        reason, found = named_functions.check(named, folders)
        if reason is None:
            yield Check(variable, found)
        else:
            yield Check(variable, problem=f"{variable}={named}: {reason}: {without}")


def masked(token: str) -> str:
    """Both ends of a token, which is enough to find it on PostHog's pages."""
    return mask(token) + (token[-4:] if len(token) > 12 else "")


def _shown(setting: Setting, value: Any) -> str:
    if value is None:
        return "-"
    if setting.secret:
        return masked(str(value))
    if setting.field == "host":
        return redaction.redact_url(str(value))
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, frozenset):
        return ",".join(sorted(value))[:200] or "-"
    value = scrubber.scrub(value)
    return json.dumps(value, ensure_ascii=False)[:200] if isinstance(value, dict) else str(value)[:200]


def _origin(setting: Setting, value: Any, environ: Mapping[str, str]) -> str:
    """Where a value comes from: a variable, an option of the command line, or the default."""
    for variable in setting.names:
        text = environ.get(variable, "")
        if text.strip():
            try:
                setting.parse(text)
            except ValueError:
                if value == setting.default:
                    continue
                return f"{variable} is not accepted"
            return "environment" if variable == setting.variable else f"environment: {variable}"
    return "default" if value == setting.default else "command line"
