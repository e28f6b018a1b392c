"""Embeddings. Pure; never raises."""

from __future__ import annotations

from collections.abc import Sequence

from ..bodies import find_member
from ..generation import Generation
from ..parsing import as_amount, as_dict, as_text, parse, read_failure, read_failure_text
from ..provider import EDGE_BYTES
from .common import read_usage


def read_embeddings(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/embeddings`. Of a long answer only the two ends are looked at: between them are vectors."""
    asked = as_dict(parse(request))
    short = response is not None and len(response) <= 2 * EDGE_BYTES
    body = parse(response) if short else None
    if isinstance(body, dict):
        answer = body
    else:
        answer = {name: find_member(response or b"", name) for name in ("model", "usage")}
    usage = as_dict(answer.get("usage"))
    return Generation(
        model=as_text(answer.get("model")) or as_text(asked.get("model")),
        input=asked.get("input"),
        usage=read_usage(usage),
        failure=read_failure_text(response) if body is None else read_failure(body, "data"),
        cost_usd=as_amount(usage.get("cost")),
    )
