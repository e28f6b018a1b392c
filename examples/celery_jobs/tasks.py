"""Jobs in a Celery worker: the calls of a job arrive in PostHog with the user and the trace of whoever ordered it.

Needs OPENAI_API_KEY and `pip install celery openai`. Run the worker in this folder:

    posthog-instrument celery -A tasks worker

and order a summary from another terminal: posthog-instrument python order.py

Messages and results are files in `queue/`; BROKER_URL and RESULT_URL name other places (redis://..., amqp://...).
"""

import os
from pathlib import Path

from celery import Celery
from openai import OpenAI

from posthog_autoinstrument import posthog_span

HERE = Path(__file__).parent
for folder in ("messages", "control", "results"):
    (HERE / "queue" / folder).mkdir(parents=True, exist_ok=True)

app = Celery(
    "tasks",
    broker=os.environ.get("BROKER_URL", "filesystem://"),
    backend=os.environ.get("RESULT_URL", f"file://{HERE}/queue/results"),
)
if app.conf.broker_url == "filesystem://":
    app.conf.broker_transport_options = {
        "data_folder_in": f"{HERE}/queue/messages",
        "data_folder_out": f"{HERE}/queue/messages",
        "control_folder": f"{HERE}/queue/control",
    }


@app.task
def summarise(text: str) -> str:
    """No user and no trace stands here: they come with the message."""
    with posthog_span("summarise", "task"), OpenAI() as client:
        completion = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": f"Summarise in one sentence: {text}"}]
        )
        return completion.choices[0].message.content or ""
