"""What the option market expects: at-the-money volatility of a maturity, and skew, row by row.

Row ``t`` reads the last option snapshot known at ``known_ts[t]``, prices the forward from the
row's own index, as the venue does, and so never sees what came later. Between strikes total
variance is linear in log-moneyness, between expiries linear in time, which adds no calendar
arbitrage to what is quoted; before the first expiry and after the last one the volatility of
that expiry holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from backtest.errors import DataError
from backtest.instruments import OPTION
from backtest.settings import TIME
from backtest.units import MS_PER_DAY, MS_PER_HOUR
from strategies.choice import Choice
from strategies.kernels.smile import Options, read_rows
from strategies.knobs import Knob, knob

if TYPE_CHECKING:
    from backtest.tape import MarketTape

SHORTEST_MS = 12 * MS_PER_HOUR
"""An expiry nearer than this moves with each trade and tells nothing of a longer horizon."""


class Implied(Choice):
    """Volatility that options imply at the money, for the time to come instead of the past.

    Before the first snapshot, and for an asset whose options are not quoted at an instant, the
    ``prior`` stands.
    """

    name: ClassVar[str] = "implied"

    maturity: Knob = knob(
        "30d", low="1d", high="360d", unit=TIME, doc="how far ahead options look", log=True
    )
    prior: Knob = knob(
        0.8, low=0.05, high=5.0, unit="annualised", doc="volatility believed where none is quoted"
    )

    def __call__(self, tape: MarketTape) -> np.ndarray:
        """Return annualised volatility of the index, ``(T, A)``, as a fraction.

        Raises
        ------
        DataError
            If an asset has no options on the tape.
        """
        listed = set(tape.instruments.asset[tape.instruments.kind == OPTION].tolist())
        for column, asset in enumerate(tape.assets):
            if column not in listed:
                raise DataError(
                    f"the volatility estimator implied needs options of {asset}, and the tape "
                    "lists none; add market.options, or choose ewma or rolling."
                )
        told = at_the_money_volatility(tape, self.maturity / MS_PER_DAY)
        return np.where(np.isnan(told), self.prior, told)


def at_the_money_volatility(tape: MarketTape, days: float) -> np.ndarray:
    """Return implied volatility at the forward, for a maturity.

    Parameters
    ----------
    tape
        With options.
    days
        The maturity. Several calls give the term structure.

    Returns
    -------
    numpy.ndarray
        ``(T, A)`` annualised, as a fraction; NaN where no option is quoted.
    """
    return _read(tape, days, 0.0)


def skew(tape: MarketTape, days: float, deviations: float = 1.0) -> np.ndarray:
    """Return how much dearer puts are than calls equally far from the forward.

    Parameters
    ----------
    tape
        With options.
    days
        The maturity.
    deviations
        How far: log-moneyness in units of each expiry's deviation at the money; one is near
        the strike of a 16-delta option, two thirds near that of a 25-delta one.

    Returns
    -------
    numpy.ndarray
        ``(T, A)`` annualised volatility of the put less that of the call (0.01 is one point);
        NaN where no strike that far is quoted.
    """
    return np.asarray(_read(tape, days, -deviations) - _read(tape, days, deviations))


def _read(tape: MarketTape, days: float, deviations: float) -> np.ndarray:
    table = tape.instruments
    chosen = np.flatnonzero(table.kind == OPTION)
    keys = (table.strike, table.expiry_column, table.asset)
    chosen = chosen[np.lexsort([key[chosen] for key in keys])]
    options = Options(*(getattr(table, name)[chosen] for name in Options._fields))
    snapshot = np.searchsorted(tape.vol_known_ts, tape.known_ts, side="right") - 1
    told = np.empty(tape.index.shape)
    read_rows(
        tape.ts, snapshot, tape.index, tape.iv, tape.forward_ratio, options,
        days * MS_PER_DAY, float(SHORTEST_MS), deviations, told,
    )  # fmt: skip
    return told
