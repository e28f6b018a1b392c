"""What calls cost. Expected costs are computed by hand from the providers' public price pages, in USD per million."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from support.programs import environment
from support.stored import NOON, call, write

from posthog_autoinstrument.store.prices import Prices, PricesError
from posthog_autoinstrument.store.queries import Queries
from posthog_autoinstrument.store.selection import Selection
from posthog_autoinstrument.testing import OpenAIServer

genai_prices = pytest.importorskip("genai_prices")

# developers.openai.com/api/docs/pricing and the pages of its models; docs.anthropic.com/en/docs/about-claude/pricing;
# ai.google.dev/gemini-api/docs/pricing. As of 2026-11, and earlier where a line says so.
MODELS: list[tuple[str, dict[str, Any], float]] = [
    # input 2.50, cached 1.25, output 10: 800 * 2.50 + 200 * 1.25 + 500 * 10 = 2000 + 250 + 5000
    ("gpt-4o", {"input_tokens": 1000, "cache_read_input_tokens": 200, "output_tokens": 500}, 7250),
    # 0.15, 0.60: 1000 * 0.15 + 500 * 0.60 = 150 + 300
    ("gpt-4o-mini-2024-07-18", {"input_tokens": 1000, "output_tokens": 500}, 450),
    # the first gpt-4o, 5 and 15: 1000 * 5 + 500 * 15 = 5000 + 7500
    ("gpt-4o-2024-05-13", {"input_tokens": 1000, "output_tokens": 500}, 12_500),
    # 2, cached 0.50, 8: 400 * 2 + 600 * 0.50 + 100 * 8 = 800 + 300 + 800
    ("gpt-4.1", {"input_tokens": 1000, "cache_read_input_tokens": 600, "output_tokens": 100}, 1900),
    # 0.40, 1.60: 1000 * 0.40 + 1000 * 1.60
    ("gpt-4.1-mini", {"input_tokens": 1000, "output_tokens": 1000}, 2000),
    # 0.10, cached 0.025, 0.40: 1000 * 0.025 + 10 * 0.40 = 25 + 4
    ("gpt-4.1-nano", {"input_tokens": 1000, "cache_read_input_tokens": 1000, "output_tokens": 10}, 29),
    # 1.25, 10, and reasoning is output: 1000 * 1.25 + 2000 * 10 = 1250 + 20000
    ("gpt-5", {"input_tokens": 1000, "output_tokens": 2000, "reasoning_tokens": 1900}, 21_250),
    # flex is half of it: 1000 * 0.625 + 2000 * 5
    ("gpt-5", {"input_tokens": 1000, "output_tokens": 2000, "service_tier": "flex"}, 10_625),
    # 0.25, cached 0.025, 2: 500 * 0.25 + 500 * 0.025 + 100 * 2 = 125 + 12.5 + 200
    ("gpt-5-mini", {"input_tokens": 1000, "cache_read_input_tokens": 500, "output_tokens": 100}, 337.5),
    # 0.05, 0.40
    ("gpt-5-nano", {"input_tokens": 1000, "output_tokens": 1000}, 450),
    # 15, 120: 100 * 15 + 100 * 120
    ("gpt-5-pro", {"input_tokens": 100, "output_tokens": 100}, 13_500),
    # 1.75, cached 0.175, 14: 900 * 1.75 + 100 * 0.175 + 50 * 14 = 1575 + 17.5 + 700
    ("gpt-5.2", {"input_tokens": 1000, "cache_read_input_tokens": 100, "output_tokens": 50}, 2292.5),
    # 15, cached 7.50, 60: 500 * 15 + 500 * 7.50 + 100 * 60 = 7500 + 3750 + 6000
    ("o1", {"input_tokens": 1000, "cache_read_input_tokens": 500, "output_tokens": 100}, 17_250),
    # since 2025-06-10: 2 and 8
    ("o3", {"input_tokens": 1000, "output_tokens": 100}, 2800),
    # before: 10 and 40
    ("o3", {"input_tokens": 1000, "output_tokens": 100, "at": datetime(2025, 6, 1, tzinfo=timezone.utc)}, 14_000),
    # 1.10, cached 0.55, 4.40: 500 * 1.10 + 500 * 0.55 + 100 * 4.40 = 550 + 275 + 440
    ("o3-mini", {"input_tokens": 1000, "cache_read_input_tokens": 500, "output_tokens": 100}, 1265),
    # 0.50, 1.50
    ("gpt-3.5-turbo-0125", {"input_tokens": 1000, "output_tokens": 1000}, 2000),
    # embeddings: 0.02 and 0.13
    ("text-embedding-3-small", {"name": "embedding", "input_tokens": 1000, "output_tokens": None}, 20),
    ("text-embedding-3-large", {"name": "embedding", "input_tokens": 1000, "output_tokens": None}, 130),
    # text 4, cached 0.40, 16; sound 32, cached 0.40, 64: of 1000 in 600 are sound, of 300 cached 200 are sound
    # text 300 * 4 + 100 * 0.40, sound 400 * 32 + 200 * 0.40, out 50 * 16 + 150 * 64
    # = 1200 + 40 + 12800 + 80 + 800 + 9600
    ("gpt-realtime", {"input_tokens": 1000, "audio_input_tokens": 600, "cache_read_input_tokens": 300,
                      "cache_read_audio_tokens": 200, "output_tokens": 200, "audio_output_tokens": 150}, 24_520),
    # pictures: in 8, out 32, text in 5: 100 * 5 + 900 * 8 + 1000 * 32 = 500 + 7200 + 32000
    ("gpt-image-1.5", {"input_tokens": 1000, "image_input_tokens": 900, "output_tokens": 1000,
                       "image_output_tokens": 1000}, 39_700),
    # 3, written 3.75, read 0.30, 15, counted beside the input: 100 * 3 + 200 * 3.75 + 700 * 0.30 + 100 * 15
    # = 300 + 750 + 210 + 1500
    ("claude-sonnet-4-20250514", {"provider": "anthropic", "input_tokens": 100, "cache_creation_input_tokens": 200,
                                  "cache_read_input_tokens": 700, "output_tokens": 100,
                                  "cache_reporting_exclusive": True}, 2760),
    # 0.80, 4
    ("claude-3-5-haiku-20241022", {"provider": "anthropic", "input_tokens": 1000, "output_tokens": 1000}, 4800),
    # up to 200,000 in 1.25 and 10, above it 2.50 and 15 for all of them: 1000 * 1.25 + 100 * 10
    ("gemini-2.5-pro", {"provider": "gemini", "input_tokens": 1000, "output_tokens": 100}, 2250),
    # 300000 * 2.50 + 100 * 15
    ("gemini-2.5-pro", {"provider": "gemini", "input_tokens": 300_000, "output_tokens": 100}, 751_500),
    # 0.30, 2.50, and reasoning beside the output: 1000 * 0.30 + (8 + 392) * 2.50 = 300 + 1000
    ("gemini-2.5-flash", {"provider": "gemini", "input_tokens": 1000, "output_tokens": 8, "reasoning_tokens": 392},
     1300),
    # 0.30, 2.50
    ("gemini-2.5-flash", {"provider": "vertex", "input_tokens": 1000, "output_tokens": 1000}, 2800),
    # Azure serves OpenAI's at their prices: as gpt-4o above
    ("gpt-4o", {"provider": "azure", "input_tokens": 1000, "output_tokens": 500}, 7500),
]  # fmt: skip


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices.load(None)


def made(model: str, at: datetime | None = None, **use: Any) -> dict[str, Any]:
    return call(at.timestamp() if at else NOON, model=model, **{"base_url": None, "request_url": None, **use})


@pytest.mark.parametrize(("model", "use", "millionths"), MODELS)
def test_costs_are_those_of_the_price_pages(prices: Prices, model: str, use: dict[str, Any], millionths: float) -> None:
    cost = prices.cost(made(model, **use))
    assert cost is not None
    assert cost.total_usd == pytest.approx(millionths / 1_000_000, rel=1e-12)
    assert sum(part.usd for part in cost.parts) == cost.total_usd
    assert cost.source == f"genai-prices {genai_prices.__version__}"
    for part in cost.parts:
        assert part.per_million_usd is not None
        assert part.usd == pytest.approx(part.amount * part.per_million_usd / 1_000_000)


def test_the_table_has_twenty_models() -> None:
    assert len({model for model, _, _ in MODELS}) >= 20


def test_a_bill_has_a_line_for_each_kind_of_token(prices: Prices) -> None:
    cost = prices.cost(made("gpt-5", input_tokens=10, cache_read_input_tokens=4, output_tokens=9, reasoning_tokens=7,
                            web_search_count=2))  # fmt: skip
    assert cost is not None
    assert [(part.name, part.amount) for part in cost.parts] == [
        ("input", 6), ("cached input", 4), ("output", 2), ("reasoning", 7), ("web searches", 2),
    ]  # fmt: skip
    # 10 USD for a thousand searches
    assert cost.parts[-1].usd == pytest.approx(0.02)
    assert cost.model == "gpt-5"


@pytest.mark.parametrize(
    "use",
    [
        {"model": "no-such-model"},
        {"model": None},
        {"model": "gpt-4o", "input_tokens": None, "output_tokens": None},
        {"model": "gpt-4o", "output_tokens": None},  # a stream that was cut: who knows how much came
        {"model": "gpt-4o", "service_tier": "scale"},  # a contract of its own
        {"model": "gpt-4o", "audio_input_tokens": 5},  # sound, where only a price of text is known
        {"model": "gpt-4o", "audio_output_tokens": 5},
        {"model": "whisper-1"},  # by the minute, and nobody said how many
        {"model": "llama3.2", "provider": "ollama", "base_url": "http://localhost:11434/v1/"},
        {"model": "gpt-4o", "provider": "vllm"},  # a name is no proof of who serves it
        {"model": "gpt-4o", "input_tokens": 3, "audio_input_tokens": 7},
        {"model": {"a": 1}},
        {"model": "gpt-4o", "input_tokens": "many", "output_tokens": -1},
        {"model": "gpt-4o", "input_tokens": 10**400, "output_tokens": float("nan")},
    ],
)
def test_what_is_not_known_is_none_and_not_nothing(prices: Prices, use: dict[str, Any]) -> None:
    assert prices.cost(made(**{"model": "gpt-4o", **use})) is None


@pytest.mark.parametrize("event", [{}, {"properties": []}, {"properties": {"$ai_model": "gpt-4o"}, "timestamp": 7}])
def test_an_event_that_is_none_has_no_cost(prices: Prices, event: dict[str, Any]) -> None:
    assert prices.cost(event) is None


def test_what_the_provider_says_itself_counts(prices: Prices) -> None:
    cost = prices.cost(made("gpt-4o", total_cost_usd=0.125))
    assert cost is not None
    assert (cost.total_usd, cost.parts, cost.source) == (0.125, (), "reported by the provider")
    nothing = prices.cost(made("free", total_cost_usd=0))
    assert nothing is not None
    assert nothing.total_usd == 0.0


def test_a_tier_that_the_list_did_not_know_at_that_time_has_no_cost(prices: Prices) -> None:
    long_ago = datetime(2024, 8, 1, tzinfo=timezone.utc)
    assert prices.cost(made("gpt-4o", at=long_ago, service_tier="priority")) is None
    assert prices.cost(made("gpt-4o", at=long_ago, service_tier="default")) is not None


OPENAI = ["gpt-4o", "gpt-4.1-nano", "gpt-5", "gpt-realtime", "gpt-image-1.5", "o3", "gpt-4o-transcribe"]


@settings(max_examples=200, deadline=None)
@given(
    model=some.sampled_from(OPENAI),
    text=some.integers(0, 500_000), cached=some.integers(0, 5000), sound=some.integers(0, 5000),
    cached_sound=some.integers(0, 5000), pictures=some.integers(0, 5000), made_text=some.integers(0, 5000),
    made_sound=some.integers(0, 5000), made_pictures=some.integers(0, 5000),
)  # fmt: skip
def test_the_arithmetic_is_that_of_genai_prices(
    model: str, text: int, cached: int, sound: int, cached_sound: int, pictures: int, made_text: int, made_sound: int,
    made_pictures: int,
) -> None:  # fmt: skip
    used = {
        "input_tokens": text + cached + sound + cached_sound + pictures,
        "cache_read_tokens": cached + cached_sound,
        "input_audio_tokens": sound + cached_sound,
        "cache_audio_read_tokens": cached_sound,
        "input_image_tokens": pictures,
        "cache_image_read_tokens": 0,
        "output_tokens": made_text + made_sound + made_pictures,
        "output_audio_tokens": made_sound,
        "output_image_tokens": made_pictures,
    }
    event = made(
        model,
        input_tokens=used["input_tokens"], output_tokens=used["output_tokens"],
        cache_read_input_tokens=used["cache_read_tokens"], audio_input_tokens=used["input_audio_tokens"],
        cache_read_audio_tokens=cached_sound, image_input_tokens=pictures, audio_output_tokens=made_sound,
        image_output_tokens=made_pictures,
    )  # fmt: skip
    cost = Prices.load(None).cost(event)
    assume(cost is not None)
    when = datetime.fromtimestamp(NOON, timezone.utc)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(**used), model, provider_id="openai", genai_request_timestamp=when
    )
    assert cost is not None
    assert cost.total_usd == pytest.approx(float(theirs.total_price))


# --- the user's own prices ---

OWN = """
# agreed on with our provider
[[price]]
model = "llama-3*"
provider = "ollama"
input = 0.10
output = 0.20

[[price]]
model = "gpt-4o"
input = 1
output = 2
cached_input = 0.5
audio_input = 7

[[price]]
model = "gpt-4o"
since = 2026-06-01
input = 3
output = 4
"""


def own(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "prices.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_own_prices_win_and_the_last_one_that_has_begun_counts(tmp_path: Path) -> None:
    path = own(tmp_path, OWN)
    prices = Prices.load(str(path))

    def total(**use: Any) -> float | None:
        cost = prices.cost(made(**{"model": "gpt-4o", "input_tokens": 1000, "output_tokens": 100, **use}))
        assert cost is None or cost.source == f"your prices ({path})"
        return round(cost.total_usd * 1_000_000, 6) if cost is not None else None

    assert total() == 3400
    before = datetime(2026, 5, 31, 23, 59, tzinfo=timezone.utc)
    assert total(at=before) == 1200
    assert total(at=before, cache_read_input_tokens=1000) == 700
    assert total(at=before, audio_input_tokens=1000) == 7200
    assert total(audio_input_tokens=1000) is None
    assert total(model="Llama-3.3-70b", provider="ollama") == 120
    assert total(model="llama-3.3-70b", provider="vllm") is None
    listed = prices.cost(made("gpt-4o-mini"))
    assert listed is not None
    assert listed.source.startswith("genai-prices")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("[[price]]\nmodel = \n", 2, "invalid value"),
        ("[[price]\nmodel = 'a'\n", 1, "expected"),
        ("[[price]]\nmodel = 'a'\ninput = 1\ncosts = 2\n", 4, "'costs' is no price; there are input, cached_input,"),
        ("[[price]]\nmodel = 'a'\ninput = -1\n", 3, "input is a number of USD per million tokens, not -1"),
        ("[[price]]\nmodel = 'a'\ninput = '1'\n", 3, "input is a number of USD per million tokens, not '1'"),
        ("[[price]]\nmodel = 'a'\ninput = nan\n", 3, "input is a number"),
        ("[[price]]\nmodel = 'a'\ninput = 1\n\n[[price]]\ninput = 1\n", 5, "there is no model"),
        ("[[price]]\nmodel = 'a'\ninput = 1\n\n[[price]]\ninput = 1\nmodel = 7\n", 7, "model is a text"),
        ("[[price]]\nmodel = 'a'\ncached_input = 1\n", 2, "at least input or output"),
        ("[[price]]\nmodel = 'a'\ninput = 1\nsince = '2026-01-01'\n", 4, "since is a day"),
        ("price = 3\n", 1, "write [[price]], with two brackets"),
        ("[price]\nmodel = 'a'\n", 1, "write [[price]], with two brackets"),
        ("# ours\n[prices]\nmodel = 'a'\n", 2, "there is only [[price]] here, not 'prices'"),
        (b"[[price]]\nmodel = '\xff'\n", 2, "not UTF-8"),
    ],
)
def test_a_malformed_file_is_one_line_that_says_where(tmp_path: Path, text: str | bytes, line: int, what: str) -> None:
    path = own(tmp_path, text)
    with pytest.raises(PricesError) as raised:
        Prices.load(str(path))
    message = str(raised.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert what in message
    assert "\n" not in message


def test_no_file_and_an_empty_one_are_no_prices(tmp_path: Path) -> None:
    assert Prices.load(str(tmp_path / "nowhere.toml")).version == Prices.load(None).version
    assert Prices.load(str(own(tmp_path, ""))).cost(made("gpt-4o")) is not None
    with pytest.raises(PricesError, match="cannot read"):
        Prices.load(str(tmp_path))


def test_without_the_package_own_and_reported_costs_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from posthog_autoinstrument.store import prices as module

    monkeypatch.setitem(sys.modules, "genai_prices", None)
    module._find.cache_clear()
    try:
        prices = Prices.load(str(own(tmp_path, OWN)))
        assert prices.version.startswith("rules 2, genai-prices none, own ")
        assert prices.cost(made("gpt-4o")) is not None
        assert prices.cost(made("gpt-4o-mini")) is None
        assert prices.cost(made("gpt-4o-mini", total_cost_usd=1.0)) is not None
    finally:
        module._find.cache_clear()


# --- in the store ---


def test_costs_are_kept_in_the_store_and_made_anew_when_prices_change(tmp_path: Path) -> None:
    path = tmp_path / "state" / "events.db"
    write(
        path,
        [
            made("gpt-4o", input_tokens=1000, output_tokens=100),
            made("unheard-of", trace_id="t2"),
            made("paid", total_cost_usd=0.5, trace_id="t2"),
            made("gpt-4o", input_tokens=None, output_tokens=None, is_error=True),
        ],
    )

    def sums(prices: Prices | None) -> tuple[float | None, int]:
        with Queries(path, prices) as queries:
            while queries.refresh():
                pass
            totals = queries.totals(Selection())
            return totals.cost_usd, totals.unpriced

    assert sums(None) == (0.5, 2)
    # 1000 * 2.50 + 100 * 10 = 3500 millionths
    assert sums(Prices.load(None)) == (pytest.approx(0.5035), 1)
    assert sums(None) == (pytest.approx(0.5035), 1)
    with Queries(path) as queries:
        version = queries.version()
    # 1000 * 3 + 100 * 4 = 3400 millionths
    assert sums(Prices.load(str(own(tmp_path, OWN)))) == (pytest.approx(0.5034), 1)
    with Queries(path, Prices.load(None)) as queries:
        assert queries.version() != version
        (row,) = [row for row in queries.traces(Selection()).rows if row.trace == "t2"]
        assert (row.cost_usd, row.unpriced) == (0.5, 1)
        (entry,) = queries.events(Selection(model="gpt-4o", errors=False, trace="t1"), limit=1).entries
        full = queries.event(queries.events(Selection(model="paid")).entries[0].uuid)
    assert full is not None
    assert full.cost is not None
    assert full.cost.source == "reported by the provider"
    assert entry.cost_usd is None  # the one that failed


def test_the_doctor_tells_where_prices_come_from_and_what_is_wrong_with_them(
    tmp_path: Path, openai_server: OpenAIServer
) -> None:
    def ask(text: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "posthog_autoinstrument", "doctor"],
            env=environment(
                openai_server, None,
                POSTHOG_AUTOINSTRUMENT_LOCAL="1", POSTHOG_HOST=openai_server.url,
                POSTHOG_AUTOINSTRUMENT_DB=str(tmp_path / "state" / "events.db"),
                POSTHOG_AUTOINSTRUMENT_PRICES=str(own(tmp_path, text)),
            ),
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    _, said = ask(OWN)
    path = tmp_path / "prices.toml"
    assert f"prices               3 of your own ({path}), genai-prices {genai_prices.__version__}\n" in said
    code, said = ask("[[price]]\nmodel = 7\n")
    assert code == 1
    assert f"{path}, line 2: model is a text" in said
