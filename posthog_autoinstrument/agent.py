"""The agent of one process: makes the parts and joins them.

host:      wake's finder -> hooks -> call sites and wire -> open calls
delivery:  queue -> flusher -> pipeline -> delivery -> exporter
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import providers
from .bootstrap import startup
from .capture import calls, span_recorder
from .context import fields, posthog_clients, scope
from .core import diagnostics, forks, guard, threads
from .export import first_run, project
from .export.delivery import Delivery
from .export.flusher import Flusher
from .export.queue import Queue
from .instrumentation import deduplication, patcher, stream_usage
from .integrations import agents, web
from .integrations.workers import aws_lambda
from .lifecycle import exits, signals
from .settings import loader

if TYPE_CHECKING:  # what makes and sends events is loaded by the first of them; sqlite3 is for those who want a spool
    from .core.finished import Finalize, Finished
    from .core.records import EncodedEvent, Record
    from .export.exporter import Exporter
    from .export.run_summary import RunSummary
    from .export.spool.writer import SpoolWriter
    from .processing.before_send import Hook
    from .processing.pipeline import Pipeline
    from .settings.config import Config


class Agent:
    """All state of the agent in one process."""

    def __init__(self, settings: Config) -> None:
        self.config = settings
        self._watches_requests = False
        self._in_terminal = diagnostics.is_main_process() and first_run.in_terminal()
        self._drops = False
        """Events are not made: nobody has said where they go, or capture was switched off."""
        self._project: project.Project | None = None
        """The project that events go to, since that was chosen."""
        self._kept_any = False
        """Whether a record was handed to the spool."""
        self._closing = 0
        """The thread that delivers at exit."""
        self._ends_by = 0
        """The signal that came meanwhile, by which the process then ends."""
        self.providers = {provider.name: provider for provider in providers.load_providers()}
        self.delivery = Delivery(self.choose_exporter, _truncate)
        self._pipeline: Pipeline | None = None
        self._finalize: Finalize | None = None
        self._run_summary: RunSummary | None = None
        self.spool_writer: SpoolWriter | None = (
            _spool_writer(settings, self.pipeline) if settings.spool and not settings.disabled else None
        )
        self._signals = signals.Signals(self.terminate, self.close) if settings.sigterm and os.name == "posix" else None
        self._exits = exits.Exits(self.close, self._deliver_now, self._signals)
        self._watches_forks = False
        self._task_gave_up = False
        """PostHog did not answer while a task waited: no other one waits for the same."""
        self._closed = threads.allocate_lock()
        self.flusher: Flusher = Flusher(
            Queue(settings.queue_max_events, settings.queue_max_bytes, settings.flush_at),
            self.finalize,
            self._build,
            self.delivery,
            settings.flush_at,
            settings.flush_interval_s,
            settings.exit_timeout_s,
            self,
            self._overdue,
            lambda: len(self._pipeline.own.background) if self._pipeline is not None else 0,
            self.spool_writer,
        )
        emit = self.flusher.add if self.spool_writer is None else self._add
        defaults = self._defaults()
        self.recorder = span_recorder.Recorder(emit, defaults, active=not settings.disabled)
        self.calls = [
            calls.Calls(
                provider,
                settings,
                defaults,
                emit,
                self.flusher.expect,
                deduplication.recorded_by,
                active=not settings.disabled,
            )
            for provider in self.providers.values()
        ]
        self.hooks = [
            patcher.Hooks(
                made.provider,
                made,
                stream_usage.StreamUsage(made.provider.usage_hosts, settings.stream_usage_hosts, settings.stream_usage),
            )
            for made in self.calls
        ]

    def _defaults(self) -> fields.Fields:
        return fields.Fields(
            distinct_id=self.config.distinct_id,
            properties=fields.serialize(self.config.properties),
            groups=fields.serialize(self.config.groups),
            privacy_mode=self.config.privacy_mode,
        )

    def install(self) -> None:
        """Patch what is loaded, and what will be when it is."""
        finder = startup.finder()
        for hook in self.hooks:
            for module in hook.modules():
                finder.watch(module, hook.loaded)
                if module in sys.modules:
                    hook.loaded(module)
            package = sys.modules.get(hook.provider.package)
            if package is not None and not getattr(package.__spec__, "_initializing", False):
                self.check_patched(hook)
            finder.watch(hook.provider.package, self._package_loaded(hook))
        finder.watch(deduplication.MIDDLEWARE, deduplication.mark_middleware)
        if deduplication.MIDDLEWARE in sys.modules:
            deduplication.mark_middleware(deduplication.MIDDLEWARE)
        if self.recorder.active:
            self._watch_requests()
        finder.watch(aws_lambda.MODULE, lambda name: aws_lambda.patch(self._deliver_now))
        aws_lambda.patch(self._deliver_now)
        atexit.register(self.close)
        if self.spool_writer is not None:  # a file that a fork waits for
            self._watch_forks()

    def _watch_forks(self) -> None:
        if not self._watches_forks and hasattr(os, "register_at_fork"):
            self._watches_forks = True
            forks.register()
            os.register_at_fork(
                before=self.before_fork,
                after_in_parent=self.after_fork_in_parent,
                after_in_child=self.after_fork_in_child,
            )

    def _package_loaded(self, hook: patcher.Hooks) -> Callable[[str], None]:
        return lambda name: self.check_patched(hook)

    def check_patched(self, hook: patcher.Hooks) -> None:
        """Say so where an SDK has loaded and nothing in it is what we know: silence would look like no calls."""
        wired = [point for point in hook.points if point.module == hook.provider.wire.base_module]
        if not any(point.state == "matched" for point in wired):
            diagnostics.warn_once(
                "unpatched",
                f"nothing of {hook.provider.package} {_version_of(hook.provider.package)} could be patched: "
                "no call is captured (posthog-instrument doctor tells more)",
            )

    def _watch_requests(self) -> None:
        """Have web requests give context, and libraries tell of their steps, as soon as something is captured here."""
        if not self._watches_requests:
            self._watches_requests = True
            web.install(startup.finder().watch, self.config)
            agents.install(startup.finder().watch, self.config)
            startup.finder().watch(startup.POSTHOG_CLIENT, posthog_clients.loaded)
            posthog_clients.loaded()

    def set_active(self, active: bool) -> None:
        """Switch capture on or off; `posthog_*` arguments are taken out of calls either way."""
        self.recorder.active = active
        for made in self.calls:
            made.active = active
        if active:
            self._watch_requests()

    def wait_for_project(self) -> None:
        """Capture nothing as long as nobody says where events go; each call looks again."""
        self.set_active(False)
        self.recorder.awaken = self._project_is_known
        for made in self.calls:
            made.awaken = self._project_is_known

    def waits_for_project(self) -> bool:
        """Whether its first events had nowhere to go."""
        return self._drops

    @guard.guarded("look for a token", False)
    def _project_is_known(self) -> bool:
        """A call is made in a process that waits for a project: whether there is one by now. On the host's thread."""
        if self.config.disabled:  # since the start
            return False
        if project.find(self.config) is None:
            diagnostics.warn_once(
                "no project",
                "nothing is captured: POSTHOG_PROJECT_TOKEN is not set (POSTHOG_AUTOINSTRUMENT_LOCAL=1 keeps events on "
                "this machine)",
            )
            return False
        self._drops = False
        self.delivery.exporter = None  # chosen anew
        self.set_active(True)
        return True

    def take_arguments(self, token: str | None, host: str | None) -> None:
        """Take over what the program gives in code."""
        for line in loader.take_arguments(self.config, token=token, host=host):
            diagnostics.warn_once(line, line)
        if token is not None or host is not None:
            self._notice_late_project()

    def _notice_late_project(self) -> None:
        """Say so where the program sets another project than the one that its events go to already."""
        exporter = self.delivery.exporter
        if exporter is None or self._drops or self.config.local:
            return
        found = project.find(self.config)
        if found is None or found == self._project:
            return
        if getattr(exporter, "waits_for_project", False):  # what was captured meanwhile is in the spool
            self.delivery.choose_again()
            return
        if hasattr(exporter, "token") and self._project is not None:
            line = (
                f"another PostHog project was set when events had gone to {self._project.host} already; "
                "this process goes on sending them there"
            )
        elif getattr(exporter, "path", None) is not None:
            line = (
                "a PostHog token was set when events had gone to the local store already; this process goes on writing "
                "them there (posthog-instrument send delivers them to PostHog). Set it before the first call"
            )
        else:
            line = "the PostHog project was set too late: set it before the first call"
        diagnostics.warn_once("late project", line)

    # On the flusher's thread

    @property
    def pipeline(self) -> Pipeline:
        """What makes events. Loaded for the first one: a program's `import openai` does not wait for it."""
        if self._pipeline is None:
            with forks.IMPORTS:
                from .processing.pipeline import Pipeline

                if self._pipeline is None:
                    self._pipeline = Pipeline(
                        self.config,
                        self.providers,
                        self.delivery.count_lost,
                        self._take_unreported,
                        self._forget,
                        self._count_event,
                        self._count_left_out,
                    )
        return self._pipeline

    def finalize(self, item: Finished) -> Record | None:
        """The record of what has ended; None where it must not be recorded."""
        if self._finalize is None:
            with forks.IMPORTS:
                from .capture.finalize import finalize
            self._finalize = finalize  # once: a test of the program's that changes `sys.modules` would load it again
        return self._finalize(item)

    def _build(self, item: Finished) -> EncodedEvent | None:
        """The event of what has ended. Raises NotYetError, before anything is done, where `before_send` is not
        defined yet."""
        if self._drops:
            return None
        self.pipeline.before_send.load()
        record = self.finalize(item)
        return self.pipeline.process(record, self.pipeline.own) if record is not None else None

    def _overdue(self, final: bool) -> list[EncodedEvent]:
        self._notice_late_project()
        return self._pipeline.overdue(final) if self._pipeline is not None else []

    def choose_exporter(self) -> Exporter:
        """Where this process's events go. Asked at the first flush, when a token set in code is known."""
        with forks.IMPORTS:
            from .export import destination
        self._reread_settings()
        exporter = destination.choose(self.config)
        if isinstance(exporter, destination.NoProject) and self.spool_writer is None:
            self._drops = True
            self.wait_for_project()
            self._project_is_known()
        in_store = getattr(exporter, "path", None) is not None
        self._project = None if in_store else project.find(self.config)  # also of a host that is refused
        if self.spool_writer is not None:
            self.spool_writer.go_to(*destination.names(exporter))
        return exporter

    def _reread_settings(self) -> None:
        """What the program has set since the start counts, too: many call `load_dotenv()` after their imports."""
        for line in loader.reread(self.config):
            diagnostics.warn_once(line, line)
        self.recorder.defaults = defaults = self._defaults()
        for made in self.calls:
            made.defaults = defaults
        scope.private = scope.private or self.config.privacy_mode
        if self.config.disabled:
            self._drops = True
            self.set_active(False)
        if self._pipeline is not None:
            self._pipeline.follow_settings()
        if self.spool_writer is not None:
            self.spool_writer.note_settings()

    def _count_event(self, event: dict[str, Any]) -> None:
        summary = self._wanted_summary()
        if summary is not None:
            summary.note(event)

    def _count_left_out(self, reason: str) -> None:
        summary = self._wanted_summary()
        if summary is not None:
            summary.leave_out(reason)

    def _wanted_summary(self) -> RunSummary | None:
        """The counts of this process, where a summary may be due at its end."""
        if self._run_summary is None and (self._in_terminal or self.config.summary):
            with forks.IMPORTS:
                from .export.run_summary import RunSummary

            self._run_summary = RunSummary()
        return self._run_summary

    def _take_unreported(self) -> int:
        return self.flusher.take_unreported()

    def _forget(self, rows: tuple[int, ...]) -> None:
        if self.spool_writer is not None and rows:
            self.spool_writer.spool.done(rows)

    # The life of the process

    def _add(self, item: Finished, late: bool) -> None:
        if not self._kept_any and not late:  # before anything is on the disk that is meant to be private by now
            self._kept_any = True
            guard.attempt("read the settings again", self._reread_settings)
        try:
            self.flusher.add(item, late)
        finally:
            self.heed()

    def heed(self) -> None:
        """End by the signal that came in the middle of a commit."""
        if self._ends_by and not self._closing:
            self.close()

    def close(self) -> None:
        """Where the process ends: end what is open and deliver what is waiting, within the exit timeout. Where another
        thread does so already, wait for it. Waits for nothing where nothing was captured in this process, and on the
        thread that delivers: the user's `before_send` may end the process."""
        wait_s = 0.0 if self.flusher.delivers_here() else self.config.exit_timeout_s
        if self._closing == threads.get_ident() or not self._closed.acquire(timeout=wait_s):
            return
        self._closing = threads.get_ident()
        try:
            self._close()
        finally:
            self._closing = 0
            self._closed.release()
        if self._ends_by:
            signals.end_by(self._ends_by)

    def _close(self) -> None:
        for made in self.calls:
            guard.attempt("end open streams", made.finish_streams)
        guard.attempt("deliver events at exit", self.flusher.close)
        guard.attempt("look for a late token", self._notice_late_project)
        if self._pipeline is not None:
            guard.attempt("ask about before_send", self._pipeline.before_send.warn_if_all_dropped)
        if (self.config.summary or self._in_terminal) and diagnostics.is_main_process():
            guard.attempt("sum up", self._sum_up)
        if self._signals is not None:
            guard.attempt("leave signals to the system", self._signals.remove)
        _keep_interrupted()

    def _sum_up(self) -> None:
        """Say in one line what was captured here. The program is over."""
        made = self._run_summary
        if not self.config.summary:
            captured = made is not None and made.calls and self.delivery.delivered
            where = getattr(self._project, "host", "") or "local"
            if not captured or not first_run.is_first(self.config.state_folder, where):
                return
        from .export.run_summary import RunSummary, where_to_look

        asked = set(self.config.stream_usage_hosts).union(*(made.provider.usage_hosts for made in self.calls))
        line = (made or RunSummary()).line(
            self.config.prices_path,
            where_to_look(self.delivery.exporter, self.config.db)
            if self.delivery.delivered or not self.delivery.n_lost
            else "",
            asked,
            self.delivery.n_lost,
        )
        diagnostics.write_once("summary", line)

    def terminate(self, number: int) -> bool:
        """Signal `number` wants to end this process: deliver first, as at exit.

        True where that goes on when the handler has returned: an interrupted delivery at exit or commit to the spool,
        or one in a greenlet.
        It ends the process when it is done.
        """
        in_spool = self.spool_writer is not None and self.spool_writer.spool.is_here()
        if in_spool or self._closing == threads.get_ident():
            self._ends_by = number
            return True
        spawn = threads.hub_spawn()
        if spawn is not None:
            self._ends_by = number
            spawn(self.close)
            return True
        self.close()
        return False

    def _deliver_now(self) -> None:
        """What waits, within the exit timeout, where the process may go on."""
        self.flusher.flush(self.config.exit_timeout_s)

    def deliver_for_task(self) -> None:
        """What waits, before the result of a task is handed over, after which this process may be killed."""
        if self._waits_for_tasks():
            self._task_gave_up = not self.flusher.flush(self.config.exit_timeout_s)

    def begin_delivery(self) -> Callable[[], bool] | None:
        """The same for who may not wait: whether to look again later. None where there is nothing to wait for."""
        if not self._waits_for_tasks():
            return None
        is_over = self.flusher.begin_flush(self.config.exit_timeout_s)

        def look() -> bool:
            over = is_over()
            if over is not None:
                self._task_gave_up = not over
            return over is None

        return look

    def _waits_for_tasks(self) -> bool:
        if not self.flusher.is_busy():
            self._task_gave_up = False
        return self.flusher.is_busy() and not self._task_gave_up

    def captured(self) -> None:
        """On the host's thread: something will have to be delivered from this process."""
        self._watch_forks()
        self._exits.install()

    @property
    def exposed(self) -> bool:
        """Whether a signal would just end this process, and lose what waits."""
        return self._signals is not None and self._signals.exposed

    @property
    def watcher(self) -> threads.Thread | None:
        """The thread that reads the numbers of signals."""
        return self._signals.watcher if self._signals is not None else None

    def cover(self) -> None:
        """On the flusher's thread: have that changed."""
        if self._signals is not None:
            self._signals.ask_main_thread()

    def before_fork(self) -> None:
        """No thread of ours runs while the process forks, unless it sends."""
        if self._signals is not None:
            guard.attempt("hold back signals", self._signals.before_fork)
        self.flusher.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.flusher.after_fork_in_parent()
        if self._signals is not None:
            guard.attempt("let signals come", self._signals.after_fork_in_parent)

    def after_fork_in_child(self) -> None:
        """A forked child starts with an empty queue and no thread; the parent keeps what it captured."""
        for made in self.calls:
            made.streams.clear()
        if self._pipeline is not None:
            self._pipeline.clear()
        self._run_summary = None
        self.flusher.after_fork_in_child()
        self._closing = self._ends_by = 0
        self._closed = threads.allocate_lock()
        if self._signals is not None:
            guard.attempt("leave signals to the system", self._signals.after_fork_in_child)


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


def _spool_writer(settings: Config, pipeline: Pipeline) -> SpoolWriter | None:
    """The durable mode; None, with a line that says so, where this Python has no sqlite3."""
    try:
        with forks.IMPORTS:  # only a process with a spool pays for sqlite3
            from .export.spool import writer
    except ImportError as error:
        diagnostics.warn_once("spool", f"this Python has no {error.name}, so there is no spool: calls wait in memory")
        return None
    return writer.make(settings, pipeline)


def _truncate(event: EncodedEvent, max_bytes: int) -> EncodedEvent | None:
    from .processing import truncation

    return truncation.truncate_encoded(event, max_bytes)


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
            settings = loader.load()
            if not settings.launched:
                diagnostics.tree = loader.process_tree_of(startup.finder().tree)
            made = Agent(settings)
            # Woken by PYTHONPATH alone, nobody said where events should go: capture nothing.
            if not (explicit or settings.launched or settings.local or settings.token or settings.disabled):
                made.wait_for_project()
            made.install()
            _agent = made
            # `import openai` alone opens none; the public names that do install them as well.
            if explicit or scope.CONTEXT.get() is not None:
                from . import propagation

                propagation.install(settings)
            span_recorder.recorder = made.recorder
            scope.opentelemetry_trace_ids = settings.otel_trace_id
            scope.private = settings.privacy_mode
            if not settings.launched:  # the launcher has said them already
                for problem in settings.problems:
                    diagnostics.warn_once(problem, problem)
        elif explicit and not _agent.config.disabled and not _agent.waits_for_project():
            _agent.set_active(True)
        return _agent


def _start_woken() -> None:
    """Start, where the launcher is: a program may name spans before it imports an SDK, or without one."""
    if getattr(sys, startup.SENTINEL, None) is not None:
        start()


span_recorder.start = _start_woken


def instrument(token: str | None = None, host: str | None = None) -> None:
    """Instrument this process by hand, where the launcher cannot. Before or after `import openai`; idempotent.

    Also for clients that exist already. Never raises. `token` and `host` are those of the PostHog project, as in
    POSTHOG_PROJECT_TOKEN and POSTHOG_HOST, before which they come; one that is not accepted is named on standard error.
    All other settings come from the environment as under the launcher. Without a token, here, in the environment or set
    in code on the `posthog` module, nothing is captured.
    """
    made = guard.attempt("start", start, True)
    if made is not None and (token is not None or host is not None):
        guard.attempt("take the project", made.take_arguments, token, host)


def flush(timeout_s: float | None = 10.0) -> bool:
    """Wait until every call captured so far has been delivered: to PostHog, or to the local store where that is the
    destination. True only then.

    False when `timeout_s` seconds ran out or cannot be enough (PostHog refuses the token, or asked for a longer pause),
    when events were lost since the last `flush`, and when calls are left in the spool, from where they are sent later.
    False at once inside `before_send`. None waits for as long as PostHog is tried, which may be for ever.

    For programs that are frozen or killed between jobs. Never raises; True where there is nothing to deliver.
    """
    if _agent is None:
        return True
    done = guard.attempt("flush", _agent.flusher.flush, timeout_s) or False
    _agent.heed()
    return done


def deliver_for_task() -> None:
    """Deliver what waits, within the exit timeout: this process may be killed when a task of its is done."""
    if _agent is not None:
        _agent.deliver_for_task()


def begin_delivery() -> Callable[[], bool] | None:
    """The same for a coroutine: what says whether to wait on. None where there is nothing to wait for."""
    return _agent.begin_delivery() if _agent is not None else None


def sum_up_nothing() -> None:
    """At the end of a process that imported no SDK, as gunicorn's master does not, where a summary is asked for."""
    if _agent is None and loader.load().summary and diagnostics.is_main_process():
        nothing = "no calls were captured: this process imported no SDK (those of its child processes are not counted)"
        diagnostics.write_once("summary", nothing)


def configure(before_send: Hook | None = None) -> None:
    """Set in code what the environment cannot hold. `before_send(event)` is called with every event (a dict with
    event, uuid, timestamp, distinct_id and properties) on the flusher's thread, and returns it, changed or not, or
    None to drop it. Raises TypeError for something that cannot be called."""
    if before_send is not None and not callable(before_send):
        raise TypeError(f"configure: before_send must be callable, not {type(before_send).__name__}")
    agent = start()
    agent.pipeline.before_send.use(before_send)
    if agent.spool_writer is not None:
        guard.attempt("note before_send", agent.spool_writer.note_settings)
