"""The agent of one process: makes the parts and joins them. The only module that knows both sides.

host:      wake's finder -> hooks -> call sites and wire -> open calls
delivery:  queue -> flusher -> event -> sink
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from . import __version__, calls, config, elsewhere, event, forks, guard, hooks, mend, providers, threads, usage, wake
from .background import Background
from .config import Config
from .flusher import Flusher, Orphaned
from .generation import Generation
from .queue import Queue
from .records import Call, Sealable, Sealed, call_from_bytes
from .sinks import Event, Outcome, Sink
from .sinks.posthog import PostHogSink

if TYPE_CHECKING:  # sqlite3 is for those who asked for a spool
    from . import outbox
    from .outbox import Kept
    from .spool import Orphan, Spool

BeforeSend = Callable[[dict[str, Any]], "dict[str, Any] | None"]


LOST = "posthog_autoinstrument_lost_events"
"""Property of the first event after some were lost: how many."""


HOOK_STEP = "run before_send (its event is dropped)"


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


class Rest:
    """What a dead process left: its rows as events, with the settings that it had."""

    def __init__(self, agent: Agent, spool: Spool, orphan: Orphan) -> None:
        self._agent = agent
        self._spool = spool
        self._orphan = orphan
        self._facts = orphan.outbox.facts()
        self._background = Background()  # the numbers of the rows are the orphan's own
        self._last = 0
        self._over = False

    def next(self, limit: int) -> list[Event] | None:
        """The events of the next rows; None where there are no more."""
        rows = self._orphan.outbox.rows(self._last, limit)
        if rows:
            self._last = rows[-1].number
            read = [
                guard.attempt(
                    "read what a dead process left",
                    self._agent._read_row,
                    row,
                    self._background,
                    self.done,
                    self._facts,
                )
                for row in rows
            ]
            return [event for event in read if event is not None]
        if self._over:
            return None
        self._over = True
        return self._agent.overdue_of(self._background, True)

    def done(self, numbers: Sequence[int]) -> None:
        """These were delivered, or make no event."""
        self._orphan.outbox.remove(numbers)

    def spill(self, numbers: Sequence[int]) -> None:
        """They stay where they are."""

    def close(self) -> None:
        """Leave the rest to the next process."""
        self._spool.orphan = None
        self._orphan.close()


class Agent:
    """All state of the agent in one process."""

    def __init__(self, settings: Config) -> None:
        self.config = settings
        self.before_send: BeforeSend | None = None
        self.destination = ""
        """Host and token of the sink, as the spool writes them down."""
        self._closing = 0
        """The thread that delivers at exit."""
        self._ends_by = 0
        """The signal that came meanwhile, by which the process then ends."""
        self._before_send_read = settings.before_send is None
        # Now: CPython takes `__file__` away from a script that has ended, and the first flush may be at exit.
        self._program = str(getattr(sys.modules.get("__main__"), "__file__", None) or "")
        self.providers = {provider.name: provider for provider in providers.load_providers()}
        self.background = Background()
        self.spool = spool_of(settings) if settings.spool and not settings.disabled else None
        self.flusher = Flusher(
            Queue(settings.queue_max_events, settings.queue_max_bytes, settings.flush_at),
            self.build,
            self.choose_sink,
            shrink,
            settings.flush_at,
            settings.flush_interval_s,
            settings.exit_timeout_s,
            self.close,
            self.overdue,
            lambda: len(self.background),
            self.spool,
            self.keep,
            self.read_back,
            self.orphaned,
        )
        if self.spool is not None:
            self.spool.state(
                keep_media=str(int(settings.keep_media)),
                provider=settings.provider or "",
                hooked=str(int(settings.before_send is not None)),
            )
        self.calls = [
            calls.Calls(provider, settings, self.flusher.add, self.flusher.expect, active=not settings.disabled)
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

    def build(self, record: Sealable) -> Event | None:
        """A finished record as the event that is sent: sealed, read, put through the user's hook, serialised."""
        call = record.seal()
        if call is None:
            return None
        return self.build_call(call, self.background, self.flusher.forget)

    def build_call(
        self,
        call: Call,
        background: Background,
        forget: Callable[[tuple[int, ...]], None],
        keep_media: bool | None = None,
        provider_name: str | None = None,
    ) -> Event | None:
        """The event of a record; rows of an outbox that make none are told to `forget`."""
        provider = self.providers[call.sdk]
        generation = event.read(call, provider)
        told = background.settle(call, provider.endpoint(call.endpoint), generation)
        if told is None:
            if not (call.spooled and background.keeps(call)):
                forget(call.spooled)
            return None
        made = self._event_of(
            told, generation if told is call else event.read(told, provider), keep_media, provider_name
        )
        if made is None:
            forget(told.spooled)
        return made

    def overdue(self, final: bool) -> list[Event]:
        """The events of calls in the background whose outcome is waited for no longer."""
        return self.overdue_of(self.background, final)

    def overdue_of(self, background: Background, final: bool) -> list[Event]:
        """The same of calls that wait elsewhere."""
        calls = background.overdue(final)
        found = [self._event_of(call, event.read(call, self.providers[call.sdk])) for call in calls]
        return [one for one in found if one is not None]

    def _event_of(
        self, call: Call, generation: Generation, keep_media: bool | None = None, provider_name: str | None = None
    ) -> Event | None:
        keep_media = self.config.keep_media if keep_media is None else keep_media
        named = self.config.provider if provider_name is None else provider_name or None
        return self._finished(event.build(call, generation, self.providers[call.sdk], keep_media, named), call.spooled)

    def _finished(self, built: dict[str, Any], spooled: tuple[int, ...]) -> Event | None:
        """An event through the user's hook, serialised; None where the hook drops it."""
        hook = self._hook()
        if hook is not None:
            kept = {**built, "properties": None}  # the hook may change what it is given
            failures = guard.failures.get(HOOK_STEP, 0)
            sent = _sent_through(hook, built)
            if not isinstance(sent, dict):
                if sent is not None:
                    said = f"before_send returned {type(sent).__name__}, no dict and not None: its event is dropped"
                    guard.say_once("before_send", said)
                    self.flusher.lose(1, "before_send returned no event")
                elif guard.failures.get(HOOK_STEP, 0) != failures:
                    self.flusher.lose(1, "before_send failed")
                return None
            built = event.settled(sent, kept)
        if str(built["distinct_id"]).lower() in event.SHARED_IDS:
            said = f"distinct_id {built['distinct_id']!r} is nobody's: PostHog makes no person of it"
            guard.say_once("shared distinct_id", said)
        lost = self.flusher.take_untold()
        if lost:
            built["properties"][LOST] = lost
        return Event(str(built["uuid"]), str(built["event"]), mend.dumps(built), spooled)

    # The spool

    def keep(self, record: Sealable) -> Sealable | None:
        """On the program's thread: seal a record and commit it to the spool. None where it makes no event."""
        call = record.seal()
        if call is None or self.spool is None:
            return None
        if _holds_secrets(call):
            provider = self.providers[call.sdk]
            built = event.build(
                call, event.read(call, provider), provider, self.config.keep_media, self.config.provider
            )
            kind, body = outbox.EVENT, mend.dumps(built)
        else:
            kind, body = outbox.RECORD, call.to_bytes()
        number = self.spool.keep(kind, call.uuid, body)
        return Sealed(call if number is None else replace(call, spooled=(number,)), record.size)

    def read_back(self, row: Kept) -> Event | None:
        """The event of a row of our own outbox."""
        return self._read_row(row, self.background, self.flusher.forget, {})

    def _read_row(
        self, row: Kept, background: Background, forget: Callable[[tuple[int, ...]], None], facts: dict[str, str]
    ) -> Event | None:
        rows = (row.number,)
        try:
            if row.kind == outbox.EVENT:
                made = self._finished(json.loads(row.body), rows)
                if made is None:
                    forget(rows)
                return made
            call = call_from_bytes(row.body, rows)
            keep_media = facts["keep_media"] == "1" if "keep_media" in facts else None
            return self.build_call(call, background, forget, keep_media, facts.get("provider"))
        except (ValueError, TypeError, KeyError):
            forget(rows)
            self.flusher.lose(1, "damaged in the spool")
            return None

    def orphaned(self, spool: Spool) -> Orphaned | None:
        """What a dead process left in the spool, if it is ours to deliver."""
        found = spool.take_over(self._may_deliver)
        return Rest(self, spool, found) if found is not None else None

    def _may_deliver(self, facts: dict[str, str]) -> bool:
        destination = facts.get("destination")
        if destination and destination != self.destination:
            return False  # of another project
        if facts.get("hooked") == "1" and self._hook() is None:
            guard.say_once("hooked", "what a dead process left in the spool stays there: it has a before_send")
            return False
        return True

    def _hook(self) -> BeforeSend | None:
        if not self._before_send_read:
            self._before_send_read = True
            # Fails closed: the hook may be there to hide something.
            self.before_send = (
                self.before_send
                or guard.attempt("load before_send", _load_hook, str(self.config.before_send), self._program)
                or _drop
            )
        return self.before_send

    def choose_sink(self) -> Sink:
        """Where this process's events go. Asked at the first flush, when a token set in code is known."""
        sink = self._choose_sink()
        if self.spool is not None:
            from .spool import fingerprint

            where = (sink.host, sink.token) if isinstance(sink, PostHogSink) else (sink.name,)
            self.destination = fingerprint(*where)
            self.spool.state(destination=self.destination)
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
                        f"{host} is plain http, which anybody on the way can read "
                        "(POSTHOG_AUTOINSTRUMENT_ALLOW_HTTP=1 allows it)"
                    )
                if guard.debug:
                    guard.say(f"events go to {host}")
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

    # The life of the process

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

        True where that goes on when the handler has returned: an interrupted delivery at exit, or one in a greenlet.
        It ends the process when it is done.
        """
        if self._closing == threading.get_ident():
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
        self.background.clear()
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


def spool_of(settings: Config) -> Spool | None:
    """The spool that is asked for; None, with a line that says so, where this Python has no sqlite3."""
    try:
        with forks.IMPORTS:  # only a process with a spool pays for sqlite3
            from . import outbox as loaded
            from .spool import Spool
    except ImportError as error:
        guard.say_once("spool", f"this Python has no {error.name}, so there is no spool: calls wait in memory")
        return None
    global outbox
    outbox = loaded
    return Spool(str(settings.spool), settings.spool_max_bytes)


def _holds_secrets(call: Call) -> bool:
    """Whether a record must not be written down as it is: privacy mode, credentials of tools, keys in URLs, errors."""
    if call.identity.privacy_mode or call.error is not None:
        return True
    if any(mark in url for url in (call.base_url, call.request_url) for mark in "?@"):
        return True
    request = call.request or b""
    return b'"mcp"' in request or b"domain_secrets" in request or b"authorization" in request


def shrink(built: Event, max_bytes: int) -> Event | None:
    """An event cut down to `max_bytes`, marked as truncated."""
    body = guard.attempt("cut an event down", mend.shrink, json.loads(built.body), max_bytes)
    return built._replace(body=body) if body is not None else None


def _load_hook(text: str, program: str) -> BeforeSend | None:
    """The function that `module:function` names; None, with a line that says why, where there is none.

    `program` is the file that runs as the program.
    """
    module, _, name = text.partition(":")
    try:
        if module not in sys.modules and os.path.basename(program) == module.rpartition(".")[2] + ".py":
            # The program itself: importing it by its name would run it a second time.
            found: Any = sys.modules.get("__main__")
        else:
            with forks.IMPORTS:
                found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if callable(found):
            return cast(BeforeSend, found)
        reason = f"{name} is not callable"
    except (ImportError, AttributeError) as error:
        reason = str(error)
    guard.say_once("before_send", f"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND={text}: {reason}; no event is sent")
    return None


def _drop(built: dict[str, Any]) -> None:
    """Stands for a hook that could not be loaded."""


def _is_loopback(host: str) -> bool:
    name = urlsplit(host).hostname or ""
    return name == "localhost" or name.endswith(".localhost") or name == "::1" or name.startswith("127.")


def _sent_through(hook: BeforeSend, built: dict[str, Any]) -> Any:
    """What the user's hook makes of an event. A hook that fails drops its event: it may be there to hide something."""
    # A call that the hook itself makes is not captured: its event would run the hook, and so on.
    token = calls.CLAIM.set(calls.SUPPRESSED)
    try:
        result = guard.contain(HOOK_STEP, hook, built)
    finally:
        calls.CLAIM.reset(token)
    return result


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
    return guard.attempt("flush", _agent.flusher.flush, timeout_s) or False


def configure(before_send: BeforeSend | None = None) -> None:
    """Set in code what the environment cannot hold. `before_send(event)` is called with every event (a dict with
    event, uuid, timestamp, distinct_id and properties) on the flusher's thread, and returns it, changed or not, or
    None to drop it. Raises TypeError for something that cannot be called."""
    if before_send is not None and not callable(before_send):
        raise TypeError(f"configure: before_send must be callable, not {type(before_send).__name__}")
    agent = start()
    agent.before_send = before_send
    agent._before_send_read = True
    if agent.spool is not None:
        guard.attempt("note before_send", agent.spool.state, hooked=str(int(before_send is not None)))
