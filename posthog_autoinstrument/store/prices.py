"""The cost of a call: as the provider reports it, else by the user's own prices, else by the list of `genai-prices`.

Reads the user's file once and never uses the network: the list is that of the installed package (extra `viewer`;
without it only the first two are known). A cost that would be a guess is None: a model or a service tier that is not in
the list, audio if only text has a price, a call without token counts.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from .columns import token_use
from .custom_prices import OwnPrice, read_file
from .custom_prices import PricesError as PricesError
from .results import Cost, Part
from .summary import TokenUse

_RULES = "2"
"""Version of the arithmetic below; a change makes all costs be calculated again."""
_STANDARD_TIERS = frozenset((None, "", "auto", "default", "standard", "standard_only", "on_demand"))

Rate = Callable[[str], float | None]
"""The price of a kind of token in USD per million (of searches and requests: per thousand); None: the list has none."""


class Prices:
    """All known prices. `version` changes with any of them and with the arithmetic."""

    def __init__(self, own: tuple[OwnPrice, ...] = (), digest: str = "", path: str = "") -> None:
        self._own = own
        self._path = path
        listed = package_version()
        self._source = f"genai-prices {listed}"
        self.names = [f"{len(own)} of your own ({path})"] if own else []
        """Sources of prices, in order of precedence."""
        self.names += [self._source] if listed else []
        self.version = f"rules {_RULES}, genai-prices {listed or 'none'}, own {digest or 'none'}"

    @classmethod
    def load(cls, path: str | None = None) -> Prices:
        """Prices, with those of the user's file if it exists. Raises PricesError: one line with file and line."""
        found = read_file(path) if path is not None else None
        if path is None or found is None:
            return cls()
        own, text = found
        return cls(own, hashlib.sha256(text).hexdigest()[:12], path)

    def cost(self, event: dict[str, Any]) -> Cost | None:
        """The cost of an event's call; None if it is not known. Never raises."""
        return self.cost_of(token_use(event))

    def cost_of(self, use: TokenUse) -> Cost | None:
        """The cost of what a call used."""
        if use.reported_usd is not None:
            return Cost(use.reported_usd, (), "reported by the provider", use.model)
        if use.model is None or (use.input_tokens is None and use.output_tokens is None):
            return None
        when = _time(use.time)
        own = next((price for price in reversed(self._own) if price.is_of(use.model, use.provider, when)), None)
        if own is not None:
            parts = _parts(use, own.rates.get)
            return _sum(parts, f"your prices ({self._path})", own.model) if parts is not None else None
        listed = _listed(use, when)
        if listed is None:
            return None
        parts = _parts(use, listed.rate)
        return _sum(parts, self._source, listed.model) if parts is not None else None


def _sum(parts: list[Part], source: str, model: str) -> Cost:
    return Cost(sum(part.usd for part in parts), tuple(parts), source, model)


def _parts(use: TokenUse, rate: Rate) -> list[Part] | None:
    """The cost of each kind of token that was used; None if one of them has no price.

    Cached, written, audio and images are parts of the input; reasoning, audio and images are parts of the output.
    """
    read, written = use.cache_read_tokens or 0, use.cache_write_tokens or 0
    given, made = use.input_tokens or 0, use.output_tokens or 0
    if use.output_tokens is None and not use.is_embedding:
        return None  # it ended before tokens were counted
    if use.cache_beside_input or read + written > given:
        given += read + written
    sound, pictures = use.input_audio_tokens or 0, use.input_image_tokens or 0
    read_sound = min(use.cache_audio_read_tokens or 0, read, sound)
    text = given - (read - read_sound) - written - sound - pictures
    made_sound, made_pictures = use.output_audio_tokens or 0, use.output_image_tokens or 0
    thought = min(use.reasoning_tokens or 0, max(0, made - made_sound - made_pictures))
    if text < 0 or made - made_sound - made_pictures < 0:
        return None  # inconsistent counts
    lines = (
        ("input", text, ("input_text_mtok", "input_mtok")),
        ("cached input", read - read_sound, ("cache_text_read_mtok", "cache_read_mtok", "input_mtok")),
        ("input written to the cache", written, ("cache_write_mtok", "cache_write_5m_mtok", "input_mtok")),
        ("audio input", sound - read_sound, ("input_audio_mtok",)),
        ("cached audio input", read_sound, ("cache_audio_read_mtok", "cache_read_mtok", "input_audio_mtok")),
        ("image input", pictures, ("input_image_mtok", "input_mtok")),
        ("output", made - made_sound - made_pictures - thought, ("output_text_mtok", "output_mtok")),
        ("reasoning", thought, ("output_reasoning_mtok", "output_mtok")),
        ("audio output", made_sound, ("output_audio_mtok",)),
        ("image output", made_pictures, ("output_image_mtok", "output_mtok")),
    )
    found = []
    for name, tokens, keys in lines:
        if tokens:
            price = next((price for key in keys if (price := rate(key)) is not None), None)
            if price is None:
                return None
            found.append(Part(name, tokens, price, tokens * price / 1_000_000))
    if not found and rate("input_mtok") is None:
        return None
    for name, count, key in (
        ("web searches", use.web_searches or 0, "web_searches_kcount"),
        ("request", 1, "requests_kcount"),
    ):
        price = rate(key)
        if count and price is not None:
            found.append(Part(name, count, None, count * price / 1_000))
    return found


# --- the list of genai-prices ---


class _Listed(NamedTuple):
    model: str
    rate: Rate


def _listed(use: TokenUse, when: datetime) -> _Listed | None:
    """The price of a model at a time in the list; None if the list has none."""
    found = _find(use.model or "", use.provider, use.base_url)
    if found is None:
        return None
    model, of_provider = found
    context = None
    if use.tier not in _STANDARD_TIERS:
        # A tier of another price must be in the list: half of the cost, or twice as much, would be wrong.
        context = {"service_tier": str(use.tier)}
        variants = (of_provider and model.price_variants) or ()
        if not any(
            variant.when == context and (variant.constraint is None or variant.constraint.active(when))
            for variant in variants
        ):
            return None
    prices = model.get_prices(when, context)
    size = (use.input_tokens or 0) + (
        (use.cache_read_tokens or 0) + (use.cache_write_tokens or 0) if use.cache_beside_input else 0
    )

    def rate(key: str) -> float | None:
        price = prices.__dict__.get(key)
        if price is None:
            return None
        # A price that depends on the size of the request counts for all of it.
        for step in reversed(getattr(price, "tiers", ())):
            if size > step.start:
                return float(step.price)
        return float(getattr(price, "base", price))

    return _Listed(model.id, rate)


@functools.lru_cache(maxsize=2048)
def _find(model: str, provider: str | None, base_url: str | None) -> tuple[Any, bool] | None:
    """The model in the list, and whether it is among the provider's own; None if it is not in the list.

    Looked up by the event's provider, then by the URL; never by the model's name alone: an open model has a different
    price with each provider, and none on one's own machine.
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    # What its providers' API calls "bedrock" and "vertex" it knows as "aws" and "google".
    names: list[Mapping[str, str]] = []
    if provider:
        names.append({"provider_id": {"bedrock": "aws"}.get(provider, provider)})
    if base_url:
        names.append({"provider_api_url": base_url})
    for name in names:
        try:
            found = calc_price(Usage(), model, **name)
        except (LookupError, ValueError):
            continue
        return found.model, any(found.model is one for one in found.provider.models)
    return None


def package_version() -> str | None:
    try:
        from genai_prices import __version__
    except ImportError:
        return None
    return str(__version__)


def _time(text: str) -> datetime:
    """The time of an event; now if it is invalid."""
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not read "Z"
    except ValueError:
        return datetime.now(timezone.utc)
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)
