"""`posthog-instrument events`: the table, JSON lines, and everything that may be wrong with the store."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support.stored import NOON, call, write
from support.viewing import clean_environment
from support.waiting import wait_until

from posthog_autoinstrument.cli import events as command
from posthog_autoinstrument.cli import terminal
from posthog_autoinstrument.cli.events import print_table
from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export.local import LocalExporter
from posthog_autoinstrument.store.database import Store
from posthog_autoinstrument.store.queries import Queries
from posthog_autoinstrument.store.summary import EventSummary

NOW = datetime.now(timezone.utc)
CALL = EventSummary(
    time=NOW.isoformat(),
    kind="generation",
    model="gpt-4o-mini-2024-07-18",
    input_tokens=1234,
    output_tokens=567,
    latency_s=1.234,
    status=200,
    user="user_12345678",
    trace="0198c3f2-aaaa-7bbb-8ccc-0123456789ab",
    input_text="What is the capital of France?",
    output_text="Paris.",
)


def summarise(event: dict[str, Any]) -> EventSummary:
    found = event["properties"]
    return replace(
        CALL, time=event["timestamp"], trace=found["trace"], input_text=found["text"], user=event["distinct_id"]
    )


def table(*summaries: EventSummary, width: int = 80) -> list[str]:
    out = io.StringIO()
    print_table(summaries, width, out)
    return out.getvalue().splitlines()


def run(*arguments: str, path: Path) -> tuple[int, str, str]:
    out, errors = io.StringIO(), io.StringIO()
    code = command.main(list(arguments), path=path, summarise=summarise, stdout=out, stderr=errors)
    return code, out.getvalue(), errors.getvalue()


def body(number: int, trace: str = "t1", text: str | None = None) -> dict[str, Any]:
    return {
        "event": "e",
        "uuid": f"u{number}",
        "timestamp": NOW.replace(microsecond=number).isoformat(),
        "distinct_id": f"user-{number}",
        "properties": {"trace": trace, "text": text or f"question {number}"},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.db"
    bodies = [body(1), body(2, "trace-two"), body(3, "trace-three", "\x1b]0;owned\x07 \u202etext\x9b31m\x7f")]
    events = [EncodedEvent(found["uuid"], "e", json.dumps(found).encode()) for found in bodies]
    assert LocalExporter(path, summarise).send(events, 5).kind == "delivered"
    return path


# --- the table ---


def test_a_call_is_a_row_and_a_line_of_words() -> None:
    head, row, words = table(CALL)
    assert head.split() == ["TIME", "KIND", "MODEL", "TOKENS", "LATENCY", "STATUS", "USER", "TRACE"]
    local = NOW.astimezone().strftime("%H:%M:%S")
    assert row.split()[:2] == [local, "gen"]
    assert row.split()[3:6] == ["1234→567", "1.23s", "200"]
    assert row.endswith("  …23456789ab")
    assert words == "  in: What is the capital of France? / out: Paris."


@pytest.mark.parametrize("width", [80, 100, 150, 220])
@pytest.mark.parametrize("text", ["x" * 500, "日本語" * 200, "e\u0301" * 300, "👩‍👩‍👧" * 100, "a b\nc\t"])
def test_no_line_is_wider_than_the_terminal(width: int, text: str) -> None:
    long = replace(
        CALL, model=text, user=text, trace=text, session=text, input_text=text, output_text=text, ttft_s=1.5, cost_usd=1
    )
    failed = replace(long, is_error=True, error=text)
    lines = table(CALL, long, failed, width=width)
    assert max(map(terminal.width, lines)) <= width


def test_wide_terminals_show_more_columns() -> None:
    head, row = table(replace(CALL, ttft_s=0.4, cost_usd=0.00123, session="s1"), width=180)
    assert head.split() == (
        "TIME KIND MODEL TOKENS LATENCY TTFT COST STATUS USER TRACE SESSION INPUT OUTPUT".split()  # noqa: SIM905
    )
    assert "gpt-4o-mini-2024-07-18" in row
    assert row.split()[5:7] == ["0.40s", "$0.001230"]
    assert row.endswith("Paris.")


def test_unknown_is_not_zero() -> None:
    unknown = replace(CALL, input_tokens=None, output_tokens=None, latency_s=None, status=None)
    assert table(unknown)[1].split()[3:6] == ["-", "-", "-"]
    assert "0→0" in table(replace(CALL, input_tokens=0, output_tokens=0))[1]
    assert "?→5" in table(replace(CALL, input_tokens=None, output_tokens=5))[1]


def test_private_calls_say_so() -> None:
    private = replace(CALL, input_text=None, output_text=None)
    assert table(private)[2:] == ["  (private)"]
    assert table(replace(private, kind="embedding"))[2:] == ["  (private)"]
    assert table(replace(private, kind="span"))[2:] == []
    failed = replace(private, is_error=True, error="RateLimitError 429")
    assert table(failed)[2:] == ["  in: (private)", "  error: RateLimitError 429"]


def test_errors_show_status_and_text() -> None:
    failed = replace(CALL, is_error=True, status=429, error="slow down", output_text=None)
    assert table(failed)[1].split()[5] == "429"
    assert table(failed)[2:] == ["  in: What is the capital of France?", "  error: slow down"]
    assert table(replace(failed, status=None))[1].split()[5] == "error"
    assert table(failed, width=180)[1].endswith("error: slow down")


def test_anonymous_calls_have_no_user() -> None:
    assert "(anon)" in table(replace(CALL, anonymous=True))[1]


def test_another_day_is_announced() -> None:
    lines = table(replace(CALL, time="2020-01-02T12:00:00Z"), CALL)
    assert lines[1] == "-- 2020-01-02 --"
    assert lines[4] == f"-- {NOW.astimezone().date().isoformat()} --"


def test_nothing_is_no_table() -> None:
    assert table() == []


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    nasty = "".join(map(chr, range(32))) + "\x7f\x80\x9b2J\u202e\u2066\u2028\ud800end"
    lines = table(replace(CALL, model=nasty, user=nasty, trace=nasty, error=nasty, is_error=True, input_text=nasty))
    assert len(lines) == 4
    printed = set("".join(lines))
    assert printed.isdisjoint(nasty[:32] + "\x7f\x80\x9b\u202e\u2066\u2028\ud800")


def test_terminals_that_are_not_unicode_get_something() -> None:
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    print_table([replace(CALL, input_text="日本" * 60)], 80, stdout)
    assert b"1234>567" in raw.getvalue()


# --- the command ---


def test_the_newest_are_shown_oldest_first(path: Path) -> None:
    code, out, errors = run(path=path)
    assert (code, errors) == (0, "")
    assert [line.split()[1:3] for line in out.splitlines() if "in:" in line] == [
        ["question", "1"],
        ["question", "2"],
        ["]0;owned", "text31m"],
    ]
    assert out.isprintable() or set(filter(lambda c: not c.isprintable(), out)) == {"\n"}
    assert "question 2" in run("--last", "2", path=path)[1]
    assert "question 1" not in run("--last", "2", path=path)[1]


def test_twenty_are_shown_unless_asked(path: Path) -> None:
    events = [EncodedEvent(f"u{n}", "e", json.dumps(body(n)).encode()) for n in range(10, 40)]
    LocalExporter(path, summarise).send(events, 5)
    assert run(path=path)[1].count("in: ") == 20
    assert run("--last", "100", path=path)[1].count("in: ") == 33
    assert len(run("--json", path=path)[1].splitlines()) == 33


def test_json_lines_are_whole_events(path: Path) -> None:
    code, out, _ = run("--json", path=path)
    assert code == 0
    lines = out.splitlines()
    assert [json.loads(line) for line in lines][:2] == [body(1), body(2, "trace-two")]
    assert out.isascii()
    assert "\x1b" not in out
    assert "\x7f" not in out


def test_a_trace_is_named_by_its_id_or_its_end(path: Path) -> None:
    for wanted in ("trace-two", "two", "…-two"):
        assert json.loads(run("--json", "--trace", wanted, path=path)[1]) == body(2, "trace-two")
    code, out, errors = run("--trace", "nope", path=path)
    assert (code, out) == (1, "")
    assert errors == f"no trace nope in {path}\n"
    with Store(path) as store:
        assert store.traces_ending("e") == ["trace-three"]


def test_no_store_is_one_line(tmp_path: Path) -> None:
    code, out, errors = run(path=tmp_path / "none.db")
    assert (code, out) == (1, "")
    assert errors.startswith(f"no events yet: {tmp_path}/none.db does not exist")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_is_one_line(tmp_path: Path) -> None:
    Store(tmp_path / "empty.db").close()
    assert run(path=tmp_path / "empty.db") == (0, "", f"no events in {tmp_path}/empty.db\n")


def test_another_file_is_read_with_db_and_refused_when_it_is_none(path: Path, tmp_path: Path) -> None:
    assert "question 1" in run("--db", str(path), path=tmp_path / "none.db")[1]
    text = tmp_path / "text"
    text.write_text("no database " * 100)
    code, out, errors = run("--db", str(text), path=path)
    assert (code, out) == (1, "")
    assert errors.startswith(f"{text} is not")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--last", "0"], ["--last", "x"], ["--nope"]])
def test_wrong_arguments_are_explained(path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments, path=path)
    assert stop.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_a_reader_that_leaves_early_ends_it_quietly(path: Path) -> None:
    events = [EncodedEvent(f"u{n}", "e", json.dumps(body(n, text="x" * 1000)).encode()) for n in range(1000, 2000)]
    LocalExporter(path, summarise).send(events, 5)
    program = """
import sys
from posthog_autoinstrument.cli import events
from posthog_autoinstrument.store.summary import EventSummary
summarise = lambda e: EventSummary(time=e["timestamp"], kind="generation", input_text="x" * 1000, output_text="")
sys.exit(events.main(sys.argv[2:], path=sys.argv[1], summarise=summarise, stdout=sys.stdout))
"""
    root = Path(command.__file__).parent.parent.parent
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
    for arguments in (["--json"], ["--last", "1000"]):
        reading = subprocess.Popen(
            [sys.executable, "-c", program, path, *arguments],
            cwd=root,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert reading.stdout is not None
        assert reading.stderr is not None
        assert reading.stdout.readline()
        reading.stdout.close()
        errors = reading.stderr.read()
        reading.stderr.close()
        assert (reading.wait(60), errors) == (0, b"")


# --- as it comes ---


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Callable[..., Follower]]:
    started: list[Follower] = []

    def start(*arguments: str) -> Follower:
        started.append(Follower(tmp_path, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()


class Follower:
    """`events --follow` of a store that may come later."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.path = folder / "later" / "events.db"
        self._out, self._errors = folder / "out", folder / "errors"
        command = [sys.executable, "-m", "posthog_autoinstrument", "events", "--db", str(self.path), *arguments]
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            self._child = subprocess.Popen(command, stdout=out, stderr=errors, env={**os.environ, "COLUMNS": "100"})

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def interrupt(self) -> int:
        self._child.send_signal(signal.SIGINT)
        return self._child.wait(30)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait(30)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_events_are_printed_as_they_come(follower: Callable[..., Follower]) -> None:
    one = follower("--follow")
    wait_until(lambda: one.errors, "it does not say what it waits for")
    assert one.errors == f"waiting for {one.path}\n"
    write(one.path, [call(user="first"), call(user="second")])
    wait_until(lambda: "second" in one.out, "the first two are not there")
    write(one.path, [call(user="third"), call(user="fo\x1b[31mur\u202eth")])
    wait_until(lambda: "fo[31murth" in one.out, "the others are not there")
    with Queries(one.path) as queries:
        queries.delete_all()
    write(one.path, [call(user="fifth")])
    wait_until(lambda: "fifth" in one.out, "it has lost its place")
    assert one.interrupt() == 130
    assert one.errors == f"waiting for {one.path}\n"
    rows = [line for line in one.out.splitlines() if " gen " in line]
    assert [row.split()[-2] for row in rows] == ["first", "second", "third", "fo[31murth", "fifth"]
    assert one.out.count("TIME") == 1
    assert len({len(row) for row in rows}) == 1, "the columns moved"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_what_is_followed_may_be_one_trace_as_json(follower: Callable[..., Follower], tmp_path: Path) -> None:
    path = tmp_path / "later" / "events.db"
    write(path, [call(NOON + number, user=f"old {number}", trace_id="one") for number in range(30)])
    one = follower("-f", "--json", "--trace", "ne", "--last", "2")
    wait_until(lambda: one.out.count("\n") == 2, "the last two are not there")
    write(path, [call(user="other", trace_id="two"), call(user="mine", trace_id="one")])
    wait_until(lambda: "mine" in one.out, "the new one is not there")
    assert one.interrupt() == 130
    assert [json.loads(line)["distinct_id"] for line in one.out.splitlines()] == ["old 28", "old 29", "mine"]
    assert one.errors == ""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
def test_another_file_in_its_place_is_followed_from_its_beginning(follower: Callable[..., Follower]) -> None:
    one = follower("--follow", "--json")
    write(one.path, [call(user=f"before {number}") for number in range(5)])
    wait_until(lambda: "before 4" in one.out, "the first file is not shown")
    for file in one.path.parent.iterdir():
        file.unlink()
    write(one.path, [call(user="after")])
    wait_until(lambda: "after" in one.out, "the second file is not shown")
    assert one.interrupt() == 130


def test_another_programs_file_is_not_followed(follower: Callable[..., Follower], tmp_path: Path) -> None:
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "events.db").write_text("text " * 1000)
    one = follower("--follow")
    wait_until(lambda: "not a (sound) SQLite database" in one.errors, "it does not say what is wrong")
    assert one.errors.count("\n") == 1


COMMANDS = (["events"], ["events", "--json"], ["stats"], ["stats", "--json"], ["--help"], ["doctor"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_output_that_takes_nothing(tmp_path: Path, words: list[str]) -> None:
    path = tmp_path / "events.db"
    write(path, [call(NOON + number) for number in range(30)])
    run = [sys.executable, "-m", "posthog_autoinstrument", *words]
    environ = {**clean_environment(POSTHOG_AUTOINSTRUMENT_DB=str(path)), "XDG_STATE_HOME": str(tmp_path)}
    options: dict[str, Any] = {"env": environ, "stderr": subprocess.PIPE, "text": True, "timeout": 60}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(run, stdout=full, **options)
    line = "posthog-autoinstrument: cannot write to standard output: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, line)
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *run]
    ended = subprocess.run(closed, **options)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 0
