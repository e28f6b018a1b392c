"""The user's own prices: one TOML file, for models that are in no public list and for negotiated prices.

    [[price]]
    model = "llama-3*"          # as in events; * and ? are wildcards
    provider = "ollama"         # optional, the same way
    since = 2026-01-01          # optional: valid from that day on (UTC)
    input = 0.10                # USD per million tokens, as all that follow
    output = 0.20
    cached_input = 0.05         # optional: default as input

If several match a call, the last one applies. Audio has no price unless one is given; images cost as input.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_KEYS = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "audio_input": "input_audio_mtok",
    "cached_audio_input": "cache_audio_read_mtok",
    "image_input": "input_image_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "audio_output": "output_audio_mtok",
    "image_output": "output_image_mtok",
}
_MAX_BYTES = 1_000_000


class PricesError(Exception):
    """The file of prices is invalid; the message has the file, the line and the reason."""


@dataclass(frozen=True)
class OwnPrice:
    """One `[[price]]`."""

    model: str
    provider: str
    since: datetime | None
    rates: dict[str, float]

    def is_of(self, model: str, provider: str | None, when: datetime) -> bool:
        """Whether this price applies to a call."""
        return (
            fnmatchcase(model.lower(), self.model.lower())
            and fnmatchcase((provider or "").lower(), self.provider.lower())
            and (self.since is None or when >= self.since)
        )


def read_file(path: str) -> tuple[tuple[OwnPrice, ...], bytes] | None:
    """The prices in a file, and its bytes; None if it does not exist. Raises PricesError."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PricesError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > _MAX_BYTES:
        raise PricesError(f"{path} has {len(data):,} bytes: too large for a list of prices")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PricesError(f"{path}, line {line}: this is not UTF-8") from None
    return _read(path, text), data


def _read(path: str, text: str) -> tuple[OwnPrice, ...]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise PricesError(f"{path}: Python 3.10 reads it with tomli, which the extra `viewer` brings") from None
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        where = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = (where[1] if where else None) or text.count("\n") + 1
        what = re.sub(r" *\(at [^)]*\)$", "", str(error))
        raise PricesError(f"{path}, line {line}: {what[:1].lower()}{what[1:]}") from None
    for name, value in table.items():
        if name != "price":
            raise PricesError(f"{path}, line {_line(text, 0, name)}: there is only [[price]] here, not {name!r}")
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise PricesError(f"{path}, line {_line(text, 0, 'price')}: write [[price]], with two brackets")
    return tuple(_price(path, text, number, one) for number, one in enumerate(table.get("price", [])))


def _price(path: str, text: str, number: int, table: dict[str, Any]) -> OwnPrice:
    def wrong(key: str, what: str) -> PricesError:
        return PricesError(f"{path}, line {_line(text, number + 1, key)}: {what}")

    for key in ("model", "provider"):
        value = table.get(key, "*" if key == "provider" else None)
        if not isinstance(value, str) or not value:
            raise wrong(key, f'{key} is a text, as model = "gpt-4o*"' if key in table else "there is no model")
    rates = {}
    for key, value in table.items():
        if key in ("model", "provider", "since"):
            continue
        if key not in _KEYS:
            raise wrong(key, f"{key!r} is no price; there are {', '.join(_KEYS)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
            raise wrong(key, f"{key} is a number of USD per million tokens, not {value!r}")
        rates[_KEYS[key]] = float(value)
    if "input_mtok" not in rates and "output_mtok" not in rates:
        raise wrong("model", "a price names at least input or output")
    since = table.get("since")
    if isinstance(since, date) and not isinstance(since, datetime):
        since = datetime.combine(since, time())
    if not isinstance(since, (datetime, type(None))):
        raise wrong("since", "since is a day, as 2026-01-31, without quotation marks")
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=timezone.utc)
    return OwnPrice(table["model"], table.get("provider", "*"), since, rates)


def _line(text: str, block: int, key: str) -> int:
    """The line of a key in the n-th `[[price]]` (0: before all of them), or of its header; TOML's parser drops it."""
    seen = begin = 0
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[\[\s*[\"']?price", line):
            seen += 1
            begin = number if seen == block else begin
        if (seen == block or block == 0) and re.match(rf"\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]", line):
            return number
    return begin or 1
