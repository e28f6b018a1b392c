"""What this process has captured, summed up in one line when it ends: in a terminal the first time, and on demand.

Events are counted on the flusher's thread, when they are made; costs are looked up at the end, when the program is
over: the list of prices comes with an HTTP library, and openai 3 behaves by what is loaded.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..core import diagnostics, guard
from ..store.columns import CALLS, host_of_chat_stream, summary, token_use
from ..store.summary import TokenUse

if TYPE_CHECKING:
    from .exporter import Exporter

_MAX_PRICED = 10_000
"""Calls whose cost is looked up at the end; they take some 5 MB until then, and 0.3 s. Of more it is not known."""
_MAX_HOSTS = 10
_SETTING = "POSTHOG_AUTOINSTRUMENT_STREAM_USAGE_HOSTS"


def where_to_look(exporter: Exporter | None, db: str | None) -> str:
    """Where the events of this process are. `db` is the local store, where it is not the usual one."""
    host = getattr(exporter, "host", None)
    if host is not None:
        from .posthog_links import traces_url

        return f"see them: {traces_url(host) or 'PostHog'}"
    if getattr(exporter, "path", None) is None:
        return "they are kept nowhere"
    return f"see them: posthog-instrument view{f' --db {shlex.quote(db)}' if db else ''}"


class RunSummary:
    """Counts of one process. A forked child begins its own."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.calls = self.failed = 0
        self.left_out: dict[str, int] = {}
        """Calls that made no event, by what left them out."""
        self.input_tokens = self.output_tokens = 0
        self.uncounted = 0
        """Calls whose token counts are unknown."""
        self.uncounted_streams: dict[str, int] = {}
        """Those of them that were streams, by host."""
        self.cost_usd = 0.0
        self.priced = 0
        self._slowest_s = -1.0
        self._slowest_model: str | None = None
        self._unpriced: list[TokenUse] = []
        self._unknown = 0
        self._models_without_price: set[str] = set()
        self._is_price_list_there = True
        self._is_uncounted_the_reason = False

    def note(self, event: dict[str, Any]) -> None:
        """Count an event."""
        found = summary(event)
        if found.kind not in CALLS:
            return
        self.calls += 1
        self.failed += found.is_error
        self.input_tokens += found.input_tokens or 0
        self.output_tokens += found.output_tokens or 0
        if found.input_tokens is None and found.output_tokens is None and not found.is_error:
            self.uncounted += 1
            host = host_of_chat_stream(event)
            if host is not None and (host in self.uncounted_streams or len(self.uncounted_streams) < _MAX_HOSTS):
                self.uncounted_streams[host] = self.uncounted_streams.get(host, 0) + 1
        if found.latency_s is not None and found.latency_s > self._slowest_s:
            self._slowest_s, self._slowest_model = found.latency_s, found.model
        if found.cost_usd is not None:
            self.cost_usd += found.cost_usd
            self.priced += 1
        elif not found.is_error:
            if len(self._unpriced) < _MAX_PRICED:
                self._unpriced.append(token_use(event))
            else:
                self._unknown += 1

    def leave_out(self, why: str) -> None:
        """Count a call that makes no event."""
        self.left_out[why] = self.left_out.get(why, 0) + 1

    def line(self, prices_path: str, where: str, asked_hosts: Collection[str] = (), n_lost: int = 0) -> str:
        """The line. `where` is where to look; costs are by the user's file of prices and by the package, if any.
        `asked_hosts` are asked for the tokens of streams; `n_lost` events were lost."""
        from ..core.formatting import clean, count, money, seconds

        left_out = ""
        if self.left_out:
            reasons = ", ".join(f"{count(number)} by {why}" for why, number in self.left_out.items())
            left_out = f"{count(sum(self.left_out.values()))} left out ({reasons})"
        lost = f"{count(n_lost)} {'event was' if n_lost == 1 else 'events were'} lost" if n_lost else ""
        if not self.calls:
            nothing = ", ".join(filter(None, (left_out, lost)))
            return (
                f"no calls were captured in this process{f': {nothing}' if nothing else ''} "
                "(those of its child processes are not counted)"
            )
        guard.attempt("look up prices", self._price, prices_path)
        parts = [f"{count(self.calls)} {'call' if self.calls == 1 else 'calls'}"]
        if self.failed:
            parts.append(f"{count(self.failed)} failed")
        if left_out:
            parts.append(left_out)
        parts.append(self._tokens(asked_hosts))
        cost = money(self.cost_usd if self.priced else None)
        if self.priced and self._unknown:
            cost += f" and the unknown cost of {count(self._unknown)}"
        why = self._why_unknown() if self._unknown else ""
        parts.append(f"cost {cost}{f' ({clean(why)})' if why else ''}")
        if self._slowest_s >= 0:
            model = f" ({clean(self._slowest_model)[:60]})" if self._slowest_model else ""
            parts.append(f"slowest {seconds(self._slowest_s)}{model}")
        return "; ".join(filter(None, (", ".join(parts), lost, where)))

    def _tokens(self, asked_hosts: Collection[str]) -> str:
        from ..core.formatting import clean, count

        counted = f"{count(self.input_tokens)} {'token' if self.input_tokens == 1 else 'tokens'} in"
        counted += f", {count(self.output_tokens)} out"
        if not self.uncounted:
            return counted
        unknown = f"{counted} ({count(self.uncounted)} {'call' if self.uncounted == 1 else 'calls'} unknown)"
        if self.uncounted == self.calls - self.failed:
            unknown = "tokens unknown"
        hosts = [
            host
            for host in self.uncounted_streams
            if host not in asked_hosts and host.partition(":")[0] not in asked_hosts
        ]
        if hosts:
            named = clean(",".join(hosts))[:200]
            unknown += (
                f" ({named} does not report tokens of streams: if it takes stream_options.include_usage, "
                f"set {_SETTING}={named})"
            )
        return unknown

    def _why_unknown(self) -> str:
        """Why costs are not known, in a few words."""
        reasons = ["tokens are unknown"] if self._is_uncounted_the_reason else []
        models = sorted(self._models_without_price)
        if models and not self._is_price_list_there:
            reasons.append('for prices: pip install "posthog-autoinstrument[viewer]"')
        elif models:
            reasons.append(f"no price for {', '.join(models[:3])}{' and others' if len(models) > 3 else ''}"[:200])
        return "; ".join(reasons)

    def _price(self, prices_path: str) -> None:
        """Move what has a price into the sum; what is left has none."""
        waiting, self._unpriced = self._unpriced, []
        self._unknown += len(waiting)
        if not waiting:
            return
        from ..store.prices import Prices, PricesError, package_version

        self._is_price_list_there = package_version() is not None

        try:
            prices = Prices.load(prices_path)
        except PricesError as error:
            diagnostics.write(str(error))
            return
        for use in waiting:
            cost = prices.cost_of(use)
            if cost is not None:
                self.cost_usd += cost.total_usd
                self.priced += 1
                self._unknown -= 1
            elif use.input_tokens is None and use.output_tokens is None:
                self._is_uncounted_the_reason = True
            elif use.model:
                self._models_without_price.add(use.model)
