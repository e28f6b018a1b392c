"""Requests to services that the user lists tell of the open context; what they tell is read on the other side."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthog_autoinstrument.context import headers as context_headers
from posthog_autoinstrument.context.fields import Fields
from posthog_autoinstrument.propagation import http_headers
from posthog_autoinstrument.testing import Answer, LoopbackServer, Request

UUID = "0af76519-16cd-43dd-8448-eb211c80319c"
HEX = UUID.replace("-", "")
SPAN = "b7ad6b71-6920-4331-9c1e-0242ac120002"

BY_HTTPX = "def get(url, headers={}): return HTTPX.get(url, headers=headers, follow_redirects=True).request.headers"
GET = {
    "requests": "def get(url, headers={}): return requests.get(url, headers=headers).request.headers",
    "httpx": BY_HTTPX.replace("HTTPX", "httpx"),
    "httpx2": BY_HTTPX.replace("HTTPX", "httpx2"),
    "httpx async": """
        async def go(url, headers):
            async with httpx.AsyncClient(follow_redirects=True) as client:
                return (await client.get(url, headers=headers)).request.headers
        def get(url, headers={}): return asyncio.run(go(url, headers))
    """,
    "aiohttp": """
        async def go(url, headers):
            async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
                await answer.read()
                return {}  # what it shows is the request as it was sent
        def get(url, headers={}): return asyncio.run(go(url, headers))
    """,
}


@pytest.fixture
def services() -> Iterator[tuple[LoopbackServer, LoopbackServer]]:
    """A service that is listed, which redirects `/away` to another one that is not."""
    foreign = LoopbackServer(lambda request: Answer(body={}))

    def answer(request: Request) -> Answer:
        if request.path == "/away":
            return Answer(302, {"location": foreign.url.replace("127.0.0.1", "localhost") + "/there"})
        return Answer(body={})

    listed = LoopbackServer(answer)
    yield listed, foreign
    listed.close()
    foreign.close()


@pytest.mark.parametrize("name", GET)
def test_a_listed_service_is_told_and_nobody_else(name, run_program, services, openai_server):
    package = name.partition(" ")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    listed, foreign = services
    ran = run_program(
        f"import asyncio, {package}, openai\nfrom posthog_autoinstrument import posthog_context, posthog_span\n"
        + textwrap.dedent(GET[name])
        + textwrap.dedent(
            f"""
            get("{listed.url}/nobody")
            with posthog_context("ada, ü", session_id="chat-7"), posthog_span("step"):
                shown = get("{listed.url}/plain")
                print([name for name in shown if name.lower() in ("traceparent", "baggage")])
                get("{listed.url}/away")
                get("{foreign.url}/foreign")
                own = {{"traceparent": "00-{"1" * 32}-{"2" * 16}-00", "Baggage": "a=1,posthog.distinct_id=theirs"}}
                get("{listed.url}/own", own)
                print(own["Baggage"])
                with posthog_context(trace_id="order 1001", privacy_mode=True):
                    get("{listed.url}/text")
                openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[])
            """
        ),
        env={"POSTHOG_AUTOINSTRUMENT_PROPAGATE_HOSTS": f"api.example, {listed.url.removeprefix('http://')}"},
    )
    assert ran.stdout == "[]\na=1,posthog.distinct_id=theirs\n", ran.stderr
    (span,) = (event["properties"] for event in ran.events if event["event"] == "$ai_span")
    got = {request.path: request.headers for request in listed.requests}
    told = context_headers.extract(got["/plain"].get)
    assert vars(told) == vars(
        Fields(distinct_id="ada, ü", trace_id=span["$ai_trace_id"], session_id="chat-7", parent_id=span["$ai_span_id"])
    )
    trace, parent = got["/plain"]["traceparent"].split("-")[1:3]
    assert trace == span["$ai_trace_id"].replace("-", "")
    assert span["$ai_span_id"].replace("-", "").startswith(parent)
    assert context_headers.extract(got["/away"].get).trace_id == span["$ai_trace_id"]
    assert got["/own"]["traceparent"] == f"00-{'1' * 32}-{'2' * 16}-00"
    assert got["/own"]["baggage"].startswith("a=1,posthog.distinct_id=theirs,posthog.trace_id=")
    assert context_headers.extract(got["/own"].get).trace_id == span["$ai_trace_id"]
    text = context_headers.extract(got["/text"].get)
    assert (text.trace_id, text.parent_id, text.privacy_mode) == ("order 1001", None, True)
    assert "traceparent" not in got["/text"]
    untold = [got["/nobody"], *(request.headers for request in (*foreign.requests, *openai_server.requests))]
    assert len(untold) == 4
    assert not [headers for headers in untold if "traceparent" in headers or "baggage" in headers]


def test_without_a_list_no_client_is_patched(run_program):
    ran = run_program(
        "import requests\nfrom posthog_autoinstrument import posthog_context\n"
        "print(hasattr(requests.adapters.HTTPAdapter.send, '__wrapped__'))"
    )
    assert ran.stdout == "False\n"


@pytest.mark.parametrize(
    ("url", "listed", "expected"),
    [
        ("http://a.example/x", "a.example", True),
        ("http://A.Example:8080/x", "a.example", True),
        ("http://a.example/x", "a.example:80", True),
        ("https://a.example/x", "a.example:443", True),
        ("https://a.example/x", "a.example:80", False),
        ("http://b.a.example/", "a.example", False),
        ("http://a.example@b.example/", "a.example", False),
        ("http://a.example.evil/", "a.example", False),
        ("http://[::1]:80/", "[::1]", True),
        ("", "a.example", False),
    ],
)
def test_what_is_listed(url, listed, expected):
    assert http_headers.is_listed(url, frozenset([listed])) is expected


class TestWrite:
    def test_a_uuid_is_the_trace_id_of_the_w3c(self):
        headers = context_headers.inject(Fields(trace_id=UUID, parent_id=SPAN, distinct_id="ada"), {}.get)
        assert headers == {
            "traceparent": f"00-{HEX}-b7ad6b7169204331-01",
            "baggage": f"posthog.trace_id={UUID},posthog.parent_id={SPAN},posthog.distinct_id=ada",
        }

    def test_other_trace_ids_travel_in_baggage(self):
        assert context_headers.inject(Fields(trace_id="order, 1%"), {}.get) == {
            "baggage": "posthog.trace_id=order%2C%201%25"
        }

    def test_baggage_that_would_be_too_long_is_left_as_it_is(self):
        before = "a=" + "x" * (context_headers.MAX_BAGGAGE - 10)
        assert context_headers.inject(Fields(distinct_id="ada"), {"baggage": before}.get) == {}

    def test_an_id_that_is_too_long_is_not_told(self):
        assert context_headers.inject(Fields(distinct_id="x" * 1001, session_id="s"), {}.get) == {
            "baggage": "posthog.session_id=s"
        }


def read(baggage: Any, traceparent: Any = None) -> dict[str, Any] | None:
    """What is said by two headers, without what is not."""
    found = context_headers.extract({"baggage": baggage, "traceparent": traceparent}.get)
    return None if found is None else {name: value for name, value in vars(found).items() if value}


class TestRead:
    def test_among_the_baggage_of_others(self):
        assert read("a=1;p=2, posthog.distinct_id = ada%20b ;x=y ,b=2") == {"distinct_id": "ada b"}

    def test_the_trace_of_the_traceparent_next_to_ours(self):
        assert read("posthog.distinct_id=ada", f"00-{HEX}-{'1' * 16}-01") == {"distinct_id": "ada", "trace_id": UUID}
        assert read("posthog.trace_id=t", f"00-{HEX}-{'1' * 16}-01") == {"trace_id": "t"}

    def test_a_traceparent_alone_is_somebody_elses(self):
        assert read(None, f"00-{HEX}-{'1' * 16}-01") is None
        assert read("a=1", f"00-{HEX}-{'1' * 16}-01") is None

    @pytest.mark.parametrize(
        "traceparent",
        ["", "x", f"00-{HEX}", f"00-{'0' * 32}-{'1' * 16}-01", f"ff-{HEX}-{'1' * 16}-01", f"00-{HEX}-{'1' * 16}-01-x",
         f"00-{HEX.upper()}-{'1' * 16}-01", f"00-{HEX}-{'1' * 16}-01\n", 7],
    )  # fmt: skip
    def test_a_traceparent_that_is_none(self, traceparent):
        assert read("posthog.distinct_id=ada", traceparent) == {"distinct_id": "ada"}

    def test_a_version_to_come(self):
        assert read("posthog.distinct_id=a", f"01-{HEX}-{'1' * 16}-01-more")["trace_id"] == UUID

    @pytest.mark.parametrize(
        "value",
        ["", "%", "%2", "%zz", "a%", "%ff", "%c3", "%00", "a%0Ab", "a%1b%5b31m", "%E2%80%A8", "x" * 1001, "%20",
         "%61" * 1001, "%C3%BC" * 1001, "x" * 8000, "a\nb", "\x7f"],
    )  # fmt: skip
    def test_a_value_that_is_none_is_left_out_by_itself(self, value):
        assert read(f"posthog.session_id=s,posthog.distinct_id={value}") == {"session_id": "s"}

    @pytest.mark.parametrize("baggage", [None, 7, b"", "posthog.", "posthog.=x", "posthog.x=1", ",,,=", "a" * 10**6])
    def test_nothing_of_ours(self, baggage):
        assert read(baggage) is None

    def test_the_longest_that_is_an_id(self):
        assert read(f"posthog.distinct_id={'%C3%BC' * 1000}") == {"distinct_id": "ü" * 1000}

    def test_8_kib_and_more_of_baggage(self):
        before = "posthog.distinct_id=ada," + ",".join(f"k{n}=v" for n in range(2000))
        assert read(before + ",posthog.session_id=s") == {"distinct_id": "ada"}
        room = context_headers.MAX_BAGGAGE - len(",posthog.session_id=s")
        assert read("k=" + "v" * (room - 2) + ",posthog.session_id=s") == {"session_id": "s"}

    def test_a_parent_without_a_trace_is_none(self):
        assert read("posthog.parent_id=p,posthog.distinct_id=a") == {"distinct_id": "a"}

    def test_the_first_of_two_counts(self):
        assert read("posthog.distinct_id=a,posthog.distinct_id=b") == {"distinct_id": "a"}

    def test_headers_of_bytes(self):
        assert read(b"posthog.distinct_id=ada") == {"distinct_id": "ada"}

    @given(st.text(), st.text())
    def test_anything_at_all(self, baggage, traceparent):
        read("posthog.distinct_id=" + baggage, traceparent)
        read(quote("posthog.") + baggage, traceparent)

    PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=100)

    @given(st.dictionaries(st.sampled_from(context_headers.IDS), PRINTABLE))
    def test_what_was_written_is_read(self, ids):
        said = {"trace_id": "t", **ids}
        found = context_headers.extract(context_headers.inject(Fields(**said), {}.get).get)
        assert {name: value for name, value in vars(found).items() if value} == said
