"""Finished records become encoded events: read by the provider, sampled, built, passed to `before_send`, encoded.

On the flusher's thread; a process with a spool also builds some events on the program's threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core import diagnostics, guard
from ..core.records import Call, EncodedEvent, Record, Span
from ..providers.generation import Generation
from ..providers.provider import Provider
from ..settings.config import Config
from . import event, kept_events, sanitize
from .background_responses import Background, Waiting, state_of
from .before_send import BeforeSend
from .sampling import Sampling
from .tool_spans import Tools

Event = dict[str, Any]
Rows = tuple[int, ...]
"""Numbers of rows of an outbox."""

LOST = "posthog_autoinstrument_lost_events"
"""Property of the first event after some were lost: how many."""
BY_RULES = "sampling or filters"
BY_HOOK = "before_send"
"""Why a call makes no event."""


@dataclass(frozen=True)
class Source:
    """Where records come from: this process, or the outbox of another one."""

    background: Background
    forget: Callable[[Rows], None]
    """Called with rows that make no event: they can be deleted."""
    keep_media: bool | None = None
    """As the process that made the records was set; None: as this one is."""
    provider_name: str | None = None
    """The same of the provider that all events name; "" for none."""
    is_counted: bool = True
    """Whether the run summary of this process counts the calls."""


class Pipeline:
    """Makes events. `count_lost` counts those that the user's hook failed on, `take_unreported` returns how many were
    lost that no event has reported yet, `forget` gets the rows of our outbox that make no event. `on_event` is called
    with each event before it is encoded, `on_left_out` with the reason why a call makes none.
    """

    def __init__(
        self,
        settings: Config,
        providers: Mapping[str, Provider],
        count_lost: Callable[[int, str], None],
        take_unreported: Callable[[], int],
        forget: Callable[[Rows], None],
        on_event: Callable[[Event], None] = lambda event: None,
        on_left_out: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._config = settings
        self._providers = providers
        self.count_lost = count_lost
        self._take_unreported = take_unreported
        self._on_event, self._on_left_out = on_event, on_left_out
        self.before_send = BeforeSend(settings, count_lost)
        self.own = self.source(forget)
        self._tools = Tools()
        self._more: list[EncodedEvent] = []
        """Spans of tools, found beside the calls that were asked for."""
        self.follow_settings()

    def source(
        self, forget: Callable[[Rows], None], keep_media: bool | None = None, provider_name: str | None = None
    ) -> Source:
        """A source of records of its own."""
        made = Source(Background(lambda call: self.build(call, made)), forget, keep_media, provider_name)
        return made

    def follow_settings(self) -> None:
        """Take over settings that the program has changed since the start."""
        self._sampling = Sampling(self._config)

    def clear(self) -> None:
        """Forget what waits: in a forked child, whose parent has it."""
        self.own.background.clear()
        self._tools.clear()
        self._more.clear()

    # A record becomes an event

    def process(self, record: Record, source: Source) -> EncodedEvent | None:
        """The event of a record; None where it makes none, or not yet."""
        if self._config.privacy_mode:  # perhaps since after the call had begun
            record.identity.privacy_mode = True
        if isinstance(record, Call):
            return self._process_call(record, source)
        if isinstance(record, Span):
            self._tools.named(record)
        if not self.takes(record):
            source.forget(record.spooled)
            return None
        return self.encode(self.build(record, source), record.spooled, source)

    def _process_call(self, call: Call, source: Source) -> EncodedEvent | None:
        provider = self._providers[call.sdk]
        generation = event.read(call, provider)
        if self._config.tool_spans:
            self._more += guard.attempt("find tools", self._tool_spans, call, generation, source) or []
        merged = source.background.merge(call, provider.endpoint(call.endpoint), generation)
        if merged is None:
            _forget_unless_kept(call.spooled, source)
            return None
        return self._process_merged(merged, source, generation if merged is call else None)

    def process_event(self, found: Event, rows: Rows, size: int, source: Source) -> EncodedEvent | None:
        """The same of an event that `build_to_keep` made. `size`: its bytes in the spool."""
        note = found.pop(kept_events.NOTE, None)
        if note is None:
            return self.encode(found, rows, source)
        merged = None
        if note:  # an empty one is of a poll whose answer names no state
            kept = kept_events.KeptEvent(found, kept_events.state_of(note), rows, size)
            merged = source.background.merge_event(kept)
        if merged is None:
            _forget_unless_kept(rows, source)
            return None
        return self._process_merged(merged, source)

    def _process_merged(
        self, call: Waiting, source: Source, generation: Generation | None = None
    ) -> EncodedEvent | None:
        """The event of a call whose outcome is known, or no longer waited for."""
        if not isinstance(call, Call):
            return self.encode(call.event, call.spooled, source)
        if generation is None:
            generation = event.read(call, self._providers[call.sdk])
        n_dropped = self.before_send.n_dropped
        if self.takes(call, generation):
            encoded = self.encode(self._build_call(call, generation, source), call.spooled, source)
            reason = BY_HOOK if self.before_send.n_dropped != n_dropped else None
        else:
            source.forget(call.spooled)
            encoded, reason = None, BY_RULES
        if reason is not None and source.is_counted:
            self._on_left_out(reason)
        return encoded

    def _tool_spans(self, call: Call, generation: Generation, source: Source) -> list[EncodedEvent]:
        spans = [span for span in self._tools.look(call, generation) if self.takes(span)]
        encoded = [self.encode(self.build(span, source), (), source) for span in spans]
        return [one for one in encoded if one is not None]

    def overdue(self, final: bool) -> list[EncodedEvent]:
        """The events of tools, and of background calls whose outcome is no longer waited for; at the end of the process
        (`final`), of all of them."""
        more, self._more = self._more, []
        return more + self.overdue_of(self.own, final)

    def overdue_of(self, source: Source, final: bool) -> list[EncodedEvent]:
        """The same of the background calls of `source`."""
        encoded = [self._process_merged(call, source) for call in source.background.overdue(final)]
        return [one for one in encoded if one is not None]

    # The steps

    def takes(self, record: Record, generation: Generation | None = None) -> bool:
        """Whether a record makes an event, by the rules of sampling and filters."""
        if not self._sampling.active:
            return True
        if not isinstance(record, Call):
            return self._sampling.take(record)
        provider = self._providers[record.sdk]
        generation = generation or event.read(record, provider)
        return self._sampling.take_call(record, generation, provider.endpoint(record.endpoint))

    def build(self, record: Record, source: Source) -> Event:
        """The event of a record, before the user's hook."""
        if isinstance(record, Call):
            return self._build_call(record, event.read(record, self._providers[record.sdk]), source)
        if isinstance(record, Span):
            return event.build_span(record, self._keeps_media(source))
        return event.build_feedback(record)

    def _build_call(self, call: Call, generation: Generation, source: Source) -> Event:
        name = self._config.provider if source.provider_name is None else source.provider_name or None
        return event.build(call, generation, self._providers[call.sdk], self._keeps_media(source), name)

    def _keeps_media(self, source: Source) -> bool:
        return self._config.keep_media if source.keep_media is None else source.keep_media

    def build_to_keep(self, record: Record) -> Event:
        """The event of a record as the spool keeps it: with the state of a background call beside it."""
        if not isinstance(record, Call):
            return self.build(record, self.own)
        provider = self._providers[record.sdk]
        endpoint, generation = provider.endpoint(record.endpoint), event.read(record, provider)
        built = self._build_call(record, generation, self.own)
        state = state_of(record, endpoint, generation)
        if state is None and not (endpoint is not None and endpoint.kind == "poll"):
            return built
        return {**built, kept_events.NOTE: list(state or ())}

    def encode(self, built: Event, rows: Rows, source: Source) -> EncodedEvent | None:
        """An event through the user's hook, encoded; None where the hook drops it, `rows` are forgotten then."""
        before = {**built, "properties": None}  # the hook may change what it is given
        returned = self.before_send.run(built)
        if returned is None:
            if rows:
                source.forget(rows)
            return None
        has_hook = self.before_send.is_set()
        if has_hook:
            returned = event.repair(returned, before)
        if str(returned["distinct_id"]).lower() in event.SHARED_IDS:
            line = f"distinct_id {returned['distinct_id']!r} is shared by many: PostHog creates no person for it"
            diagnostics.warn_once("shared distinct_id", line)
        if source.is_counted:
            guard.attempt("count a call", self._on_event, returned)
        n_lost = self._take_unreported()
        if n_lost:
            returned["properties"][LOST] = n_lost
        body = sanitize.dumps(returned, untrusted=has_hook)
        return EncodedEvent(str(returned["uuid"]), str(returned["event"]), body, rows)


def uncounted(source: Source) -> Source:
    """The same source, of calls that the run summary has counted before."""
    return replace(source, is_counted=False)


def _forget_unless_kept(rows: Rows, source: Source) -> None:
    if not (rows and source.background.keeps(rows)):
        source.forget(rows)
