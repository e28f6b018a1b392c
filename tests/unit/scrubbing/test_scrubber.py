"""The scrubber: what is taken out of everything of the program's, what stays, and that no text keeps it busy."""

from __future__ import annotations

import base64
import json
import random
import re
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from support.programs import Ran

from posthog_autoinstrument import posthog_context, posthog_span
from posthog_autoinstrument.scrubbing import secret_texts
from posthog_autoinstrument.scrubbing.scrubber import scrub, scrub_path, scrub_properties
from posthog_autoinstrument.scrubbing.secret_texts import scrub_text

HIDDEN = "[REDACTED]"
SECRET = "hunter2hunter"
SECRET_NAMES = """
password passwd pwd db_password dbPassword PGPASSWORD smtp_pass secret client_secret clientSecret token
access_token accessToken refresh_token id_token X-Auth-Token github_token api_key apikey apiKey API-KEY
OPENAI_API_KEY OPENAI_KEY x-api-key X-Goog-Api-Key authorization Authorization Proxy-Authorization cookie Set-Cookie
 private_key privateKey credentials aws_secret_access_key AWS_SESSION_TOKEN AccountKey SharedAccessKey
X-Amz-Security-Token Ocp-Apim-Subscription-Key csrf_token service.db.password access_tokens
auth_header tls_key deploy_key dbpass APITOKEN
"""
OTHER_NAMES = """
max_tokens token_count tokenizer tokens prompt_tokens total_tokens maxTokens eos_token token_type key keys
name author authors secretary passage compass bypass monkey keyboard password_policy access_key_id secret_name
auth_type authenticated key_value pass pass_rate auth_method authorization_status password_strength cookie_consent
"""


@pytest.mark.parametrize(
    "name",
    SECRET_NAMES.split(),
)
def test_names_whose_values_are_credentials(name: str) -> None:
    assert scrub({"a": [{name: SECRET}]}) == {"a": [{name: HIDDEN}]}
    for kept in (12, 1.5, True, False, None, [1, 2], {}):
        assert scrub({name: kept}) == {name: kept}
    assert scrub({name: [SECRET, {"x": SECRET, "n": 1}]}) == {name: [HIDDEN, {"x": HIDDEN, "n": 1}]}
    assert scrub_text(f"failed with {name}={SECRET} in it") == f"failed with {name}={HIDDEN} in it"
    assert scrub_text(json.dumps({name: SECRET, "b": "c"})) == json.dumps({name: HIDDEN, "b": "c"})


@pytest.mark.parametrize(
    "name",
    OTHER_NAMES.split(),
)
def test_names_whose_values_stay(name: str) -> None:
    assert scrub({name: "a word"}) == {name: "a word"}


TEXTS = [
    ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {HIDDEN}"),
    ("curl -H 'authorization: Basic dTpw'", f"curl -H 'authorization: Basic {HIDDEN}'"),
    ('Authorization: Digest username="u", response="abc"\nnext', f"Authorization: {HIDDEN}\nnext"),
    ("Cookie: sessionid=abc; theme=dark", f"Cookie: {HIDDEN}"),
    (f"Basic {base64.b64encode(b'user:pass').decode()} went", f"Basic {HIDDEN} went"),
    ("key sk-proj-abcDEF123_456-x.", f"key {HIDDEN}."),
    ("phx_0123456789abcdef", HIDDEN),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl", HIDDEN),
    ("AKIAIOSFODNN7EXAMPLE and ghp_0123456789abcdefghij", f"{HIDDEN} and {HIDDEN}"),
    ("xoxb-123456789012-abc", HIDDEN),
    ("postgres://u:p@h:5432/db?sslmode=require", "postgres://h:5432/db?sslmode=require"),
    ("postgresql+asyncpg://user:p@ss/w:rd@db.example/x", "postgresql+asyncpg://db.example/x"),
    ("redis://:hunter2@cache:6379/0", "redis://cache:6379/0"),
    ("mongodb+srv://u:p@a,b/db", "mongodb+srv://a,b/db"),
    ("https://me:pw@h/v1", "https://h/v1"),
    ("https://x-access-token:abc@github.com/a/b", "https://github.com/a/b"),
    (
        "https://b.s3.amazonaws.com/x?X-Amz-Credential=AK%2F1&X-Amz-Expires=60&X-Amz-Signature=abcdef",
        f"https://b.s3.amazonaws.com/x?X-Amz-Credential={HIDDEN}&X-Amz-Expires=60&X-Amz-Signature={HIDDEN}",
    ),
    ("https://a/c?sv=2020&sig=abc%3D&se=1", f"https://a/c?sv=2020&sig={HIDDEN}&se=1"),
    ("https://a/c?Expires=1&Signature=abc~&Key-Pair-Id=K", f"https://a/c?Expires=1&Signature={HIDDEN}&Key-Pair-Id=K"),
    ("https://a/c?token=abc&page=2", f"https://a/c?token={HIDDEN}&page=2"),
    ("AccountName=x;AccountKey=a+b/==;EndpointSuffix=core", f"AccountName=x;AccountKey={HIDDEN};EndpointSuffix=core"),
    ("Endpoint=sb://x/;SharedAccessKey=zzz=", f"Endpoint=sb://x/;SharedAccessKey={HIDDEN}"),
    ("Server=tcp:x;User ID=u;Password=p{a(b;Timeout=3", f"Server=tcp:x;User ID=u;Password={HIDDEN};Timeout=3"),
    ("host=h user=u password=hunter2 dbname=d", f"host=h user=u password={HIDDEN} dbname=d"),
    ("Client(api_key='zzz', timeout=5)", f"Client(api_key='{HIDDEN}', timeout=5)"),
    ("[(b'authorization', b'Bearer zzz'), (b'host', b'a')]", f"[(b'authorization', b'{HIDDEN}'), (b'host', b'a')]"),
    ('{"args": "{\\"password\\": \\"hunter2\\"}"}', f'{{"args": "{{\\"password\\": \\"{HIDDEN}\\"}}"}}'),
    ("--password hunter2 --token=abc --verbose", f"--password {HIDDEN} --token={HIDDEN} --verbose"),
    ('export OPENAI_API_KEY="abc"', f'export OPENAI_API_KEY="{HIDDEN}"'),
    ("AWS_SECRET_ACCESS_KEY=wJalr/xyz+1", f"AWS_SECRET_ACCESS_KEY={HIDDEN}"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\n",
        f"-----BEGIN RSA PRIVATE KEY-----{HIDDEN}-----\n",
    ),
    ("https://maps.example/api/js?key=abcdef&v=3", f"https://maps.example/api/js?key={HIDDEN}&v=3"),
    ("https://a/cb?state=1&code=abcdef", f"https://a/cb?state=1&code={HIDDEN}"),
    ("https://hooks.slack.com/services/T000/B000/XXXX", f"https://hooks.slack.com/services/{HIDDEN}"),
    ("https://api.telegram.org/bot123:abcdefgh/getMe", f"https://api.telegram.org/bot{HIDDEN}/getMe"),
    ("GOCSPX-abcdefghijklmnopqrstuv, hvs.CAESIabcdefghijklmno", f"{HIDDEN}, {HIDDEN}"),
    ("<user>u</user><password>hunter2</password>", f"<user>u</user><password>{HIDDEN}</password>"),
    ("password: banana, and", f"password: {HIDDEN}, and"),
    ("UID=sa;PWD={a;b};Timeout=3", f"UID=sa;PWD={HIDDEN};Timeout=3"),
    ("-----BEGIN PRIVATE KEY-----\\nMIIEabc\\n", f"-----BEGIN PRIVATE KEY-----{HIDDEN}"),
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_what_looks_like_a_credential(text: str, shown: str) -> None:
    assert scrub_text(text) == shown
    assert scrub_text(shown) == shown
    inside = f"{'x ' * 40_000}{text}\n.\n{'y ' * 40_000}"
    assert scrub_text(inside) == inside.replace(text, shown)


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-****************3x4A. You can find",
        "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)",
        "risk-assessment1 of task-12345678 failed",
        "Basic subscription, the token of my esteem: none",
        "def f(token: str, password: str = None): return get(token = token)",
        "The secret of life: 42. The key: value. Max tokens: 5",
        "https://example.com/a?page=2&sort=key",
        "somebody@example.com",
        "-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----",
        "0198c3f2-aaaa-7bbb-8ccc-0123456789ab",
        "s3://bucket/a@b",
        "password: required, token: required",
    ],
)
def test_what_only_looks_similar(text: str) -> None:
    assert scrub_text(text) == text


def test_texts_in_the_place_of_a_name_are_not_remembered() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(100):
            with posthog_context(properties={"pair": [f"{number} {'document ' * 5_000}", "x"]}):
                pass
        assert tracemalloc.get_traced_memory()[0] - before < 1_000_000  # of 4,500,000
    finally:
        tracemalloc.stop()


def test_a_schema_is_no_credential_and_only_what_changes_is_copied() -> None:
    schema = {"type": "object", "properties": {"password": {"type": "string", "description": "x"}}}
    assert scrub(schema) is schema
    value = {
        "kept": schema,
        "headers": [["Authorization", "x"], ["Host", "a"]],
        "h": {"name": "X-Api-Key", "value": "x"},
    }
    found = scrub(value)
    assert found["kept"] is schema
    assert found["headers"] == [["Authorization", HIDDEN], ["Host", "a"]]
    assert found["h"] == {"name": "X-Api-Key", "value": HIDDEN}
    assert scrub({"sk-0123456789abcdef": 1}) == {HIDDEN: 1}


@pytest.mark.parametrize(
    ("path", "route", "shown"),
    [
        ("/reset/abc123def", None, f"/reset/{HIDDEN}"),
        ("/reset/abc123def", "/reset/{token}", "/reset/{token}"),
        ("/reset/abc123def", "reset/<str:token>", "/reset/<str:token>"),
        ("/orders/42", "/orders/{id}", "/orders/42"),
        ("/verify/12", "/verify/{code}", "/verify/12"),
        ("/u/0198c3f2-aaaa-7bbb-8ccc-0123456789ab", None, "/u/0198c3f2-aaaa-7bbb-8ccc-0123456789ab"),
        ("/x/a8f5f167f44f4964e6c998dee827110c/y", None, f"/x/{HIDDEN}/y"),
        ("/blog/how-to-reset-2024-passwords", None, "/blog/how-to-reset-2024-passwords"),
    ],
)
def test_paths_of_requests(path: str, route: str | None, shown: str) -> None:
    assert scrub_path(path, route) == shown
    own = {"$request_path": path, "$current_url": f"https://h{path}"}
    found = scrub_properties({**own, **({"$request_route": route} if route else {})})
    assert found["$request_path"] == shown
    assert found["$current_url"] == f"https://h{shown}"


def test_ids_that_are_credentials_name_nobody_and_still_group() -> None:
    ids = frozenset(("trace", "session"))
    one = scrub_properties({"trace": "sk-0123456789abcdef", "session": "mine"}, ids=ids)
    assert one["session"] == "mine"
    assert re.fullmatch(r"redacted-[0-9a-f]{16}", one["trace"])
    assert scrub_properties({"trace": "sk-0123456789abcdef"}, ids=ids) == {"trace": one["trace"]}


UNITS = [
    *(
        "sk-",
        "eyJ",
        "eyJaaaaaaaaa.",
        "Bearer ",
        "Basic ",
        "://",
        "://a@",
        "x://a:b",
        "AKIA",
        "gsk_",
        "password",
        "secret=",
    ),
    *(
        "password=",
        'password="\\',
        "token ",
        "keykey",
        "secret_",
        "a.token.",
        "--token ",
        "('token','",
        "?sig=",
        "&key=",
    ),
    *(
        "-----BEGIN PRIVATE KEY-----",
        "authorization: ",
        "cookie: a",
        "sk-1 ",
        "password=a ",
        "\u0130key=",
        "auth:",
        '"',
    ),
]


@pytest.mark.parametrize("unit", UNITS)
def test_no_text_takes_time_by_the_square_of_its_length(unit: str) -> None:
    """Twice the text, at most some three times the steps: lines that run, in place of a clock."""

    def steps(n_units: int) -> int:
        count = 0

        def tracer(frame: Any, event: str, argument: Any) -> Any:
            nonlocal count
            count += 1
            return tracer

        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            scrub_text(unit * n_units + "*")
        finally:
            sys.settrace(before)
        return count

    n_units = 20_000 // len(unit)
    assert steps(2 * n_units) <= 3 * steps(n_units) + 1_000


@pytest.mark.parametrize("unit", UNITS)
def test_no_expression_is_given_more_than_a_slice(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's `re` keeps the interpreter for the whole of a call: each class of characters is followed in slices."""
    asked = [0]
    for name, pattern in vars(secret_texts).items():
        if isinstance(pattern, re.Pattern):
            monkeypatch.setattr(secret_texts, name, _Watched(pattern, asked))
    text = unit * (240_000 // len(unit))
    scrub_text(text)
    assert max(asked) <= 32_768


class _Watched:
    """A pattern that notes how far its matches reach."""

    def __init__(self, pattern: re.Pattern[str], asked: list[int]) -> None:
        self._pattern = pattern
        self._asked = asked

    def match(self, text: str, *place: int) -> re.Match[str] | None:
        found = self._pattern.match(text, *place)
        self._asked.append(found.end() - found.start() if found is not None else 0)
        return found

    search = fullmatch = findall = match


def test_random_mixtures_hide_what_is_planted_and_scrub_once() -> None:
    numbers = random.Random(5)
    for _ in range(300):
        around = ["".join(numbers.choices([*UNITS, " ", "\n", "a", ", ", "; "], k=8)) for _ in range(2)]
        text = f"{around[0]}\n password={SECRET}\n{around[1]}"
        once = scrub_text(text)
        assert SECRET not in once, text
        assert scrub_text(once) == once, text


# --- through the public door ---

PLACES = """
import collections, json, os, subprocess, sys
import openai
from posthog_autoinstrument import posthog_context, posthog_span, capture_metric
S = "hunter2hunter"
URL = f"postgres://u:{S}@db/x"

Login = collections.namedtuple("Login", "user password")

@posthog_span("step", "tool")
def step(password, config, *rest, **more):
    return {"client_secret": S, "said": f"token={S}", "max_tokens": 5, "kept": "plain"}

class Config:
    def __repr__(self):
        return f"Config(api_key='{S}', region='eu')"

with posthog_context(
    distinct_id="ann@example.com", session_id="s-1",
    properties={"db_password": S, "url": URL, "nested": {"headers": {"Authorization": S}}, "plan": "pro",
                "max_tokens": 7},
    groups={"company": f"https://x/?token={S}"}, span_name=f"Bearer {S}",
):
    openai.OpenAI().chat.completions.create(model="m", messages=[{"role": "user", "content": f"my password={S}"}])
    step(S, Config(), URL, access_token=S, n=3)
    with posthog_span(f"load {URL}") as span:
        span.set_input([("Cookie", S), {"name": "X-Api-Key", "value": S}, {"Name": "DB_PASSWORD", "Value": S},
                        Login("ann", S)])
        span.set_property("aws_secret_access_key", S)
    try:
        with posthog_span("failing"):
            raise ValueError(f"cannot connect with password={S}")
    except ValueError:
        pass
    capture_metric("note", f"secret: {S}")
    child = "import os; print(os.environ['POSTHOG_AUTOINSTRUMENT_CONTEXT'])"
    print(subprocess.run([sys.executable, "-S", "-c", child], capture_output=True, text=True).stdout)
"""


def by_name(events: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [event["properties"] for event in events if event["properties"].get("$ai_span_name") == name]
    return found


def test_everything_of_the_programs_is_scrubbed_but_what_was_said(run_program: Callable[..., Ran]) -> None:
    ran = run_program(PLACES)
    assert ran.returncode == 0, ran.stderr
    (call,) = [event["properties"] for event in ran.events if event["event"] == "$ai_generation"]
    assert call["$ai_input"] == [{"role": "user", "content": f"my password={SECRET}"}]
    rest = [
        {**event, "properties": {**event["properties"], "$ai_input": None, "$ai_output_choices": None}}
        for event in ran.events
    ]
    assert [name for event in rest for name, value in event["properties"].items() if SECRET in str(value)] == []
    assert SECRET not in json.dumps(rest)
    assert SECRET not in ran.stdout + ran.stderr
    assert call["nested"] == {"headers": {"Authorization": HIDDEN}}
    assert (call["plan"], call["max_tokens"], call["db_password"]) == ("pro", 7, HIDDEN)
    assert call["url"] == "postgres://db/x"
    assert {event["distinct_id"] for event in ran.events} == {"ann@example.com"}
    step = by_name(ran.events, "step")
    assert step["$ai_input_state"] == {
        "password": HIDDEN,
        "config": f"Config(api_key='{HIDDEN}', region='eu')",
        "rest": ["postgres://db/x"],
        "more": {"access_token": HIDDEN, "n": 3},
    }
    assert step["$ai_output_state"]["said"] == f"token={HIDDEN}"
    assert (step["$ai_output_state"]["max_tokens"], step["$ai_output_state"]["kept"]) == (5, "plain")
    assert by_name(ran.events, "failing")["$ai_error"] == f"cannot connect with password={HIDDEN}"
    assert by_name(ran.events, "load postgres://db/x")["$ai_input_state"] == [
        ["Cookie", HIDDEN],
        {"name": "X-Api-Key", "value": HIDDEN},
        {"Name": "DB_PASSWORD", "Value": HIDDEN},
        ["ann", HIDDEN],
    ]
    assert json.loads(ran.stdout)["properties"]["plan"] == '"pro"'


def test_more_names_and_switched_off(run_program: Callable[..., Ran]) -> None:
    source = """
    from posthog_autoinstrument import posthog_span
    with posthog_span("s", properties={"cardNumber": "4111", "iban": "DE1", "password": "x"}) as span:
        span.set_input("iban: DE12345, password=y")
    """
    (more,) = run_program(source, env={"POSTHOG_AUTOINSTRUMENT_SCRUB": "iban,card number"}).events
    found = more["properties"]
    assert (found["cardNumber"], found["iban"], found["password"]) == (HIDDEN, HIDDEN, HIDDEN)
    assert found["$ai_input_state"] == f"iban: {HIDDEN}, password={HIDDEN}"
    (off,) = run_program(source, env={"POSTHOG_AUTOINSTRUMENT_SCRUB": "0"}).events
    found = off["properties"]
    assert (found["cardNumber"], found["iban"], found["password"]) == ("4111", "DE1", "x")
    assert found["$ai_input_state"] == "iban: DE12345, password=y"


def test_a_distinct_id_that_is_a_credential_names_nobody(client: Any, captured: Callable[..., Any]) -> None:
    with posthog_context(distinct_id="sk-proj-0123456789abcdef"), posthog_span("s"):
        pass
    (event,) = captured(1)
    assert event["distinct_id"] == event["properties"]["$ai_trace_id"]
    assert event["properties"]["$process_person_profile"] is False
