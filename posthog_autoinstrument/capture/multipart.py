"""A request that is sent as a form (multipart): its fields, and a description of each file, which is not read."""

from __future__ import annotations

import io
import os
from typing import Any

from ..core import guard


class Form:
    """The fields of a form, in their order: texts as they are, files by name, size and type."""

    __slots__ = ("fields",)

    def __init__(self, request: Any) -> None:
        """Raises AttributeError for a request without a form (httpx 0.23 to 0.28, httpx2: `MultipartStream.fields`)."""
        self.fields: list[tuple[str, Any]] = []
        for field in request.stream.fields:
            if hasattr(field, "file"):
                headers = {name.lower(): value for name, value in field.headers.items()}
                file: dict[str, Any] = {"type": "file", "filename": field.filename}
                file["content_type"] = headers.get("content-type")
                file["bytes"] = guard.quietly(_size_of, field.file)
                self.fields.append((field.name, file))
            else:
                value = field.value
                self.fields.append((field.name, value if isinstance(value, str) else f"[{len(value)} bytes]"))

    def __len__(self) -> int:
        """Characters that are held."""
        return sum(len(value) for _, value in self.fields if type(value) is str)

    def to_json(self) -> bytes:
        """One object; a field that came more than once, or is named `field[]`, is a list."""
        import json  # on the flusher's thread

        found: dict[str, Any] = {}
        for name, value in self.fields:
            plain = name.removesuffix("[]")
            if plain != name:
                found.setdefault(plain, []).append(value)
            elif plain in found:
                before = found[plain]
                found[plain] = [*before, value] if isinstance(before, list) else [before, value]
            else:
                found[plain] = value
        return json.dumps(found).encode()


def _size_of(file: Any) -> int:
    """Bytes of a file that is sent: bytes themselves, a buffer in memory, a file on disk. Raises for others."""
    if isinstance(file, (bytes, bytearray, str)):
        return len(file)
    if issubclass(type(file), io.BytesIO):
        with io.BytesIO.getbuffer(file) as view:
            return view.nbytes
    return os.fstat(file.fileno()).st_size  # the transport has asked for it as well
