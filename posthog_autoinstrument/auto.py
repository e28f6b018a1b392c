"""`import posthog_autoinstrument.auto` instruments the process, for programs that the launcher cannot start."""

from .api import instrument

instrument()
