"""An index from several sources: what it is, what cannot move it, what is left out and told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from data_ingest.composite import OUTLIER, STALE, UNSEEN, USED, CompositeIndex, compose, difference
from data_ingest.spec import IndexSpec, MarketSpec

MINUTE_MS = 60_000
METHODS = ("trimmed_mean", "mean", "median")


def rule(sources: int = 3, **changes: Any) -> IndexSpec:
    named = [{"exchange": f"e{k}", "symbol": "BTC/USDT"} for k in range(sources)]
    return IndexSpec.model_validate({"sources": named} | changes)


def joined(price: list[Any], weight: list[float] | None = None, **changes: Any) -> CompositeIndex:
    """One instant at which every source is fresh."""
    row = np.array([price], dtype=float)
    weights = np.array([weight or [1.0] * len(price)])
    return compose(row, np.zeros(row.shape), weights, rule(len(price), **changes))


def test_six_exchanges_as_deribit_joined_them_are_the_mean_of_the_middle_four() -> None:
    # "the highest and lowest price are taken out", the remaining four count 25 % each.
    index = joined([100.0, 100.5, 99.8, 100.2, 100.9, 100.1], weights="equal")
    assert index.price[0] == pytest.approx((100.0 + 100.5 + 100.2 + 100.1) / 4, rel=1e-15)
    assert index.used[0] == 6


def test_a_mean_is_weighted_by_volume_as_binance_weights_it() -> None:
    index = joined([100.0, 101.0, 103.0], [60.0, 30.0, 10.0], method="mean", max_deviation="5%")
    assert index.price[0] == pytest.approx(0.6 * 100 + 0.3 * 101 + 0.1 * 103, rel=1e-15)


def test_a_source_beyond_the_deviation_weighs_nothing_however_large_it_is() -> None:
    index = joined([100.0, 101.0, 120.0], [1.0, 3.0, 1e9], method="mean", max_deviation="5%")
    assert index.fate[0].tolist() == [USED, USED, OUTLIER]
    assert index.price[0] == pytest.approx(0.25 * 100 + 0.75 * 101, rel=1e-15)


def test_a_median_is_the_price_at_which_half_of_the_weight_is_reached() -> None:
    prices = [100.0, 100.1, 100.2, 100.3]
    assert joined(prices, [1.0, 1.0, 1.0, 4.0], method="median").price[0] == 100.3
    assert joined(prices, [1.0, 4.0, 1.0, 1.0], method="median").price[0] == 100.1
    # Exactly half on either side: the middle between the two neighbours that weigh anything.
    halves = joined(prices, [2.0, 0.0, 1.0, 1.0], method="median").price[0]
    assert halves == pytest.approx((100.0 + 100.2) / 2, rel=1e-15)


def test_a_trimmed_mean_of_two_keeps_both() -> None:
    index = joined([100.0, 100.4, np.nan], [3.0, 1.0, 1.0])
    assert index.price[0] == pytest.approx(0.75 * 100.0 + 0.25 * 100.4, rel=1e-15)
    assert index.fate[0].tolist() == [USED, USED, UNSEEN]


def test_a_source_is_stale_only_beyond_its_age() -> None:
    ages = np.array([[0, 5 * MINUTE_MS, 5 * MINUTE_MS + 1]])
    index = compose(np.array([[100.0, 100.1, 100.2]]), ages, np.ones((1, 3)), rule())
    assert index.fate[0].tolist() == [USED, USED, STALE]
    assert index.price[0] == pytest.approx(100.05, rel=1e-15)


def test_a_source_is_an_outlier_only_beyond_its_deviation() -> None:
    # Powers of two: 256 and 4 make every product exact.
    at = joined([256.0, 256.0, 260.0], max_deviation=4 / 256)
    beyond = joined([256.0, 256.0, np.nextafter(260.0, 300.0)], max_deviation=4 / 256)
    assert at.fate[0].tolist() == [USED, USED, USED]
    assert beyond.fate[0].tolist() == [USED, USED, OUTLIER]


def test_a_stale_source_has_no_say_in_who_is_an_outlier() -> None:
    price = np.array([[100.0, 100.2, 80.0, 80.0, 80.0]])
    ages = np.array([[0, 0, MINUTE_MS * 6, MINUTE_MS * 6, MINUTE_MS * 6]])
    index = compose(price, ages, np.ones((1, 5)), rule(5))
    assert index.fate[0].tolist() == [USED, USED, STALE, STALE, STALE]
    assert index.price[0] == pytest.approx(100.1, rel=1e-15)


def test_two_that_contradict_each_other_make_no_price() -> None:
    index = joined([100.0, 110.0])
    assert np.isnan(index.price[0])
    assert index.fate[0].tolist() == [OUTLIER, OUTLIER]


def test_fewer_than_the_least_number_make_no_price() -> None:
    assert np.isnan(joined([100.0, np.nan, np.nan]).price[0])
    assert joined([100.0, np.nan, np.nan], min_sources=1).price[0] == 100.0
    assert np.isnan(joined([np.nan, np.nan, np.nan], min_sources=1).price[0])


def test_sources_that_traded_nothing_of_late_count_alike() -> None:
    for method in METHODS:
        index = joined([100.0, 100.1, 100.2], [0.0, 0.0, 0.0], method=method)
        assert index.price[0] == pytest.approx(100.1, rel=1e-15)


PRICES = st.floats(50.0, 200.0)
WEIGHTS = st.floats(0.0, 1e12)


@settings(max_examples=300, deadline=None)
@given(
    honest=st.lists(PRICES, min_size=2, max_size=6),
    wild=st.floats(1e-3, 1e9),
    weights=st.lists(WEIGHTS, min_size=7, max_size=7),
    place=st.integers(0, 6),
    deviation=st.sampled_from([0.001, 0.01, 0.1, 0.5]),
    minimum=st.integers(1, 3),
)
def test_one_wild_source_never_moves_a_trimmed_mean_beyond_the_honest_ones(
    honest: list[float],
    wild: float,
    weights: list[float],
    place: int,
    deviation: float,
    minimum: int,
) -> None:
    prices = list(honest)
    prices.insert(min(place, len(honest)), wild)
    index = joined(
        prices, weights[: len(prices)], max_deviation=deviation, min_sources=minimum
    )  # fmt: skip
    # With two left after rejection a wild one that agrees with an honest one to within the bound
    # may be among them: it moves the index by that bound at most.
    slack = deviation * max(honest) if index.used[0] < 3 else 0.0
    if not np.isnan(index.price[0]):
        assert min(honest) - 2 * slack <= index.price[0] <= max(honest) + 2 * slack


@settings(max_examples=200, deadline=None)
@given(
    centre=PRICES,
    spread=st.floats(0.0, 0.002),
    factor=st.one_of(st.floats(1e-3, 0.97), st.floats(1.03, 1e3)),
    weights=st.lists(WEIGHTS, min_size=3, max_size=3),
    method=st.sampled_from(METHODS),
    frozen=st.booleans(),
)
def test_one_wild_or_frozen_source_among_three_never_moves_the_index_beyond_the_honest_ones(
    centre: float, spread: float, factor: float, weights: list[float], method: str, frozen: bool
) -> None:
    honest = [centre, centre * (1.0 + spread)]
    # A frozen source may show any price, a plausible one too: it is its age that gives it away.
    prices = np.array([[*honest, centre * factor if not frozen else centre * 1.009]])
    ages = np.array([[0, 0, 6 * MINUTE_MS if frozen else 0]])
    index = compose(prices, ages, np.array([weights]), rule(method=method))
    assert index.fate[0].tolist() == [USED, USED, STALE if frozen else OUTLIER]
    assert min(honest) <= index.price[0] <= max(honest)


TABLES = arrays(float, (4, 5), elements=st.one_of(st.floats(99.0, 101.0), st.just(np.nan)))


@settings(max_examples=200, deadline=None)
@given(
    price=TABLES,
    weight=arrays(float, (4, 5), elements=WEIGHTS),
    age=arrays(np.int64, (4, 5), elements=st.integers(0, 10 * MINUTE_MS)),
    order=st.permutations(range(5)),
    method=st.sampled_from(METHODS),
)
def test_the_order_of_the_sources_changes_no_bit(
    price: np.ndarray, weight: np.ndarray, age: np.ndarray, order: list[int], method: str
) -> None:
    one = compose(price, age, weight, rule(5, method=method))
    other = compose(price[:, order], age[:, order], weight[:, order], rule(5, method=method))
    assert np.array_equal(one.price, other.price, equal_nan=True)
    assert np.array_equal(one.fate[:, order], other.fate)


@settings(max_examples=100, deadline=None)
@given(price=TABLES, weight=arrays(float, (4, 5), elements=WEIGHTS), rows=st.integers(1, 3))
def test_an_instant_does_not_depend_on_what_follows_it(
    price: np.ndarray, weight: np.ndarray, rows: int
) -> None:
    age = np.zeros(price.shape)
    whole = compose(price, age, weight, rule(5))
    part = compose(price[:rows], age[:rows], weight[:rows], rule(5))
    assert np.array_equal(whole.price[:rows], part.price, equal_nan=True)


def test_the_difference_names_the_row_where_it_is_largest() -> None:
    apart = difference(np.array([100.0, 99.0, np.nan, 101.5]), np.full(4, 100.0))
    assert (apart.median, apart.largest, apart.row) == (
        pytest.approx(0.01),
        pytest.approx(0.015),
        3,
    )


def spec(**index: Any) -> MarketSpec:
    sources = [{"exchange": "okx"}, {"exchange": "bybit"}]
    return MarketSpec.model_validate(
        {
            "exchange": "binanceusdm",
            "assets": ["BTC", "ETH"],
            "start": "2024-01-01",
            "end": "2024-01-02",
            "depth": {"share_of_volume": "1%"},
            "index": {"sources": sources} | index,
        }
    )


def test_a_source_is_a_perpetual_or_a_symbol_and_a_symbol_counts_for_its_own_asset() -> None:
    told = spec(
        sources=[
            {"exchange": "okx"},
            {"exchange": "deribit"},
            {"exchange": "binance", "symbol": "{asset}/USDT"},
            {"exchange": "kraken", "symbol": "ETH/USD"},
        ]
    ).index
    assert told is not None
    assert told.of("BTC") == (
        ("okx", "BTC/USDT:USDT"), ("deribit", "BTC/USD:BTC"), ("binance", "BTC/USDT"),
    )  # fmt: skip
    assert told.of("ETH")[-1] == ("kraken", "ETH/USD")


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ({"sources": [{"exchange": "okx"}]}, "at least 2 items"),
        ({"sources": [{"exchange": "okex"}, {"exchange": "okx"}]}, "Did you mean 'okx'?"),
        ({"sources": [{"exchange": "okx"}] * 2}, "names okx BTC/USDT:USDT twice"),
        ({"min_sources": 3}, "BTC has 2 of them; an index needs at least 3"),
        ({"max_deviation": 0}, "greater than 0"),
        ({"method": "average"}, "'trimmed_mean', 'mean' or 'median'"),
        (
            {"sources": [{"exchange": "okx"}, {"exchange": "x", "symbol": "SOL/USDT"}]},
            "'SOL/USDT' is of none of the assets BTC, ETH",
        ),
    ],
)
def test_an_index_that_cannot_be_built_is_refused_in_words(
    index: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        spec(**index)
    assert sentence in str(raised.value)


def test_a_market_without_an_index_keeps_the_identity_it_had() -> None:
    plain = spec().model_copy(update={"index": None})
    assert "index" not in plain.model_dump(mode="json")
    assert "index" in spec().model_dump(mode="json")
