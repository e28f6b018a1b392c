"""Marks: short texts that are looked for in long bytes, on the program's thread.

Python finds a byte in 100 KB in 1 us and a text in 50. So a mark is looked for by a rare byte of its own and the two
bytes before it, and only what these let stand is looked for whole. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from operator import itemgetter

_RARE = b'JzA_-".'
"""Bytes that most prose and code have few of, the rarest first."""
_SHORT = 256
"""In so many bytes one expression finds them as soon."""
_AS_DEAR = 240
"""To look at what stands before one byte takes as long as to look for one text in so many bytes."""
_last_2 = itemgetter(slice(-2, None))

_Mark = tuple[bytes, "re.Pattern[bytes] | None"]


class Marks:
    """Texts, each alone or with an expression that must match where it stands, too."""

    def __init__(self, marks: Mapping[bytes, re.Pattern[bytes] | None]) -> None:
        """Raises ValueError for a mark that has no rare byte after two others."""
        self._any = re.compile(b"|".join(map(re.escape, marks)))
        self._groups: dict[bytes, dict[bytes, list[_Mark]]] = {}
        for mark in marks.items():
            rare = next((bytes((byte,)) for byte in _RARE if byte in mark[0][2:]), None)
            if rare is None:
                raise ValueError(f"{mark[0]!r} has no rare byte after its first two")
            before = _last_2(mark[0].split(rare)[-2])
            self._groups.setdefault(rare, {}).setdefault(before, []).append(mark)

    def in_(self, data: bytes) -> bool:
        """Whether one of them is in `data`."""
        if len(data) <= _SHORT and self._any.search(data) is None:
            return False
        return any(
            _is_in(data, *mark)
            for rare, by_before in self._groups.items()
            if rare in data
            for marks in _suspects(data.split(rare), len(data), by_before)
            for mark in marks
        )


def _suspects(parts: list[bytes], size: int, by_before: dict[bytes, list[_Mark]]) -> Iterable[list[_Mark]]:
    """The marks that may be in `size` bytes, which their rare byte parts so."""
    if len(parts) * _AS_DEAR > len(by_before) * size:
        return by_before.values()
    return [by_before[before] for before in by_before.keys() & set(map(_last_2, parts))]


def _is_in(data: bytes, text: bytes, pattern: re.Pattern[bytes] | None) -> bool:
    at = data.find(text)
    while at >= 0:
        if pattern is None or pattern.match(data, at):
            return True
        at = data.find(text, at + 1)
    return False
