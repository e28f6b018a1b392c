"""Server-sent events by the WHATWG rules, and content encodings."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_autoinstrument import sse


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b"", []),
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data:a\n\ndata:  b\n\n", ["a", " b"]),
        (b": comment\n\nevent: x\ndata: a\nid: 1\nretry: 5\n\n", ["a"]),
        (b"database: x\n\ndata: a\n\n", ["a"]),
        (b"data: a\n\ndata: cut off", ["a"]),
        ("data: \u00e9\n\n".encode(), ["\u00e9"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"data\n\n", [""]),
    ],
)
def test_texts(body, texts):
    assert sse.texts(body) == texts


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))))
def test_what_was_written_is_read(payloads):
    assert sse.texts("".join(f"data: {text}\n\n" for text in payloads).encode()) == payloads


def test_encodings():
    body = b"hello " * 1000
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    for packed, encoding in (
        (body, ""),
        (body, "identity"),
        (gzip.compress(body), "gzip"),
        (gzip.compress(body), " GZIP "),
        (zlib.compress(body), "deflate"),
        (raw.compress(body) + raw.flush(), "deflate"),
    ):
        assert sse.decompressed(packed, encoding) == body
    assert sse.decompressed(body, "br") is None
    assert sse.decompressed(b"not gzip", "gzip") is None
    assert body.startswith(sse.decompressed(gzip.compress(body)[:20], "gzip") or b"")
