"""Logfire's instrumentation; content is captured by default. Its lines on the console are off."""

import os

import logfire

logfire.configure(
    token="pylf_v1_us_of_the_benchmark",
    console=False,
    advanced=logfire.AdvancedOptions(base_url=os.environ["BENCH_SINK_URL"]),
)
logfire.instrument_openai()
flush = logfire.force_flush
