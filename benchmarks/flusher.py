"""What an event costs the flusher's thread, stage by stage; how long it keeps other threads waiting; bytes on the wire.

    python benchmarks/flusher.py                  # the tables below, and instructions (needs valgrind; minutes)
    python benchmarks/flusher.py --holds          # how long the interpreter is held, by size of the prompt
    python benchmarks/flusher.py --bytes          # bytes on the wire of an event
    python benchmarks/flusher.py --profile chat-1k

Instructions are counted by callgrind over all threads in one process that has run each stage before, and do not depend
on the load of the machine. A stage is what the flusher calls for a record: finalize, read, build, finish
(mending and JSON), and, in batches of up to 100 events, pack (gzip) and post (requests, to a loopback server in another
process).

A hold is the longest time another thread that was ready to run did not run, with a switch interval of 0.1 ms, so that
what is left is single calls into C; of its duration and of the processor time that this thread used meanwhile (a clock
of 4 ms on Linux) the smaller, and of several rounds the smallest, since a busy machine only adds. "Late" is what a
program notices, with Python's own switch interval of 5 ms: by how much a thread that sleeps 1 ms overslept, while a
thousand events of 1 KB are made and packed.
"""

from __future__ import annotations

import argparse
import copy
import cProfile
import gc
import json
import os
import pstats
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from posthog_autoinstrument import agent
from posthog_autoinstrument.capture.calls import OpenCall
from posthog_autoinstrument.capture.finalize import finalize
from posthog_autoinstrument.core.records import EncodedEvent
from posthog_autoinstrument.export.exporter import ExportResult
from posthog_autoinstrument.export.posthog import PostHogExporter
from posthog_autoinstrument.processing import event, truncation
from posthog_autoinstrument.testing import OpenAIServer

KIB, MIB = 1024, 1024 * 1024
STAGES = ("finalize", "read", "build", "finish", "pack", "post")
REPEATS = {"chat-1k": 100, "chat-100k": 20, "stream-200": 20, "embedding-100": 20, "chat-1m": 3, "chat-10m": 1}
_WORDS = """able about account across after again against almost along already also always amount another answer around
because become before begin behind believe between board build business called cannot carry case cause central change
check choose clear close common company complete consider contain continue control cost could country course create
customer data day decide deliver design detail develop different direct discuss during early effect either enough enter
even event every example expect explain family feature field figure final find follow force form found friend general
give government great group grow half happen hear help history hold home hour house however idea image important include
increase industry inside interest issue itself just keep kind know language large later lead learn leave letter level
life likely line list little local long look lose machine main make manage many market matter maybe mean measure meet
member method might minute model moment money month more morning most move much music must name nation nature near need
never next night nothing notice number occur offer office often once only open order other own page paper part party
pass past pay people perhaps period person picture place plan point policy possible power present problem process
produce program project provide public purpose question quite rate rather reach read real reason receive record reduce
remain remember report require research result return right room same school science season second section seem sense
serve service several shall short should show side since single small social some sound south space speak special
spring staff stage stand start state station still stock story street strong student study such sudden summer support
surface system table take talk teach team tell term test their thing think though thousand through time today together
total toward town trade train travel treat tree true trust turn under until usual value various voice wait walk want
watch water week weight while whole whose wide window winter within without woman wonder word work world would write
year young"""
WORDS = _WORDS.split()
SERVER = """
import sys
from posthog_autoinstrument.testing import PostHogServer
with PostHogServer() as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
SYSTEM = "You are a helpful assistant of a shop. Answer briefly, politely, and only what you know. "


def text(size: int, seed: int) -> str:
    """Random words of about this many characters."""
    return " ".join(random.Random(seed).choices(WORDS, k=size // 7))[:size]


# --- records, as the wire leaves them ---


class Bench:
    """The parts of an agent, without its thread, and finished calls to give them."""

    def __init__(self) -> None:
        os.environ["POSTHOG_PROJECT_TOKEN"] = "phc_benchmark"
        self.agent = agent.Agent(agent.loader.load())
        self.provider = self.agent.providers["openai"]
        self.pipeline = self.agent.pipeline
        taken: list[OpenCall] = []
        (made,) = self.agent.call_recorders
        made.emit = lambda call, late: taken.append(call)
        made.expect = lambda: None
        self.agent.install()
        import openai

        with OpenAIServer() as server, openai.OpenAI(base_url=server.base_url, api_key="sk-benchmark") as client:
            chat: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "[long] Hello"}]}
            client.chat.completions.create(**chat)
            for _ in client.chat.completions.create(stream=True, **chat):
                pass
            client.embeddings.create(model="text-embedding-3-small", input=["Hello"], encoding_format="float")
        self._chat, self._stream, self._embedding = taken

    def event(self, call: OpenCall) -> EncodedEvent | None:
        """The encoded event of a call."""
        record = finalize(call)
        return self.pipeline.process(record, self.pipeline.own) if record is not None else None

    def record(self, scenario: str, seed: int = 0) -> OpenCall:
        """A call of a scenario; prompts of different seeds share nothing but the words."""
        kind, _, size = scenario.partition("-")
        if kind == "embedding":
            asked = {"model": "text-embedding-3-small", "input": [text(200, seed + n) for n in range(int(size))]}
            call = copy.copy(self._embedding)
            call.sent = json.dumps(asked).encode()
            return call
        call = copy.copy(self._stream if kind == "stream" else self._chat)
        n_chars = {"1k": KIB, "100k": 100 * KIB, "1m": MIB, "10m": 10 * MIB, "50m": 50 * MIB, "200": KIB}[size]
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text(n_chars, seed)}]
        asked = {"messages": messages, "model": "gpt-4o-mini"}
        call.sent = json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode()
        return call


def many(bench: Bench, messages: int, chars: int) -> OpenCall:
    """A chat of many messages."""
    call = copy.copy(bench.record("chat-1k"))
    said = [{"role": ("user", "assistant")[n % 2], "content": text(chars, n)} for n in range(messages)]
    call.sent = json.dumps({"messages": said, "model": "gpt-4o-mini"}, separators=(",", ":")).encode()
    return call


# --- instructions ---


def under_valgrind(scenarios: list[str], url: str) -> None:
    """The measured process: each stage of each scenario, with a mark (`os.getppid`) before and after."""
    bench = Bench()
    exporter = PostHogExporter("phc_benchmark", url)
    pack = exporter._body

    def stages(scenario: str, repeats: int, mark: Callable[[], Any]) -> None:
        records = [bench.record(scenario, seed) for seed in range(repeats)]
        mark()
        calls = [finalize(record) for record in records]
        mark()
        read = [event.read(call, bench.provider) for call in calls if call is not None]
        mark()
        built = [event.build(call, one, bench.provider) for call, one in zip(calls, read, strict=True) if call]
        mark()
        made = [bench.pipeline.encode(one, (), bench.pipeline.own) for one in built]
        mark()
        events = [one for one in made if one is not None and len(one.body) <= exporter.max_event_bytes]
        body = pack(events or [EncodedEvent("", "", b"{}")])
        mark()
        exporter._body = lambda events: body  # type: ignore[method-assign]
        exporter.send(events or [EncodedEvent("", "", b"{}")], 60)
        exporter._body = pack  # type: ignore[method-assign]
        mark()

    for scenario in scenarios:
        stages(scenario, 2, lambda: None)
    gc.collect()
    gc.disable()
    for scenario in scenarios:
        stages(scenario, REPEATS[scenario], os.getppid)


def count_instructions(scenarios: list[str]) -> dict[str, list[int]]:
    """Instructions an event, for each stage of each scenario."""
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            subprocess.run(
                ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder}/out"]
                + ["--combine-dumps=no", sys.executable, __file__, "--marked", url, *scenarios],
                check=True,
                capture_output=True,
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
        finally:
            server.communicate()
        totals = []
        for path in sorted(Path(folder).glob("out*.*"), key=lambda path: int(path.suffix[1:])):
            match = re.search(r"^(?:summary|totals): (\d+)", path.read_text(), re.MULTILINE)
            totals.append(int(match[1]) if match else 0)
    table = {}
    for number, scenario in enumerate(scenarios):
        start = number * (len(STAGES) + 1) + 1  # the first mark of a scenario ends what is between two of them
        table[scenario] = [total // REPEATS[scenario] for total in totals[start : start + len(STAGES)]]
    return table


def show_instructions(scenarios: list[str]) -> None:
    print("\nthousands of instructions an event\n")
    print("| | " + " | ".join((*STAGES, "all")) + " |\n|---" + "|---:" * (len(STAGES) + 1) + "|")
    for scenario, counts in count_instructions(scenarios).items():
        print(f"| {scenario} | " + " | ".join(f"{count / 1000:,.0f}" for count in (*counts, sum(counts))) + " |")


# --- holds ---


class Spinner:
    """A thread that is always ready to run, and knows the longest time it did not."""

    def __init__(self) -> None:
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._on = True
        self.hold_s = 0.0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        last, last_used = time.perf_counter(), time.clock_gettime(self._clock)
        while self._on:
            now, used = time.perf_counter(), time.clock_gettime(self._clock)
            self.hold_s = max(self.hold_s, min(now - last, used - last_used))
            last, last_used = now, used

    def __enter__(self) -> Spinner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()


class Sleeper(Spinner):
    """A thread that sleeps 1 ms at a time, and knows how late it woke up."""

    lates_s: list[float]

    def _run(self) -> None:
        self.lates_s = []
        while self._on:
            before = time.perf_counter()
            time.sleep(0.001)
            self.lates_s.append(time.perf_counter() - before - 0.001)


class Packing(PostHogExporter):
    """Sends nothing."""

    def _send_to(self, path: str, events: Sequence[EncodedEvent], timeout_s: float) -> ExportResult | None:
        self._body(events)
        return ExportResult("delivered")


def show_holds(bench: Bench, rounds: int) -> None:
    exporter = PostHogExporter("phc_benchmark", "http://127.0.0.1:9")
    shapes: dict[str, Callable[[], OpenCall]] = {
        "1 KB prompt": lambda: bench.record("chat-1k"),
        "100 KB prompt": lambda: bench.record("chat-100k"),
        "1 MB prompt": lambda: bench.record("chat-1m"),
        "10 MB prompt": lambda: bench.record("chat-10m"),
        "50 MB prompt": lambda: bench.record("chat-50m"),
        "1 MB in 1,000 messages": lambda: many(bench, 1000, KIB),
        "10 MB in 10,000 messages": lambda: many(bench, 10_000, KIB),
        "stream of 200 chunks": lambda: bench.record("stream-200"),
    }
    print("\nlongest hold of the interpreter, ms; time of an event's making, ms\n")
    print("| | seal to JSON | cut to size | gzip | time |\n|---|---:|---:|---:|---:|")
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    for name, make in shapes.items():
        record = make()
        best = [float("inf")] * 4
        for _ in range(rounds):
            gc.collect()
            started = time.thread_time()
            with Spinner() as making:
                made = bench.event(record)
            took = time.thread_time() - started
            assert made is not None
            with Spinner() as cutting:
                if len(made.body) > exporter.max_event_bytes:
                    made = truncation.truncate_encoded(made, exporter.max_event_bytes)
            assert made is not None
            with Spinner() as packing:
                exporter._body([made])
            found = [making.hold_s, cutting.hold_s, packing.hold_s, took]
            best = [min(pair) for pair in zip(best, found, strict=True)]
        print(f"| {name} | " + " | ".join(f"{value * 1000:.1f}" for value in best) + " |")
    sys.setswitchinterval(before)
    record = bench.record("chat-1k")
    bench.agent.delivery.exporter = Packing("phc_benchmark", "http://127.0.0.1:9")
    lates = []
    for _ in range(rounds):
        with Sleeper() as sleeper:
            for _ in range(10):
                for _ in range(100):
                    bench.agent.flusher.queue.add(record)
                bench.agent.flusher.batches.deliver_queue()
        late = sorted(sleeper.lates_s)
        lates.append((late[len(late) // 2], late[len(late) * 99 // 100], late[-1]))
    median, p99, worst = (min(column) * 1000 for column in zip(*lates, strict=True))
    print(f"\na thread that sleeps 1 ms is late by {median:.2f} ms (median), {p99:.2f} (p99), {worst:.2f} (most)")


# --- bytes ---


def show_bytes(bench: Bench) -> None:
    exporter = PostHogExporter("phc_benchmark", "http://127.0.0.1:9")
    print("\nbytes on the wire, an event, in batches of 100\n\n| | JSON | gzip |\n|---|---:|---:|")
    unique = [bench.record("chat-1k", seed) for seed in range(100)]
    for name, records in (
        ("1 KB of random words, each its own", unique),
        ("1 KB of random words and an answer of 200 bytes, each its own", [_answered(bench, n) for n in range(100)]),
        ("1 KB, the same each time", [bench.record("chat-1k")] * 100),
        ("20 bytes, each its own", [_asking(bench, text(20, seed)) for seed in range(100)]),
        ("stream of 200 chunks", [bench.record("stream-200", seed) for seed in range(100)]),
        ("embedding of 100 inputs of 200 bytes", [bench.record("embedding-100", 100 * n) for n in range(100)]),
        ("one event of 1 KB alone", unique[:1]),
    ):
        made = [found for record in records if (found := bench.event(record)) is not None]
        raw = sum(len(one.body) for one in made)
        print(f"| {name} | {raw // len(made):,} | {len(exporter._body(made)) // len(made):,} |")
    words = [json.loads(record.sent or b"")["messages"][1]["content"] for record in unique]
    alone = len(zlib.compress("\n".join(words).encode(), 9)) // 100
    print(f"\n(the prompts of the first row alone, compressed as well as zlib can: {alone} bytes each)")


def _asking(bench: Bench, prompt: str) -> OpenCall:
    call = copy.copy(bench.record("chat-1k"))
    call.sent = json.dumps({"messages": [{"role": "user", "content": prompt}], "model": "gpt-4o-mini"}).encode()
    return call


def _answered(bench: Bench, seed: int) -> OpenCall:
    call = bench.record("chat-1k", seed)
    answer = json.loads(call.body or b"")
    answer["id"] = f"chatcmpl-{random.Random(seed).getrandbits(128):032x}"
    answer["choices"][0]["message"]["content"] = text(200, seed + 1_000)
    call.body = json.dumps(answer).encode()
    return call


def profile(scenario: str) -> None:
    """Where the time goes, by function."""
    bench = Bench()
    records = [bench.record(scenario, seed) for seed in range(REPEATS[scenario] * 10)]
    profiler = cProfile.Profile()
    profiler.enable()
    for record in records:
        bench.event(record)
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(REPEATS)}")
    parser.add_argument("--holds", action="store_true")
    parser.add_argument("--bytes", action="store_true")
    parser.add_argument("--profile", metavar="SCENARIO")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--marked", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    scenarios = args.scenarios or list(REPEATS)
    if args.marked:
        under_valgrind(scenarios, args.marked)
    elif args.profile:
        profile(args.profile)
    else:
        bench = Bench()  # one: an SDK is patched once in a process
        if args.holds or not args.bytes:
            show_holds(bench, args.rounds)
        if args.bytes or not args.holds:
            show_bytes(bench)
        if not (args.holds or args.bytes):
            show_instructions(scenarios)
    return 0


if __name__ == "__main__":
    sys.exit(main())
