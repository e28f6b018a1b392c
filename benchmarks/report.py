"""Figures as tables: on standard output, in docs/performance.md between marks, and as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from typing import Any

from environments import revision, versions
from harness import BARE, OURS, RESULTS, ROOT, Samples, added, lines_of, median, ratio, spread
from scenarios import PASS, START, delivered

MIB = 1024 * 1024
Table = tuple[str, list[list[str]]]
"""A title, and rows of which the first is the head."""
GOALS = ("**goal**", "+10 µs", "+60 µs", "+0.3 µs", "0.98", "+20 ms", "+3 ms", "+8 MB (+2 before)", "under 500")
HEAD = (
    "",
    "chat call, caller's wall",
    "chat call, CPU of all threads",
    "per stream chunk",
    "50 async tasks, throughput of bare",
    "start-up after `import openai`",
    "`python -c pass`",
    "peak RSS over bare (before the first call)",
    "bytes an event, 1 KB prompt",
)


def us(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs" if abs(seconds) >= 10e-6 else f"{seconds * 1e6:.2f} µs"


def more(found: Samples, name: str, figure: str, per: float = 1, unit: str = "µs") -> str:
    """How much is added, and how far that may be trusted."""
    scale = {"µs": 1e6, "ms": 1e3}[unit] / per
    by, about = added(found, name, figure) * scale, spread(found, name, figure) * scale
    digits = 0 if abs(by) >= 100 else 1 if abs(by) >= 10 else 2
    if len(found[name]) == 1:
        return f"{by:+.{digits}f} {unit}"  # nobody knows
    return f"{by:+.{digits}f} ±{about:.{digits}f} {unit}"


def main_rows(measured: dict[str, Samples], names: Sequence[str], n_chunks: int = 200) -> list[list[str]]:
    """The issue's columns: a row for bare, one for the goals, one for each contestant."""
    chat, stream, tasks = (measured.get(n) for n in ("chat 1 KB", "stream of 200 chunks", "50 async tasks"))
    start, bare_start = measured.get(START), measured.get(PASS)
    bare = [
        "bare",
        us(median(chat, BARE, "wall_s")) if chat else "",
        us(median(chat, BARE, "all_s")) if chat else "",
        us(median(stream, BARE, "wall_s") / n_chunks) if stream else "",
        f"{1 / median(tasks, BARE, 'wall_s'):,.0f} calls/s" if tasks else "",
        f"{median(start, BARE, 'wall_s') * 1e3:.0f} ms" if start else "",
        f"{median(bare_start, BARE, 'wall_s') * 1e3:.1f} ms" if bare_start else "",
        f"{median(chat, BARE, 'peak') / MIB:.0f} MB" if chat else "",
        "",
    ]
    rows = [list(HEAD), bare, list(GOALS)]
    for name in names:
        if name == BARE:
            continue
        rows.append(
            [
                f"**{name}**" if name == OURS else name,
                more(chat, name, "wall_s") if chat else "",
                more(chat, name, "all_s") if chat else "",
                more(stream, name, "wall_s", n_chunks) if stream else "",
                f"{1 / ratio(tasks, name, 'wall_s'):.2f}" if tasks else "",
                more(start, name, "wall_s", unit="ms") if start else "",
                more(bare_start, name, "wall_s", unit="ms") if bare_start else "",
                f"{added(chat, name, 'peak') / MIB:+.1f} MB ({added(chat, name, 'before') / MIB:+.1f})" if chat else "",
                wire_bytes(chat, name) if chat else "",
            ]
        )
    return rows


def wire_bytes(samples: Samples, name: str) -> str:
    n_delivered, _ = delivered(samples, name)
    n_bytes = sum(one["sink"]["bytes"] for one in samples[name])
    if not n_delivered:
        return f"{n_bytes / sum(one['made'] for one in samples[name]):,.0f} (without content)"
    return f"{n_bytes / n_delivered:,.0f}"


def scenario_rows(measured: dict[str, Samples], names: Sequence[str]) -> list[list[str]]:
    """Everything else: each scenario, each contestant, wall, CPU of the caller and of all threads, delivery."""
    rows = [["scenario", "", "wall", "ratio", "p99", "CPU of the caller", "CPU of all threads", "bytes an event"]]
    rows[0] += ["requests per 1,000 events", "delivered of those made"]
    for scenario, found in measured.items():
        if scenario in (START, PASS):
            rows += start_rows(scenario, found, names)
            continue
        p99 = "p99_s" in found[BARE][0]
        one = [scenario, "bare", us(median(found, BARE, "wall_s")), "", us(median(found, BARE, "p99_s")) if p99 else ""]
        rows.append([*one, us(median(found, BARE, "caller_s")), us(median(found, BARE, "all_s")), "", "", ""])
        for name in names:
            if name == BARE:
                continue
            n_delivered, n_made = delivered(found, name)
            n_requests = sum(one["sink"]["requests"] for one in found[name])
            rows.append(
                [
                    "",
                    name,
                    more(found, name, "wall_s"),
                    f"{ratio(found, name, 'wall_s'):.2f}",
                    more(found, name, "p99_s") if p99 else "",
                    more(found, name, "caller_s"),
                    more(found, name, "all_s"),
                    wire_bytes(found, name),
                    f"{1000 * n_requests / n_delivered:,.0f}" if n_delivered else "",
                    f"{n_delivered} of {n_made}",
                ]
            )
    return rows


def start_rows(scenario: str, found: Samples, names: Sequence[str]) -> list[list[str]]:
    name = scenario if scenario == PASS else f"program up to its first call, `{scenario}`"
    bare = [f"{median(found, BARE, figure) * 1e3:.1f} ms" for figure in ("wall_s", "all_s")]
    rows = [[name, "bare", bare[0], "", "", "", bare[1], "", "", ""]]
    for one in names:
        if one != BARE:
            wall, cpu = (more(found, one, figure, unit="ms") for figure in ("wall_s", "all_s"))
            rows.append(["", one, wall, f"{ratio(found, one, 'wall_s'):.2f}", "", "", cpu, "", "", ""])
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(lines_of(rows))


def facts(python: str) -> dict[str, Any]:
    """When, of what and where."""
    names = ("openai", "httpx2", "pydantic", "wrapt", "requests")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": revision(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(python, names),
    }


def line_of(facts: dict[str, Any], rounds: int) -> str:
    """What tables were made of, in a sentence."""
    client = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"Measured on {facts['date']} at {facts['revision']}: Python {facts['python']} on {facts['system']}, "
        f"{facts['processors']} processors; {client}; medians of {rounds} rounds."
    )


def document(results: dict[str, Any], tables: Sequence[Table], notes: Sequence[str] = ()) -> str:
    """Tables in Markdown, below a line that says what they were made of."""
    parts = [line_of(results["facts"], results["rounds"])]
    for title, rows in tables:
        parts += [f"**{title}**"] if title else []
        parts.append(markdown(rows))
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def keep(name: str, results: dict[str, Any], tables: Sequence[Table], notes: Sequence[str]) -> None:
    """Write the samples and all tables to `benchmarks/results/`: NAME.json and NAME.md."""
    store(name, results)
    (RESULTS / f"{name}.md").write_text(document(results, tables, notes) + "\n")


def store(name: str, content: dict[str, Any]) -> None:
    """Write `benchmarks/results/NAME.json`, a line for each thing in it."""
    RESULTS.mkdir(exist_ok=True)
    lines = [f"{json.dumps(key)}: {json.dumps(short(content[key]))}" for key in sorted(content)]
    (RESULTS / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def short(content: Any) -> Any:
    """Six digits are more than any clock can tell."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: short(value) for key, value in content.items()}
    return [short(one) for one in content] if isinstance(content, list | tuple) else content


def append(name: str, content: Any) -> None:
    """Add a line to `benchmarks/results/NAME.jsonl`."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as history:
        history.write(json.dumps(content, sort_keys=True) + "\n")


def last(name: str) -> dict[str, Any]:
    """The last line of `benchmarks/results/NAME.jsonl`; empty where there is none."""
    file = RESULTS / f"{name}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return found


def write_page(name: str, text: str) -> None:
    """Put `text` into docs/performance.md between the marks of `name`."""
    page = ROOT / "docs" / "performance.md"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page.name} has no {begin} ... {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
