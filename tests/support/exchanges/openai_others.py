"""Sample exchanges of the smaller endpoints, in the shapes of OpenAI's API reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..provider_contract import Exchange

PICTURE = "iVBORw0KGgo" * 30


def exchange(endpoint: str, request: Any, response: Any, chunks: Sequence[Any] | None = None) -> Exchange:
    texts = None if chunks is None else tuple(json.dumps(chunk) for chunk in chunks)
    return Exchange(endpoint, json.dumps(request).encode(), json.dumps(response).encode(), texts)


IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens": 1056,
    "total_tokens": 1106,
}
IMAGE_REQUEST = {"model": "gpt-image-1", "prompt": "A fox", "n": 1, "size": "1024x1024", "stream": True}
IMAGE_RESPONSE = {"created": 1750000000, "data": [{"b64_json": PICTURE}], "usage": IMAGE_USAGE}
IMAGE_CHUNKS = (
    {"type": "image_generation.partial_image", "b64_json": PICTURE[:200], "partial_image_index": 0},
    {"type": "image_generation.completed", "b64_json": PICTURE, "usage": IMAGE_USAGE},
)
FILE = {"type": "file", "filename": "fox.png", "content_type": "image/png", "bytes": 1234}
SPEECH_REQUEST = {"model": "gpt-4o-mini-tts", "input": "Good morning", "voice": "coral"}
SPEECH_RESPONSE = {"content_type": "audio/mpeg", "bytes": 23456}
AUDIO = {"type": "file", "filename": "a.mp3", "content_type": "audio/mpeg", "bytes": 23456}
TEXT_USAGE = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
    "output_tokens": 45,
    "total_tokens": 59,
}
TRANSCRIPTION_REQUEST = {"model": "gpt-4o-transcribe", "file": AUDIO, "prompt": "A greeting", "language": "en"}
TRANSCRIPTION_RESPONSE = {"text": "Good morning", "usage": TEXT_USAGE}
TRANSCRIPTION_CHUNKS = (
    {"type": "transcript.text.delta", "delta": "Good"},
    {"type": "transcript.text.delta", "delta": " morning"},
    {"type": "transcript.text.done", "text": "Good morning", "usage": TEXT_USAGE},
)
MODERATION_REQUEST = {"model": "omni-moderation-latest", "input": "I want to kill them."}
MODERATION_RESPONSE = {
    "id": "modr-970d409ef3bef3b70c73d8232df86e7d",
    "model": "omni-moderation-latest",
    "results": [{"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.99}}],
}
DECISION_REQUEST = {
    "model": "gpt-6-luna",
    "input": "The parcel never came.",
    "questions": [{"type": "predicate", "name": "complaint", "question": "Is this a complaint?"}],
}
DECISION_RESPONSE = {
    "answers": [{"type": "predicate", "name": "complaint", "probability": 0.97}],
    "model": "gpt-6-luna",
    "usage": {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 32,
    },
}
COMPACT_REQUEST = {"model": "gpt-5", "input": [{"role": "user", "content": "Hello"}]}
COMPACT_RESPONSE = {
    "id": "resp_001",
    "object": "response.compaction",
    "created_at": 1750000000,
    "output": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {"type": "compaction", "id": "cmp_001", "encrypted_content": "gAAA"},
    ],
    "usage": {"input_tokens": 139, "output_tokens": 438, "total_tokens": 577},
}
POLL_RESPONSE = {
    "id": "resp_001",
    "object": "response",
    "background": True,
    "status": "completed",
    "model": "gpt-5",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}],
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
}

MORE = (
    exchange("image", IMAGE_REQUEST, IMAGE_RESPONSE, IMAGE_CHUNKS),
    exchange("image_edit", {**IMAGE_REQUEST, "image": [FILE]}, IMAGE_RESPONSE, IMAGE_CHUNKS),
    exchange("image_variation", {"model": "dall-e-2", "image": FILE, "n": "2"}, {"data": [{"url": "https://x/1.png"}]}),
    exchange("speech", SPEECH_REQUEST, SPEECH_RESPONSE),
    exchange("transcription", TRANSCRIPTION_REQUEST, TRANSCRIPTION_RESPONSE, TRANSCRIPTION_CHUNKS),
    exchange("translation", {"model": "whisper-1", "file": AUDIO}, {"text": "Good morning"}),
    exchange("moderation", MODERATION_REQUEST, MODERATION_RESPONSE),
    exchange("decision", DECISION_REQUEST, DECISION_RESPONSE),
    exchange("response_compact", COMPACT_REQUEST, COMPACT_RESPONSE),
    exchange("response", {}, POLL_RESPONSE),
    exchange("response_cancel", {}, {**POLL_RESPONSE, "status": "cancelled"}),
)
