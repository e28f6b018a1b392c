"""`posthog-instrument stats`: sums and bars of the local store, as text and as JSON."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.stored import NOON, call, span, write

from posthog_autoinstrument.cli import main as cli
from posthog_autoinstrument.cli.terminal import width


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "events.db"
    write(
        path,
        [
            # gpt-4o: 2.50 and 10 USD a million: 1000 * 2.50 + 100 * 10 = 3500 millionths
            call(NOON, model="gpt-4o", input_tokens=1000, output_tokens=100, latency=1.0, time_to_first_token=0.2),
            call(NOON + 60, model="gpt-4o", input_tokens=1000, output_tokens=100, latency=3.0, user="bob"),
            call(NOON + 120, model="no-price", user=None, trace_id="t2", session_id="s"),
            call(NOON + 180, model="no-price", input_tokens=None, output_tokens=None, is_error=True, http_status=500),
            span(NOON + 200),
        ],
    )
    return path


@pytest.fixture(autouse=True)
def nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_AUTOINSTRUMENT_PRICES", str(tmp_path / "prices.toml"))
    monkeypatch.setenv("COLUMNS", "100")


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli(["stats", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_stats_are_sums_and_bars(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run("--db", str(path), capsys=capsys)
    assert (code, errors) == (0, "")
    head, timings, plot, _, titles, first, second = out.splitlines()
    assert head == "4 calls, 1 failed, 2,010→205 tokens, cost $0.007 and the unknown cost of 1"
    assert timings == "latency p50 1.00 s, p95 3.00 s; first token p50 200 ms, p95 200 ms"
    assert plot.endswith(" calls per 5 s")
    assert plot.count("█") == 4
    assert titles.split() == ["MODEL", "CALLS", "ERRORS", "TOKENS", "COST", "P50", "P95"]
    rows = {line.split()[0]: line.split()[1:] for line in (first, second)}
    assert rows["gpt-4o"] == ["████████████", "2", "0", "2,000→200", "$0.007", "1.00", "s", "3.00", "s"]
    assert rows["no-price"] == ["████████████", "2", "1", "10→5", "unknown", "1.00", "s", "1.00", "s"]


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("user", {"ann", "bob", "(anonymous)"}),
        ("trace", {"t1", "t2"}),
        ("endpoint", {"/chat/completions"}),
        ("session", {"s", "(none)"}),
    ],
)
def test_stats_group_by_what_is_asked(path: Path, capsys: pytest.CaptureFixture[str], by: str, keys: set[str]) -> None:
    _, out, _ = run("--db", str(path), "--by", by, capsys=capsys)
    rows = out.splitlines()[5:]
    assert {row.partition("  ")[0].strip() for row in rows} == keys
    _, out, _ = run("--db", str(path), "--by", by, "--json", capsys=capsys)
    found = json.loads(out)
    assert {group["key"] for group in found["groups"]} == {None if key[0] == "(" else key for key in keys}


def test_json_is_one_object_in_which_unknown_is_null(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run("--db", str(path), "--json", "--model", "no-price", capsys=capsys)
    found = json.loads(out)
    assert code == 0
    assert found["totals"]["cost_usd"] is None
    assert found["totals"]["calls"] == 2
    assert found["groups"][0]["key"] == "no-price"
    assert sum(found["series"]["calls"]) == 2


def test_a_time_may_be_given(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run("--db", str(path), "--since", "2026-11-23T12:01:30Z", capsys=capsys)
    assert out.startswith("2 calls, 1 failed")
    code, out, errors = run("--db", str(path), "--since", "2026-11-24", capsys=capsys)
    assert (code, out, errors) == (0, "", f"no calls since 2026-11-24 in {path}\n")
    with pytest.raises(SystemExit) as raised:
        run("--since", "yesterday", capsys=capsys)
    assert raised.value.code == 2
    assert "'yesterday' is not a time: 15m, 24h" in capsys.readouterr().err


def test_what_is_left_out_is_said(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run("--db", str(path), "--by", "user", "--limit", "1", capsys=capsys)
    assert out.splitlines()[-1] == "and 2 more calls (--limit)"


def test_the_users_prices_are_used_and_a_bad_file_is_one_line(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('[[price]]\nmodel = "no-*"\ninput = 1\noutput = 2\n')
    # the one that went well: 10 * 1 + 5 * 2 = 20 millionths, and the two others 7000
    _, out, _ = run("--db", str(path), capsys=capsys)
    assert out.startswith("4 calls, 1 failed, 2,010→205 tokens, cost $0.00702\n")
    prices.write_text('[[price]]\nmodel = "no-*"\ninput = "1"\n')
    code, out, errors = run("--db", str(path), capsys=capsys)
    assert (code, out) == (1, "")
    assert errors == f"{prices}, line 3: input is a number of USD per million tokens, not '1'\n"


def test_no_store_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, errors = run("--db", str(tmp_path / "none.db"), capsys=capsys)
    assert (code, out) == (1, "")
    assert errors.startswith(f"no events yet: {tmp_path / 'none.db'} does not exist")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("text " * 1000)
    code, out, errors = run("--db", str(tmp_path / "text.db"), capsys=capsys)
    assert (code, out) == (1, "")
    assert errors.count("\n") == 1


HOSTILE = [
    "\x1b]0;owned\x07\x1b[31mred", "\u202egnp.exe", "\u2066\u2069", "[bold]x[/bold]", "a\nb\r\tc",
    "<script>alert(1)</script>", "\x9b2J", "\u200b\ufeff", "日本語" * 30, "x" * 300, "👩‍👩‍👧" * 20,
]  # fmt: skip


@pytest.mark.parametrize("columns", ["40", "80", "200"])
@pytest.mark.parametrize("by", ["user", "model", "trace"])
def test_hostile_names_do_nothing_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str, by: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    path = tmp_path / "state" / "events.db"
    write(path, [call(NOON + number, user=text, model=text, trace_id=text) for number, text in enumerate(HOSTILE)])
    _, out, _ = run("--db", str(path), "--by", by, capsys=capsys)
    lines = out.splitlines()
    assert out.replace("\n", "").replace("\u200d", "").isprintable()
    assert len(lines) == 5 + len(HOSTILE) or columns == "40"
    if columns != "40":
        assert max(map(width, lines)) <= int(columns)


def in_terminal(path: Path, *arguments: str, env: dict[str, str]) -> bytes:
    """What the command writes to a terminal of its own."""
    main, other = pty.openpty()
    command = [sys.executable, "-m", "posthog_autoinstrument", "stats", "--db", str(path), *arguments]
    child = subprocess.Popen(command, stdout=other, env={**os.environ, "TERM": "xterm", **env})
    os.close(other)
    written = io.BytesIO()
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        written.write(data)
    os.close(main)
    assert child.wait(60) == 0
    return written.getvalue()


def test_a_terminal_gets_colours_and_the_same_words(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    _, plain, _ = run("--db", str(path), capsys=capsys)
    coloured = in_terminal(path, env={"COLUMNS": "100"}).decode()
    assert "\x1b[31m" in coloured
    import re

    words = re.sub(r"\x1b\[[0-9;]*m", "", coloured).replace("\r\n", "\n")
    assert [line.rstrip() for line in words.splitlines()] == [line.rstrip() for line in plain.splitlines()]
    assert b"\x1b" not in in_terminal(path, env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})


def test_a_hostile_name_in_colours_is_only_that(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("rich")
    other = tmp_path / "other" / "events.db"
    write(other, [call(NOON, model="\x1b]0;owned\x07[red]x[/red]")])
    shown = in_terminal(other, env={"COLUMNS": "100"})
    assert b"\x1b]" not in shown
    assert b"[red]x[/red]" in shown


UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Modes of files hold for root, too."""


@pytest.mark.parametrize("words", [["stats"], ["events"], ["send", "--dry-run"]], ids=" ".join)
def test_a_file_that_may_not_be_looked_for_or_written(path: Path, words: list[str]) -> None:
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may read and write everything here")

    def ran() -> subprocess.CompletedProcess[str]:
        prefix = UNPRIVILEGED if os.geteuid() == 0 else []
        command = [*prefix, sys.executable, "-m", "posthog_autoinstrument", *words, "--db", str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")

    path.chmod(0o400)
    read = ran()
    assert read.returncode == 0, read.stderr
    if words == ["stats"]:
        assert read.stdout.startswith("4 calls, 1 failed")
        assert "may be missing" in read.stderr
        assert "readonly" in read.stderr
    path.parent.chmod(0o000)
    try:
        refused = ran()
    finally:
        path.parent.chmod(0o700)
    assert refused.returncode != 0
    assert refused.stderr.count("\n") == 1
    assert "Permission denied" in refused.stderr
