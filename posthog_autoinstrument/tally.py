"""What this process has captured, summed up in one line when it ends (`posthog-instrument --summary`).

Events are counted on the flusher's thread, when they are made; costs are looked up at the end, when the program is
over: the list of prices comes with an HTTP library, and openai 3 behaves by what is loaded.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from . import guard
from .facts import CALLS, consumed, summary
from .summary import Consumed

if TYPE_CHECKING:
    from .sinks import Sink

_MAX_PRICED = 10_000
"""Calls whose cost is looked up at the end; they take some 5 MB until then, and 0.3 s. Of more it is not known."""


def where_to_look(sink: Sink | None, db: str | None) -> str:
    """Where the events of this process are. `db` is the local store, where it is not the usual one."""
    host = getattr(sink, "host", None)
    if host is not None:
        from .viewer.links import traces_url

        return f"see them: {traces_url(host) or 'PostHog'}"
    if getattr(sink, "path", None) is None:
        return "they are kept nowhere"
    return f"see them: posthog-instrument view{f' --db {shlex.quote(db)}' if db else ''}"


class Tally:
    """Counts of one process. A forked child begins its own."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.calls = self.failed = 0
        self.input_tokens = self.output_tokens = 0
        self.cost_usd = 0.0
        self.priced = 0
        self._slowest_s = -1.0
        self._slowest_model: str | None = None
        self._unpriced: list[Consumed] = []
        self._unknown = 0

    def note(self, event: dict[str, Any]) -> None:
        """Count an event."""
        found = summary(event)
        if found.kind not in CALLS:
            return
        self.calls += 1
        self.failed += found.is_error
        self.input_tokens += found.input_tokens or 0
        self.output_tokens += found.output_tokens or 0
        if found.latency_s is not None and found.latency_s > self._slowest_s:
            self._slowest_s, self._slowest_model = found.latency_s, found.model
        if found.cost_usd is not None:
            self.cost_usd += found.cost_usd
            self.priced += 1
        elif not found.is_error:
            if len(self._unpriced) < _MAX_PRICED:
                self._unpriced.append(consumed(event))
            else:
                self._unknown += 1

    def line(self, prices_path: str, where: str) -> str:
        """The line. `where` is where to look; costs are by the user's file of prices and by the package, if any."""
        from .cli.terminal import clean
        from .viewer.text import count, money, seconds

        if not self.calls:
            return "no calls were captured in this process (those of its child processes are not counted)"
        guard.attempt("look up prices", self._price, prices_path)
        parts = [f"{count(self.calls)} {'call' if self.calls == 1 else 'calls'}"]
        if self.failed:
            parts.append(f"{count(self.failed)} failed")
        parts.append(f"{count(self.input_tokens)} {'token' if self.input_tokens == 1 else 'tokens'} in")
        parts.append(f"{count(self.output_tokens)} out")
        cost = money(self.cost_usd if self.priced else None)
        if self.priced and self._unknown:
            cost += f" and the unknown cost of {count(self._unknown)}"
        parts.append(f"cost {cost}")
        if self._slowest_s >= 0:
            model = f" ({clean(self._slowest_model)[:60]})" if self._slowest_model else ""
            parts.append(f"slowest {seconds(self._slowest_s)}{model}")
        return ", ".join(parts) + f"; {where}"

    def _price(self, prices_path: str) -> None:
        """Move what has a price into the sum; what is left has none."""
        waiting, self._unpriced = self._unpriced, []
        self._unknown += len(waiting)
        if not waiting:
            return
        from .viewer.prices import Prices, PricesError

        try:
            prices = Prices.load(prices_path)
        except PricesError as error:
            guard.say(str(error))
            return
        for use in waiting:
            cost = prices.cost_of(use)
            if cost is not None:
                self.cost_usd += cost.total_usd
                self.priced += 1
                self._unknown -= 1
