"""JSON by pydantic_core where the program has loaded it, as openai has: a third of the standard library's time.

Only where both give the same: what pydantic_core refuses (lone surrogates, invalid UTF-8, deep nesting, no JSON) the
standard library decides. Nothing is imported for it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from . import guard


class _Library(NamedTuple):
    from_json: Callable[[bytes | str], Any]
    to_json: Callable[[Any], bytes]


_library: _Library | None = None
_refused = False
"""pydantic_core is loaded, but is too old or gives other results (`_tried`)."""


def loads(text: bytes | str) -> Any:
    """As `json.loads`: the value, or its ValueError or RecursionError."""
    library = _library or _find()
    if library is not None:
        try:
            return library.from_json(text)
        except (ValueError, TypeError):  # TypeError: a text with lone surrogates
            pass
    return json.loads(text)


def dumps(value: Any) -> bytes | None:
    """`value`, of JSON's own types, as JSON in UTF-8 with null for NaN; None where the standard library is to do it."""
    library = _library or _find()
    if library is not None:
        try:
            return library.to_json(value)
        except (ValueError, TypeError):
            pass
    return None


def _find() -> _Library | None:
    global _library, _refused
    module = sys.modules.get("pydantic_core")
    if _refused or not hasattr(module, "to_json"):  # not loaded, or half
        return None
    _library = guard.quietly(_tried, module)
    _refused = _library is None
    return _library


def _tried(module: Any) -> _Library | None:
    """The functions, where they give the same results as the standard library; else None."""

    def from_json(text: bytes | str) -> Any:
        # Without `cache_strings`, which came with 2.18, every short text would stay in a cache of the process.
        return read(text, cache_strings="keys")

    def to_json(value: Any) -> bytes:
        return write(value, inf_nan_mode="null")  # type: ignore[no-any-return]

    read, write = module.from_json, module.to_json
    text = b'{"a": [1, -0.0, 1e400, NaN, 123456789012345678901234567890, null, true, "\\u00e9"], "a\\n": 0.1}'
    read_back = from_json(text)
    same = repr(read_back) == repr(json.loads(text))
    read_back["a"][3] = math.nan
    read_back["a"][2] = 0
    body = to_json(read_back)
    same = same and body == b'{"a":[1,-0.0,0,null,123456789012345678901234567890,null,true,"\xc3\xa9"],"a\\n":0.1}'
    return _Library(from_json, to_json) if same else None
