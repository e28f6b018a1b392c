"""Stores of any size with the demo's calls in them: each run of it at another time, with ids and users of its own."""

from __future__ import annotations

import json
import random
import uuid
from datetime import datetime, timedelta
from pathlib import Path

from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export.local import LocalExporter
from posthog_autoinstrument.store.columns import summary
from posthog_autoinstrument.store.database import Store

CALLS_OF_A_RUN = 8
_NAMES = ("ada", "grace", "edsger", "barbara", "alan", "margaret", "donald", "frances")


def spread(demo: Path, path: Path, runs: int, hours: float, seed: int = 1, users: int = 8) -> None:
    """The calls of the demo's store `runs` times over the last `hours`, in a new store."""
    with Store(demo) as store:
        events = list(store.read())
    ids = {event["uuid"] for event in events}
    for event in events:
        for name, value in event["properties"].items():
            if isinstance(value, str) and name.endswith(("trace_id", "span_id", "session_id", "parent_id")):
                ids.add(value)
    text = json.dumps(events)
    chance = random.Random(seed)
    exporter = LocalExporter(path, summary, max_bytes=2**40)
    batch: list[EncodedEvent] = []
    for place in sorted(chance.random() for _ in range(runs)):
        made = text
        for ident in ids:
            made = made.replace(ident, str(uuid.UUID(int=chance.getrandbits(128), version=4)))
        number = chance.randrange(users)
        for person in ("ada", "grace"):
            name = _NAMES[number % len(_NAMES)] + ("" if number < len(_NAMES) else str(number))
            made = made.replace(f"{person}@example.com", f"{name}@example.com")
            number = (number + 1) % users
        back = timedelta(hours=hours * (1 - place))
        for event in json.loads(made):
            event["timestamp"] = (datetime.fromisoformat(event["timestamp"]) - back).isoformat()
            batch.append(EncodedEvent(event["uuid"], event["event"], json.dumps(event).encode(), (len(batch),)))
        if len(batch) >= 900:
            _write(exporter, batch)
            batch = []
    _write(exporter, batch)


def _write(exporter: LocalExporter, batch: list[EncodedEvent]) -> None:
    if batch:
        result = exporter.send(batch, 60.0)
        assert result.kind == "delivered", result
