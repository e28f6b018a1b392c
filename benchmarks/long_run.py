"""Programs that make very many calls, answered in their own process, and look at themselves meanwhile.

python long_run.py '{"what": "queue", "depths": [10, 100]}'   # calls that nobody takes out of the queue
python long_run.py '{"what": "gaps", "sizes": [[1024, 99]]}'  # how long the flusher keeps other threads from running
python long_run.py '{"what": "soak", "calls": 200000}'        # resident memory over time
python long_run.py '{"what": "profile", "sizes": [[1024, 300]]}'   # what runs on the caller's thread
"""

from __future__ import annotations

import cProfile
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import program
from in_process import http_client
from program import MODEL, messages, resident, set_up

Create = Callable[..., Any]
GAP_CLASSES_S = (0.001, 0.005, 0.05)


def queue(create: Create, wanted: dict[str, Any], transport: Any) -> list[dict[str, float]]:
    """The calling thread's CPU for a call where so many wait already, and the memory that each of them takes."""
    prompt = messages(0)
    for _ in range(200):  # what the first calls cost is another matter
        create(model=MODEL, messages=prompt)
    gc.collect()
    found, made, empty, content = [], 0, resident()["rss"], transport.n_bytes
    for depth in wanted["depths"]:
        last = min(2_000, max(5, depth // 2))
        while made < depth - last:
            create(model=MODEL, messages=messages(made))
            made += 1
        caller_s = 0.0
        for _ in range(last):
            prompt = messages(made)
            began = time.thread_time()
            create(model=MODEL, messages=prompt)
            caller_s += (time.thread_time() - began) / last
            made += 1
        more = {"rss_each": (resident()["rss"] - empty) / made, "content_each": (transport.n_bytes - content) / made}
        found.append({"depth": depth, "caller_s": caller_s, **more})
    return found


def gaps(create: Create, wanted: dict[str, Any], flush: Callable[[], Any]) -> list[dict[str, float]]:
    """What a thread that only spins notices while the flusher makes events of what waits and sends them.

    A gap is the time between two of its turns, by the CPU clock of the process: only what other threads of this process
    did in between counts, not what the machine did. Threads are switched every 0.2 ms, so that a longer gap is a piece
    of C code that did not let go of the interpreter.
    """
    sys.setswitchinterval(0.0002)
    found = []
    for size, calls in wanted["sizes"]:
        program.WANTED["size"] = size
        seen: list[float] = []
        spun = 0.0
        for wave in range(wanted["waves"]):
            for number in range(calls):
                create(model=MODEL, messages=messages(wave * calls + number))
            over = threading.Event()

            def spin(over: threading.Event = over, seen: list[float] = seen) -> None:
                clock = time.process_time
                last = clock()
                while not over.is_set():
                    now = clock()
                    if now - last > 0.0001:
                        seen.append(now - last)
                    last = now

            spinner = threading.Thread(target=spin)
            spinner.start()
            began = time.perf_counter()
            flush()
            if not wanted["setup"]:
                time.sleep(0.3)  # bare: nothing is flushed, and the thread spins alone
            spun += time.perf_counter() - began
            over.set()
            spinner.join()
        seen.sort()
        longer = {f"over_{limit * 1000:g}_ms": sum(gap > limit for gap in seen) for limit in GAP_CLASSES_S}
        p99 = seen[int(len(seen) * 0.99)] if seen else 0.0
        median = seen[len(seen) // 2] if seen else 0.0
        made = calls * wanted["waves"]
        shown = {"size": size, "calls": made, "seconds": spun, "p50_s": median, "p99_s": p99}
        found.append({**shown, "max_s": seen[-1] if seen else 0.0, **longer})
    return found


def pieces(create: Create, wanted: dict[str, Any], flush: Callable[[], Any]) -> list[dict[str, Any]]:
    """The calls into C that took the flusher longest, by the CPU clock of its thread: while one runs that does not let
    go of the interpreter, no other thread does. zlib, sockets and locks let go."""
    found = []
    for size, calls in wanted["sizes"]:
        program.WANTED["size"] = size
        LONG.clear()
        for number in range(calls):
            create(model=MODEL, messages=messages(number))
        flush()
        longest = sorted(LONG.items(), key=lambda one: -max(one[1]))[:5]
        told = [{"name": name, "longest_s": max(took), "n": len(took)} for name, took in longest]
        found.append({"size": size, "calls": calls, "pieces": told})
    return found


def profile(create: Create, wanted: dict[str, Any], flush: Callable[[], Any]) -> list[dict[str, Any]]:
    """What runs on the calling thread beside the SDK's own: each Python function of the agent and of wrapt, how often
    in a call, its own seconds below the profiler with those of the C functions that it calls, and these.
    """
    found = []
    for size, calls in wanted["sizes"]:
        program.WANTED["size"] = size
        prompts = [messages(number) for number in range(calls)]
        profiler = cProfile.Profile()
        profiler.enable()
        for prompt in prompts:
            create(model=MODEL, messages=prompt)
        profiler.disable()
        profiler.create_stats()
        stats: dict[Any, Any] = profiler.stats  # type: ignore[attr-defined]  typeshed does not know it
        modules = {getattr(module, "__file__", None): name for name, module in [*sys.modules.items()]}
        shown: dict[str, dict[str, Any]] = {}
        ours: dict[Any, dict[str, Any]] = {}  # functions of one name stand together
        for place, (_, times, own_s, _, _) in stats.items():
            module = modules.get(place[0], "")
            if module.partition(".")[0] in ("posthog_autoinstrument", "wrapt"):
                name = f"{module.removeprefix('posthog_autoinstrument.')}.{place[2]}"
                one = shown.setdefault(name, {"name": name, "times": 0.0, "own_s": 0.0, "calls_c": {}})
                one["times"] += times / calls
                one["own_s"] += own_s / calls
                ours[place] = one
        for place, (_, _, _, _, callers) in stats.items():
            for caller in ours.keys() & callers.keys() if place[0] == "~" else ():
                times, _, own_s, _ = callers[caller]
                one = ours[caller]
                one["own_s"] += own_s / calls
                one["calls_c"][place[2]] = one["calls_c"].get(place[2], 0.0) + times / calls
        found.append({"size": size, "calls": calls, "functions": [*shown.values()]})
        flush()
    return found


LONG: dict[str, list[float]] = {}
"""Calls into C of over 0.2 ms: name -> seconds of CPU."""


LETS_GO = ("Compress.", "socket.", "lock.", "_thread.")
"""They let go of the interpreter while they work or wait."""
IN_C = {("json.decoder", "raw_decode"), ("json.encoder", "iterencode")}
"""Python functions that do their work in one C object, whose calls a profiler is not told of."""


def watch() -> None:
    """Have the threads that are started from now on note their long calls into C."""
    began: dict[Any, float] = {}

    def noted(frame: Any, event: str, called: Any) -> None:
        where, now = frame.f_globals.get("__name__"), time.thread_time()
        if event == "c_call":
            began[threading.get_ident()] = now
            return
        if event in ("call", "return"):
            if (where, frame.f_code.co_name) not in IN_C:
                return
            if event == "call":
                began[frame] = now
                return
            name, key = f"{where}.{frame.f_code.co_name}", frame
        else:
            kind = getattr(called, "__module__", None) or type(called.__self__).__name__
            name, key = f"{kind}.{called.__name__} in {where}", threading.get_ident()
        took = now - began.pop(key, now)
        if took > 0.0002 and not name.startswith(LETS_GO):
            LONG.setdefault(name.replace("posthog_autoinstrument.", ""), []).append(took)

    threading.setprofile(noted)


def soak(create: Create, wanted: dict[str, Any], flush: Callable[[], Any]) -> list[dict[str, float]]:
    """Resident memory, sampled 200 times. Each 500 calls it waits for the flusher: what is to be seen is what stays."""
    found = []
    every = max(1, wanted["calls"] // 200)
    began = time.perf_counter()
    for number in range(wanted["calls"]):
        if number % every == 0:
            found.append({"calls": number, "seconds": time.perf_counter() - began, "rss": resident()["rss"]})
        create(model=MODEL, messages=messages(number))
        if number % 500 == 499:
            flush()
    flush()
    found.append({"calls": wanted["calls"], "seconds": time.perf_counter() - began, "rss": resident()["rss"]})
    return found


def main() -> None:
    wanted: dict[str, Any] = {"setup": "", "waves": 10, **json.loads(sys.argv[1])}
    contestant = set_up(wanted["setup"])
    if wanted["what"] == "pieces":
        watch()
    import openai

    http, transport = http_client(openai)
    client = openai.OpenAI(api_key="sk-bench", base_url="http://model.invalid/v1", http_client=http)
    create = client.chat.completions.create
    flush: Callable[[], Any] = getattr(contestant, "flush", lambda: None)
    create(model=MODEL, messages=messages(0))
    if wanted["what"] == "queue":
        found = queue(create, wanted, transport)
    else:
        flush()
        kinds = {"gaps": gaps, "pieces": pieces, "soak": soak, "profile": profile}
        found = kinds[wanted["what"]](create, wanted, flush)
    print("\n" + json.dumps(found), flush=True)
    if wanted["what"] == "queue":
        os._exit(0)  # nobody takes them


if __name__ == "__main__":
    main()
