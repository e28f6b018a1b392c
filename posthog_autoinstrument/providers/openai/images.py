"""Images: made, edited, varied; streamed or not. Pure; never raises.

Answers are mostly base64: of long ones only the two ends are here, so pictures are counted and described, not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..bodies import find_member, left_out
from ..generation import Generation, placeholder
from ..parsing import as_count, as_dict, as_list, as_text, parse, read_failure, read_failure_text
from .common import Message, files_of, read_answer, read_usage

PARAMETERS = (
    "n",
    "size",
    "quality",
    "style",
    "background",
    "moderation",
    "input_fidelity",
    "output_format",
    "output_compression",
    "partial_images",
    "response_format",
    "stream",
)


def read_images(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/images/generations`, `/images/edits` or `/images/variations`."""
    asked = as_dict(parse(request))
    generation = _read_stream(chunks) if chunks else _read_body(response, as_count(asked.get("n")) or 1)
    generation.model = generation.model or as_text(asked.get("model"))
    generation.parameters = {name: asked[name] for name in PARAMETERS if asked.get(name) is not None}
    content: list[Message] = [{"type": "text", "text": asked["prompt"]}] if asked.get("prompt") is not None else []
    content += files_of(asked)
    if content:
        only_text = len(content) == 1 and content[0]["type"] == "text"
        generation.input = [{"role": "user", "content": content[0]["text"] if only_text else content}]
    return generation


def _read_body(response: bytes | None, wanted: int) -> Generation:
    body = parse(response)
    size = left_out(response)
    if isinstance(body, dict):
        answer = body
        pictures = [part for one in as_list(body.get("data")) for part in _picture(as_dict(one))]
    else:
        answer = {name: find_member(response or b"", name) for name in ("model", "usage", "background", "size")}
        each = placeholder("image", size * 3 // 4 // wanted) if size else placeholder("image")
        pictures = [{"type": "image", "image": each}] * wanted if size else []
    return Generation(
        model=as_text(answer.get("model")),
        usage=read_usage(answer.get("usage")),
        failure=read_failure(body, "data") if body is not None else None if size else read_failure_text(response),
        output=[{"role": "assistant", "content": pictures}] if pictures else [],
    )


def _read_stream(chunks: Sequence[str]) -> Generation:
    """Events `image_generation.partial_image` and `.completed` (`image_edit.` for edits), each with `b64_json`."""
    texts = []
    for text in chunks:
        size = left_out(text)
        # Of a cut event, all but the picture is put together again: its type, and usage where it is the last.
        texts.append(text if size is None else _event_of(text, size))
    answer = read_answer(None, texts, "data")
    generation = Generation(failure=answer.failure)
    pictures: list[Message] = []
    usage: Any = None
    for index, event in answer.events:
        kind = as_text(event.get("type")) or ""
        if generation.first_output_chunk is None and event.get("b64_json") is not None:
            generation.first_output_chunk = index
        if kind.endswith(".completed"):
            pictures += _picture(event)
            usage = event.get("usage")
        generation.model = generation.model or as_text(event.get("model"))
    generation.usage = read_usage(usage)
    generation.output = [{"role": "assistant", "content": pictures}] if pictures else []
    return generation


def _event_of(text: str, size: int) -> str:
    import json

    body = text.encode("utf-8", "surrogatepass")
    event = {name: find_member(body, name) for name in ("type", "usage", "model", "revised_prompt")}
    return json.dumps({**event, "b64_json": placeholder("image", size * 3 // 4)})


def _picture(one: dict[str, Any]) -> list[Message]:
    parts: list[Message] = []
    data = one.get("b64_json")
    if data is not None:
        parts.append({"type": "image", "b64_json": data})
    elif one.get("url") is not None:
        parts.append({"type": "image", "image": one["url"]})
    if one.get("revised_prompt") is not None:
        parts.append({"type": "text", "text": one["revised_prompt"]})
    return parts
