"""Moderations and decisions: models that judge what they are given. Pure; never raises."""

from __future__ import annotations

from collections.abc import Sequence

from ..generation import Generation
from ..parsing import as_dict, as_list, as_text, in_words, parse, read_failure, read_failure_text
from .common import read_usage
from .responses import input_messages


def read_moderations(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/moderations`: a span, for it has neither tokens nor a price. Its output are the results."""
    asked, body = as_dict(parse(request)), parse(response)
    answer = as_dict(body)
    return Generation(
        model=as_text(answer.get("model")) or as_text(asked.get("model")),
        input=asked.get("input"),
        output=as_list(answer.get("results")),
        failure=read_failure_text(response) if body is None else read_failure(body, "results"),
        response_id=as_text(answer.get("id")),
    )


def read_decisions(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/decisions` (openai 3.54): questions about an input, each with an answer. Each answer is a part of the
    output; the questions are the last message of the input."""
    asked, body = as_dict(parse(request)), parse(response)
    answer = as_dict(body)
    questions = as_list(asked.get("questions"))
    answers = [one for one in as_list(answer.get("answers")) if isinstance(one, dict)]
    generation = Generation(
        model=as_text(answer.get("model")) or as_text(asked.get("model")),
        input=input_messages(asked.get("input")),
        output=[{"role": "assistant", "content": answers}] if answers else [],
        usage=read_usage(answer.get("usage")),
        failure=read_failure_text(response) if body is None else read_failure(body, "answers"),
        service_tier=as_text(answer.get("service_tier")),
    )
    if questions:
        generation.input.append({"role": "user", "content": in_words(questions)})
    return generation
