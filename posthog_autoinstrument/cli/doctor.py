"""`posthog-instrument doctor`: what is set, installed and patched here, and whether events would arrive.

It starts the agent in its own process and imports the SDKs, so what it says of patch points is what a program gets.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sitecustomize_template

from .. import api
from .._version import __version__
from ..bootstrap import import_hook
from ..capture import owner
from ..core import guard
from ..core.environment import LAUNCHED
from ..core.formatting import clean
from ..export.destination import why_refused
from ..export.posthog import answers
from ..export.token_check import check_token
from ..instrumentation import deduplication, patcher
from ..instrumentation.patcher import PatchPoint
from ..integrations import FILES, registry
from ..processing import redaction
from ..scrubbing import scrubber
from ..settings.config import NOT_ACCEPTED, SETTINGS, Config, Setting, mask
from ..settings.parsing import EU_HOST, US_HOST
from ..store import ownership
from ..store.database import Store, StoreError
from ..store.prices import Prices, PricesError
from . import hook_check, launcher, program_check

HOST_TIMEOUT_S = 5.0
ELSEWHERE = "not in this version"
"""State of a patch point whose module or method this version of the SDK does not have. SDKs moved their classes."""
DEPRECATED = "left to the wire"
"""State of a method that the SDK marks deprecated: wrapped, its warning would point at us. The wire sees its calls."""


@dataclass
class Report:
    """What is printed, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def head(self, title: str) -> None:
        """Begin a section."""
        self.lines += ["", title]

    def line(self, name: str, text: str) -> None:
        """One fact."""
        self.lines.append(f"  {name:<20} {clean(text)}" if len(name) <= 20 else f"  {name}  {clean(text)}")

    def problem(self, text: str) -> None:
        """Something that must be put right."""
        self.problems.append(clean(text))

    def note(self, text: str) -> None:
        """Something that may be meant as it is."""
        self.notes.append(clean(text))

    def not_checked(self, text: str) -> None:
        """Something that was not found out: it is never called well."""
        self.unchecked.append(clean(text))

    def verdict(self, where: str) -> str:
        """All of it in a few words."""
        if self.problems:
            return f"Not well: {len(self.problems)} {'problem' if len(self.problems) == 1 else 'problems'}."
        if self.unchecked:
            return f"Nothing wrong was found; events go to {where}. Not checked: {'; '.join(self.unchecked)}."
        return f"All is well: events go to {where}."


def main(arguments: Sequence[str], settings: Config) -> int:
    """Print the report; 0 when nothing is wrong, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="posthog-instrument doctor",
        description="Say whether calls would be captured and events arrive: of COMMAND, or of this Python. "
        "COMMAND is not started. No event is sent.",
        epilog="exit code: 0 when nothing is wrong, 1 otherwise",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="a program and its arguments")
    # `-m` begins a command, as after `posthog-instrument`; argparse would take it for an option.
    is_module = arguments[:1] and arguments[0] == "-m"
    command = parser.parse_args(["--", *arguments] if is_module else list(arguments)).command
    if command[:1] in (["--"], ["run"]):
        del command[0]
    report = Report()
    report.head(f"posthog-autoinstrument {__version__}")
    looked_at = _program(report, command, settings)
    if looked_at.other is not None:
        options = ["--local"] if settings.local else []
        program = [looked_at.other, "-m", "posthog_autoinstrument", *options, "doctor", "--", *command]
        return subprocess.run(program, check=False).returncode
    _settings(report, settings, os.environ, looked_at.folders)
    _versions(report)
    _start_up(report, os.environ)
    found = api.start(explicit=True).hooks
    for hook in found:
        _points(report, hook)
        _range(report, hook)
    _hooks(report, settings)
    _others(report)
    packages = [hook.provider.package for hook in found]
    if not any(map(importlib.util.find_spec, packages)):
        names = " or ".join(packages)
        report.problem(f"the {names} package is not installed for {sys.executable}: there are no calls to capture")
    _host(report, settings)
    _store(report, settings)
    _spool(report, settings)
    _print(report, report.verdict("the local store" if _is_local(settings) else "PostHog"))
    return 1 if report.problems else 0


def _print(report: Report, verdict: str) -> None:
    """The verdict first, and again at the end, where a terminal shows it."""
    print(verdict)
    for number, problem in enumerate(report.problems, 1):
        print(f"  {number}. {problem}")
    for note in report.notes:
        print(f"  note: {note}")
    for line in report.lines:
        print(line)
    print()
    for problem in report.problems:
        print(f"problem: {problem}")
    if not report.problems:
        print(verdict)


def _program(report: Report, command: Sequence[str], settings: Config) -> program_check.LookedAt:
    """What COMMAND would run; without one, whether `python` is this Python, in a note."""
    environ = launcher.environment(dict(os.environ), local=False, debug=False)
    if not command:
        for name in ("python", "python3"):
            said = program_check.of_path(name, environ)
            if said:
                report.note(said)
                break
        return program_check.LookedAt()
    found = program_check.look_at(launcher.command_line(command), environ)
    report.head("Program")
    for name, text in found.lines:
        report.line(name, text)
    for problem in found.problems:
        report.problem(problem)
    for unchecked in found.unchecked:
        report.not_checked(unchecked)
    return found


def _is_local(settings: Config) -> bool:
    return settings.local or settings.token is None


# --- settings ---


def _settings(report: Report, settings: Config, environ: Mapping[str, str], folders: Sequence[str]) -> None:
    report.head("Settings")
    for setting in SETTINGS:
        value = getattr(settings, setting.field)
        said = f"{_shown(setting, value)}  ({_origin(setting, value, environ)})"
        report.lines.append(clean(f"  {setting.variable:<40} {said}"))
    for problem in settings.problems:
        if "does not look like a project token" not in problem:  # `_token` asks
            report.problem(problem)
    _functions(report, settings, folders)
    if settings.disabled:
        report.problem("POSTHOG_AUTOINSTRUMENT_DISABLED is set: nothing is captured")


def _functions(report: Report, settings: Config, folders: Sequence[str]) -> None:
    """The functions that settings name. They are looked for, not loaded: that might run the program."""
    for variable, named, without in (
        ("POSTHOG_AUTOINSTRUMENT_BEFORE_SEND", settings.before_send, "no event would be sent"),
        ("POSTHOG_AUTOINSTRUMENT_USER", settings.user, "it would name nobody"),
    ):
        if named is None or named == NOT_ACCEPTED:
            continue
        reason, found = hook_check.check(named, folders)
        if reason is None:
            report.line(variable, found)
        else:
            report.problem(f"{variable}={named}: {reason}: {without}")


def _masked(token: str) -> str:
    """A token as PostHog's pages are searched for it: its two ends."""
    return mask(token) + (token[-4:] if len(token) > 12 else "")


def _shown(setting: Setting, value: Any) -> str:
    if value is None:
        return "-"
    if setting.secret:
        return _masked(str(value))
    if setting.field == "host":
        return redaction.redact_url(str(value))
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, frozenset):
        return ",".join(sorted(value))[:200] or "-"
    value = scrubber.scrub(value)
    return json.dumps(value, ensure_ascii=False)[:200] if isinstance(value, dict) else str(value)[:200]


def _origin(setting: Setting, value: Any, environ: Mapping[str, str]) -> str:
    """Where a value came from: the variable that gave it, an option of the command line, or the default."""
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


# --- versions and start-up ---


def _versions(report: Report) -> None:
    report.head("Versions")
    report.line("python", f"{platform.python_version()} ({sys.executable})")
    tested = _tested_pythons()
    if tested:
        report.line("tested Pythons", ", ".join(tested))
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if here not in tested:
            report.note(f"Python {here} is not among those that it is tested on: {', '.join(tested)}")
    for name in ("openai", "wrapt", "requests", "posthog"):
        report.line(name, _version(name) or "not installed")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _tested_pythons() -> list[str]:
    """Those that the package names."""
    try:
        found = importlib.metadata.metadata("posthog-autoinstrument").get_all("Classifier") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    versions = [one.rpartition(" ")[2] for one in found if one.startswith("Programming Language :: Python :: 3.")]
    return sorted(versions, key=_numbers)


def _numbers(version: str) -> tuple[int, ...]:
    """A version's numbers, to compare it by."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _start_up(report: Report, environ: Mapping[str, str]) -> None:
    """Whether a Python that the launcher starts wakes the agent: asked of a real one."""
    report.head("Start-up")
    folder = os.path.dirname(os.path.abspath(sitecustomize_template.__file__))
    report.line("folder", folder)
    on_path = folder in environ.get("PYTHONPATH", "").split(os.pathsep)
    launched = "; this shell runs under it" if environ.get(LAUNCHED) else ""
    report.line("on PYTHONPATH here", "yes" if on_path else f"no, the launcher puts it there{launched}")
    probe = f"import sys; sys.exit(not hasattr(sys, {import_hook.SENTINEL!r}))"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        env=launcher.environment(dict(environ), local=False, debug=False),
        capture_output=True,
        check=False,
    )
    report.line("under the launcher", "the agent wakes" if done.returncode == 0 else "the agent does not wake")
    if done.returncode != 0:
        report.problem(f"the agent does not wake in {sys.executable} started by posthog-instrument")


# --- patch points ---


def _points(report: Report, hook: patcher.Patcher) -> None:
    package = hook.provider.package
    report.head(f"Patch points of {package} {_version(package) or ''}".rstrip())
    if importlib.util.find_spec(package) is None:
        report.line("not loaded", "the package is not installed for this Python")
        return
    if guard.attempt(f"import {package}", importlib.import_module, package) is None:
        report.problem(f"the {package} package cannot be imported")
        return
    missing = {module for module in hook.modules() if not _imported(module)}
    for point in hook.points:
        if point.module in missing:
            point.state = ELSEWHERE
        elif point.state == "not matched":
            point.state = _why_not_matched(point)
    for state, where, methods in _rows(point for point in hook.points if point.state != ELSEWHERE):
        report.line(state, f"{where}: {', '.join(methods)}")
        if state in ("not matched", "not loaded"):
            report.problem(f"{where}: {', '.join(methods)} of this version of {package} is not patched ({state})")
    absent = _absent(hook)
    if absent:
        report.line(ELSEWHERE, ", ".join(absent))
    wire = (hook.provider.transport.base_module, hook.provider.transport.streaming_module)
    if any(point.state != "matched" for point in hook.points if point.module in wire):
        versions = hook.provider.versions
        wanted = f": pip install '{package}>={versions[1]},<{versions[2]}'" if versions else ""
        report.problem(
            f"not every call of this version of {package} can be seen: use another version of one of us{wanted}"
        )


def _range(report: Report, hook: patcher.Patcher) -> None:
    """Too old and too new versions of an SDK, with the remedy."""
    package, versions = hook.provider.package, hook.provider.versions
    version = _version(package)
    if versions is None or version is None:
        return
    first, whole, untested = versions
    wanted = f"pip install '{package}>={whole},<{untested}'"
    if _numbers(version) < _numbers(first):
        report.problem(f"{package} {version} is too old, no call of it is captured: {wanted}")
    elif _numbers(version) < _numbers(whole):
        report.note(f"{package} {version} is old, only its usual calls are captured: {wanted}")
    elif _numbers(version) >= _numbers(untested):
        report.note(
            f"{package} {version} is newer than what this version of posthog-autoinstrument is tested with; "
            f"where calls are missing: pip install -U posthog-autoinstrument, or {wanted}"
        )


def _imported(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _why_not_matched(point: PatchPoint) -> str:
    # The module's own dict: some versions keep old names alive lazily, for classes that are elsewhere.
    cls = vars(sys.modules[point.module]).get(point.cls)
    method = getattr(cls, point.method, None)
    if cls is None or method is None:  # None has an __init__ too
        return ELSEWHERE
    return DEPRECATED if hasattr(method, "__deprecated__") else "not matched"


def _absent(hook: patcher.Patcher) -> list[str]:
    """What this version of the SDK has in none of the places where versions keep it: `chat.completions.parse`,
    `responses.connect` for all of a WebSocket, and the wire's own."""
    there = {(point.module, point.cls, point.method): point.state != ELSEWHERE for point in hook.points}
    labels: dict[tuple[str, str], str] = {}
    found: dict[str, bool] = {}
    for site in hook.provider.methods:
        for method in (*site.methods, *site.streams):
            label = labels.setdefault((site.endpoint, method), f"{_public(site.module)}.{method}")
            found[label] = there.pop((site.module, site.cls, method)) or found.get(label, False)
    connects: dict[str, str] = {}
    for socket in hook.provider.websockets:
        states = [there.pop((socket.module, socket.cls, method)) for method in patcher.WEBSOCKET_METHODS]
        label = connects.setdefault(socket.endpoint.name, f"{_public(socket.module)}.connect")
        found[label] = any(states) or found.get(label, False)
    found.update({f"{cls}.{method}": is_there for (_, cls, method), is_there in there.items()})
    return [label for label, is_there in found.items() if not is_there]


def _public(module: str) -> str:
    """Where a program finds what a module of resources defines: `chat.completions` of a client."""
    parts = module.rpartition(".resources.")[2].split(".")
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == parts[-2] else parts)


def _rows(points: Iterable[PatchPoint]) -> Iterator[tuple[str, str, list[str]]]:
    """State, class and methods, one row for methods of one class in the same state."""
    rows: dict[tuple[str, str], list[str]] = {}
    for point in points:
        rows.setdefault((point.state, f"{point.module}.{point.cls}"), []).append(point.method)
    for (state, where), methods in rows.items():
        yield state, where, methods


# --- web requests and libraries' steps ---


_STATES = {"web": "each request has a context", "agents": "its steps are spans"}
"""Kind of integration -> its state where it is in place."""
_DISTRIBUTIONS = {"agents": "openai-agents", "langchain_core": "langchain-core"}
"""Package -> distribution of another name."""


def _hooks(report: Report, settings: Config) -> None:
    """What gives context by itself, and what tells of its steps, of all that is installed."""
    report.head("Web servers, frameworks and libraries")
    if settings.disabled:
        report.line("not hooked", "nothing is captured")
        return
    rows: dict[str, tuple[list[str], str]] = {}
    for kind, words in _STATES.items():
        for name in (name for names in FILES[kind].values() for name in names if not name.startswith("wsgiref")):
            if kind != "agents" or settings.library_spans:
                package = name.partition(".")[0]
                rows.setdefault(_DISTRIBUTIONS.get(package, package), ([], words))[0].append(name)
    absent = []
    for distribution, (names, words) in rows.items():
        version = _version(distribution)
        if version is None:
            absent.append(distribution)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # servers warn of protocols that nobody asked them for
            there = [name for name in names if guard.quietly(_imported, name)]
        hooked = [name for name in there if registry.instrumented.get(name)]
        state = words if there else "cannot be imported"
        if hooked != there:
            missing = ", ".join(name for name in there if name not in hooked)
            state = f"not hooked into {missing}: of this version we do not know how"
            report.problem(f"{distribution} {version}: {state}")
        report.line(f"{distribution} {version}", state)
    # Chainlit writes its configuration into the current folder when it is imported.
    for distribution in dict.fromkeys(name.partition(".")[0] for names in FILES["sessions"].values() for name in names):
        version = _version(distribution)
        if version is None:
            absent.append(distribution)
        else:
            report.line(f"{distribution} {version}", "each turn of a session has a context (not tried here)")
    if absent:
        report.line("not installed", ", ".join(absent))


# --- what is recorded elsewhere ---


def _others(report: Report) -> None:
    """The integrations that a program here could use. Which it does use, only the program's own run can tell."""
    report.head("Other integrations of PostHog (where a program uses them, their calls are left to them)")
    for name, distributions in deduplication.NEEDED.items():
        missing = [one for one in distributions if _version(one) is None]
        verb = "is" if len(missing) == 1 else "are"
        report.line(name, f"not here: {' and '.join(missing)} {verb} not installed" if missing else "can be used here")
    report.line("AI gateway", f"calls to {', '.join(sorted(owner.GATEWAY_HOSTS))}")


# --- where events go ---


def _host(report: Report, settings: Config) -> None:
    report.head("PostHog")
    shown = redaction.redact_url(settings.host)
    if settings.token is None:
        report.line("token", "none: set POSTHOG_PROJECT_TOKEN to send events there")
    refused = why_refused(settings.host, settings)
    reason = refused or answers(settings.host, HOST_TIMEOUT_S)
    report.line(shown, reason or "answers")
    if reason is not None and not _is_local(settings):
        report.problem(f"no event is sent: {refused}" if refused else f"no event would arrive at {shown}: {reason}")
    if settings.token is not None and reason is None:
        _token(report, settings, settings.token)


def _token(report: Report, settings: Config, token: str) -> None:
    """Whether a project has the token: capture takes any, and drops the events of one that none has."""
    shown = _masked(token)
    found = check_token(settings.host, token, HOST_TIMEOUT_S)
    host = redaction.redact_url(settings.host)
    if found.known:
        report.line("token", f"{shown} is known there ({found.why}; no event was sent)")
        return
    looks = "" if token.startswith("phc_") else "; a project token begins with phc_"
    if found.known is None:
        report.line("token", f"{shown} was not tried: {found.why}{looks}")
        if looks and not _is_local(settings):
            report.problem(f"POSTHOG_PROJECT_TOKEN ({shown}) is no project token by its looks: they begin with phc_")
        report.not_checked(f"whether a project has the token {shown} ({found.why})")
        return
    report.line("token", f"{shown} is not known there ({found.why}){looks}")
    other = {US_HOST: EU_HOST, EU_HOST: US_HOST}.get(settings.host)
    if other is not None and check_token(other, token, HOST_TIMEOUT_S).known:
        said = f"the token {shown} is of a project in the other region: set POSTHOG_HOST={other}"
    else:
        said = (
            f"no project at {host} has the token {shown}{looks}: its events are taken and dropped "
            "(PostHog: project settings, Project token)"
        )
    if _is_local(settings):
        report.note(said)
    else:
        report.problem(said)


def _store(report: Report, settings: Config) -> None:
    report.head("Local store")
    path = Path(settings.db_path)
    state, well = _state_of_store(path)
    report.line(str(path), state)
    if not well and _is_local(settings):
        report.problem(f"no event can be kept: {state}")
    _prices(report, settings)


def _prices(report: Report, settings: Config) -> None:
    try:
        names = Prices.load(settings.prices_path).names
    except PricesError as error:
        report.problem(str(error))
        names = ["a file that cannot be read, see below"]
    report.line("prices", ", ".join(names) or 'none: pip install "posthog-autoinstrument[viewer]"')


def _spool(report: Report, settings: Config) -> None:
    if settings.spool is None:
        return
    report.head("Spool")
    folder = Path(settings.spool)
    problem = ownership.folder_problem(folder)
    if problem is not None:
        state, well = problem.removeprefix(f"{folder} "), False
    elif folder.is_dir():
        well = os.access(folder, os.W_OK | os.X_OK)
        n_files = len(list(folder.glob("outbox-*.db")))
        state = f"{n_files} {'outbox' if n_files == 1 else 'outboxes'} of processes" if well else "cannot be written"
    else:
        above = next(parent for parent in folder.absolute().parents if parent.exists())
        well = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
        state = "made at the first call" if well else f"cannot be made: {above} is not a folder that can be written"
    report.line(str(folder), state)
    if not well:
        report.problem(f"POSTHOG_SPOOL={folder} {state}: calls would wait in memory only")


def _state_of_store(path: Path) -> tuple[str, bool]:
    """What can be said of the store without making it, and whether events can be kept in it."""
    try:
        if path.exists() or path.is_symlink():
            with Store(path) as store:
                return f"{store.count()} events, can be written", os.access(path, os.W_OK)
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except StoreError as error:
        return str(error), False
    except OSError as error:
        return f"cannot be used: {error.strerror}", False
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return "made when the first event comes", True
    return f"cannot be made: {folder} is not a folder that can be written", False
