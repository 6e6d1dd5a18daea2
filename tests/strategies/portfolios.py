"""The random markets of the public contract suite, under the name that tests know them by."""

from strategies.testing.markets import (
    ask,
    equal_bits,
    given_numbers,
    make_market,
    one_account,
    random_holdings,
    revalue,
)

__all__ = [
    "ask",
    "equal_bits",
    "given_numbers",
    "make_market",
    "one_account",
    "random_holdings",
    "revalue",
]
