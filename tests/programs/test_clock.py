"""Wall time: what an event says, and a host that stops the clock. Waiting in the agent never depends on it."""

from __future__ import annotations

import datetime

from freezegun import freeze_time
from support import calls

CHAT = calls.CHAT.arguments


def test_timestamp_and_uuid_are_those_of_the_end_of_the_call(client, captured):
    with freeze_time("2026-01-02T03:04:05.678Z"):
        client.chat.completions.create(**CHAT)
    (event,) = captured(1)
    assert event["timestamp"] == "2026-01-02T03:04:05.678000+00:00"
    # UUID version 7 (RFC 9562): the first 48 bits are milliseconds since 1970.
    milliseconds = int(event["uuid"].replace("-", "")[:12], 16)
    ended = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=datetime.timezone.utc)
    assert milliseconds == ended.timestamp() * 1000
    assert event["uuid"][14] == "7"
    assert event["uuid"][19] in "89ab"


def test_a_clock_that_goes_back_gives_no_negative_latency(client, captured):
    with freeze_time("2026-01-02") as clock:
        stream = client.chat.completions.create(**CHAT, stream=True)
        clock.move_to("2026-01-01")
        list(stream)
    (event,) = captured(1)
    assert event["timestamp"].startswith("2026-01-01T00:00:00")
    assert event["properties"]["$ai_latency"] >= 0


def test_a_program_that_stops_the_clock_is_delivered_and_ends(run_program):
    ran = run_program(
        """
        from freezegun import freeze_time
        from openai import OpenAI  # before: openai 1.30 cannot be imported while freezegun stands in for date
        freezer = freeze_time("2020-02-02")
        freezer.start()
        OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
        """,
        timeout_s=30,
    )
    assert ran.returncode == 0, ran.stderr
    (event,) = ran.events
    assert event["timestamp"].startswith("2020-02-02T00:00:00")
    assert event["properties"]["$ai_latency"] >= 0
