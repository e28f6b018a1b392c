"""Templates to HTML. Every value in a template passes `shown` and is escaped, without exception."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup as Markup

from ..core import formatting

_HERE = Path(__file__).parent
STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
STATIC = {
    path.name: (path.read_bytes(), STATIC_TYPES[path.suffix])
    for path in sorted((_HERE / "static").iterdir())
    if path.suffix in STATIC_TYPES
}
"""The page's own files: name -> content and media type."""
STATIC_VERSION = hashlib.sha256(b"".join(content for content, _ in STATIC.values())).hexdigest()[:12]
"""Part of their URL, so that a browser may cache them forever."""


def _finalize(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return formatting.shown(value)


def _exact(value: str | None) -> Markup:
    """A value that a form sends back to the server: unchanged, invisible characters as HTML entities."""
    # Lone surrogates cannot be sent back: they are not UTF-8.
    escaped = Markup.escape((value or "").encode("utf-8", "replace").decode())
    return Markup(formatting.UNSEEN.sub(lambda match: f"&#{ord(match[0])};", escaped))


def note(words: str) -> str:
    """A notice as HTML, for a page that fails after its first part was sent."""
    return str(Markup('<p class="notice" role="alert">{}</p>').format(formatting.shown(words)))


def link(path: str, query: str | Mapping[str, str | None] = "") -> str:
    """A URL of the page: `link("/trace", {"id": "x"})`; values that are None are omitted."""
    if not isinstance(query, str):
        query = urlencode({key: value for key, value in query.items() if value is not None}, errors="replace")
    return f"{path}?{query}" if query else path


def to_hits(text: str) -> str:
    """The fragment that makes a browser highlight the words of the search and scroll to the first of them (text
    fragments, WICG). Other browsers just open the page."""
    words = (quote(word, safe="", errors="replace").replace("-", "%2D") for word in text.split()[:_MARKED_WORDS])
    found = "&".join(f"text={word}" for word in words)
    return f"#:~:{found}" if found else ""


_MARKED_WORDS = 8


def environment() -> Environment:
    """Jinja2 with our filters. Templates of the package only."""
    found = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(
        count=formatting.count,
        short=formatting.short,
        money=formatting.money,
        seconds=formatting.seconds,
        iso=formatting.iso,
        stretch=formatting.stretch,
        json=formatting.pretty_json,
        exact=_exact,
        to_hits=to_hits,
        clock=lambda epoch: formatting.clock(epoch, time.time()),
    )
    found.globals.update(link=link, share=formatting.share, static=lambda name: f"/static/{STATIC_VERSION}/{name}")
    return found
