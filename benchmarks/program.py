"""The measured program: one process is one sample. Makes calls with the real client, prints what they cost as JSON.

    python program.py '{"scenario": "chat", "calls": 100, "size": 1024}'

What it runs under is switched on before it (a launcher) or by the file that `setup` names. BENCH_MODEL_URL is the fake
model's address. Figures are per call: `wall_s` the median, `mean_s`, `caller_s` the CPU of the calling thread, `all_s`
the CPU of all threads until every event is delivered.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from prose import prose

Call = Callable[[int], Any]

WANTED: dict[str, Any] = {
    "setup": "",
    "scenario": "chat",
    "calls": 100,
    "warm": 10,
    "size": 1024,
    "messages": 2,
    "chunks": 200,
    "tasks": 50,
    "marks": False,
    "points": [],  # several samples in one process: what each wants otherwise than this
}
SYSTEM = prose(500_000, 512)
MODEL = "gpt-4o-mini"


def set_up(path: str) -> Any:
    """Run the file that switches a tool on."""
    if not path:
        return None
    spec = importlib.util.spec_from_file_location("contestant", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def messages(number: int) -> list[dict[str, str]]:
    """A prompt of `size` characters in `messages` messages: what the program always says, at most half of it and 512
    characters, and the rest of this call's own."""
    size, n_messages = WANTED["size"], WANTED["messages"]
    mark = f"[call {number}] "
    if n_messages < 2:
        return [{"role": "user", "content": mark + prose(number * size, size - len(mark))}]
    fixed = SYSTEM[: min(512, size // 2)]
    left = (size - len(fixed)) // (n_messages - 1)
    said = [{"role": "system", "content": fixed}]
    for index in range(n_messages - 1):
        start = mark if index == 0 else ""
        own = prose((number * n_messages + index) * left, max(1, left - len(start)))
        said.append({"role": "user" if index % 2 == 0 else "assistant", "content": start + own})
    return said


def resident() -> dict[str, int]:
    """Memory of this process in bytes; empty where there is no /proc."""
    try:
        with open("/proc/self/status") as status:
            lines = dict(line.split(":", 1) for line in status)
    except OSError:
        return {}
    return {"rss": int(lines["VmRSS"].split()[0]) * 1024, "peak": int(lines["VmHWM"].split()[0]) * 1024}


def chat(client: Any) -> Call:
    prompts = [messages(number) for number in range(WANTED["warm"] + WANTED["calls"])]
    create = client.chat.completions.create
    return lambda number: create(model=MODEL, messages=prompts[number])


def stream(client: Any) -> Call:
    prompts = [messages(number) for number in range(WANTED["warm"] + WANTED["calls"])]
    create = client.chat.completions.create

    def call(number: int) -> None:
        for _ in create(model=MODEL, messages=prompts[number], stream=True):
            pass

    return call


def embeddings(client: Any) -> Call:
    inputs = [f"{prose(200 * index, 60)} {index}" for index in range(100)]
    create = client.embeddings.create

    def call(number: int) -> None:
        inputs[0] = f"[call {number}] {prose(0, 50)}"
        create(model="text-embedding-3-small", input=inputs)

    return call


MAKERS: dict[str, Callable[[Any], Call]] = {"chat": chat, "stream": stream, "embeddings": embeddings}


def measured(call: Call, first: int, n_calls: int) -> dict[str, float]:
    took = []
    clock = time.perf_counter
    began, began_caller = clock(), time.thread_time()
    for number in range(first, first + n_calls):
        started = clock()
        call(number)
        took.append(clock() - started)
    caller_s, mean_s = time.thread_time() - began_caller, clock() - began
    took.sort()
    return {
        "wall_s": statistics.median(took),
        "p99_s": took[int(len(took) * 0.99)],
        "mean_s": mean_s / n_calls,
        "caller_s": caller_s / n_calls,
    }


def each_in(around: Callable[[], Any] | None, call: Call) -> Call:
    """The call inside of what a tool's documentation puts around it."""
    if around is None:
        return call

    def surrounded(number: int) -> None:
        with around():
            call(number)

    return surrounded


async def measured_tasks(
    client: Any, around: Callable[[], Any] | None, first: int, n_calls: int, mark: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """`tasks` tasks, each calling again and again until `n_calls` were made."""
    prompts = {number: messages(number) for number in range(first, first + n_calls)}
    left = iter(range(first, first + n_calls))

    async def task() -> None:
        for number in left:
            if around is None:
                await client.chat.completions.create(model=MODEL, messages=prompts[number])
            else:
                with around():
                    await client.chat.completions.create(model=MODEL, messages=prompts[number])

    mark()
    began, began_caller = time.perf_counter(), time.thread_time()
    await asyncio.gather(*(task() for _ in range(WANTED["tasks"])))
    mark()
    caller_s, mean_s = time.thread_time() - began_caller, time.perf_counter() - began
    return {"wall_s": mean_s / n_calls, "mean_s": mean_s / n_calls, "caller_s": caller_s / n_calls}


def measured_threads(call: Call, first: int, n_calls: int) -> dict[str, float]:
    """`tasks` threads at once; the CPU is that of the calling threads together."""
    cpu_s: list[float] = []
    each = n_calls // WANTED["tasks"]
    ready = threading.Barrier(WANTED["tasks"] + 1)

    def run(start: int) -> None:
        ready.wait()
        began = time.thread_time()
        for number in range(start, start + each):
            call(number)
        cpu_s.append(time.thread_time() - began)

    threads = [threading.Thread(target=run, args=(first + each * index,)) for index in range(WANTED["tasks"])]
    for one in threads:
        one.start()
    ready.wait()
    began = time.perf_counter()
    for one in threads:
        one.join()
    mean_s = (time.perf_counter() - began) / (each * WANTED["tasks"])
    return {"wall_s": mean_s, "mean_s": mean_s, "caller_s": sum(cpu_s) / (each * WANTED["tasks"])}


def mark() -> None:
    """Where callgrind is to write what was counted so far (see `instructions.py`)."""
    if WANTED["marks"]:
        os.getsid(0)


def sample(contestant: Any, openai: Any) -> dict[str, Any]:
    """Make the calls that are wanted, warm-up first; what they cost."""
    scenario, warm, calls = WANTED["scenario"], WANTED["warm"], WANTED["calls"]
    flush: Callable[[], Any] = getattr(contestant, "flush", lambda: None)
    around = getattr(contestant, "around", None)
    answers = f"/chunks-{WANTED['chunks']}/v1" if scenario == "stream" else "/v1"
    # Below callgrind, connecting may take longer than the SDK's own 5 s.
    at = {"base_url": os.environ["BENCH_MODEL_URL"] + answers, "api_key": "sk-bench", "timeout": 600}
    client = getattr(contestant, "OpenAI", openai.OpenAI)(**at)
    if scenario == "start":
        os._exit(0)
    before = resident().get("rss", 0)
    if scenario == "tasks":

        async def tasks() -> tuple[dict[str, float], float]:
            async_client = getattr(contestant, "AsyncOpenAI", openai.AsyncOpenAI)(**at)
            await measured_tasks(async_client, around, 0, warm)
            await asyncio.to_thread(flush)
            gc.collect()
            began = time.process_time()
            return await measured_tasks(async_client, around, warm, calls, mark), began

        figures, began = asyncio.run(tasks())
    else:
        call = each_in(around, MAKERS["chat" if scenario == "threads" else scenario](client))
        measured(call, 0, warm)
        flush()
        gc.collect()
        began = time.process_time()
        mark()
        figures = (measured_threads if scenario == "threads" else measured)(call, warm, calls)
        mark()
    flushing = time.perf_counter()
    flush()
    return {
        **figures,
        "made": warm + calls,
        "all_s": (time.process_time() - began) / calls,
        "flush_s": time.perf_counter() - flushing,
        "before": before,
        "after": resident().get("rss", 0),
        "peak": resident().get("peak", 0),
    }


def main() -> None:
    WANTED.update(json.loads(sys.argv[1]))
    contestant = set_up(WANTED["setup"])
    import openai

    shown, plain = [], dict(WANTED)
    for point in WANTED["points"] or [{}]:
        WANTED.update({**plain, **point})
        shown.append(sample(contestant, openai))
    print("\n" + json.dumps(shown if WANTED["points"] else shown[0]), flush=True)


if __name__ == "__main__":
    main()
