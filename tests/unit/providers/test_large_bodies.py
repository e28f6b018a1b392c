"""Bodies that no event has room for lose the middle of their longest texts, and nothing else changes in them."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from posthog_autoinstrument.processing import redaction, sanitize
from posthog_autoinstrument.providers import bodies
from posthog_autoinstrument.testing import Answer, LoopbackServer, Request

SIZE = 9 * 1024 * 1024
PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * (SIZE // 11)


def chat(*contents: Any) -> bytes:
    said = [{"role": "user", "content": content} for content in contents]
    return json.dumps({"model": "m", "messages": said, "n": 1}, ensure_ascii=False).encode()


def contents(body: bytes) -> list[Any]:
    return [message["content"] for message in json.loads(body)["messages"]]


@pytest.mark.parametrize("ascii_only", [False, True], ids=["UTF-8", "escapes"])
@pytest.mark.parametrize(
    "unit",
    [
        "some words ",
        "你好世界",
        "é ",
        "👩‍💻 ",
        "a😀",
        '"quoted" ',
        "back\\slash ",
        "line\n",
        "\u2028 x",
        "\\\\u0041 ",
        "\x00 ",
    ],
)
def test_a_long_text_keeps_its_ends_and_is_cut_between_characters(unit: str, ascii_only: bool) -> None:
    size = len(json.dumps(unit, ensure_ascii=ascii_only).encode()) - 2
    text = "A b " + unit * (SIZE // size) + " y Z"
    whole = json.dumps({"messages": [text, "short"]}, ensure_ascii=ascii_only).encode()
    cut = bodies.shortened(whole)
    assert len(cut) <= bodies.MAX_BYTES + 1_000
    shown, short = json.loads(cut)["messages"]
    assert short == "short"
    head, _, rest = shown.partition("... [")
    number, _, tail = rest.partition(" bytes truncated] ...")
    assert len(whole) - len(cut) == int(number) - len(f"... [{number} bytes truncated] ...")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) > len(tail) > 100_000
    assert sanitize.sanitize(shown) is shown  # no half of a pair is left


def test_short_texts_are_whole_and_the_longest_are_cut_alike() -> None:
    texts = ["a b " * 10_000, "c d " * 1_500_000, "e f " * 1_500_000, "g h"]
    first, second, third, last = contents(bodies.shortened(chat(*texts)))
    assert (first, last) == (texts[0], texts[3])
    assert abs(len(second) - len(third)) < 100
    assert "truncated" in second


def test_a_body_that_fits_or_has_no_long_text_is_left_alone() -> None:
    for body in (
        chat("a b " * 100_000),
        chat(*["a b " * 1_000] * 3_000),
        b"x" * SIZE,
        b'"' * SIZE,
        b'"\\' * (SIZE // 2),
    ):
        assert bodies.shortened(body) is body


@pytest.mark.parametrize("ascii_only", [False, True], ids=["UTF-8", "escapes"])
def test_a_text_without_spaces_is_cut_where_it_cannot_be_base64(ascii_only: bool) -> None:
    body = json.dumps(["äb\u0416" * 2_000_000], ensure_ascii=ascii_only).encode()
    assert len(bodies.shortened(body)) < bodies.MAX_BYTES + 1_000


def test_pictures_stay_whole_so_that_they_are_known_as_such() -> None:
    tool = f"he drew ![it]({PICTURE}) and said {'so ' * 100_000}"
    body = chat([{"type": "image_url", "image_url": {"url": PICTURE}}], tool)
    assert bodies.shortened(body) is body
    ((part,), told) = redaction.redact_content(contents(body))
    assert part["image_url"]["url"] == f"[base64 image redacted, {(len(PICTURE) - 22) * 3 // 4} bytes]"
    assert told == tool.replace(PICTURE, part["image_url"]["url"])


@pytest.mark.parametrize("data", ["A" * 1_234_567, "A" * 499_999 + "=", "A\n" * 500_000, "a" * 500_000])
def test_base64_of_any_length_is_redacted(data: str) -> None:
    shown = redaction.redact_media({"type": "audio", "data": data})
    assert shown["data"].startswith("[base64 audio redacted, ")
    for text in (f"{data}!", f"!{data}", f"{data[:600_000]}!{data}"):
        assert redaction.redact_media({"type": "audio", "data": text}) == {"type": "audio", "data": text}


@pytest.mark.parametrize("before", [0, 1, 76, 77, 78, 5_000])
@pytest.mark.parametrize("digits", [309, 310, 400])
def test_numbers_too_large_for_posthog_are_found_wherever_they_stand(before: int, digits: int) -> None:
    written = json.loads(sanitize.dumps({"a": "x" * before, "b": int("9" * digits), "c": "y" * 10_000}))
    assert written["b"] == "[number out of range]"
    assert json.loads(sanitize.dumps({"a": "x" * before, "b": "9" * digits})) == {"a": "x" * before, "b": "9" * digits}
    assert json.loads(sanitize.dumps([7] * 10_000 + [10**308])) == [7] * 10_000 + [10**308]


@pytest.mark.parametrize("filler", [0, 200_000])
def test_nesting_is_bounded_in_small_events_and_in_large_ones(filler: int) -> None:
    deep: Any = []
    for _ in range(94):
        deep = [deep]
    event = {"filler": "x" * filler, "deep": deep, "wide": [[]] * 200}
    assert json.loads(sanitize.dumps(event)) == event
    assert b"nested too deeply" in sanitize.dumps({**event, "deep": [deep]})


def test_a_text_put_together_of_many_pieces_keeps_its_ends() -> None:
    pieces = ["begin", *["words " * 1_000] * 3_000, "end"]  # 18 MB
    text = bodies.put_together(pieces)
    assert len(text) < 8_000_000
    assert text.startswith("beginwords words")
    assert text.endswith("words end")
    kept = len(text) - len("... [") - len(" characters truncated] ...") - len(str(18_000_008))
    assert f"... [{18_000_008 - kept} characters truncated] ..." in text
    assert bodies.put_together(["a", "", "b"]) == "ab"


# --- what is too large to be held at all ---

LARGE = 100 * 1024 * 1024
MAX_ADDED_KB = 64 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "unit", ["some words ", "iVBORw0KGgo", 'he said \\"well\\" \\n'], ids=["text", "base64", "quotes"]
)
def test_the_memory_of_the_program_hardly_grows_by_a_large_answer(run_program, unit: str) -> None:
    """Nor by the next one while the first still waits for its delivery."""
    answer = (
        b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
        b'"message":{"role":"assistant","content":"' + unit.encode() * (LARGE // len(unit)) + b'"}}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
    )

    def give(request: Request) -> Answer:
        return Answer(200, {"content-type": "application/json"}, answer)

    server = LoopbackServer(give)
    source = """
        from openai import OpenAI
        import gc, sys, time
        def kilobytes(name):
            with open("/proc/self/status") as status:
                return int(status.read().split(name + ":")[1].split()[0])
        client = OpenAI()
        before = kilobytes("VmRSS")
        for number in range(2):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
            gc.collect()
            for _ in range(200):  # what is not for the event goes, though nothing is sent
                if "posthog_autoinstrument" not in sys.modules or kilobytes("VmRSS") < before + MAX_ADDED_KB:
                    break
                time.sleep(0.01)
        print(kilobytes("VmHWM"))
    """
    environ = {
        "OPENAI_BASE_URL": server.url + "/v1",
        "POSTHOG_AUTOINSTRUMENT_FLUSH_INTERVAL_S": "3600",
        # What is freed goes back to the system at once: glibc keeps it below whatever small object was made last.
        "MALLOC_MMAP_THRESHOLD_": "16384",
    }
    source = source.replace("MAX_ADDED_KB", str(MAX_ADDED_KB))
    try:
        bare = run_program(source, launched=False, env=environ)
        launched = run_program(source, env=environ)
    finally:
        server.close()
    assert int(launched.stdout) - int(bare.stdout) < MAX_ADDED_KB, launched.stderr
    assert launched.stderr == ""
    assert len(launched.events) == 2
    for event in launched.events:
        assert event["properties"]["$ai_model"] == "m"
        if "quotes" not in unit and "\\" not in unit:
            assert event["properties"]["$ai_output_tokens"] == 4
            (choice,) = event["properties"]["$ai_output_choices"]
            assert "bytes truncated" in json.dumps(choice) or "base64" in json.dumps(choice)


def test_what_is_bounded_keeps_all_but_the_middles() -> None:
    body = chat("a b " * 20_000_000, "short", PICTURE * 3, "c d " * 10_000)
    cut = bodies.bounded(body)
    assert cut is not None
    assert len(cut) <= bodies.MAX_BYTES + 1_000
    long, short, picture, last = contents(cut)
    assert (short, last) == ("short", "c d " * 10_000)
    assert long.startswith("a b a b ")
    assert "bytes truncated" in long
    assert picture.startswith("data:image/png;base64,")
    assert len(picture) < 300


def test_what_cannot_be_bounded_quickly_is_left_out() -> None:
    body = chat(*["a b"] * 3_000_000)
    assert bodies.bounded(body) is None  # quickly: the suite's own timeout would end it
