"""Shipping a local store to PostHog: progress, interruption, and the command."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.programs import TOKEN
from support.stored import NOON, call, write

from posthog_autoinstrument.cli import send
from posthog_autoinstrument.settings import config, loader
from posthog_autoinstrument.store.database import StoreError
from posthog_autoinstrument.store.queries import Queries
from posthog_autoinstrument.store.selection import Selection
from posthog_autoinstrument.testing import PostHogServer
from posthog_autoinstrument.testing.posthog_server import Fault
from posthog_autoinstrument.viewer.upload import NoProjectError, Progress, Upload, UploadResult


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "events.db"
    write(path, [call(NOON + number) for number in range(250)])
    return path


@pytest.fixture
def settings(posthog_server: PostHogServer) -> Iterator[config.Config]:
    yield loader.load({"POSTHOG_PROJECT_TOKEN": TOKEN, "POSTHOG_HOST": posthog_server.url})
    loader.load()  # `load` also sets how failures behave


def test_progress_is_told_batch_by_batch(path: Path, settings: config.Config, posthog_server: PostHogServer) -> None:
    seen: list[Progress] = []
    upload = Upload(path, settings, seen.append)
    assert upload.count() == 250
    assert upload.run() == UploadResult(sent=250, left=0)
    assert seen == [Progress(sent, 250) for sent in (0, 100, 200, 250)]
    assert len({event["uuid"] for event in posthog_server.events}) == 250
    assert Upload(path, settings).run() == UploadResult(0, 0)


def test_why_nothing_moves_is_told(path: Path, settings: config.Config, posthog_server: PostHogServer) -> None:
    posthog_server.fail_next(Fault(503))
    seen: list[Progress] = []
    assert Upload(path, settings, seen.append).run().left == 0
    assert [progress.waiting for progress in seen if progress.waiting] == ["503 from 127.0.0.1: not now"]


def test_what_posthog_refuses_stops_it(path: Path, settings: config.Config, posthog_server: PostHogServer) -> None:
    posthog_server.fail_next(Fault(401))
    result = Upload(path, settings).run()
    assert (result.sent, result.left) == (0, 250)
    assert "401" in result.stopped


def test_a_shipment_that_waits_can_be_cancelled_and_goes_on_later(
    path: Path, settings: config.Config, posthog_server: PostHogServer
) -> None:
    posthog_server.fail_next(*[Fault(503, {"retry-after": "600"})] * 2)  # the second one for the last attempt
    waiting = threading.Event()
    upload = Upload(path, settings, lambda progress: waiting.set() if progress.waiting else None)
    ended: list[UploadResult] = []
    thread = threading.Thread(target=lambda: ended.append(upload.run()))
    thread.start()
    assert waiting.wait(20)
    upload.cancel()
    thread.join(20)
    assert not thread.is_alive()
    assert ended == [UploadResult(0, 250, "cancelled", ended[0].lost)]
    assert Upload(path, settings).run() == UploadResult(250, 0)
    assert len({event["uuid"] for event in posthog_server.events}) == 250


def test_two_shipments_at_once_send_nothing_that_is_lost(
    path: Path, settings: config.Config, posthog_server: PostHogServer
) -> None:
    threads = [threading.Thread(target=Upload(path, settings).run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({event["uuid"] for event in posthog_server.events}) == 250
    assert Upload(path, settings).count() == 0


def test_what_cannot_begin_is_said(path: Path, tmp_path: Path, settings: config.Config) -> None:
    with pytest.raises(NoProjectError, match="POSTHOG_PROJECT_TOKEN"):
        Upload(path, config.Config())
    with pytest.raises(StoreError, match="is not a file"):
        Upload(tmp_path, settings).run()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_command_shows_progress_on_a_terminal(path: Path, settings: config.Config) -> None:
    stdout, stderr = io.StringIO(), Terminal()
    assert send.main(["--db", str(path)], settings, stdout, stderr) == 0
    assert stdout.getvalue() == "250 sent, 0 left\n"
    shown = re.findall(r"\[([#.]{30})\] (\S+) of (\S+) events", stderr.getvalue())
    assert [(sent, total) for _, sent, total in shown] == [
        ("0", "250"), ("100", "250"), ("200", "250"), ("250", "250"),
    ]  # fmt: skip
    assert shown[1][0] == "#" * 12 + "." * 18
    assert stderr.getvalue().endswith("\n")


def test_the_store_is_sent_where_there_is_a_spool_too(
    path: Path, tmp_path: Path, posthog_server: PostHogServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spool").mkdir()
    settings = loader.load(
        {"POSTHOG_PROJECT_TOKEN": TOKEN, "POSTHOG_HOST": posthog_server.url, "POSTHOG_SPOOL": str(tmp_path / "spool"),
         "POSTHOG_AUTOINSTRUMENT_DB": str(path)}
    )  # fmt: skip
    try:
        out = io.StringIO()
        assert send.main(["--db", "--dry-run"], settings, out, sys.stderr) == 0
        assert out.getvalue() == "250 to send\n"
        with pytest.raises(SystemExit):
            send.main([str(path), "--db", str(path)], settings, out, sys.stderr)
        assert "PATH and --db" in capsys.readouterr().err
        out = io.StringIO()
        assert send.main(["--db"], settings, out, sys.stderr) == 0
        assert out.getvalue() == "250 sent, 0 left\n"
    finally:
        loader.load()


def test_new_events_are_not_taken_for_sent_ones_that_were_deleted(
    path: Path, settings: config.Config, posthog_server: PostHogServer
) -> None:
    """A row's number is given again when the last row is gone."""
    added = False

    def delete_meanwhile(progress: Progress) -> None:
        nonlocal added
        if progress.waiting and not added:
            added = True
            with Queries(path) as queries:
                queries.delete_all()
            write(path, [call(NOON + number, user="new") for number in range(300)])

    posthog_server.fail_next(Fault(503))
    Upload(path, settings, delete_meanwhile).run()
    assert added
    Upload(path, settings).run()
    with Queries(path) as queries:
        stored = {event["uuid"] for event in queries.export(Selection())}
    assert len(stored) == 300
    assert stored <= {event["uuid"] for event in posthog_server.events}
