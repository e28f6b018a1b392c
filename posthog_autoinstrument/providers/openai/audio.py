"""Audio: speech made of text, and text of speech. Pure; never raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..bodies import left_out
from ..generation import Generation, Usage, placeholder
from ..parsing import as_count, as_dict, as_list, as_text, parse, read_failure, read_failure_text
from .common import Message, files_of, read_answer, read_usage

SPEECH_PARAMETERS = ("voice", "response_format", "speed", "stream_format")
TEXT_PARAMETERS = (
    "language",
    "response_format",
    "temperature",
    "timestamp_granularities",
    "include",
    "chunking_strategy",
    "stream",
)
_PLAIN_FORMATS = ("text", "srt", "vtt")


def read_speech(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/audio/speech`. The answer is the sound itself, or events `speech.audio.delta` and `.done`."""
    asked = as_dict(parse(request))
    generation = _read_spoken_stream(chunks) if chunks else _read_spoken(response)
    generation.model = as_text(asked.get("model"))
    generation.parameters = {name: asked[name] for name in SPEECH_PARAMETERS if asked.get(name) is not None}
    generation.input = [{"role": "user", "content": asked["input"]}] if asked.get("input") is not None else None
    if as_text(asked.get("instructions")):
        generation.instructions = asked["instructions"]
    return generation


def _read_spoken(response: bytes | None) -> Generation:
    body = parse(response)
    size = as_count(as_dict(body).get("bytes"))
    if size is None:
        return Generation(
            output=[], failure=read_failure_text(response) if body is None else read_failure(body, "bytes")
        )
    return Generation(output=[{"role": "assistant", "content": [_sound(as_dict(body), size)]}])


def _sound(described: dict[str, Any], size: int) -> Message:
    sound: Message = {"type": "audio", "mime_type": described.get("content_type")}
    sound["data"] = described["data"] if as_text(described.get("data")) else placeholder("audio", size)
    return sound


def _read_spoken_stream(chunks: Sequence[str]) -> Generation:
    size = 0
    heard = None
    kept = []
    for index, text in enumerate(chunks):
        if "speech.audio.delta" in text[:200]:
            size += (left_out(text) or 0) + max(0, len(text) - 50)
            heard = index if heard is None else heard
        else:
            kept.append(text)
    answer = read_answer(None, kept, "type")
    usage = next((event["usage"] for _, event in answer.events if event.get("usage") is not None), None)
    sound: Message = {"type": "audio", "data": placeholder("audio", size * 3 // 4)}
    return Generation(
        output=[{"role": "assistant", "content": [sound]}] if size else [],
        usage=read_usage(usage),
        failure=answer.failure,
        first_output_chunk=heard,
    )


def read_transcription(request: bytes | None, response: bytes | None, chunks: Sequence[str] | None) -> Generation:
    """A call of `/audio/transcriptions` or `/audio/translations`. The answer is JSON, a plain text, or events
    `transcript.text.delta` and `.done`."""
    asked = as_dict(parse(request))
    generation = Generation()
    transcript: Any = None
    usage: Any = None
    if chunks:
        answer = read_answer(None, chunks, "text")
        generation.failure = answer.failure
        pieces: list[str] = []
        for index, event in answer.events:
            piece = as_text(event.get("delta"))
            if piece is not None:
                pieces.append(piece)
                if generation.first_output_chunk is None:
                    generation.first_output_chunk = index
            transcript = as_text(event.get("text")) if event.get("type") == "transcript.text.done" else transcript
            usage = event.get("usage") or usage
        transcript = transcript if transcript is not None else "".join(pieces) or None
    else:
        body = parse(response)
        if as_text(asked.get("response_format")) in _PLAIN_FORMATS and not isinstance(body, dict):
            transcript = (response or b"").decode("utf-8", "replace") or None
        else:
            transcript = as_dict(body).get("text")
            usage = as_dict(body).get("usage")
            generation.failure = read_failure_text(response) if body is None else read_failure(body, "text")
    generation.model = as_text(asked.get("model"))
    generation.usage = _usage(usage)
    generation.output = (
        [{"role": "assistant", "content": [{"type": "text", "text": transcript}]}] if transcript is not None else []
    )
    generation.parameters = {name: asked[name] for name in TEXT_PARAMETERS if asked.get(name) is not None}
    content = files_of(asked)
    content += [{"type": "text", "text": prompt} for prompt in as_list([asked.get("prompt")]) if prompt is not None]
    generation.input = [{"role": "user", "content": content}] if content else None
    return generation


def _usage(raw: Any) -> Usage:
    """`{"type": "tokens", ..., "input_token_details"}`, or `{"type": "duration", "seconds"}`: no tokens at all."""
    usage = as_dict(raw)
    read = read_usage({**usage, "input_tokens_details": usage.get("input_token_details")})
    read.raw = usage or None
    return read
