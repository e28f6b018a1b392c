# /// script
# requires-python = ">=3.11"
# dependencies = ["crewai", "openai"]
# ///
"""CrewAI: its model class, asked by a text and by messages."""

import os

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "OTEL_SDK_DISABLED": "true"}

from crewai import LLM

model = LLM(model="gpt-4o-mini", base_url=os.environ["OPENAI_BASE_URL"])
print("text", model.call("Hello"))
print("messages", model.call([{"role": "user", "content": "Hello again"}]))
