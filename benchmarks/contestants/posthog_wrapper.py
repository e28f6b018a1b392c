"""PostHog's own wrapper: its client in place of openai's. It captures content by itself."""

import os
from typing import Any

from posthog import Posthog
from posthog.ai import openai as wrapper

posthog = Posthog("phc_of_the_benchmark", host=os.environ["BENCH_SINK_URL"])
flush = posthog.flush


def OpenAI(**arguments: Any) -> Any:
    return wrapper.OpenAI(posthog_client=posthog, **arguments)


def AsyncOpenAI(**arguments: Any) -> Any:
    return wrapper.AsyncOpenAI(posthog_client=posthog, **arguments)
