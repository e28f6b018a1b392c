"""The local store on a full disk, or locked by another process: what fits is kept, and the cause is named."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

CALL = """
import os, resource
import posthog_autoinstrument
from openai import OpenAI
client = OpenAI()
def call(text):
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.db"


def stored(store: Path) -> list[str]:
    with sqlite3.connect(store) as connection:
        bodies = [json.loads(body) for (body,) in connection.execute("SELECT body FROM events")]
    connection.close()
    return sorted(body["properties"]["$ai_input"][0]["content"][:10] for body in bodies)


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
def test_of_a_batch_that_does_not_fit_what_fits_is_kept(run_program, store: Path) -> None:
    ran = run_program(
        CALL
        + """
call("first")
posthog_autoinstrument.flush(60)
limit = os.path.getsize(os.environ["POSTHOG_AUTOINSTRUMENT_DB"]) + 200_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
call("a large one" + "x" * 1_000_000)
for number in range(5): call(f"small {number}")
""",
        token=False,
        env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600"},
    )
    assert ran.returncode == 0
    assert stored(store) == ["first", *(f"small {number}" for number in range(5))]
    lost = ran.stderr.splitlines()[-1]
    assert "1 event was lost" in lost
    assert str(store) in lost


@pytest.mark.parametrize("interval", ["0.05", "3600"], ids=["while it is tried", "at the end"])
def test_a_store_that_is_locked_at_the_end_is_named(run_program, store: Path, interval: str) -> None:
    run_program(CALL + "call('first')\n", token=False)
    with sqlite3.connect(store, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        ran = run_program(
            CALL + "call('second')\nimport time\ntime.sleep(0.5)\n",
            token=False,
            env={"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": interval},
        )
        other.execute("ROLLBACK")
    other.close()
    assert ran.returncode == 0
    lost = ran.stderr.splitlines()[-1]
    assert "1 event was lost" in lost
    assert f"{store} is locked by another process" in lost
    assert stored(store) == ["first"]
