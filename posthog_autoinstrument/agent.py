"""The agent of one process: makes the parts and joins them.

program's threads:  import hook -> patches -> methods, transport -> open calls -> queue
flusher's thread:   queue -> pipeline -> delivery -> exporter
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import providers
from .bootstrap import import_hook
from .capture import calls, span_recorder
from .context import fields, scope
from .core import diagnostics, forks, guard
from .export import final_summary, project
from .export.delivery import Delivery
from .export.flusher import Flusher
from .export.queue import Queue
from .export.task_delivery import TaskDelivery
from .instrumentation import deduplication, patcher, stream_usage
from .integrations import registry
from .lifecycle.process import Process
from .settings import loader

if TYPE_CHECKING:  # what makes and sends events is loaded by the first of them; sqlite3 is for those who want a spool
    from .core.finished import Finalize, Finished
    from .core.records import EncodedEvent, Record
    from .export.exporter import Exporter
    from .export.spool.writer import SpoolWriter
    from .processing.pipeline import Pipeline
    from .settings.config import Config


class Agent:
    """All state of the agent in one process."""

    def __init__(self, settings: Config) -> None:
        self.config = settings
        self.drops = False
        """Events are not made: there is no destination, or capture was switched off."""
        self._kept_any = False
        """Whether a record was handed to the spool."""
        self.providers = {provider.name: provider for provider in providers.load_providers()}
        self.delivery = Delivery(self.choose_exporter, _truncate)
        self._project = project.ChosenProject(settings, self.delivery)
        self._summary = final_summary.FinalSummary(settings)
        self._pipeline: Pipeline | None = None
        self._finalize: Finalize | None = None
        self.spool_writer: SpoolWriter | None = (
            _spool_writer(settings, self.pipeline) if settings.spool and not settings.disabled else None
        )
        self.process = Process(self, settings.exit_timeout_s, settings.sigterm)
        self.flusher: Flusher = Flusher(
            Queue(settings.queue_max_events, settings.queue_max_bytes, settings.flush_at),
            self.finalize,
            self._build,
            self.delivery,
            settings.flush_at,
            settings.flush_interval_s,
            settings.exit_timeout_s,
            self.process,
            self._overdue,
            lambda: len(self._pipeline.own.background) if self._pipeline is not None else 0,
            self.spool_writer,
        )
        self.task_delivery = TaskDelivery(self.flusher, settings.exit_timeout_s)
        emit = self.flusher.add if self.spool_writer is None else self._add
        defaults = self._defaults()
        self.recorder = span_recorder.Recorder(emit, defaults, active=not settings.disabled)
        self.call_recorders = [
            calls.CallRecorder(
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
        self.patchers = [
            patcher.Patcher(
                recorder.provider,
                recorder,
                stream_usage.StreamUsage(
                    recorder.provider.usage_hosts, settings.stream_usage_hosts, settings.stream_usage
                ),
            )
            for recorder in self.call_recorders
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
        finder = import_hook.finder()
        for one in self.patchers:
            for module in one.modules():
                registry.watch(module, one.loaded)
            package = sys.modules.get(one.provider.package)
            if package is not None and not getattr(package.__spec__, "_initializing", False):
                self.check_patched(one)
            finder.watch(one.provider.package, self._package_loaded(one))
        registry.watch(deduplication.MIDDLEWARE, deduplication.mark_middleware)
        if self.recorder.active:
            self._instrument_libraries()
        registry.install(self.config, "platforms")
        self.process.install()
        if self.spool_writer is not None:  # a file that a fork waits for
            self.process.watch_forks()

    def _package_loaded(self, one: patcher.Patcher) -> Callable[[str], None]:
        return lambda name: self.check_patched(one)

    def check_patched(self, one: patcher.Patcher) -> None:
        """Warn where an SDK has loaded and nothing in it could be patched: silence would look like no calls."""
        points = [point for point in one.points if point.module == one.provider.transport.base_module]
        if not any(point.state == "matched" for point in points):
            diagnostics.warn_once(
                "unpatched",
                f"nothing of {one.provider.package} {_version_of(one.provider.package)} could be patched: "
                "no call is captured (posthog-instrument doctor shows more)",
            )

    def _instrument_libraries(self) -> None:
        """Have web requests and turns of sessions open contexts, and steps of libraries make spans: as soon as
        something is captured here."""
        registry.install(self.config, "web", "sessions", "posthog", *(["agents"] if self.config.library_spans else []))

    def set_active(self, active: bool) -> None:
        """Switch capture on or off; `posthog_*` arguments are taken out of calls either way."""
        self.recorder.active = active
        for recorder in self.call_recorders:
            recorder.active = active
        if active:
            self._instrument_libraries()

    def wait_for_project(self) -> None:
        """Capture nothing until there is a destination; each call looks again."""
        self.set_active(False)
        self.recorder.awaken = self._project_is_known
        for recorder in self.call_recorders:
            recorder.awaken = self._project_is_known

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
        self.drops = False
        self.delivery.exporter = None  # chosen anew
        self.set_active(True)
        return True

    def take_arguments(self, token: str | None, host: str | None) -> None:
        """Take over what the program gives in code."""
        for line in loader.take_arguments(self.config, token=token, host=host):
            diagnostics.warn_once(line, line)
        if token is not None or host is not None:
            self._check_project()

    def _check_project(self) -> None:
        if not self.drops:
            self._project.check()

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
                        lambda: self.flusher.take_unreported(),  # a spool needs the pipeline before the flusher
                        self._forget,
                        self._summary.note,
                        self._summary.leave_out,
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
        if self.drops:
            return None
        self.pipeline.before_send.load()
        record = self.finalize(item)
        return self.pipeline.process(record, self.pipeline.own) if record is not None else None

    def _overdue(self, final: bool) -> list[EncodedEvent]:
        self._check_project()
        return self._pipeline.overdue(final) if self._pipeline is not None else []

    def choose_exporter(self) -> Exporter:
        """Where this process's events go. Asked at the first flush, when a token set in code is known."""
        with forks.IMPORTS:
            from .export import destination
        self._reread_settings()
        exporter = destination.choose(self.config)
        if isinstance(exporter, destination.NoProject) and self.spool_writer is None:
            self.drops = True
            self.wait_for_project()
            self._project_is_known()
        self._project.choose(exporter)
        if self.spool_writer is not None:
            self.spool_writer.go_to(*destination.names(exporter))
        return exporter

    def _reread_settings(self) -> None:
        """What the program has set since the start counts, too: many call `load_dotenv()` after their imports."""
        for line in loader.reread(self.config):
            diagnostics.warn_once(line, line)
        self.recorder.defaults = defaults = self._defaults()
        for recorder in self.call_recorders:
            recorder.defaults = defaults
        scope.private = scope.private or self.config.privacy_mode
        if self.config.disabled:
            self.drops = True
            self.set_active(False)
        if self._pipeline is not None:
            self._pipeline.follow_settings()
        if self.spool_writer is not None:
            self.spool_writer.note_settings()

    def _forget(self, rows: tuple[int, ...]) -> None:
        if self.spool_writer is not None and rows:
            self.spool_writer.spool.done(rows)

    def _add(self, item: Finished, late: bool) -> None:
        if not self._kept_any and not late:  # before anything is on the disk that is meant to be private by now
            self._kept_any = True
            guard.attempt("read the settings again", self._reread_settings)
        try:
            self.flusher.add(item, late)
        finally:
            self.process.end_if_signalled()

    # For the process (`lifecycle.process.Parts`)

    def deliver_last(self) -> None:
        """The process ends: end what is open, deliver what waits, write the summary."""
        for recorder in self.call_recorders:
            guard.attempt("end open streams", recorder.finish_streams)
        guard.attempt("deliver events at exit", self.flusher.close)
        guard.attempt("look for a late token", self._check_project)
        if self._pipeline is not None:
            guard.attempt("ask about before_send", self._pipeline.before_send.warn_if_all_dropped)
        asked = set(self.config.stream_usage_hosts).union(
            *(recorder.provider.usage_hosts for recorder in self.call_recorders)
        )
        guard.attempt("sum up", self._summary.write, self.delivery, self._project.current, asked)

    def deliver_now(self) -> None:
        """What waits, within the exit timeout, where the process may go on."""
        self.flusher.flush(self.config.exit_timeout_s)

    def is_delivering_here(self) -> bool:
        """Whether this is the flusher's thread."""
        return self.flusher.delivers_here()

    def is_in_commit(self) -> bool:
        """Whether this thread is in the middle of writing to the spool."""
        return self.spool_writer is not None and self.spool_writer.spool.is_here()

    def before_fork(self) -> None:
        """No thread of ours runs while the process forks, unless it sends."""
        self.flusher.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.flusher.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """A forked child starts with an empty queue and no thread; the parent keeps what it captured."""
        for recorder in self.call_recorders:
            recorder.streams.clear()
        if self._pipeline is not None:
            self._pipeline.clear()
        self._summary.clear()
        self.flusher.after_fork_in_child()


def _spool_writer(settings: Config, pipeline: Pipeline) -> SpoolWriter | None:
    """What writes records to the spool; None, with a warning, where this Python has no sqlite3."""
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
