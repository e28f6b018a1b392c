"""The test process itself, instrumented by hand before anything imports openai; its events go to `POSTHOG`."""

from __future__ import annotations

import os
import signal

from posthog_autoinstrument.testing import PostHogServer

from .programs import TOKEN

POSTHOG = PostHogServer()
for _name in [name for name in os.environ if name.startswith(("POSTHOG_", "OPENAI_"))]:
    del os.environ[_name]
# A shell that starts the tests in the background leaves SIGINT ignored; the programs they start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # `nohup` does the same
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.update(
    {
        "POSTHOG_PROJECT_TOKEN": TOKEN,
        "POSTHOG_HOST": POSTHOG.url,
        "POSTHOG_AUTOINSTRUMENT_RAISE": "1",
        "OPENAI_API_KEY": "sk-test",
    }
)

import posthog_autoinstrument.auto  # noqa: E402, F401 - instruments this process
