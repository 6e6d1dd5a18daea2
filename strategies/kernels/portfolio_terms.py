"""How the constants and parameters of `portfolio_grid` are laid out.

A flat vector, for that is what a compiled kernel is given: single numbers first, then a table
of numbers per asset, then a table of scenarios. The places are named here, once, for the
policy that writes them, the kernel that reads them and its plain-Python form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LANES = 8
"""Scenarios come in multiples of this, so that loops over them leave no remainder."""
EXTRA_COLUMNS = 8
"""Beside its scenarios an instrument's row keeps what is taken of its expiry's value."""
LEAST_MOVE = 0.01
"""No scenario takes a price below 1 % of the present one."""

# Parameters: what an initial margin's factor is raised by, then per asset a price range and
# the funding that a long is expected to pay, of notional.
PEG = 0
RANGES = 1

# Constants: single numbers.
(
    IM_FACTOR,  # of the loss, in initial margin
    MM_FACTOR,  # of the loss, in maintenance margin
    CHARGES_INSIDE,  # 1 where the factors multiply the flat charges too
    POWER_NEAR,  # exponent of the volatility shock up to 30 days to expiry
    POWER_FAR,  # the same beyond
    LEAST_DAYS,  # floor on days to expiry in that law
    VOL_ADDED,  # 1 where shocks are points of volatility, 0 where shares of it
    BY_EXPIRY,  # 1 where values are discounted, skewed or shaken expiry by expiry
    ROLLED,  # 1 where an expiry's delta is charged
    NAKED,  # 1 where options sold beyond those bought are charged
    TIME_DISCOUNT,  # 1 where a value is discounted at the rate before anything else
    GAIN_BASE,  # factor on an expiry that is worth something
    GAIN_RATE,
    GAIN_ADD,
    DEBT_BASE,  # factor on an expiry that is owed
    DEBT_RATE,
    DEBT_ADD,
    BASIS_ADD,  # share of an expiry's loss when its forward moves alone
    BASIS_PER_YEAR,
    LINEAR_CAP,  # skew scenarios: bound and slope of the change of volatility
    LINEAR_SLOPE,
    ABS_CAP,
    ABS_SLOPE,
    LEAST_WIDTH,  # and where the change stops growing
    WIDTH,
    WIDTH_STATIC,
    WIDTH_SLOPE,
    CLAMPED,  # 1 where tails move perpetuals and futures by the range only
    CONFIDENCE_FLOOR,  # confidence below which doubt is charged
    DOUBT_RATE,  # of notional, per unit of doubt
    COIN_DOUBT_RATE,
    ROLL_PER_YEAR,  # roll shock: move of an expiry's delta per year
    DELTA_FREE,  # delta shock: USD that are free, rate beyond, cap as a share of delta
    DELTA_RATE,
    DELTA_CAP,
    NET_DELTA_FLOOR,  # least loss: of net delta, of hedged delta
    HEDGED_DELTA_FLOOR,
    SHORT_MINIMUM,  # least loss: of the notional of short options, USD per contract of any kind
    CONTRACT_MINIMUM,
    FEE_RATE,  # of gross notional
    OFFSET_BETWEEN,  # share that assets' losses offset where one scenario hits them all
    COINS_MATTER,  # 1 where coins move, are charged or doubted
    BASIS_COLUMN,  # first of the two scenarios that move a forward alone, -1 if none
    SCENARIOS,  # columns, a multiple of LANES
) = range(44)
SINGLES = 44

# Constants: per asset.
(
    VOL_UP,
    VOL_DOWN,
    LEAST_VOL,
    PERPETUAL_MM,  # flat charges: of notional at the index, and what initial margin adds
    PERPETUAL_IM,
    OPTION_MM,  # of the notional of options sold beyond those bought of their strike
    OPTION_IM,
    COIN_MM,
    COIN_IM,
    MOVES_WITH,  # the asset whose scenarios a coin follows, -1 if none
    LEAST_ROLL,
    GAIN_COUNTED,  # share of the gain of one settlement kind that offsets the other
    DAMPENER,  # USD that a loss in a tail is reduced by
) = range(13)
ASSET_COLUMNS = 13

# Constants: per scenario, a row each; a move is ``base + slope * range``, so is a weight.
(MOVE, MOVE_BY_RANGE, WEIGHT, WEIGHT_BY_RANGE, DIRECTION, SKEWED, TAIL) = range(7)
SCENARIO_ROWS = 7
DOWN, SAME, UP, LINEAR, ABSOLUTE = -1.0, 0.0, 1.0, 2.0, 3.0
"""Directions of a volatility shock; the last two change its skew."""

# Scratch: columns behind an instrument's scenarios.
(GAIN_FACTOR, DEBT_FACTOR, BASIS_SHARE) = range(3)


def columns_of(constants: np.ndarray) -> int:
    """Return how many scratch columns an instrument needs."""
    return int(constants[SCENARIOS]) + EXTRA_COLUMNS


def portfolio_constants(
    singles: Mapping[int, float],
    assets: np.ndarray,
    scenarios: Sequence[Sequence[float]],
    basis: tuple[float, float] | None = None,
) -> np.ndarray:
    """Lay out the constants of `portfolio_grid`.

    Parameters
    ----------
    singles
        Single numbers by their place; zero where absent. ``BASIS_COLUMN`` and ``SCENARIOS``
        are filled in here.
    assets
        ``(A, ASSET_COLUMNS)``.
    scenarios
        A row of `SCENARIO_ROWS` numbers each.
    basis
        Factors on a forward that moves alone, up and down.

    Returns
    -------
    numpy.ndarray
        ``(SINGLES + A * ASSET_COLUMNS + SCENARIO_ROWS * K,)``; ``K`` is padded to a multiple
        of `LANES` with scenarios of weight zero.
    """
    columns = [list(scenario) for scenario in scenarios]
    head = np.zeros(SINGLES)
    for place, number in singles.items():
        head[place] = number
    head[BASIS_COLUMN] = -1.0
    if basis is not None:
        head[BASIS_COLUMN] = len(columns)
        columns += [[move, *[0.0] * (SCENARIO_ROWS - 1)] for move in basis]
    columns += [[1.0, *[0.0] * (SCENARIO_ROWS - 1)]] * (-len(columns) % LANES)
    head[SCENARIOS] = len(columns)
    return np.concatenate([head, np.ravel(assets), np.array(columns).T.ravel()])
