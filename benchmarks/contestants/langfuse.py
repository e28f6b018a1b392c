"""Langfuse's drop-in for the openai module; content is captured by default."""

from langfuse import get_client
from langfuse.openai import openai

OpenAI = openai.OpenAI
AsyncOpenAI = openai.AsyncOpenAI


def flush() -> None:
    get_client().flush()
