"""Every setting of the agent, in one table: the fields of `Config`.

The README, `docs/settings.md` and `posthog-instrument doctor` print this table. `loader` reads the values.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..core import environment
from .parsing import (
    DIRECTORY,
    FILE,
    FLAG,
    HOOK,
    HOST,
    HOST_PATTERNS,
    HOSTS,
    JSON_OBJECT,
    PATTERNS,
    SCRUB,
    TEXT,
    TOKEN,
    TRACING_HEADERS,
    US_HOST,
    Kind,
    number,
    whole,
)

NOT_ACCEPTED = "(not accepted)"
"""The value of a hook, or in a filter, that does not parse; `loader` has reported it."""
_NO_MATCH = frozenset((NOT_ACCEPTED,))


class Setting:
    """How one field of `Config` is read from the environment."""

    field = ""

    def __init__(
        self,
        variable: str,
        kind: Kind,
        default: Any,
        help: str,
        *,
        aliases: tuple[str, ...] = (),
        secret: bool = False,
        fallback: Any = None,
        consequence: str = "the default is used",
        only_at_start: bool = False,
    ) -> None:
        self.variable = variable
        self.names = (variable, *aliases)
        """The variables that give the value, the first one that is set and accepted."""
        self.parse = kind.parse
        self.accepts = kind.accepts
        self.default = default
        self.help = help
        self.secret = secret
        self.fallback = fallback
        """The value for a text that does not parse, where the default might send what was meant to be hidden."""
        self.consequence = consequence
        """What happens for a text that does not parse, for its message."""
        self.only_at_start = only_at_start
        """It is used before the first event is made: a later change has no effect."""


def _setting(variable: str, kind: Kind, default: Any, help: str, **options: Any) -> Any:
    """A field of `Config` and its `Setting`."""
    metadata = {"setting": Setting(variable, kind, default, help, **options)}
    if default == {}:
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(eq=False, repr=False)  # each method that `dataclass` writes is compiled while `import openai` waits
class Config:
    """The resolved settings of one process."""

    token: str | None = _setting(
        "POSTHOG_PROJECT_TOKEN",
        TOKEN,
        None,
        "Your PostHog project token. Without it a launched program's events stay in the local store.",
        aliases=("POSTHOG_PROJECT_API_KEY", "POSTHOG_API_KEY"),
        secret=True,
        consequence="it is ignored",
    )
    host: str = _setting("POSTHOG_HOST", HOST, US_HOST, "Where PostHog takes events.", aliases=("POSTHOG_API_URL",))
    allow_http: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_ALLOW_HTTP",
        FLAG,
        False,
        "Send events over plain http too. Without it only to this machine.",
    )
    privacy_mode: bool = _setting(
        "POSTHOG_PRIVACY_MODE",
        FLAG,
        False,
        "Leave prompts, answers, tool definitions and error messages out of every event.",
        fallback=True,
        consequence="privacy mode is on",
    )
    distinct_id: str | None = _setting(
        "POSTHOG_DISTINCT_ID", TEXT, None, "The user of calls for which nothing else sets one."
    )
    disabled: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_DISABLED",
        FLAG,
        False,
        "Capture nothing. `posthog_*` arguments are still taken out of calls.",
        fallback=True,
        consequence="nothing is captured",
    )
    local: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_LOCAL",
        FLAG,
        False,
        "Keep events in the local store even with a token (`posthog-instrument --local`).",
        fallback=True,
        consequence="events stay on this machine",
    )
    db: str | None = _setting(
        "POSTHOG_AUTOINSTRUMENT_DB", FILE, None, "The local store. Default: events.db in the user's state directory."
    )
    store_max_mb: int = _setting(
        "POSTHOG_AUTOINSTRUMENT_STORE_MAX_MB",
        whole(1, 2**30, "a whole number of megabytes, at least 1"),
        512,
        "Size at which the local store drops its oldest days.",
    )
    prices: str | None = _setting(
        "POSTHOG_AUTOINSTRUMENT_PRICES",
        FILE,
        None,
        "Your own prices, as TOML. Default: prices.toml in the user's configuration directory.",
    )
    spool: str | None = _setting(
        "POSTHOG_SPOOL",
        DIRECTORY,
        None,
        "Keep each call on disk, before it returns to the program, until it is delivered.",
        only_at_start=True,
    )
    spool_max_bytes: int = _setting(
        "POSTHOG_AUTOINSTRUMENT_SPOOL_MAX_BYTES",
        whole(1_048_576, 2**50, "a whole number of at least 1048576"),
        1024 * 1024 * 1024,
        "Size of one process's file in the spool; calls beyond that wait in memory.",
        only_at_start=True,
    )
    properties: Mapping[str, Any] = _setting(
        "POSTHOG_AUTOINSTRUMENT_PROPERTIES", JSON_OBJECT, {}, "Properties for every event of the process."
    )
    groups: Mapping[str, Any] = _setting(
        "POSTHOG_AUTOINSTRUMENT_GROUPS", JSON_OBJECT, {}, "Groups for every event of the process."
    )
    provider: str | None = _setting(
        "POSTHOG_AUTOINSTRUMENT_PROVIDER",
        TEXT,
        None,
        "Provider name for every event, where the base URL does not show it (a proxy of your own).",
    )
    tool_spans: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_TOOL_SPANS",
        FLAG,
        True,
        "Make a span of each tool that a model asked for and that a later call of the trace brings the result of.",
    )
    library_spans: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_LIBRARY_SPANS",
        FLAG,
        True,
        "Make a span of each agent, tool, chain and the like that openai-agents or LangChain runs.",
        only_at_start=True,
    )
    otel_trace_id: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_OTEL_TRACE_ID",
        FLAG,
        False,
        "Where OpenTelemetry has an active span, use its trace id for traces that nothing else sets.",
        only_at_start=True,
    )
    propagate: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_PROPAGATE",
        FLAG,
        True,
        "Propagate the open context into threads, pools, child processes and queued tasks.",
        only_at_start=True,
    )
    propagate_hosts: frozenset[str] = _setting(
        "POSTHOG_AUTOINSTRUMENT_PROPAGATE_HOSTS",
        HOSTS,
        frozenset(),
        "Services of your own that receive trace, span, user and session in the headers of requests to them.",
        only_at_start=True,
    )
    trust_baggage: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_TRUST_BAGGAGE",
        FLAG,
        False,
        "Take trace, span, user, session and privacy from the headers of web requests: only where every sender is a "
        "service of your own.",
        only_at_start=True,
    )
    sample_rate: float = _setting(
        "POSTHOG_AUTOINSTRUMENT_SAMPLE_RATE",
        number(0, 1, "a number from 0 to 1"),
        1.0,
        "Share of the traces that make events: whole traces, the same ones in every process.",
    )
    sample_errors: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_SAMPLE_ERRORS",
        FLAG,
        False,
        "Keep calls and spans that fail, of traces that are left out too.",
    )
    allow_hosts: frozenset[str] = _setting(
        "POSTHOG_AUTOINSTRUMENT_ALLOW_HOSTS",
        HOST_PATTERNS,
        frozenset(),
        "Only calls to these hosts make events, for example `api.openai.com,*.azure.com`.",
        fallback=_NO_MATCH,
        consequence="no call makes an event",
    )
    deny_hosts: frozenset[str] = _setting(
        "POSTHOG_AUTOINSTRUMENT_DENY_HOSTS",
        HOST_PATTERNS,
        frozenset(),
        "Calls to these hosts make no events, for example `api.openai.com,*.azure.com`.",
        fallback=_NO_MATCH,
        consequence="no call makes an event",
    )
    allow_models: frozenset[str] = _setting(
        "POSTHOG_AUTOINSTRUMENT_ALLOW_MODELS",
        PATTERNS,
        frozenset(),
        "Only calls of these models make events, for example `gpt-4o*`.",
        fallback=_NO_MATCH,
        consequence="no call makes an event",
    )
    deny_models: frozenset[str] = _setting(
        "POSTHOG_AUTOINSTRUMENT_DENY_MODELS",
        PATTERNS,
        frozenset(),
        "Calls of these models make no events, for example `gpt-4o*`.",
        fallback=_NO_MATCH,
        consequence="no call makes an event",
    )
    allow_endpoints: frozenset[str] = _setting(
        "POSTHOG_AUTOINSTRUMENT_ALLOW_ENDPOINTS",
        PATTERNS,
        frozenset(),
        "Only calls to these endpoints make events, for example `embeddings,/audio/*`.",
        fallback=_NO_MATCH,
        consequence="no call makes an event",
    )
    deny_endpoints: frozenset[str] = _setting(
        "POSTHOG_AUTOINSTRUMENT_DENY_ENDPOINTS",
        PATTERNS,
        frozenset(),
        "Calls to these endpoints make no events, for example `embeddings,/audio/*`.",
        fallback=_NO_MATCH,
        consequence="no call makes an event",
    )
    tracing_headers: str = _setting(
        "POSTHOG_AUTOINSTRUMENT_TRACING_HEADERS",
        TRACING_HEADERS,
        "1",
        "Read the `X-POSTHOG-...` headers of web requests: 1 before the signed-in user, anonymous where "
        "nobody is signed in, 0 not at all.",
        only_at_start=True,
    )
    user: str | None = _setting(
        "POSTHOG_AUTOINSTRUMENT_USER",
        HOOK,
        None,
        "Function that names the signed-in user of a web request: called with the framework's request (ASGI: scope, "
        "WSGI: environ), returns text or None.",
        only_at_start=True,
    )
    stream_usage: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_STREAM_USAGE",
        FLAG,
        True,
        "Ask for the token counts of streamed chats where the program does not, and hide the answer from it.",
        only_at_start=True,
    )
    stream_usage_hosts: frozenset[str] = _setting(
        "POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS",
        HOSTS,
        frozenset(),
        "Hosts besides api.openai.com that are asked: only those that accept `stream_options.include_usage`.",
        only_at_start=True,
    )
    keep_media: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_KEEP_MEDIA",
        FLAG,
        False,
        "Keep base64 images, audio and files in events instead of a placeholder.",
    )
    scrub: str = _setting(
        "POSTHOG_AUTOINSTRUMENT_SCRUB",
        SCRUB,
        "1",
        "Take credentials out of the program's own values: 1 by the usual names and by what they look like, names "
        "(`iban,card number`) those as well, 0 not at all.",
    )
    before_send: str | None = _setting(
        "POSTHOG_AUTOINSTRUMENT_BEFORE_SEND",
        HOOK,
        None,
        "Function called with every event (a dict) before it is sent; returns the event, or None to drop it.",
        fallback=NOT_ACCEPTED,
        consequence="no event is sent",
    )
    flush_at: int = _setting(
        "POSTHOG_AUTOINSTRUMENT_FLUSH_AT",
        whole(1, 10_000, "a whole number from 1 to 10000"),
        100,
        "Events waiting that make the flusher send at once.",
        only_at_start=True,
    )
    flush_interval_s: float = _setting(
        "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S",
        number(0.01, 3600, "seconds from 0.01 to 3600"),
        2.0,
        "Longest time an event waits before it is sent.",
        only_at_start=True,
    )
    exit_timeout_s: float = _setting(
        "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S",
        number(0, 300, "seconds from 0 to 300"),
        3.0,
        "Longest time the end of the program waits for events to be sent.",
        only_at_start=True,
    )
    sigterm: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_SIGTERM",
        FLAG,
        True,
        "Deliver waiting events before SIGTERM or SIGHUP ends a process that does not handle it itself.",
        only_at_start=True,
    )
    queue_max_events: int = _setting(
        "POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS",
        whole(1, 1_000_000, "a whole number from 1 to 1000000"),
        10_000,
        "Events that may wait; those beyond that are dropped and counted.",
        only_at_start=True,
    )
    queue_max_bytes: int = _setting(
        "POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_BYTES",
        whole(65_536, 2**40, "a whole number of at least 65536"),
        64 * 1024 * 1024,
        "Bytes of memory that calls may take while they wait or are sent; about two thirds of it are content.",
        only_at_start=True,
    )
    summary: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_SUMMARY",
        FLAG,
        False,
        "Sum up on standard error, in one line at the program's end (`posthog-instrument --summary`).",
    )
    debug: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_DEBUG",
        FLAG,
        False,
        "Write on standard error what the agent does (`posthog-instrument --debug`).",
        only_at_start=True,
    )
    raise_errors: bool = _setting(
        "POSTHOG_AUTOINSTRUMENT_RAISE",
        FLAG,
        False,
        "Raise the agent's own failures into the program. For the agent's tests.",
        only_at_start=True,
    )

    # Not from one variable each: set by `loader`.
    host_given: bool = False
    """The host was set, not defaulted."""
    fixed: frozenset[str] = frozenset()
    """Settings that the program gave in code."""
    as_read: Mapping[str, Any] | None = None
    """What the environment of this process gave at the start; None where the settings are from elsewhere."""
    launched: bool = False
    """This process was started by `posthog-instrument`, directly or as a descendant."""
    main_process: bool = True
    """This process is the launched program itself, not one of its children: only it writes what is not urgent."""
    problems: tuple[str, ...] = ()
    """One line for each value that was not accepted."""

    @property
    def db_path(self) -> str:
        """Where the local store is."""
        return self.db or default_path(*_state_home())

    @property
    def state_folder(self) -> str:
        """The user's own folder for what we keep between runs."""
        return os.path.dirname(default_path(*_state_home()))

    @property
    def prices_path(self) -> str:
        """Where the user's own prices are, if there are any."""
        config_home = environment.current().get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME")
        return self.prices or default_prices_path(config_home, os.path.expanduser("~"))


def _settings() -> tuple[Setting, ...]:
    found = []
    for one in fields(Config):
        setting = one.metadata.get("setting")
        if setting is not None:
            setting.field = one.name
            found.append(setting)
    return tuple(found)


SETTINGS = _settings()


def _state_home() -> tuple[str | None, str]:
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME"
    return environment.current().get(variable), os.path.expanduser("~")


def default_path(state_home: str | None, home: str, platform: str = sys.platform) -> str:
    """Where the local store is by default. Pure.

    `state_home` is the value of XDG_STATE_HOME (on Windows of LOCALAPPDATA), `home` the user's home directory.
    """
    return _in_folder(state_home, home, platform, ("AppData", "Local"), (".local", "state"), "events.db")


def default_prices_path(config_home: str | None, home: str, platform: str = sys.platform) -> str:
    """Where the user's own prices are by default. Pure.

    `config_home` is the value of XDG_CONFIG_HOME (on Windows of APPDATA), `home` the user's home directory.
    """
    return _in_folder(config_home, home, platform, ("AppData", "Roaming"), (".config",), "prices.toml")


def _in_folder(
    base: str | None, home: str, platform: str, windows: tuple[str, ...], other: tuple[str, ...], file: str
) -> str:
    if not base or not os.path.isabs(base):  # the XDG specification: relative paths are to be ignored
        below = {"darwin": ("Library", "Application Support"), "win32": windows}.get(platform, other)
        base = os.path.join(home, *below)
    return os.path.join(base, "posthog-autoinstrument", file)


def mask(secret: str) -> str:
    """A secret as it may be shown: its first characters only."""
    return secret[:8] + "..." if len(secret) > 12 else "..."
