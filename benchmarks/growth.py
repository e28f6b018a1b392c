"""How costs grow: with the size of a prompt, its messages, chunks of a stream, tasks, and what waits in the queue.

On the caller's thread they must not grow with size, and be linear in chunks. (With several tasks the instruction count
varies by some percent, too: how often an event loop polls is not the program's doing.) What runs there is shown by a
profile. Durable mode, which writes on the caller's thread, has a table of its own, and so have the pieces of work for
which the flusher keeps other threads from running.
"""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Sequence
from typing import Any

import instructions
from harness import BARE, BUILD, DURABLE, OURS, Bench, Contestant, Samples, in_turn, said
from report import more

Point = dict[str, Any]

SIZES = [("prompt of " + name, {"size": size, "calls": calls, "warm": 2}) for name, size, calls in (
    ("1 KB", 1024, 40), ("10 KB", 10_240, 40), ("100 KB", 102_400, 20), ("1 MB", 1 << 20, 5), ("10 MB", 10 << 20, 2),
)]  # fmt: skip
MESSAGES = [
    (f"{n:,} messages" if n > 1 else "1 message", {"messages": n, "size": max(1024, 50 * n), "calls": calls, "warm": 2})
    for n, calls in ((1, 40), (10, 40), (100, 20), (1_000, 5), (10_000, 1))
]
CHUNKS = [
    (f"stream of {n:,} chunks", {"scenario": "stream", "chunks": n, "calls": calls, "warm": 1})
    for n, calls in ((10, 40), (100, 10), (1_000, 3), (10_000, 1))
]
TASKS = [
    (f"{n:,} tasks" if n > 1 else "1 task", {"scenario": "tasks", "tasks": n, "calls": calls, "warm": n})
    for n, calls in ((1, 40), (10, 40), (100, 200), (1_000, 1_000))
]
POINTS: list[tuple[str, Point]] = [*SIZES, *MESSAGES, *CHUNKS, *TASKS]
MOST_TASKS_COUNTED = 100
"""The client looks through all its connections for each call: below callgrind, 1,000 of them take 20 minutes."""
DEPTHS = (10, 100, 1_000, 10_000, 100_000)
SPOOLED = [(name, {"size": size, "calls": calls, "warm": 5}) for name, size, calls in (
    ("2 KB", 2048, 200), ("10 KB", 10_240, 200), ("100 KB", 102_400, 50), ("1 MB", 1 << 20, 5),
)]  # fmt: skip
PROFILED = ((1024, 300), (1 << 20, 20))
"""Size of a prompt, and how many calls."""
GAP_SIZES = ((1024, 99), (102_400, 50), (1 << 20, 10), (10 << 20, 2))
"""Size of a prompt, and how many calls wait when the flusher starts: fewer than make it start by itself."""


def points(
    bench: Bench, contestants: Sequence[Contestant], wanted: Sequence[tuple[str, Point]], rounds: int
) -> dict[str, Samples]:
    """Samples of each point; one process takes all points of a round."""
    told = [{"scenario": "chat", **point} for _, point in wanted]
    taken = in_turn(contestants, rounds, lambda one: {"points": bench.sample(one, "chat", points=told)})
    return {
        name: {who: [one["points"]["shown"][index] for one in samples] for who, samples in taken.items()}
        for index, (name, _) in enumerate(wanted)
    }


def growth(
    bench: Bench, contestants: Sequence[Contestant], rounds: int, quick: bool, counting: bool
) -> tuple[list[list[str]], dict[str, Any]]:
    """Cost on the caller's thread at each point: time in turn, and instructions."""
    wanted = [point for point in POINTS if not quick or point[1]["calls"] >= 20]
    said("  growth")
    samples = points(bench, contestants, wanted, rounds)
    counts: dict[str, list[float]] = {}
    counted_of = [point for _, point in wanted if point.get("tasks", 1) <= MOST_TASKS_COUNTED]
    if counting:
        said("  growth, instructions")
        told = [{"scenario": "chat", **point} for point in counted_of]
        all_parts = instructions.at_once(lambda one: instructions.count(bench, one, "chat", points=told), contestants)
        for one, counted in zip(contestants, all_parts, strict=True):
            parts = counted.parts[::2]
            counts[one.name] = [part / point["calls"] for part, point in zip(parts, counted_of, strict=True)]
    rows = [["", "bare, CPU of the caller", "added", "added, thousands of instructions", "of bare's"]]
    for name, point in wanted:
        bare_s = sorted(one["caller_s"] for one in samples[name][BARE])[rounds // 2]
        cells = ["", ""]
        if counts and point in counted_of:
            ours, bare = (counts[who][counted_of.index(point)] for who in (OURS, BARE))
            each = f" ({(ours - bare) / point['chunks'] / 1000:.2f} a chunk)" if "chunks" in point else ""
            cells = [f"{(ours - bare) / 1000:+,.1f}{each}", f"{100 * (ours - bare) / bare:.2f} %"]
        rows.append([name, f"{bare_s * 1e6:,.0f} µs", more(samples[name], OURS, "caller_s"), *cells])
    return rows, {"samples": samples, "instructions": counts}


def queued(bench: Bench, quick: bool) -> tuple[list[list[str]], list[dict[str, float]]]:
    """Calls that wait: PostHog takes the connection and never answers."""
    said("  queue")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ours = bench.ours(
            POSTHOG_HOST=f"http://127.0.0.1:{silent.getsockname()[1]}",
            POSTHOG_AUTOINSTRUMENT_FLUSH_AT="10000",
            POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S="300",
            POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_EVENTS="1000000",
            POSTHOG_AUTOINSTRUMENT_QUEUE_MAX_BYTES=str(1 << 34),
        )
        depths = DEPTHS[:3] if quick else DEPTHS
        bare = bench.long_run(bench.bare(), "queue", depths=[min(depth, 4_000) for depth in depths])
        found = bench.long_run(ours, "queue", depths=depths)
    rows = [
        ["events waiting", "CPU of the caller for a call, bare", "ours", "memory of each that waits", "its content"]
    ]
    for one, plain in zip(found, bare, strict=True):
        each = (one["rss_each"], one["content_each"]) if one["depth"] >= 1_000 else ()  # pages hold too many else
        cells = (f"{x['caller_s'] * 1e6:,.0f} µs" for x in (plain, one))
        rows.append([f"{one['depth']:,}", *cells, *([f"{n_bytes:,.0f} bytes" for n_bytes in each] or ["", ""])])
    return rows, found


def profiled(bench: Bench, quick: bool) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """What runs on the caller's thread in a chat call: each function of ours, how often at two sizes, what it calls."""
    said("  profile")
    sizes = [(size, calls // 10 if quick else calls) for size, calls in PROFILED]
    found: list[dict[str, Any]] = bench.long_run(bench.ours(), "profile", sizes=sizes)
    small, large = ({one["name"]: one for one in shown["functions"]} for shown in found)
    rows = [["function", "times a call of 1 KB", "of 1 MB", "C functions that it calls", "own time at 1 KB"]]
    for name in sorted(small | large, key=lambda name: -small[name]["own_s"] if name in small else 0):
        times = (f"{shown[name]['times']:.2g}" if name in shown else "" for shown in (small, large))
        one = small.get(name) or large[name]
        called = ", ".join(sorted(f"`{of_c(text)}`" for text in one["calls_c"]))
        rows.append([f"`{name}`", *times, called, f"{one['own_s'] * 1e6:.1f} µs"])
    sums = (f"{sum(one['times'] for one in shown.values()):.0f}" for shown in (small, large))
    total_s = sum(one["own_s"] for one in small.values())
    return [*rows, ["all, timed by a profiler, which takes most of it", *sums, "", f"{total_s * 1e6:.0f} µs"]], found


def of_c(text: str) -> str:
    """`<method 'get' of 'dict' objects>` as `dict.get`, `<built-in method posix.getpid>` as `posix.getpid`."""
    method = re.match(r"<method '(\w+)' of '([\w.]+)' objects>", text)
    return (
        f"{method[2].rpartition('.')[2]}.{method[1]}" if method else text.strip("<>").removeprefix("built-in method ")
    )


def durable(bench: Bench, rounds: int) -> tuple[list[list[str]], dict[str, Samples]]:
    """With a spool, each call is committed to a file before it returns."""
    said("  durable mode")
    folder = tempfile.mkdtemp(prefix="spool-", dir=BUILD)
    try:
        contestants = [bench.bare(), bench.ours(), bench.ours(DURABLE, POSTHOG_SPOOL=folder)]
        samples = points(bench, contestants, SPOOLED, rounds)
    finally:
        shutil.rmtree(folder)
    rows = [["prompt", "added to bare's wall", "added, with a spool", "CPU of the caller, with a spool"]]
    for name, found in samples.items():
        walls = [more(found, who, "wall_s") for who in (OURS, DURABLE)]
        rows.append([name, *walls, more(found, DURABLE, "caller_s")])
    return rows, samples


def held(bench: Bench, quick: bool) -> tuple[list[list[str]], dict[str, Any]]:
    """For how long the flusher keeps other threads from running, while it makes events and sends them."""
    said("  gaps")
    settings = {"POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "300"}
    sizes = GAP_SIZES[:2] if quick else GAP_SIZES
    waves = 2 if quick else 10
    found = {
        one.name: bench.long_run(one, "gaps", sizes=sizes, waves=waves)
        for one in (bench.bare(), bench.ours(**settings))
    }
    taken: list[Any] = bench.long_run(bench.ours(**settings), "pieces", sizes=sizes)
    rows = [["prompt", "", "calls", "median gap", "p99", "longest", "over 1 ms", "over 5 ms", "over 50 ms"]]
    rows[0].append("its longest calls into C")
    for index, (size, _) in enumerate(sizes):
        for name, shown in found.items():
            one = shown[index]
            cells = [f"{one[key] * 1000:.2f} ms" for key in ("p50_s", "p99_s", "max_s")]
            longer = [str(one[key]) for key in ("over_1_ms", "over_5_ms", "over_50_ms")]
            pieces = taken[index]["pieces"] if name != BARE else []
            told = ", ".join(f"{piece['name']} {piece['longest_s'] * 1000:.1f} ms" for piece in pieces[:3])
            row = [f"{size // 1024:,} KB" if name == BARE else "", name, str(one["calls"]), *cells, *longer, told]
            rows.append(row)
    return rows, {"gaps": found, "pieces": taken}
