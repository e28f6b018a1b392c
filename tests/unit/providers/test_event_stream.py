"""Server-sent events by the WHATWG rules, and content encodings."""

from __future__ import annotations

import gzip
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_autoinstrument.providers import event_stream


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
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
    ],
)
def test_texts(body, texts):
    assert event_stream.texts(body) == texts


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))))
def test_what_was_written_is_read(payloads):
    assert event_stream.texts("".join(f"data: {text}\n\n" for text in payloads).encode()) == payloads


BODY = b"hello " * 1000


def zipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (BODY, ""),
        (BODY, "identity"),
        (zipped(BODY), "gzip"),
        (zipped(BODY), " GZIP "),
        (zlib.compress(BODY), "deflate"),
        (raw_deflate(BODY), "deflate"),
        (zipped(zlib.compress(BODY)), "deflate, gzip"),
    ],
    ids=["none", "identity", "gzip", "capitals", "zlib", "deflate", "two"],
)
def test_encodings(packed, encoding):
    assert event_stream.decompressed(packed, encoding) == BODY


def test_encodings_that_are_not_at_hand():
    assert event_stream.decompressed(BODY, "compress") is None
    assert event_stream.decompressed(b"not gzip", "gzip") is None
    assert event_stream.decompressed(b'{"a":1}', "gzip") is None  # as raw deflate it would be seven other bytes
    assert event_stream.decompressed(zipped(BODY), "br2, gzip") is None


def test_a_body_that_broke_off_or_breaks_is_read_up_to_there():
    text = b"".join(b"%d " % number for number in range(20_000))
    packed = gzip.compress(text)
    for damaged in (packed[: len(packed) // 2], packed[: len(packed) // 2] + b"\xff" * 5000):
        found = event_stream.decompressed(damaged, "gzip")
        assert found is not None
        assert len(found) > 20_000
        assert text.startswith(found[:20_000])


def test_a_small_body_that_stands_for_gigabytes_is_cut(monkeypatch):
    monkeypatch.setattr(event_stream, "MAX_BYTES", 100_000)
    assert len(event_stream.decompressed(gzip.compress(bytes(10_000_000)), "gzip")) == 100_000


@pytest.mark.parametrize(
    ("module", "encoding", "pack"),
    [
        ("brotli", "br", lambda module: module.compress(BODY)),
        ("brotlicffi", "br", lambda module: module.compress(BODY)),
        ("zstandard", "zstd", lambda module: module.compress(BODY)),
        ("backports.zstd", "zstd", lambda module: module.compress(BODY)),
        ("compression.zstd", "zstd", lambda module: module.compress(BODY)),
    ],
)
def test_encodings_of_packages_that_the_process_has_loaded(module, encoding, pack, monkeypatch):
    loaded = pytest.importorskip(module)
    for other in (*event_stream._BROTLI, *event_stream._ZSTD):
        monkeypatch.delitem(sys.modules, other, raising=False)
    packed = pack(loaded)
    assert event_stream.decompressed(packed, encoding) is None
    monkeypatch.setitem(sys.modules, module, loaded)
    assert event_stream.decompressed(packed, encoding) == BODY
    assert BODY.startswith(event_stream.decompressed(packed[: len(packed) // 2], encoding) or b"")
    assert event_stream.decompressed(b"neither " * 10, encoding) is None
