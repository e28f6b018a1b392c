"""The pipeline: a finished record becomes the event that is sent. Read by its provider's reader, put through the user's
hook, serialised. On the flusher's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import Any

from ..context.active_call import suppressed
from ..core import diagnostics, forks, guard
from ..core.records import Call, EncodedEvent, Record, Remark, Span
from ..providers import Provider
from ..providers.generation import Generation
from ..settings import hook_loader
from ..settings.config import NOT_ACCEPTED, Config
from . import event, kept_events, sanitize
from .background_responses import Background, Waiting, state_of
from .sampling import Sampling
from .tool_spans import Tools

Forget = Callable[[tuple[int, ...]], None]
BeforeSend = Callable[[dict[str, Any]], "dict[str, Any] | None"]

LOST = "posthog_autoinstrument_lost_events"
"""Property of the first event after some were lost: how many."""


MANY = 20
"""Events for which a hook may return None before it is asked about."""
HOOK_STEP = "run before_send (its event is dropped)"
BY_RULES = "sampling or filters"
BY_HOOK = "before_send"
"""Why a call makes no event."""


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
        forget: Callable[[tuple[int, ...]], None],
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        on_left_out: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._config = settings
        self._providers = providers
        self.count_lost = count_lost
        self._take_unreported = take_unreported
        self.forget = forget
        self.background = Background(self.build_event)
        self.tools = Tools()
        self._more: list[EncodedEvent] = []
        """Events that were made beside those that were asked for."""
        self.before_send: BeforeSend | None = None
        self._returned_none = 0
        """Events that the hook dropped by returning None."""
        self._any_returned = False
        """The hook has returned an event."""
        self._before_send_read = False
        self.on_event, self.on_left_out = on_event, on_left_out
        self.follow_settings()

    def follow_settings(self) -> None:
        """The settings are new, or others since the program has set some of them late."""
        self._sampling = Sampling(self._config)

    def build(self, record: Record) -> EncodedEvent | None:
        """The event of a record of this process: read, put through the user's hook, serialised."""
        return self.build_record(record, self.background, self.forget)

    def build_record(
        self,
        record: Record,
        background: Background,
        forget: Callable[[tuple[int, ...]], None],
        keep_media: bool | None = None,
        provider_name: str | None = None,
    ) -> EncodedEvent | None:
        """The event of a record; rows of an outbox that make none are merged to `forget`."""
        if self._config.privacy_mode:  # perhaps since after the call had begun
            record.identity.privacy_mode = True
        if isinstance(record, Call):
            return self.build_call(record, background, forget, keep_media, provider_name)
        if isinstance(record, Span):
            self.tools.named(record)
        made = self.encode(self.build_event(record, keep_media), record.spooled) if self.takes(record) else None
        if made is None:
            forget(record.spooled)
        return made

    def build_event(self, record: Record, keep_media: bool | None = None) -> dict[str, Any]:
        """The event of a record, before the user's hook has it."""
        keep_media = self._config.keep_media if keep_media is None else keep_media
        if isinstance(record, Span):
            return event.build_span(record, keep_media)
        if isinstance(record, Remark):
            return event.build_remark(record)
        provider = self.provider_of(record)
        return event.build(record, event.read(record, provider), provider, keep_media, self._config.provider)

    def kept(self, record: Record) -> dict[str, Any]:
        """The same as the spool keeps it, with what tells the parts of one call in the background."""
        if not isinstance(record, Call):
            return self.build_event(record)
        provider = self.provider_of(record)
        endpoint, generation = provider.endpoint(record.endpoint), event.read(record, provider)
        built = event.build(record, generation, provider, self._config.keep_media, self._config.provider)
        state = state_of(record, endpoint, generation)
        if state is None and not (endpoint is not None and endpoint.kind == "poll"):
            return built
        return {**built, kept_events.NOTE: list(state or ())}

    def read_event(
        self, built: dict[str, Any], rows: tuple[int, ...], size: int, background: Background, forget: Forget
    ) -> EncodedEvent | None:
        """The event of what `kept` gave; None where it makes none, or not yet."""
        note = built.pop(kept_events.NOTE, None)
        if note is not None:  # an empty one: a poll that does not say how anything stands
            kept = kept_events.KeptEvent(built, kept_events.state_of(note), rows, size) if note else None
            merged = background.merge_event(kept) if kept is not None else None
            if merged is None:
                if not background.keeps(rows):
                    forget(rows)
                return None
            return self._event_of_waiting(merged, forget)
        made = self.encode(built, rows)
        if made is None:
            forget(rows)
        return made

    def _event_of_waiting(self, merged: Waiting, forget: Forget, keep_media: bool | None = None) -> EncodedEvent | None:
        if isinstance(merged, Call):
            made = self._event_of(merged, event.read(merged, self.provider_of(merged)), keep_media)
        else:
            made = self.encode(merged.event, merged.spooled)
        if made is None:
            forget(merged.spooled)
        return made

    def takes(self, record: Record, generation: Generation | None = None) -> bool:
        """Whether a record makes an event, by the rules of sampling and filters."""
        if not self._sampling.active:
            return True
        if not isinstance(record, Call):
            return self._sampling.take(record)
        provider = self.provider_of(record)
        generation = generation or event.read(record, provider)
        return self._sampling.take_call(record, generation, provider.endpoint(record.endpoint))

    def provider_of(self, call: Call) -> Provider:
        """Whose call it is."""
        return self._providers[call.sdk]

    def build_call(
        self,
        call: Call,
        background: Background,
        forget: Callable[[tuple[int, ...]], None],
        keep_media: bool | None = None,
        provider_name: str | None = None,
    ) -> EncodedEvent | None:
        """The event of a record; rows of an outbox that make none are merged to `forget`."""
        provider = self.provider_of(call)
        generation = event.read(call, provider)
        if self._config.tool_spans:
            self._more += guard.attempt("find tools", self._tools_of, call, generation, keep_media) or []
        merged = background.merge(call, provider.endpoint(call.endpoint), generation)
        if merged is None:
            if not (call.spooled and background.keeps(call.spooled)):
                forget(call.spooled)
            return None
        if not isinstance(merged, Call):
            return self._event_of_waiting(merged, forget)
        made = self._event_of(
            merged, generation if merged is call else event.read(merged, provider), keep_media, provider_name
        )
        if made is None:
            forget(merged.spooled)
        return made

    def _tools_of(self, call: Call, generation: Generation, keep_media: bool | None) -> list[EncodedEvent]:
        found = [span for span in self.tools.look(call, generation) if self.takes(span)]
        made = [self.encode(self.build_event(span, keep_media), ()) for span in found]
        return [one for one in made if one is not None]

    def overdue(self, final: bool) -> list[EncodedEvent]:
        """The events of tools, and of calls in the background whose result is waited for no longer."""
        more, self._more = self._more, []
        return more + self.overdue_of(self.background, final, self.forget)

    def clear(self) -> None:
        """Forget what waits: in a forked child, whose parent has it."""
        self.background.clear()
        self.tools.clear()
        self._more.clear()

    def overdue_of(
        self, background: Background, final: bool, forget: Callable[[tuple[int, ...]], None]
    ) -> list[EncodedEvent]:
        """The same of calls that wait elsewhere; rows that make no event are merged to `forget`."""
        found = []
        for call in background.overdue(final):
            made = self._event_of_waiting(call, forget)
            if made is not None:
                found.append(made)
        return found

    def _event_of(
        self, call: Call, generation: Generation, keep_media: bool | None = None, provider_name: str | None = None
    ) -> EncodedEvent | None:
        if not self.takes(call, generation):
            self.on_left_out(BY_RULES)
            return None
        keep_media = self._config.keep_media if keep_media is None else keep_media
        named = self._config.provider if provider_name is None else provider_name or None
        returned_none = self._returned_none
        made = self.encode(event.build(call, generation, self._providers[call.sdk], keep_media, named), call.spooled)
        if self._returned_none != returned_none:  # one that the hook failed on is lost
            self.on_left_out(BY_HOOK)
        return made

    def encode(self, built: dict[str, Any], spooled: tuple[int, ...]) -> EncodedEvent | None:
        """An event through the user's hook, serialised; None where the hook drops it."""
        hook = self.hook()
        if hook is drop:
            self.count_lost(1, "before_send could not be loaded")
            return None
        if hook is not None:
            kept = {**built, "properties": None}  # the hook may change what it is given
            failures = guard.failures.get(HOOK_STEP, 0)
            sent = _sent_through(hook, built)
            if not isinstance(sent, dict):
                self._count_unsent(sent, guard.failures.get(HOOK_STEP, 0) != failures)
                return None
            self._any_returned = True
            built = event.repair(sent, kept)
        if str(built["distinct_id"]).lower() in event.SHARED_IDS:
            said = f"distinct_id {built['distinct_id']!r} is nobody's: PostHog makes no person of it"
            diagnostics.warn_once("shared distinct_id", said)
        guard.attempt("count a call", self.on_event, built)
        lost = self._take_unreported()
        if lost:
            built["properties"][LOST] = lost
        return EncodedEvent(
            str(built["uuid"]), str(built["event"]), sanitize.dumps(built, untrusted=hook is not None), spooled
        )

    def _count_unsent(self, returned: Any, failed: bool) -> None:
        """The hook returned no event."""
        if returned is not None:
            if isinstance(returned, CoroutineType):
                returned.close()  # else Python warns that nobody awaited it
            said = f"before_send returned {type(returned).__name__}, no dict and not None: its event is dropped"
            diagnostics.warn_once("before_send", said)
            self.count_lost(1, "before_send returned no event")
        elif failed:
            self.count_lost(1, "before_send failed")
        else:
            self._returned_none += 1
            if self._returned_none == MANY:
                self.note_nothing_returned()

    def note_nothing_returned(self) -> None:
        """Say so where the hook returned None for all events: it may have been meant to return them."""
        if self._returned_none and not self._any_returned:
            which = "the only event" if self._returned_none == 1 else f"all {self._returned_none} events"
            diagnostics.warn_once(
                "before_send returned None",
                f"before_send returned None for {which} so far, so none was sent; to have an event sent, return it",
            )

    def use(self, before_send: BeforeSend | None) -> None:
        """The hook that the program gives in code, in place of the one that the environment names."""
        self.before_send = before_send
        self._before_send_read = True
        self._returned_none, self._any_returned = 0, False

    def has_hook(self) -> bool:
        """Whether events go through a hook of the user's, loaded or not."""
        return self.before_send is not None or (not self._before_send_read and self._config.before_send is not None)

    def hook(self) -> BeforeSend | None:
        """The user's hook, loaded when it is first needed. Raises NotYetError where the program has not defined it."""
        if not self._before_send_read and self._config.before_send is not None:
            # Fails closed, whatever ends the loading: the hook may be there to hide something.
            self.before_send = self.before_send or drop
            self._before_send_read = True
            named = str(self._config.before_send)
            if self.before_send is drop and guard.contain("load before_send", self._load_hook, named) is False:
                self._before_send_read = False
                raise hook_loader.NotYetError(f"before_send: {named} is not defined yet")
        return self.before_send

    def _load_hook(self, named: str) -> bool:
        try:
            with forks.IMPORTS:
                self.before_send = hook_loader.load(named)
        except hook_loader.NotYetError:
            return False
        except hook_loader.HookError as error:
            if named != NOT_ACCEPTED:
                diagnostics.warn_once(
                    "before_send", f"POSTHOG_AUTOINSTRUMENT_BEFORE_SEND={named}: {error}; no event is sent"
                )
        return True


def drop(built: dict[str, Any]) -> None:
    """Stands for a hook that could not be loaded."""


def _sent_through(hook: BeforeSend, built: dict[str, Any]) -> Any:
    """What the user's hook makes of an event. A hook that fails drops its event: it may be there to hide something."""
    # A call that the hook itself makes is not captured: its event would run the hook, and so on.
    with suppressed():
        return guard.contain(HOOK_STEP, hook, built)
