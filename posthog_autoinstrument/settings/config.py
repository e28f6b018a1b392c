"""Settings: one table, read once from the environment. README and `doctor` print the same table.

A value that does not parse is answered by one line that names the variable, the value and what is accepted; the
default is used. Nothing here raises.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..core import diagnostics, guard, package, process_tree
from ..core.environment import INTERNAL, LAUNCHED, flag, is_main_process

US_HOST = "https://us.i.posthog.com"
EU_HOST = "https://eu.i.posthog.com"

NOT_ACCEPTED = "(not accepted)"
"""Stands for a hook or a filter that does not parse, which was said when it was read."""


# Neither frozen nor compared: each method that `dataclass` writes is compiled while `import openai` waits.


@dataclass(eq=False, repr=False)
class Setting:
    """One environment variable. `parse` returns the value or raises ValueError with what is accepted."""

    field: str
    variable: str
    default: Any
    accepts: str
    help: str
    parse: Callable[[str], Any]
    aliases: tuple[str, ...] = ()
    secret: bool = False
    refused: Any = None
    """What a value that does not parse stands for, where something might be sent that was meant to be hidden."""
    then: str = "the default is used"
    """What becomes of a value that does not parse."""


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError
    return value


def _token(text: str) -> str:
    token = text.strip().strip("'\"")
    if token.startswith("phx_") or not token or any(character.isspace() for character in token):
        raise ValueError
    return token


def _doubt(variable: str, token: str) -> str:
    """A line about a token that is none by its looks, "" for any other. It is used all the same: tokens of old projects
    look otherwise."""
    body = token.removeprefix("phc_")
    looks_real = all(character.isascii() and (character.isalnum() or character in "_-") for character in body)
    if looks_real and body != token and not body.lower().startswith(("your", "xxx")):
        return ""
    return (
        f"{variable} does not look like a project token (phc_ and letters and digits): PostHog drops what is sent with "
        "a wrong one, and says nothing (posthog-instrument doctor tells whether a project has it)"
    )


_INGESTION = {
    "app.posthog.com": US_HOST,
    "us.posthog.com": US_HOST,
    "posthog.com": US_HOST,
    "www.posthog.com": US_HOST,
    "i.posthog.com": US_HOST,
    "eu.posthog.com": EU_HOST,
}


def ingestion_host(host: str) -> str:
    """The base URL that takes events, for what people write as host: `eu.posthog.com`, `https://us.posthog.com/`.

    PostHog's app hosts become their ingestion hosts; any other host keeps its scheme, port and path prefix. A missing
    scheme is https. Raises ValueError when it is no URL.
    """
    host = host.strip().strip("'\"")
    if "://" not in host:
        host = "https://" + host.lstrip("/")
    parts = urlsplit(host)
    if not parts.hostname or parts.scheme not in ("http", "https") or any(map(str.isspace, host)):
        raise ValueError(f"not a host: {host!r}")
    return _INGESTION.get(parts.hostname) or f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _hook(text: str) -> str:
    from . import hook_loader  # only where there is one to look at

    hook_loader.parse(text)
    return text.strip()


def _tracing_headers(text: str) -> str:
    return "anonymous" if text.strip().lower() == "anonymous" else str(int(flag(text)))


def _hosts(text: str) -> frozenset[str]:
    found = set()
    for part in text.split(","):
        host = part.strip().lower()
        if not host:
            continue
        parts = urlsplit(f"//{host}")
        if "/" in host or "@" in host or not parts.hostname or any(map(str.isspace, host)):
            raise ValueError
        _ = parts.port  # raises ValueError for what is no number
        found.add(host)
    return frozenset(found)


def _scrub(text: str) -> str:
    try:
        return str(int(flag(text)))
    except ValueError:
        names = [part.strip() for part in text.split(",") if part.strip()]
        if not all(any(character.isascii() and character.isalnum() for character in name) for name in names):
            raise
        return ",".join(names)


def _patterns(text: str) -> frozenset[str]:
    found = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    # A list in JSON, other separators, addresses: as patterns they would match nothing, and deny nothing.
    if not found or any(character.isspace() or character in "\"'`;{}()" for part in found for character in part):
        raise ValueError
    return found


def _host_patterns(text: str) -> frozenset[str]:
    found = _patterns(text)
    if any("/" in part or "@" in part for part in found):
        raise ValueError
    return found


def _text(text: str) -> str | None:
    return text.strip() or None


def _path(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text.strip()))


FLAG = "1 or 0 (also true, yes, on; false, no, off)"
SETTINGS: tuple[Setting, ...] = (
    Setting(
        "token",
        "POSTHOG_PROJECT_TOKEN",
        None,
        "a project token (phc_...), not a personal key (phx_...)",
        "Your PostHog project token. Without it a launched program's events stay in the local store.",
        _token,
        aliases=("POSTHOG_PROJECT_API_KEY", "POSTHOG_API_KEY"),
        secret=True,
        then="it is ignored",
    ),
    Setting(
        "host",
        "POSTHOG_HOST",
        US_HOST,
        "an http(s) address",
        "Where PostHog takes events.",
        ingestion_host,
        aliases=("POSTHOG_API_URL",),
    ),
    Setting(
        "allow_http",
        "POSTHOG_AUTOINSTRUMENT_ALLOW_HTTP",
        False,
        FLAG,
        "Send events over plain http too. Without it only to this machine.",
        flag,
    ),
    Setting(
        "privacy_mode",
        "POSTHOG_PRIVACY_MODE",
        False,
        FLAG,
        "Leave prompts, answers, tool definitions and error messages out of every event.",
        flag,
        refused=True,
        then="privacy mode is on",
    ),
    Setting(
        "distinct_id", "POSTHOG_DISTINCT_ID", None, "text", "The user of calls for which nothing else names one.", _text
    ),
    Setting(
        "disabled",
        "POSTHOG_AUTOINSTRUMENT_DISABLED",
        False,
        FLAG,
        "Capture nothing. `posthog_*` arguments are still taken out of calls.",
        flag,
        refused=True,
        then="nothing is captured",
    ),
    Setting(
        "local",
        "POSTHOG_AUTOINSTRUMENT_LOCAL",
        False,
        FLAG,
        "Keep events in the local store even with a token (`posthog-instrument --local`).",
        flag,
        refused=True,
        then="events stay on this machine",
    ),
    Setting(
        "db",
        "POSTHOG_AUTOINSTRUMENT_DB",
        None,
        "a file path",
        "The local store. Default: events.db in the user's state directory.",
        _path,
    ),
    Setting(
        "store_max_mb",
        "POSTHOG_AUTOINSTRUMENT_STORE_MAX_MB",
        512,
        "a whole number of megabytes, at least 1",
        "Size at which the local store drops its oldest days.",
        _whole(1, 2**30),
    ),
    Setting(
        "prices",
        "POSTHOG_AUTOINSTRUMENT_PRICES",
        None,
        "a file path",
        "Your own prices, as TOML. Default: prices.toml in the user's configuration directory.",
        _path,
    ),
    Setting(
        "spool",
        "POSTHOG_SPOOL",
        None,
        "a directory",
        "Keep each call on disk, before it returns to the program, until it is delivered.",
        _path,
    ),
    Setting(
        "spool_max_bytes",
        "POSTHOG_AUTOINSTRUMENT_SPOOL_MAX_BYTES",
        1024 * 1024 * 1024,
        "a whole number of at least 1048576",
        "Size of one process's file in the spool; what comes on top waits in memory.",
        _whole(1_048_576, 2**50),
    ),
    Setting(
        "properties",
        "POSTHOG_AUTOINSTRUMENT_PROPERTIES",
        {},
        "a JSON object",
        "Properties for every event of the process.",
        _json_object,
    ),
    Setting(
        "groups",
        "POSTHOG_AUTOINSTRUMENT_GROUPS",
        {},
        "a JSON object",
        "Groups for every event of the process.",
        _json_object,
    ),
    Setting(
        "provider",
        "POSTHOG_AUTOINSTRUMENT_PROVIDER",
        None,
        "text",
        "Provider name for every event, where the base URL does not tell (a proxy of your own).",
        _text,
    ),
    Setting(
        "tool_spans",
        "POSTHOG_AUTOINSTRUMENT_TOOL_SPANS",
        True,
        FLAG,
        "Make a span of each tool that a model asked for and that a later call of the trace brings the result of.",
        flag,
    ),
    Setting(
        "library_spans",
        "POSTHOG_AUTOINSTRUMENT_LIBRARY_SPANS",
        True,
        FLAG,
        "Make a span of each agent, tool, chain and the like that openai-agents or LangChain runs.",
        flag,
    ),
    Setting(
        "otel_trace_id",
        "POSTHOG_AUTOINSTRUMENT_OTEL_TRACE_ID",
        False,
        FLAG,
        "Where OpenTelemetry has an active span, use its trace id for traces that nothing else names.",
        flag,
    ),
    Setting(
        "propagate",
        "POSTHOG_AUTOINSTRUMENT_PROPAGATE",
        True,
        FLAG,
        "Carry the open context into threads, pools, child processes and queued tasks.",
        flag,
    ),
    Setting(
        "propagate_hosts",
        "POSTHOG_AUTOINSTRUMENT_PROPAGATE_HOSTS",
        frozenset(),
        "hosts, as host or host:port, separated by commas",
        "Services of your own that are told trace, span, user and session in the headers of requests to them.",
        _hosts,
    ),
    Setting(
        "trust_baggage",
        "POSTHOG_AUTOINSTRUMENT_TRUST_BAGGAGE",
        False,
        FLAG,
        "Take trace, span, user, session and privacy from the headers of web requests: only where none but services "
        "of yours can send one.",
        flag,
    ),
    Setting(
        "sample_rate",
        "POSTHOG_AUTOINSTRUMENT_SAMPLE_RATE",
        1.0,
        "a number from 0 to 1",
        "Share of the traces that make events: whole traces, the same ones in every process.",
        _number(0, 1),
    ),
    Setting(
        "sample_errors",
        "POSTHOG_AUTOINSTRUMENT_SAMPLE_ERRORS",
        False,
        FLAG,
        "Keep calls and spans that fail, of traces that are left out too.",
        flag,
    ),
    Setting(
        "allow_hosts",
        "POSTHOG_AUTOINSTRUMENT_ALLOW_HOSTS",
        frozenset(),
        "patterns (`*`, `?`, `[...]`), separated by commas",
        "Calls of these hosts only make events, as `api.openai.com,*.azure.com`.",
        _host_patterns,
        refused=frozenset((NOT_ACCEPTED,)),
        then="no call makes an event",
    ),
    Setting(
        "deny_hosts",
        "POSTHOG_AUTOINSTRUMENT_DENY_HOSTS",
        frozenset(),
        "patterns (`*`, `?`, `[...]`), separated by commas",
        "Calls of these hosts make no events, as `api.openai.com,*.azure.com`.",
        _host_patterns,
        refused=frozenset((NOT_ACCEPTED,)),
        then="no call makes an event",
    ),
    Setting(
        "allow_models",
        "POSTHOG_AUTOINSTRUMENT_ALLOW_MODELS",
        frozenset(),
        "patterns (`*`, `?`, `[...]`), separated by commas",
        "Calls of these models only make events, as `gpt-4o*`.",
        _patterns,
        refused=frozenset((NOT_ACCEPTED,)),
        then="no call makes an event",
    ),
    Setting(
        "deny_models",
        "POSTHOG_AUTOINSTRUMENT_DENY_MODELS",
        frozenset(),
        "patterns (`*`, `?`, `[...]`), separated by commas",
        "Calls of these models make no events, as `gpt-4o*`.",
        _patterns,
        refused=frozenset((NOT_ACCEPTED,)),
        then="no call makes an event",
    ),
    Setting(
        "allow_endpoints",
        "POSTHOG_AUTOINSTRUMENT_ALLOW_ENDPOINTS",
        frozenset(),
        "patterns (`*`, `?`, `[...]`), separated by commas",
        "Calls of these endpoints only make events, as `embeddings,/audio/*`.",
        _patterns,
        refused=frozenset((NOT_ACCEPTED,)),
        then="no call makes an event",
    ),
    Setting(
        "deny_endpoints",
        "POSTHOG_AUTOINSTRUMENT_DENY_ENDPOINTS",
        frozenset(),
        "patterns (`*`, `?`, `[...]`), separated by commas",
        "Calls of these endpoints make no events, as `embeddings,/audio/*`.",
        _patterns,
        refused=frozenset((NOT_ACCEPTED,)),
        then="no call makes an event",
    ),
    Setting(
        "tracing_headers",
        "POSTHOG_AUTOINSTRUMENT_TRACING_HEADERS",
        "1",
        "1, 0 or anonymous",
        "Read `X-POSTHOG-DISTINCT-ID` and its sisters from web requests: 1 before the signed-in user, anonymous where "
        "nobody is signed in, 0 not at all.",
        _tracing_headers,
    ),
    Setting(
        "user",
        "POSTHOG_AUTOINSTRUMENT_USER",
        None,
        "module:function",
        "Function that names the signed-in user of a web request: called with the framework's request (ASGI: scope, "
        "WSGI: environ), returns text or None.",
        _hook,
    ),
    Setting(
        "stream_usage",
        "POSTHOG_AUTOINSTRUMENT_STREAM_USAGE",
        True,
        FLAG,
        "Ask for the token counts of streamed chats where the program does not, and hide the answer from it.",
        flag,
    ),
    Setting(
        "stream_usage_hosts",
        "POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS",
        frozenset(),
        "hosts, as host or host:port, separated by commas",
        "Hosts beside api.openai.com that are asked: those known to take `stream_options.include_usage`.",
        _hosts,
    ),
    Setting(
        "keep_media",
        "POSTHOG_AUTOINSTRUMENT_KEEP_MEDIA",
        False,
        FLAG,
        "Keep base64 images, audio and files in events instead of a placeholder.",
        flag,
    ),
    Setting(
        "scrub",
        "POSTHOG_AUTOINSTRUMENT_SCRUB",
        "1",
        "1, 0, or names separated by commas",
        "Take credentials out of the program's own values: 1 by the usual names and by what they look like, names "
        "(`iban,card number`) those as well, 0 not at all.",
        _scrub,
    ),
    Setting(
        "before_send",
        "POSTHOG_AUTOINSTRUMENT_BEFORE_SEND",
        None,
        "module:function",
        "Function called with every event (a dict) before it is sent; returns the event, or None to drop it.",
        _hook,
        refused=NOT_ACCEPTED,
        then="no event is sent",
    ),
    Setting(
        "flush_at",
        "POSTHOG_AUTOINSTRUMENT_FLUSH_AT",
        100,
        "a whole number from 1 to 10000",
        "Events waiting that make the flusher send at once.",
        _whole(1, 10_000),
    ),
    Setting(
        "flush_interval_s",
        "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S",
        2.0,
        "seconds from 0.01 to 3600",
        "Longest time an event waits before it is sent.",
        _number(0.01, 3600),
    ),
    Setting(
        "exit_timeout_s",
        "POSTHOG_AUTOINSTRUMENT_EXIT_TIMEOUT_S",
        3.0,
        "seconds from 0 to 300",
        "Longest time the end of the program waits for events to be sent.",
        _number(0, 300),
    ),
    Setting(
        "sigterm",
        "POSTHOG_AUTOINSTRUMENT_SIGTERM",
        True,
        FLAG,
        "Deliver waiting events before SIGTERM or SIGHUP ends a process that does not handle it itself.",
        flag,
    ),
    Setting(
        "queue_max_events",
        "POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS",
        10_000,
        "a whole number from 1 to 1000000",
        "Events that may wait; what comes on top is dropped and counted.",
        _whole(1, 1_000_000),
    ),
    Setting(
        "queue_max_bytes",
        "POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_BYTES",
        64 * 1024 * 1024,
        "a whole number of at least 65536",
        "Bytes of memory that calls may take while they wait or are sent; about two thirds of it are content.",
        _whole(65_536, 2**40),
    ),
    Setting(
        "summary",
        "POSTHOG_AUTOINSTRUMENT_SUMMARY",
        False,
        FLAG,
        "Sum up on standard error, in one line at the program's end (`posthog-instrument --summary`).",
        flag,
    ),
    Setting(
        "debug",
        "POSTHOG_AUTOINSTRUMENT_DEBUG",
        False,
        FLAG,
        "Say on standard error what the agent does (`posthog-instrument --debug`).",
        flag,
    ),
    Setting(
        "raise_errors",
        "POSTHOG_AUTOINSTRUMENT_RAISE",
        False,
        FLAG,
        "Raise the agent's own failures into the program. For the agent's tests.",
        flag,
    ),
)


@dataclass(eq=False, repr=False)
class Config:
    """The resolved settings of one process. Field names are those of `SETTINGS`."""

    token: str | None = None
    host: str = US_HOST
    allow_http: bool = False
    privacy_mode: bool = False
    distinct_id: str | None = None
    disabled: bool = False
    local: bool = False
    db: str | None = None
    store_max_mb: int = 512
    prices: str | None = None
    spool: str | None = None
    spool_max_bytes: int = 1024 * 1024 * 1024
    properties: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, Any] = field(default_factory=dict)
    provider: str | None = None
    tool_spans: bool = True
    library_spans: bool = True
    otel_trace_id: bool = False
    propagate: bool = True
    propagate_hosts: frozenset[str] = frozenset()
    trust_baggage: bool = False
    sample_rate: float = 1.0
    sample_errors: bool = False
    allow_hosts: frozenset[str] = frozenset()
    deny_hosts: frozenset[str] = frozenset()
    allow_models: frozenset[str] = frozenset()
    deny_models: frozenset[str] = frozenset()
    allow_endpoints: frozenset[str] = frozenset()
    deny_endpoints: frozenset[str] = frozenset()
    tracing_headers: str = "1"
    user: str | None = None
    stream_usage: bool = True
    stream_usage_hosts: frozenset[str] = frozenset()
    keep_media: bool = False
    scrub: str = "1"
    before_send: str | None = None
    flush_at: int = 100
    flush_interval_s: float = 2.0
    exit_timeout_s: float = 3.0
    sigterm: bool = True
    queue_max_events: int = 10_000
    queue_max_bytes: int = 64 * 1024 * 1024
    summary: bool = False
    debug: bool = False
    raise_errors: bool = False

    host_given: bool = False
    """The host was set, not defaulted."""
    fixed: frozenset[str] = frozenset()
    """Settings that the program gave in code."""
    as_read: Mapping[str, Any] | None = None
    """What the environment of this process said at the start; None where the settings are not of there."""
    launched: bool = False
    """This process was started by `posthog-instrument`, directly or as a descendant."""
    main_process: bool = True
    """This process is the launched program itself, not one of its children: the one that says what is not urgent."""
    problems: tuple[str, ...] = ()
    """One line for each value that was not accepted."""

    @property
    def db_path(self) -> str:
        """Where the local store is."""
        state_home = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME")
        return self.db or default_path(state_home, os.path.expanduser("~"))

    @property
    def state_folder(self) -> str:
        """The user's own folder for what we keep between runs."""
        state_home = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME")
        return os.path.dirname(default_path(state_home, os.path.expanduser("~")))

    @property
    def prices_path(self) -> str:
        """Where the user's own prices are, if there are any."""
        config_home = os.environ.get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME")
        return self.prices or default_prices_path(config_home, os.path.expanduser("~"))


def default_path(state_home: str | None, home: str, platform: str = sys.platform) -> str:
    """Where the local store is when nobody says otherwise. Pure.

    `state_home` is the value of XDG_STATE_HOME (on Windows of LOCALAPPDATA), `home` the user's home directory.
    """
    if state_home and os.path.isabs(state_home):  # the XDG specification: relative paths are to be ignored
        base = state_home
    elif platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")
    elif platform == "win32":
        base = os.path.join(home, "AppData", "Local")
    else:
        base = os.path.join(home, ".local", "state")
    return os.path.join(base, "posthog-autoinstrument", "events.db")


def default_prices_path(config_home: str | None, home: str, platform: str = sys.platform) -> str:
    """Where the user's own prices are when nobody says otherwise. Pure.

    `config_home` is the value of XDG_CONFIG_HOME (on Windows of APPDATA), `home` the user's home directory.
    """
    if config_home and os.path.isabs(config_home):
        base = config_home
    elif platform == "darwin":
        base = os.path.join(home, "Library", "Application Support")
    elif platform == "win32":
        base = os.path.join(home, "AppData", "Roaming")
    else:
        base = os.path.join(home, ".config")
    return os.path.join(base, "posthog-autoinstrument", "prices.toml")


def parse_host(text: str) -> str | None:
    """A host that the program set in code, as `POSTHOG_HOST` would be read; None where it is not an address."""
    try:
        return ingestion_host(text)
    except ValueError:
        return None


def scheme_is_guessed(host: str) -> bool:
    """Whether `host` has the scheme that `ingestion_host` adds because POSTHOG_HOST names none, and it may be the wrong
    one: PostHog's cloud has no other."""
    found = next((text for name in _HOST_VARIABLES if (text := os.environ.get(name, "").strip())), "")
    return bool(found) and "://" not in found and parse_host(found) == host and not host.endswith(".posthog.com")


_HOST_VARIABLES = ("POSTHOG_HOST", "POSTHOG_API_URL")


def proxy_of(url: str) -> tuple[str, str] | None:
    """The variable of this process that names a proxy for `url`, and the host of that proxy; None where none does."""
    scheme = urlsplit(url).scheme
    for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        text = os.environ.get(name, "").strip()
        if text:
            try:
                return name, urlsplit(text if "://" in text else f"http://{text}").netloc.rpartition("@")[2]
            except ValueError:
                return name, "no address"
    return None


def mask(secret: str) -> str:
    """A secret as it may be shown: its first characters only."""
    return secret[:8] + "..." if len(secret) > 12 else "..."


def _of_unknown_names(environ: Mapping[str, str], values: dict[str, Any]) -> list[str]:
    """A line for each variable that is probably meant to be one of ours. What was meant to hide something does."""
    known = {name: setting.field for setting in SETTINGS for name in (setting.variable, *setting.aliases)}
    known |= dict.fromkeys(INTERNAL, "")
    names = [name for name in environ if name not in known and name[:7].upper() == "POSTHOG"]
    if not names:
        return []
    from . import misspellings  # only where there is one to look at

    settings = {setting.field: setting for setting in SETTINGS}
    lines = []
    for name, wanted, by_spelling in misspellings.unknown(environ, known):
        if wanted is None:
            lines.append(f"{name} is not a setting: is it misspelt? (posthog-instrument doctor lists them)")
            continue
        meant = settings[wanted]
        if not by_spelling and (wanted in values or (meant.refused is not None and not _hides(meant, environ[name]))):
            continue  # somebody else's: beside ours, or asking for nothing
        then = ""
        if meant.refused is not None and _hides(meant, environ[name]) and not values.get(wanted):
            values[wanted] = meant.refused
            then = f" ({meant.then})"
        lines.append(f"{name} is not a setting: did you mean {meant.variable}?{then}")
    return lines


def _hides(setting: Setting, text: str) -> bool:
    """Whether what was set is no plain "off"."""
    try:
        return setting.field == "privacy_mode" or setting.parse(text) is not False
    except ValueError:
        return True


def _read(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that `environ` names, and a line for each value that was not accepted."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    doubt = ""
    for setting in SETTINGS:
        for variable in (setting.variable, *setting.aliases):
            text = environ.get(variable, "")
            if not text.strip():
                continue
            try:
                values[setting.field] = setting.parse(text)
                if setting.field == "token":
                    doubt = _doubt(variable, values["token"])
                break
            except ValueError:
                # Without the value: it may be a secret that belongs elsewhere, or hold one.
                problems.append(f"{variable} is not accepted (wanted: {setting.accepts}); {setting.then}")
                if setting.refused is not None:
                    values[setting.field] = setting.refused
                    break
    problems += _of_unknown_names(environ, values)
    return values, [doubt, *problems] if doubt and not values.get("local") else problems


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read every setting from `environ` (default: the process's own). Also sets how `guard` behaves."""
    is_own = environ is None
    environ = os.environ if environ is None else environ
    values, problems = _read(environ)
    launched = environ.get(LAUNCHED, "")
    config = Config(
        **values,
        host_given="host" in values,
        as_read=dict(values) if is_own else None,
        launched=bool(launched),
        main_process=is_main_process(environ),
        problems=tuple(problems),
    )
    _use_scrub(config)
    guard.raise_failures = config.raise_errors
    diagnostics.debug = config.debug
    diagnostics.main_pid = os.getpid() if config.main_process else 0
    diagnostics.tree = process_tree_of(launched or process_tree.label(), environ)
    return config


def _use_scrub(config: Config) -> None:
    if config.scrub != "1" or package.loaded("scrubbing.secret_names"):
        from ..scrubbing import secret_names

        secret_names.use(config.scrub)


_ONLY_AT_THE_START = frozenset(
    (
        "spool", "spool_max_bytes", "library_spans", "otel_trace_id", "propagate", "propagate_hosts", "trust_baggage",
        "tracing_headers", "user", "stream_usage", "stream_usage_hosts", "flush_at", "flush_interval_s",
        "exit_timeout_s", "sigterm", "queue_max_events", "queue_max_bytes", "debug", "raise_errors",
    )
)  # fmt: skip
"""What is used before the first event is made."""


def reread(config: Config) -> list[str]:
    """Take over into `config` what the environment says by now: `load_dotenv()` stands after the imports in many
    programs. Returns a line for each value that is not accepted, and for each setting that comes too late.

    What was set before and is not any longer stays, and so does what hides something.
    """
    if config.as_read is None:
        return []
    values, problems = _read(os.environ)
    lines = [problem for problem in problems if problem not in config.problems]
    for setting in SETTINGS:
        name = setting.field
        if name not in values or name in config.fixed or values[name] == config.as_read.get(name, setting.default):
            continue
        if name in _ONLY_AT_THE_START:
            lines.append(f"{setting.variable} was set when it was too late for it; set it before the program starts")
        elif not (getattr(config, name) is True and name in ("privacy_mode", "disabled")):
            setattr(config, name, values[name])
            config.host_given = config.host_given or name == "host"
    _use_scrub(config)
    return lines


def token_and_host(config: Config) -> tuple[str | None, str | None]:
    """The project's token and the host, as they are set now; None for what is not set."""
    found: list[Any] = []
    for setting in SETTINGS[:2]:
        value = None
        for variable in (setting.variable, *setting.aliases) if setting.field not in config.fixed else ():
            text = os.environ.get(variable, "") if config.as_read is not None else ""
            if value is None and text.strip():
                try:
                    value = setting.parse(text)
                except ValueError:
                    pass
        found.append(value)
    return found[0] or config.token, found[1] or (config.host if config.host_given else None)


def take_arguments(config: Config, **given: object) -> list[str]:
    """Take over settings that the program gives in code, in place of what the environment says. Returns a line for each
    that is not accepted."""
    lines = []
    for setting in SETTINGS:
        value = given.get(setting.field)
        if value is None:
            continue
        try:
            if not isinstance(value, str):
                raise ValueError
            setattr(config, setting.field, setting.parse(value))
        except ValueError:
            # Without the value, which may be a secret.
            lines.append(f"instrument({setting.field}=...) is not accepted (wanted: {setting.accepts}); it is ignored")
            continue
        doubt = _doubt("instrument(token=...)", config.token or "") if setting.field == "token" else ""
        if doubt and not config.local:
            lines.append(doubt)
        config.fixed |= {setting.field}
        config.host_given = config.host_given or setting.field == "host"
    return lines


def process_tree_of(label: str, environ: Mapping[str, str] | None = None) -> process_tree.ProcessTree:
    """The tree of processes with this label, which leaves its marks in the user's folder for temporary files."""
    return process_tree.ProcessTree(label, process_tree.folders(os.environ if environ is None else environ))
