"""Values as people read them: numbers with units, times of this machine, and text without anything that acts.

What a model or a user wrote may hold characters that are not seen but do something: escape sequences, characters that
turn the direction of what follows, ones that nobody sees but a model reads. They are shown by name. What HTML would
obey is escaped later, by the templates.
"""

from __future__ import annotations

import json
import re
import unicodedata
from datetime import datetime, timezone
from typing import Any

UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters but tab and line breaks
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction marks, of no width
    "\U000e0000-\U000e0fff"  # tags and variation selectors: letters that models read and nobody sees
    "\ud800-\udfff"  # halves of a pair
    "]|\r(?!\n)"
)


def shown(text: str) -> str:
    """The text with what is not seen shown: `␛` for an escape, `⟨U+202E⟩` for what turns the direction."""
    if text.isascii() and text.isprintable():
        return text
    return UNSEEN.sub(_name, text)


def _name(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"⟨U+{code:04X}⟩"


def clean(text: str) -> str:
    """One line without anything a terminal obeys: control characters, escape sequences, direction marks."""
    if text.isascii() and text.isprintable():
        return text
    kept = (" " if char.isspace() else char for char in text if char.isspace() or not _is_control(char))
    return " ".join("".join(kept).split())


def _is_control(char: str) -> bool:
    if char == "\u200d":  # joins the parts of one emoji
        return False
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def pretty_json(value: Any) -> str:
    """JSON to read and to copy: what is not seen is escaped as JSON does it, so the copy is the same value."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], text)


def count(number: int | float | None) -> str:
    """`1,234`; a dash where it is not known."""
    return "—" if number is None else f"{number:,}"


def short(number: int | float) -> str:
    """`987`, `12.3k`, `4.5M`: for places where there is little room."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size * 0.99995:
            return f"{number / size:.3g}{unit}"
    return f"{number:,.3g}"


def money(usd: float | None) -> str:
    """US dollars: `$12.34`, `$0.50`, `$0.00123`, to three digits below a dollar; "unknown", which is not free."""
    if usd is None:
        return "unknown"
    if usd == 0:
        return "$0"
    if abs(usd) >= 0.995:
        return f"${usd:,.2f}"
    digits = f"{usd:.3g}"
    whole, _, decimals = (f"{usd:.12f}".rstrip("0") if "e" in digits else digits).partition(".")
    return f"${whole}.{decimals:0<2}"


def seconds(value: float | None) -> str:
    """`15 ms`, `1.24 s`, `2 min 5 s`; a dash where it is not known."""
    if value is None:
        return "—"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms" if value >= 0.00995 else f"{value * 1000:.2g} ms"
    if value < 59.95:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def share(part: float, whole: float) -> str:
    """`12 %`, `0.3 %`."""
    if not whole:
        return "0 %"
    value = 100 * part / whole
    return f"{value:.0f} %" if value >= 9.95 or value == 0 else f"{value:.1f} %"


_EARLIEST, _LATEST = -62_135_424_000.0, 253_402_128_000.0
"""January 3 of year 1, and December 30 of 9999: a day from where `datetime` ends, in any time zone."""


def local(epoch: float) -> datetime:
    """The time here; of clocks that are far off the earliest or the latest that there is."""
    return datetime.fromtimestamp(min(max(epoch, _EARLIEST), _LATEST))


def clock(epoch: float | None, now: float) -> str:
    """The time of day here, with the day where that is not today."""
    if epoch is None:
        return "—"
    when, today = local(epoch), local(now)
    if when.date() == today.date():
        return f"{when:%H:%M:%S}"
    return f"{when:%b} {when.day}, {when:%H:%M:%S}" if when.year == today.year else f"{when:%Y-%m-%d %H:%M:%S}"


def iso(epoch: float) -> str:
    """ISO 8601 in the time zone of this machine, to the millisecond."""
    return local(epoch).astimezone().isoformat(timespec="milliseconds")


def iso_utc(epoch: float) -> str:
    """ISO 8601 in UTC, to the second."""
    return local(epoch).astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def stretch(step_s: float) -> str:
    """A length of time in words: `5 min`, `6 h`, `1 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if step_s >= size:
            return f"{step_s / size:.3g} {unit}"
    return f"{step_s:.3g} s"
