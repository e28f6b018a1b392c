"""Reads the settings from the environment, at the start and again, and takes those that the program gives in code.

A value that does not parse is reported in one line with its variable and what is accepted, without the value, which may
be a secret; the default is used, or what hides more. Nothing here raises.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..core import diagnostics, guard, package, process_tree
from ..core.environment import INTERNAL, LAUNCHED, is_main_process
from .config import SETTINGS, Config, Setting
from .parsing import parse_host, token_warning


def load(environ: Mapping[str, str] | None = None) -> Config:
    """Read every setting from `environ` (default: the process's own). Also configures `diagnostics` and `guard`."""
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
    _configure_scrubbing(config)
    guard.raise_failures = config.raise_errors
    diagnostics.debug = config.debug
    diagnostics.main_pid = os.getpid() if config.main_process else 0
    diagnostics.tree = process_tree_of(launched or process_tree.label(), environ)
    return config


def reread(config: Config) -> list[str]:
    """Take over into `config` what the environment holds by now: `load_dotenv()` stands after the imports in many
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
        if setting.only_at_start:
            lines.append(f"{setting.variable} was set when it was too late for it; set it before the program starts")
        elif not (getattr(config, name) is True and name in ("privacy_mode", "disabled")):
            _set(config, name, values[name])
    _configure_scrubbing(config)
    return lines


def take_arguments(config: Config, **given: object) -> list[str]:
    """Take over settings that the program gives in code, before those of the environment. Returns a line for each
    that is not accepted."""
    lines = []
    for setting in SETTINGS:
        value = given.get(setting.field)
        if value is None:
            continue
        try:
            if not isinstance(value, str):
                raise ValueError
            _set(config, setting.field, setting.parse(value))
        except ValueError:
            lines.append(f"instrument({setting.field}=...) is not accepted (wanted: {setting.accepts}); it is ignored")
            continue
        warning = token_warning("instrument(token=...)", config.token or "") if setting.field == "token" else ""
        if warning and not config.local:
            lines.append(warning)
        config.fixed |= {setting.field}
    return lines


def _set(config: Config, name: str, value: Any) -> None:
    setattr(config, name, value)
    config.host_given = config.host_given or name == "host"


def token_and_host(config: Config) -> tuple[str | None, str | None]:
    """The project's token and the host, as they are set now; None for what is not set."""
    now: dict[str, Any] = {}
    for setting in SETTINGS if config.as_read is not None else ():
        if setting.field in ("token", "host") and setting.field not in config.fixed:
            _read_one(setting, os.environ, now, [])
    return now.get("token") or config.token, now.get("host") or (config.host if config.host_given else None)


def scheme_is_guessed(host: str) -> bool:
    """Whether `host` has the scheme that `ingestion_host` adds because POSTHOG_HOST has none, and it may be the wrong
    one: PostHog's cloud has no other."""
    names = next(setting.names for setting in SETTINGS if setting.field == "host")
    found = next((text for name in names if (text := os.environ.get(name, "").strip())), "")
    return bool(found) and "://" not in found and parse_host(found) == host and not host.endswith(".posthog.com")


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


def process_tree_of(label: str, environ: Mapping[str, str] | None = None) -> process_tree.ProcessTree:
    """The tree of processes with this label, which leaves its marker files in the user's folder for temporary files."""
    return process_tree.ProcessTree(label, process_tree.folders(os.environ if environ is None else environ))


def _read(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that `environ` gives, and a line for each value that was not accepted."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    warning = ""
    for setting in SETTINGS:
        variable = _read_one(setting, environ, values, problems)
        if variable and setting.field == "token":
            warning = token_warning(variable, values["token"])
    problems += _of_unknown_names(environ, values)
    return values, [warning, *problems] if warning and not values.get("local") else problems


def _read_one(setting: Setting, environ: Mapping[str, str], values: dict[str, Any], problems: list[str]) -> str:
    """Read one setting into `values`, and what is not accepted into `problems`. The variable it came from, or ""."""
    for variable in setting.names:
        text = environ.get(variable, "")
        if not text.strip():
            continue
        try:
            values[setting.field] = setting.parse(text)
            return variable
        except ValueError:
            problems.append(f"{variable} is not accepted (wanted: {setting.accepts}); {setting.consequence}")
            if setting.fallback is not None:
                values[setting.field] = setting.fallback
                return ""
    return ""


def _of_unknown_names(environ: Mapping[str, str], values: dict[str, Any]) -> list[str]:
    """A line for each variable that is probably meant to be one of ours. Where that one hides something, it does."""
    known = {name: setting.field for setting in SETTINGS for name in setting.names}
    known |= dict.fromkeys(INTERNAL, "")
    if not any(name not in known and name[:7].upper() == "POSTHOG" for name in environ):
        return []
    from . import misspellings  # only where there is one to look at

    settings = {setting.field: setting for setting in SETTINGS}
    lines = []
    for name, wanted, by_spelling in misspellings.unknown(environ, known):
        if wanted is None:
            lines.append(f"{name} is not a setting: is it misspelt? (posthog-instrument doctor lists them)")
            continue
        meant = settings[wanted]
        hides = meant.fallback is not None and _is_not_off(meant, environ[name])
        if not by_spelling and (wanted in values or (meant.fallback is not None and not hides)):
            continue  # another product's: beside ours, or switched off
        consequence = ""
        if hides and not values.get(wanted):
            values[wanted] = meant.fallback
            consequence = f" ({meant.consequence})"
        lines.append(f"{name} is not a setting: did you mean {meant.variable}?{consequence}")
    return lines


def _is_not_off(setting: Setting, text: str) -> bool:
    try:
        return setting.field == "privacy_mode" or setting.parse(text) is not False
    except ValueError:
        return True


def _configure_scrubbing(config: Config) -> None:
    if config.scrub != "1" or package.loaded("scrubbing.secret_names"):
        from ..scrubbing import secret_names

        secret_names.use(config.scrub)
