"""Where a finding begins: every bound of a verification, in one place.

They were set by what recorded markets show: tight enough that planted faults and known ones are
found, wide enough that a year of an ordinary market has a handful.
"""

from backtest.units import MS_PER_DAY, MS_PER_HOUR

# Bars.
LOOK_BACK = 500
"""Bars before a bar that say how far it may move."""
JUMP_DEVIATIONS, SMALLEST_JUMP = 25, 0.02
WICK_RANGES, SMALLEST_WICK = 25, 0.05
STALE_BARS, STALE_MS = 3, MS_PER_HOUR // 2
FARTHEST_MARK = 0.02
EQUAL_SHARE = 0.5
SAME_PRICE, SAME_VOLUME = 1e-6, 1e-3

# Funding.
LARGEST_RATE = 0.005
"""Per payment."""
UNKNOWN_SHARE = 0.01

# Option chains.
LONGEST_STEP_MS = 8 * MS_PER_HOUR
REPEATED_SHARE = 0.9
INDEX_APART = 0.001
FORWARD_APART, FORWARD_APART_A_YEAR = 0.01, 0.30
OUTSIDE_COIN = 0.0005
LOWEST_IV, HIGHEST_IV = 0.05, 3.0
FLAT_SHARE, FEWEST_ALIKE = 0.5, 10
STALE_SNAPSHOTS, STALE_MOVE = 4, 0.02
STALE_INTEREST_MS = 7 * MS_PER_DAY
OFF_MODEL_COIN = 0.001
PARITY_COIN = 0.001
BUTTERFLY_COIN = 0.0002
CALENDAR_VOLATILITY = 0.01

# Option trades.
HIGHEST_TRADE_IV = 4.99
"""Deribit writes 500 %, or 0 %, on a trade whose price has no volatility."""
