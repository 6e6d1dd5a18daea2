"""What is refused is told with numbers as people write them, not as NumPy does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backtest.errors import BookError, DataError, PolicyError
from backtest.instruments import InstrumentTable
from tests.backtest.cases import gross_policy, random_book
from tests.tapes import make_tape

TAPE = make_tape(rows=60)
BOOK = random_book(TAPE, 1, accounts=5, groups=20)
OPTION = {
    "symbol": "BTC-5JAN24-40000-C",
    "asset": 0,
    "kind": 1,
    "strike": 4e4,
    "iv_column": 0,
    "expiry_column": 0,
}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("wallet", -5.5, "book wallet of account 3 is -5.5; it must be at least 0."),
        ("wallet", np.nan, "book wallet row 3 is nan; it must be finite."),
        ("buffer", 0.5, "book buffer of account 3 is 0.5; it must be at least 1."),
        ("top_up_share", 7, "book top_up_share of account 3 is 7.0; it must lie between 0 and 1."),
        (
            "collateral_currency",
            9,
            "book collateral_currency of account 3 is 9; it must lie between 0 and 2.",
        ),
    ],
)
def test_an_impossible_account_is_named_with_value_and_range(
    name: str, value: float, sentence: str
) -> None:
    column = getattr(BOOK, name).astype(float)
    column[3] = value
    with pytest.raises(BookError) as caught:
        replace(BOOK, **{name: column})
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"contract_size": -1.0}, "contract_size -1.0 is not valid; it must be above 0 coins"),
        ({"strike": 0.0}, "strike 0.0 is not valid; it must be above 0 USD."),
        ({"iv_column": -1}, "iv_column -1 is not valid; it must be a column of the tape's iv"),
        ({"expiry_column": -1}, "expiry_column -1 is not valid; it must be a column of the tape's"),
    ],
)
def test_an_impossible_instrument_is_named_with_value_and_what_it_must_be(
    change: dict[str, float], sentence: str
) -> None:
    with pytest.raises(DataError) as caught:
        InstrumentTable.from_rows([OPTION | change])
    assert str(caught.value).startswith(f"instrument BTC-5JAN24-40000-C: {sentence}")


def test_a_parameter_that_is_not_finite_is_named_with_its_row() -> None:
    (layer,) = gross_policy().layers(TAPE)
    numbers = layer.parameters.copy()
    numbers[4, 0] = np.inf
    with pytest.raises(PolicyError, match=r"parameter 0 is inf at row 4 of the tape"):
        replace(layer, parameters=numbers)
