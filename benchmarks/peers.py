"""What other tools cost: each in an environment of its own, beside bare and ours in the same turns.

    make bench-peers                       # all; writes benchmarks/results/peers.json and docs/performance.md
    make bench-peers BENCH=quick           # a sanity check; writes nothing
    python benchmarks/peers.py --peer sentry --peer langfuse

Each is switched on as its documentation says for OpenAI with content captured, by a file of `contestants/`, and sends
over HTTP to the sink on loopback. One that cannot be installed or does not run stands in the table with its reason.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import instructions
import report
from bench import parser, show, writes
from environments import CLIENT, CannotInstall, environment, python_of, versions
from harness import BARE, BUILD, OURS, Bench, Contestant, said
from scenarios import SCENARIOS, measure, why_not

OTLP = ("opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2")
OTLP_ENVIRON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "{sink}", "OTEL_SERVICE_NAME": "bench"}


@dataclass(frozen=True)
class Peer:
    """A tool that does what we do. In `environ`, {sink} is the sink's address, {site} where packages are installed."""

    name: str
    setup: str
    packages: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    note: str = ""


PEERS = (
    Peer("posthog wrapper", "posthog_wrapper.py", ("posthog==7.91.1",)),
    Peer(
        "opentelemetry openai-v2",
        "opentelemetry.py",
        ("opentelemetry-instrumentation-openai-v2==2.4b0", "opentelemetry-util-genai==0.4b0", "httpx==0.28.1", *OTLP),
        {**OTLP_ENVIRON, "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"},
        "imports httpx, which openai 3 does not bring, and fails with opentelemetry-util-genai 1: both are put right",
    ),
    Peer(
        "openllmetry",
        "openllmetry.py",
        ("opentelemetry-instrumentation-openai==0.62.4", *OTLP),
        OTLP_ENVIRON,
        "its traceloop-sdk 0.62.4 asks for versions that exclude each other: its instrumentation alone is measured",
    ),
    Peer(
        "openinference",
        "openinference.py",
        ("openinference-instrumentation-openai==0.1.66", *OTLP),
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{sink}"},
    ),
    Peer(
        "ddtrace",
        "datadog.py",
        ("ddtrace==4.16.0",),
        {
            "PYTHONPATH": "{site}/ddtrace/bootstrap",  # what ddtrace-run does before it executes the program
            "DD_LLMOBS_ENABLED": "1",
            "DD_LLMOBS_ML_APP": "bench",
            "DD_SERVICE": "bench",
            "DD_TRACE_AGENT_URL": "{sink}",
        },
    ),
    Peer(
        "langfuse",
        "langfuse.py",
        ("langfuse==5.0.4",),
        {
            "LANGFUSE_BASE_URL": "{sink}",
            "LANGFUSE_HOST": "{sink}",
            "LANGFUSE_PUBLIC_KEY": "pk-lf-bench",
            "LANGFUSE_SECRET_KEY": "sk-lf-bench",
        },
    ),
    Peer("logfire", "logfire.py", ("logfire==5.4.0",)),
    Peer("sentry", "sentry.py", ("sentry-sdk==2.75.0",)),
)


def contestant(peer: Peer) -> Contestant:
    """The peer in its environment. Raises CannotInstall."""
    python = environment(peer.setup.removesuffix(".py"), [*CLIENT, *peer.packages])
    package = peer.packages[0].partition("==")[0]
    found = versions(python, [package, *(one.partition("==")[0] for one in CLIENT)])
    site = (
        f"{BUILD / peer.setup.removesuffix('.py')}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    )
    environ = {name: text.replace("{site}", site) for name, text in peer.environ.items()}
    return Contestant(f"{peer.name} {found[package]}", python, environ, peer.setup)


def main(arguments: Sequence[str]) -> int:
    read = parser(__doc__ or "")
    read.add_argument("--peer", action="append", default=[], help="only those whose name has this in it; repeatable")
    options = read.parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    python = python_of(options.python)
    notes: dict[str, str] = {}
    rounds = options.rounds or (1 if options.quick else 7)
    with Bench(python) as bench:
        contestants = [bench.bare(), bench.ours()]
        for peer in PEERS:
            if options.peer and not any(word in peer.name for word in options.peer):
                continue
            try:
                made = contestant(peer)
            except CannotInstall as error:
                notes[peer.name] = f"cannot be installed: {error}"
                continue
            why = why_not(bench, made, options.only)
            if why:
                notes[made.name] = f"does not run: {why}"
            else:
                contestants.append(made)
                if peer.note:
                    notes[made.name] = peer.note
        said(f"bare, ours and {len(contestants) - 2} peers")
        measured = measure(bench, contestants, rounds, options.quick, options.only)
        counts: list[report.Table] = []
        counted: dict[str, float] = {}
        if options.instructions and not (options.quick or options.only or instructions.missing()):
            rows, counted = instructions.of_callers(bench, contestants)
            counts.append(("Instructions", rows))
    names = [BARE, OURS, *(one.name for one in contestants[2:])]
    rows = report.main_rows(measured, names) if len(measured) > len(SCENARIOS) else []
    rows += [[name, why, *[""] * (len(rows[0]) - 2)] for name, why in notes.items() if rows and name not in names]
    tables = [*([("Costs", rows)] if rows else []), ("All scenarios", report.scenario_rows(measured, names)), *counts]
    show(tables)
    said_of = [f"- {name}: {text}." for name, text in notes.items()]
    print("\n".join(said_of))
    results = {
        "facts": report.facts(python),
        "rounds": rounds,
        "notes": notes,
        "samples": measured,
        "instructions": counted,
    }
    if options.json:
        Path(options.json).write_text(json.dumps(results))
    if writes(options) and not options.peer:
        report.keep("peers", results, tables, said_of)
        report.write_page("peers", report.document(results, [("", rows), *counts], said_of))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
