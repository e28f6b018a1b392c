"""The local store and its exporter."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export.local import LocalExporter
from posthog_autoinstrument.settings.config import default_path
from posthog_autoinstrument.store import database
from posthog_autoinstrument.store.columns import make_row
from posthog_autoinstrument.store.database import Store, StoreError
from posthog_autoinstrument.store.retention import prune
from posthog_autoinstrument.store.schema import Row
from posthog_autoinstrument.store.summary import EventSummary

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.db"


def row(number: int, trace: str = "t", epoch: float | None = None, size: int = 0) -> Row:
    epoch = time.time() + number if epoch is None else epoch
    when = datetime.fromtimestamp(epoch, timezone.utc).isoformat()
    properties = {"trace": trace, "text": "x" * size}
    body = {"event": "e", "number": number, "timestamp": when, "distinct_id": "user", "properties": properties}
    return make_row(EncodedEvent(f"uuid-{number}", "e", json.dumps(body).encode()), summarise)


def numbers(path: Path, **which: Any) -> list[int]:
    with Store(path) as store:
        return [event["number"] for event in store.read(**which)]


def summarise(event: dict[str, Any]) -> EventSummary:
    return EventSummary(
        time=event["timestamp"], kind="generation", model="gpt-5", trace=event["properties"]["trace"], is_error=True
    )


def event(number: int, size: int = 0, when: str = "2026-11-23T12:00:00.500Z") -> EncodedEvent:
    body = {"event": "e", "uuid": f"u{number}", "timestamp": when, "distinct_id": "d"}
    return EncodedEvent(
        f"u{number}", "e", json.dumps({**body, "properties": {"trace": "t1", "text": "x" * size}}).encode()
    )


def test_events_come_back_oldest_first(path: Path) -> None:
    with Store(path) as store:
        now = time.time()
        assert store.add([row(3, epoch=now + 3), row(1, "other", epoch=now + 1), row(2, epoch=now + 2)]) == 3
        assert store.add([row(1), row(4, epoch=now + 4)]) == 1
        assert store.count() == 4
    assert numbers(path) == [1, 2, 3, 4]
    assert numbers(path, last=2) == [3, 4]
    assert numbers(path, trace_id="other") == [1]
    assert numbers(path, after=now + 2.5) == [3, 4]


def test_traces_are_found_by_their_end(path: Path) -> None:
    with Store(path) as store:
        store.add([row(1, "abc-1"), row(2, "xyz-1"), row(3, "1")])
        assert store.traces_ending("c-1") == ["abc-1"]
        assert sorted(store.traces_ending("-1")) == ["abc-1", "xyz-1"]
        assert store.traces_ending("1") == ["1"]
        assert store.traces_ending("nope") == []


@posix
def test_file_and_directory_are_private(path: Path) -> None:
    with Store(path) as store:
        store.add([row(1)])
        modes = [stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()]
    assert modes
    assert set(modes) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@posix
def test_an_existing_directory_keeps_its_mode_and_an_open_file_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "events.db").touch(mode=0o644)
    Store(tmp_path / "events.db").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "events.db").stat().st_mode) == 0o600


@posix
def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        Store(tmp_path / "link.db")
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_not_a_file_of_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a file"):
        Store(tmp_path)

    text = tmp_path / "text.db"
    text.write_bytes(b"not a database at all " * 100)
    with pytest.raises(StoreError, match=r"not a .*SQLite database"):
        Store(text)
    assert text.read_bytes() == b"not a database at all " * 100

    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store(foreign)
    assert foreign.read_bytes() == before

    with pytest.raises(StoreError, match=r"cannot use .*: Not a directory"):
        Store(text / "events.db")


def test_a_newer_format_is_refused(path: Path) -> None:
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match=r"newer version.*99"):
        Store(path)


def test_a_failed_open_leaves_the_store_usable_for_others(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Store(tmp_path)
    done = threading.Thread(target=lambda: Store(path).close())
    done.start()
    done.join(10)
    assert path.exists()


def test_old_rows_go(path: Path) -> None:
    with Store(path) as store:
        store.add([row(1, epoch=time.time() - 31 * 86_400), row(2, epoch=time.time() - 29 * 86_400)])
        assert prune(store) == 1
    assert numbers(path) == [2]


def test_the_file_stays_bounded_and_loses_its_oldest_rows(path: Path) -> None:
    limit = 2_000_000
    with Store(path) as store:
        for start in range(0, 400, 20):
            store.add([row(number, size=20_000) for number in range(start, start + 20)])
        assert store.used_bytes() > limit
        deleted = prune(store, max_bytes=limit)
        assert store.used_bytes() <= limit
    kept = numbers(path)
    assert kept == list(range(deleted, 400))
    assert len(kept) > 60
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= limit * 1.1


def test_several_processes_write_at_once(path: Path) -> None:
    program = """
import sys
from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.store.columns import make_row, summary
from posthog_autoinstrument.store.database import Store
path, name = sys.argv[1:]
for n in range(25):
    with Store(path, 60) as store:
        store.add([make_row(EncodedEvent(f"{name}-{n}-{i}", "e", b"{}"), summary) for i in range(4)])
"""
    root = Path(database.__file__).parent.parent
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
    writers = [
        subprocess.Popen([sys.executable, "-c", program, path, name], cwd=root, env=environ, stderr=subprocess.PIPE)
        for name in "abcd"
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=100)
        assert (writer.returncode, errors) == (0, b"")
    with Store(path) as store:
        assert store.count() == 400


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_writes_with_its_own_connection(path: Path) -> None:
    with Store(path) as store:
        store.add([row(1)])
        child = os.fork()
        if child == 0:
            status = 1
            try:
                try:
                    store.add([row(9)])
                except StoreError:
                    status = 0
                store.close()
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        store.add([row(2)])

    child = os.fork()
    if child == 0:
        status = 1
        try:
            with Store(path) as own:
                own.add([row(3)])
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert numbers(path) == [1, 2, 3]


def test_the_sink_stores_events_with_their_columns(path: Path) -> None:
    exporter = LocalExporter(str(path), summarise)
    assert exporter.send([event(1), event(2)], 5).kind == "delivered"
    assert exporter.send([event(2), event(3)], 5).kind == "delivered"
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT uuid, timestamp, trace_id, model, is_error, body FROM events").fetchall()
    connection.close()
    assert [values[0] for values in rows] == ["u1", "u2", "u3"]
    assert rows[0][1:5] == ("2026-11-23T12:00:00.500000+00:00", "t1", "gpt-5", 1)
    assert json.loads(rows[0][5]) == json.loads(event(1).body)
    exporter.close()


def test_the_sink_keeps_the_file_bounded(path: Path) -> None:
    exporter = LocalExporter(path, summarise, max_bytes=500_000)
    now = datetime.now(timezone.utc).isoformat()
    for number in range(40):
        assert exporter.send([event(number, 50_000, now)], 5).kind == "delivered"
    assert path.stat().st_size <= 700_000
    with Store(path) as store:
        assert 3 < store.count() < 12


def test_the_sink_says_what_is_wrong(path: Path, tmp_path: Path) -> None:
    assert LocalExporter(path, summarise).send([EncodedEvent("u", "e", b"[]")], 5).kind == "invalid"
    refused = LocalExporter(tmp_path, summarise).send([event(1)], 5)
    assert (refused.kind, refused.detail) == ("stopped", f"{tmp_path} is not a file")

    Store(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    locked = LocalExporter(path, summarise).send([event(1)], 0.05)
    assert locked.kind == "retry"
    assert "locked" in locked.detail
    other.execute("ROLLBACK")
    other.close()
    assert LocalExporter(path, summarise).send([event(1)], 5).kind == "delivered"


def test_a_full_disk_is_retried(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(path).close()
    add = Store.add

    def add_on_a_small_disk(self: Store, rows: Any) -> int:
        self._db.execute("PRAGMA max_page_count = 1")  # SQLite's own way to meet SQLITE_FULL
        return add(self, rows)

    monkeypatch.setattr(Store, "add", add_on_a_small_disk)
    result = LocalExporter(path, summarise).send([event(1, 100_000)], 5)
    assert result.kind == "retry"
    assert "full" in result.detail


@pytest.mark.parametrize(
    ("state_home", "platform", "expected"),
    [
        ("/state", "linux", "/state/posthog-autoinstrument/events.db"),
        ("relative", "linux", "/home/me/.local/state/posthog-autoinstrument/events.db"),
        (None, "linux", "/home/me/.local/state/posthog-autoinstrument/events.db"),
        ("", "darwin", "/home/me/Library/Application Support/posthog-autoinstrument/events.db"),
        (None, "win32", "/home/me/AppData/Local/posthog-autoinstrument/events.db"),
    ],
)
@posix
def test_the_default_place(state_home: str | None, platform: str, expected: str) -> None:
    assert str(default_path(state_home, "/home/me", platform)) == expected


def test_the_size_of_the_store_is_a_setting(path: Path) -> None:
    from posthog_autoinstrument.export import destination
    from posthog_autoinstrument.settings import config

    settings = config.Config(local=True, db=str(path), store_max_mb=1)
    exporter = destination.choose(settings)
    now = datetime.now(timezone.utc).isoformat()
    for number in range(60):
        assert exporter.send([event(number, 50_000, now)], 5).kind == "delivered"
    with Store(path) as store:
        assert 500_000 < store.used_bytes() <= 1_000_000


@pytest.mark.parametrize(
    ("config_home", "platform", "expected"),
    [
        ("/conf", "linux", "/conf/posthog-autoinstrument/prices.toml"),
        ("relative", "linux", "/home/me/.config/posthog-autoinstrument/prices.toml"),
        (None, "darwin", "/home/me/Library/Application Support/posthog-autoinstrument/prices.toml"),
        (None, "win32", "/home/me/AppData/Roaming/posthog-autoinstrument/prices.toml"),
    ],
)
@posix
def test_the_default_place_of_prices(config_home: str | None, platform: str, expected: str) -> None:
    from posthog_autoinstrument.settings.config import default_prices_path

    assert str(default_prices_path(config_home, "/home/me", platform)) == expected
