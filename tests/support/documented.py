"""The tables of docs/events.md, against which every event is held that the tests see."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .paths import ROOT

PAGE = ROOT / "docs" / "events.md"

TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
    "JSON": (str, int, float, bool, list, dict),
}
_ROW = re.compile(r"^\| `([$\w]+)` \| ([\w ]+) \| (\w+) \| (.+) \| (.*) \| (.+) \|$", re.MULTILINE)
_KIND = re.compile(r"^\| ([A-Z]) \| `([$\w]+)` \|", re.MULTILINE)


@dataclass(frozen=True)
class Property:
    """A row: which events can have the property, its type and what is left of it in privacy mode."""

    name: str
    events: frozenset[str]
    type: str
    meaning: str
    absent: str
    private: str

    def fits(self, value: Any) -> bool:
        """Whether a value is of the type, or null."""
        if isinstance(value, bool):
            return bool in TYPES[self.type]
        return value is None or isinstance(value, TYPES[self.type])


@functools.cache
def properties() -> dict[str, Property]:
    """The rows, by name. Raises where the page has a row that is not of this form, or one twice."""
    text = PAGE.read_text()
    kinds = dict(_KIND.findall(text))
    found: dict[str, Property] = {}
    for name, letters, type_name, meaning, absent, private in _ROW.findall(text):
        assert name not in found, name
        assert type_name in TYPES, f"{name}: {type_name} is no type"
        events = kinds.values() if letters == "all" else [kinds[letter] for letter in letters.split()]
        found[name] = Property(name, frozenset(events), type_name, meaning, absent, private)
    assert len(found) == len(re.findall(r"^\| `[$\w]+`(?: \|.*){4}", text, re.MULTILINE)), "a row that cannot be read"
    return found


def undocumented(event: dict[str, Any]) -> list[str]:
    """What an event carries and the page does not name, or names for other events or as another type.

    Names that are neither PostHog's nor ours are the program's own.
    """
    found = []
    for name, value in event["properties"].items():
        row = properties().get(name)
        if row is None:
            if name.startswith(("$", "posthog_autoinstrument_")):
                found.append(f"{name} of {event['event']} is not on the page")
        elif event["event"] not in row.events:
            found.append(f"{name} is on {event['event']}")
        elif not row.fits(value):
            found.append(f"{name} of {event['event']} is {str(value)[:100]!r}, not {row.type}")
    return found


def check_documented(events: Sequence[dict[str, Any]]) -> None:
    """Each property of these events is in docs/events.md, with this type, for this kind of event."""
    problems = {problem: None for event in events for problem in undocumented(event)}
    assert not problems, f"docs/events.md: {'; '.join(problems)}"
