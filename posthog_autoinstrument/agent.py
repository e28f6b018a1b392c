"""The agent of one process: makes the parts and joins them.

host:      wake's finder -> hooks -> call sites and wire -> open calls
delivery:  queue -> flusher -> maker -> courier -> sink
"""

from __future__ import annotations

import atexit
import json
import os
import re
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import (
    __version__,
    calls,
    config,
    elsewhere,
    event,
    forks,
    guard,
    hooks,
    mend,
    providers,
    redact,
    threads,
    usage,
    wake,
)
from .config import Config
from .courier import Courier
from .flusher import Flusher
from .maker import BeforeSend, Maker
from .queue import Queue
from .records import Sealable
from .sinks import Event, Outcome, Sink
from .sinks.posthog import PostHogSink

if TYPE_CHECKING:  # sqlite3 is for those who asked for a spool
    from .durable import Durable


class NoSink:
    """Where events go that nobody may have: nowhere. For a process woken without the launcher and without a token."""

    name = "nowhere"
    max_event_bytes = 1 << 40
    max_batch_bytes = 1 << 40

    def __init__(self, why: str) -> None:
        self._why = why

    def send(self, events: object, timeout_s: float) -> Outcome:
        return Outcome("refused", self._why)

    def close(self) -> None:
        pass


class Agent:
    """All state of the agent in one process."""

    def __init__(self, settings: Config) -> None:
        self.config = settings
        self._closing = 0
        """The thread that delivers at exit."""
        self._ends_by = 0
        """The signal that came meanwhile, by which the process then ends."""
        self.providers = {provider.name: provider for provider in providers.load_providers()}
        self.courier = Courier(self.choose_sink, shrink)
        self.maker = Maker(settings, self.providers, self.courier.lose, self._take_untold, self._forget)
        self.durable: Durable | None = (
            _durable(settings, self.maker) if settings.spool and not settings.disabled else None
        )
        self.flusher: Flusher = Flusher(
            Queue(settings.queue_max_events, settings.queue_max_bytes, settings.flush_at),
            self.maker.build,
            self.courier,
            settings.flush_at,
            settings.flush_interval_s,
            settings.exit_timeout_s,
            self.close,
            self.maker.overdue,
            lambda: len(self.maker.background),
            self.durable,
        )
        self.calls = [
            calls.Calls(provider, settings, self._add, self.flusher.expect, active=not settings.disabled)
            for provider in self.providers.values()
        ]
        self.hooks = [
            hooks.Hooks(
                made.provider,
                made,
                usage.StreamUsage(made.provider.usage_hosts, settings.stream_usage_hosts, settings.stream_usage),
            )
            for made in self.calls
        ]

    def install(self) -> None:
        """Patch what is loaded, and what will be when it is."""
        finder = wake.finder()
        for hook in self.hooks:
            for module in hook.modules():
                finder.watch(module, hook.loaded)
                if module in sys.modules:
                    hook.loaded(module)
            package = sys.modules.get(hook.provider.package)
            if package is not None and not getattr(package.__spec__, "_initializing", False):
                self.check_patched(hook)
            finder.watch(hook.provider.package, self._package_loaded(hook))
        finder.watch(elsewhere.MIDDLEWARE, elsewhere.mark_middleware)
        if elsewhere.MIDDLEWARE in sys.modules:
            elsewhere.mark_middleware(elsewhere.MIDDLEWARE)
        atexit.register(self.close)
        forks.register()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self.flusher.before_fork,
                after_in_parent=self.flusher.after_fork_in_parent,
                after_in_child=self.after_fork_in_child,
            )

    def _package_loaded(self, hook: hooks.Hooks) -> Callable[[str], None]:
        return lambda name: self.check_patched(hook)

    def check_patched(self, hook: hooks.Hooks) -> None:
        """Say so where an SDK has loaded and nothing in it is what we know: silence would look like no calls."""
        wired = [point for point in hook.points if point.module == hook.provider.wire.base_module]
        if not any(point.state == "matched" for point in wired) and self.config.main_process:
            guard.say_once(
                "unmatched",
                f"nothing of {hook.provider.package} {_version_of(hook.provider.package)} could be patched: "
                "no call is captured (posthog-instrument doctor tells more)",
            )

    def set_active(self, active: bool) -> None:
        """Switch capture on or off; `posthog_*` arguments are taken out of calls either way."""
        for made in self.calls:
            made.active = active

    # On the flusher's thread

    def choose_sink(self) -> Sink:
        """Where this process's events go. Asked at the first flush, when a token set in code is known."""
        sink = self._choose_sink()
        if self.durable is not None:
            where = (sink.host, sink.token) if isinstance(sink, PostHogSink) else (sink.name,)
            self.durable.go_to(*where)
        return sink

    def _choose_sink(self) -> Sink:
        if not self.config.local:
            token, host = self.config.token, self.config.host
            posthog = sys.modules.get("posthog")
            if token is None and posthog is not None:
                client = getattr(posthog, "default_client", None)
                for found in (
                    getattr(posthog, "project_api_key", None),
                    getattr(posthog, "api_key", None),
                    getattr(client, "api_key", None),
                ):
                    if isinstance(found, str) and found and not found.startswith("phx_"):
                        token = found
                        break
                own_host = getattr(posthog, "host", None) or getattr(client, "raw_host", None)
                if token is not None and not self.config.host_given and isinstance(own_host, str):
                    host = config.parse_host(own_host) or host
            if token is not None:
                if host.startswith("http:") and not self.config.allow_http and not _is_loopback(host):
                    return NoSink(
                        f"{redact.redact_url(host)} is plain http, which anybody on the way can read "
                        "(POSTHOG_AUTOINSTRUMENT_ALLOW_HTTP=1 allows it)"
                    )
                if guard.debug:
                    guard.say(f"events go to {redact.redact_url(host)}")
                return PostHogSink(token, host, library=f"{event.LIBRARY}/{__version__}")
        if self.config.local or self.config.launched:
            if guard.debug:
                guard.say(f"events go to {self.config.db_path}")
            try:
                with forks.IMPORTS:  # sqlite3: only a process that writes the store pays for it
                    from .sinks.local import LocalSink
            except ImportError as error:
                return NoSink(f"this Python has no {error.name}, so there is no local store")
            return LocalSink(self.config.db_path, event.summary, self.config.db_max_bytes)
        return NoSink("no POSTHOG_PROJECT_TOKEN is set")

    def _take_untold(self) -> int:
        return self.flusher.take_untold()

    def _forget(self, rows: tuple[int, ...]) -> None:
        if self.durable is not None and rows:
            self.durable.spool.done(rows)

    # The life of the process

    def _add(self, record: Sealable, late: bool) -> None:
        try:
            self.flusher.add(record, late)
        finally:
            self.heed()

    def heed(self) -> None:
        """End by the signal that came in the middle of a commit."""
        if self._ends_by and not self._closing:
            self.close()

    def close(self) -> None:
        """At exit: end what is open and deliver what is waiting, within the exit timeout."""
        self._closing = threading.get_ident()
        for made in self.calls:
            guard.attempt("end open streams", made.finish_streams)
        guard.attempt("deliver events at exit", self.flusher.close)
        _keep_interrupted()
        self._closing = 0
        if self._ends_by:
            wake.end_by(self._ends_by)

    def terminate(self, number: int) -> bool:
        """Signal `number` wants to end this process: deliver first, as at exit.

        True where that goes on when the handler has returned: an interrupted delivery at exit or commit to the spool,
        or one in a greenlet.
        It ends the process when it is done.
        """
        in_spool = self.durable is not None and self.durable.spool.is_here()
        if in_spool or self._closing == threading.get_ident():
            self._ends_by = number
            return True
        spawn = threads.hub_spawn()
        if spawn is not None:
            self._ends_by = number
            spawn(self.close)
            return True
        self.close()
        return False

    def after_fork_in_child(self) -> None:
        """A forked child starts with an empty queue and no thread; the parent keeps what it captured."""
        for made in self.calls:
            made.streams.clear()
        self.maker.background.clear()
        self.flusher.after_fork_in_child()


def _keep_interrupted() -> None:
    """Have a program that ended by Ctrl-C still end by SIGINT.

    CPython (3.10 to 3.13, Python/pythonrun.c) remembers an uncaught KeyboardInterrupt in a flag that every `exec` of a
    string clears, and importing requests at exit makes many (namedtuples, dataclasses). One more sets it again.
    """
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            pass


def _durable(settings: Config, maker: Maker) -> Durable | None:
    """The durable mode; None, with a line that says so, where this Python has no sqlite3."""
    try:
        with forks.IMPORTS:  # only a process with a spool pays for sqlite3
            from . import durable
    except ImportError as error:
        guard.say_once("spool", f"this Python has no {error.name}, so there is no spool: calls wait in memory")
        return None
    return durable.make(settings, maker)


def shrink(built: Event, max_bytes: int) -> Event | None:
    """An event cut down to `max_bytes`, marked as truncated."""
    body = guard.attempt("cut an event down", mend.shrink, json.loads(built.body), max_bytes)
    return built._replace(body=body) if body is not None else None


_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}")
"""An address: the name of a host may begin like one."""


def _is_loopback(host: str) -> bool:
    name = urlsplit(host).hostname or ""
    return name in ("localhost", "::1") or name.endswith(".localhost") or _LOOPBACK.fullmatch(name) is not None


def _version_of(package: str) -> str:
    module = sys.modules.get(package)
    return str(getattr(module, "__version__", "")) or "(unknown version)"


_agent: Agent | None = None
_starting = threading.RLock()


def start(explicit: bool = False) -> Agent:
    """The agent of this process, made and installed the first time. `explicit`: the program asked for it by hand."""
    global _agent
    with _starting:
        if _agent is None:
            settings = config.load()
            made = Agent(settings)
            # Woken by PYTHONPATH alone, nobody said where events should go: capture nothing.
            if not (explicit or settings.launched or settings.local or settings.token):
                made.set_active(False)
            made.install()
            _agent = made
            wake.handle_sigterm()  # again: where the launcher is not, or the program has set it to its default since
            if not settings.launched:  # the launcher has said them already
                for problem in settings.problems:
                    guard.say_once(problem, problem)
        elif explicit and not _agent.config.disabled:
            _agent.set_active(True)
        return _agent


def instrument() -> None:
    """Instrument this process by hand, where the launcher cannot. Before or after `import openai`; idempotent.

    Also for clients that exist already. Never raises. Settings come from the environment as under the launcher;
    without a token, in the environment or set in code on the `posthog` module, events are dropped.
    """
    guard.attempt("start", start, True)


def terminate(number: int) -> bool:
    """What a signal that ends the process calls first. See `Agent.terminate`."""
    return _agent is not None and bool(guard.attempt("deliver events on a signal", _agent.terminate, number))


def flush(timeout_s: float | None = None) -> bool:
    """Wait until every call captured so far has been delivered; False when `timeout_s` seconds ran out first.

    For programs that are frozen or killed between jobs. Never raises; True where there is nothing to deliver.
    """
    if _agent is None:
        return True
    done = guard.attempt("flush", _agent.flusher.flush, timeout_s) or False
    _agent.heed()
    return done


def configure(before_send: BeforeSend | None = None) -> None:
    """Set in code what the environment cannot hold. `before_send(event)` is called with every event (a dict with
    event, uuid, timestamp, distinct_id and properties) on the flusher's thread, and returns it, changed or not, or
    None to drop it. Raises TypeError for something that cannot be called."""
    if before_send is not None and not callable(before_send):
        raise TypeError(f"configure: before_send must be callable, not {type(before_send).__name__}")
    agent = start()
    agent.maker.use(before_send)
    if agent.durable is not None:
        guard.attempt("note before_send", agent.durable.spool.state, hooked=str(int(before_send is not None)))
