"""A store or spool that another user owns, or could write, is refused: never used, never followed, never repaired."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.programs import Ran, environment

from posthog_autoinstrument.store.database import Store, StoreError
from posthog_autoinstrument.testing import OpenAIServer, PostHogServer

OTHER_UID = 54321
CALL = "import openai; openai.OpenAI().chat.completions.create(model='m', messages=[{'role': 'user', 'content': 'x'}])"
Run = Callable[..., Ran]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")


def a_store(path: Path) -> Path:
    """A sound database, as an earlier run would have made it."""
    Store(path).close()
    return path


def plant_0666(path: Path) -> None:
    a_store(path).chmod(0o666)


def plant_group(path: Path) -> None:
    a_store(path).chmod(0o660)


def plant_foreign(path: Path) -> None:
    os.chown(a_store(path), OTHER_UID, OTHER_UID)


def plant_link(path: Path) -> None:
    path.symlink_to(a_store(path.with_name("theirs.db")))


def plant_wal(path: Path) -> None:
    a_store(path)
    path.with_name(path.name + "-wal").symlink_to(path.parent / "target")


def plant_folder(path: Path) -> None:
    path.parent.chmod(0o777)


PLANTED = [
    pytest.param(plant_0666, "can be written by other users (mode 0666)", id="0666"),
    pytest.param(plant_group, "can be written by other users (mode 0660)", id="0660"),
    pytest.param(plant_foreign, f"belongs to another user (uid {OTHER_UID}", id="another's", marks=root),
    pytest.param(plant_link, "is a symbolic link", id="a link"),
    pytest.param(plant_wal, "-wal is a symbolic link", id="a link for the log"),
    pytest.param(plant_folder, "can be written by everybody (mode 0777)", id="a folder of everybody's"),
]


def state_of(folder: Path) -> dict[str, Any]:
    """All files below: owner, mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        one = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(one.st_mode) else b""
        found[path.name] = (one.st_uid, stat.S_IMODE(one.st_mode), content)
    return found


@pytest.mark.parametrize(("plant", "reason"), PLANTED)
def test_a_store_is_refused_with_a_line(
    plant: Callable[[Path], None], reason: str, tmp_path: Path, run_program: Run
) -> None:
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    path = place / "events.db"
    plant(path)
    before = state_of(place)
    ran = run_program(CALL, token=False, env={"POSTHOG_AUTOINSTRUMENT_DB": str(path)})
    assert (ran.returncode, ran.stdout) == (0, "")
    assert reason in ran.stderr
    assert str(place) in ran.stderr
    assert state_of(place) == before


@pytest.mark.parametrize("command", ["events", "stats", "send", "view", "doctor"])
def test_commands_refuse_it_too(
    command: str, tmp_path: Path, openai_server: OpenAIServer, posthog_server: PostHogServer
) -> None:
    path = tmp_path / "events.db"
    plant_0666(path)
    arguments = ["view", "--port", "0"] if command == "view" else [command]
    done = subprocess.run(
        [sys.executable, "-m", "posthog_autoinstrument", *arguments],
        env=environment(openai_server, posthog_server) | {"POSTHOG_AUTOINSTRUMENT_DB": str(path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout if command == "doctor" else done.stderr
    assert f"{path} can be written by other users (mode 0666)" in said
    assert command == "doctor" or done.returncode in (1, 2), done.returncode
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        pytest.param(lambda folder: folder.chmod(0o777), "can be written by other users (mode 0777)", id="0777"),
        pytest.param(
            lambda folder: os.chown(folder, OTHER_UID, OTHER_UID), "belongs to another user", id="another's", marks=root
        ),
    ],
)
def test_a_spool_is_refused_and_calls_wait_in_memory(
    plant: Callable[[Path], None], reason: str, tmp_path: Path, run_program: Run
) -> None:
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    plant(folder)
    ran = run_program(CALL, env={"POSTHOG_SPOOL": str(folder)})
    assert len(ran.events) == 1
    assert ran.stderr.count("\n") == 1
    assert f"{folder} {reason}" in ran.stderr
    assert "calls wait in memory instead" in ran.stderr
    assert list(folder.iterdir()) == []


@root
def test_what_another_user_puts_into_the_spool_is_left_alone(tmp_path: Path, run_program: Run) -> None:
    folder = tmp_path / "spool"
    killed = CALL + "\nimport os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    run_program(killed, env={"POSTHOG_SPOOL": str(folder), "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600"})
    (path,) = folder.glob("outbox-*.db")
    os.chown(path, OTHER_UID, OTHER_UID)
    ran = run_program(CALL, env={"POSTHOG_SPOOL": str(folder)})
    assert len(ran.events) == 1
    assert f"{path} belongs to another user (uid {OTHER_UID}" in ran.stderr
    assert path.stat().st_uid == OTHER_UID


@root
def test_a_process_without_privileges_uses_no_store_that_root_has_opened_to_all(tmp_path: Path) -> None:
    """The case of the report: events.db is there already, made by somebody else, for everybody to write."""
    place = Path("/tmp") / f"ownership-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        path = place / "events.db"
        plant_0666(path)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgid(OTHER_UID)
                os.setuid(OTHER_UID)
                try:
                    Store(path)
                    os.write(writer, b"used")
                except StoreError as error:
                    os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as said:
            assert said.read().startswith(f"{path} belongs to another user (uid 0; this process is uid {OTHER_UID})")
    finally:
        for one in place.iterdir():
            one.unlink()
        place.rmdir()


def test_a_folder_with_the_sticky_bit_is_fine(tmp_path: Path, run_program: Run) -> None:
    place = tmp_path / "state"
    place.mkdir()
    place.chmod(0o1777)
    path = place / "events.db"
    ran = run_program(CALL, token=False, env={"POSTHOG_AUTOINSTRUMENT_DB": str(path)})
    assert ran.returncode == 0
    with sqlite3.connect(path) as store:
        assert store.execute("SELECT count(*) FROM events").fetchone() == (1,)
    store.close()
