"""Search the generator's settings for the book that shows what was published about a venue.

Every trial generates whole books and measures them as `backtest.generate.describe_book` does,
so that what cuts or shifts a book on its way (volumes, pairing, who trades at all) is part of
what is calibrated. Settings that no target speaks about stay as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import ConfigError
from backtest.generate import BookFit, FitRow, describe_book, generate_book
from backtest.generator.spec import LeverageQuantiles
from backtest.instruments import InstrumentTable
from backtest.seeds import stream
from backtest.tape import MarketTape
from backtest.units import MS_PER_DAY, MS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna.trial import Trial

    from backtest.generate import BookSpec
    from backtest.generator.spec import Fact, Target

_CONCENTRATION = {
    "gini": (0.5, 0.995),
    "top_percent_share": (0.05, 0.97),
    "tail_index": (0.5, 3.0),
    "tail_share": (0.005, 0.1),
}
_FREE: dict[str, dict[str, tuple[float, float]]] = {
    "gini": _CONCENTRATION,
    "share of": _CONCENTRATION,
    "hill": _CONCENTRATION,
    "correlation": {"size_leverage_correlation": (-0.9, 0.5)},
}
"""By how a fact begins, the settings that it frees, with their bounds."""
_MEDIAN_FACTOR = 4.0
_STEP = (1.25, 6.0)
"""Bounds of a leverage quantile over the one below it; closer, the noise of sizes blurs them."""
_WIDTHS = (1.0, 0.3, 0.1)
"""The search narrows in equal stages around the best so far: shares of the whole space."""
_DIGITS = 3
"""Settings are rounded to significant digits before they are tried: a preset is read by people."""
_START_MS = 1_704_067_200_000
_STILL_PRICES = {"BTC": 40_000.0, "ETH": 2_000.0}
_STILL_VOLUME_USD = 1e9


@dataclass(frozen=True)
class Calibration:
    """The best settings that were found, and what they achieve.

    Parameters
    ----------
    spec
        The generator's settings, targets included.
    fit
        Facts averaged over the books that were generated with them.
    distance, start_distance
        Root of the weighted mean square of (achieved - target) / tolerance, for the best and
        for the settings that were given; below 1 a typical target is met.
    trials
        How many settings were tried, the given ones included.
    """

    spec: BookSpec
    fit: BookFit
    distance: float
    start_distance: float
    trials: int


def calibrate_book(
    spec: BookSpec,
    targets: Mapping[Fact, Target] | None = None,
    *,
    tape: MarketTape | None = None,
    trials: int = 200,
    seed: int = 0,
    books: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Search the generator's settings for the least weighted distance to published facts.

    Parameters
    ----------
    spec
        Where the search starts; it is the first trial, so the result is never worse.
    targets
        Published facts; the spec's own where not given.
    tape
        The market that the books trade in; `still_market` where not given.
    trials, seed
        How many settings are tried, and the seed of the search and of the books. Same
        arguments, same result.
    books
        Books per setting, each with its own seed: one whale's luck is not calibrated to.
    progress
        Called with the number of finished trials and ``trials``.

    Returns
    -------
    Calibration
        Each changed setting's source says that it was calibrated.

    Raises
    ------
    ConfigError
        If there is no target that the market can show, or none that a setting answers to.
    BookError
        If the spec makes no book on this tape.
    """
    import optuna

    market = still_market() if tape is None else tape
    if targets is not None:
        spec = spec.model_copy(update={"targets": dict(targets)})
    space = _space(spec)
    seeds = stream(seed, "book", "calibration").integers(0, 2**31, books).tolist()
    tried: list[tuple[BookSpec, float]] = []

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    best = spec, math.inf
    for stage, width in enumerate(_WIDTHS):
        start = _settings(best[0])
        box = _around(start, space, width)
        sampler = optuna.samplers.TPESampler(
            seed=int(stream(seed, "calibration", stage).integers(2**31)), multivariate=True
        )
        study = optuna.create_study(sampler=sampler)
        study.enqueue_trial(_inside(start, box))
        while len(tried) < math.ceil(trials * (stage + 1) / len(_WIDTHS)):
            trial = study.ask()
            candidate = _with(spec, _suggest(trial, box)) if tried else spec
            distance = _distance([_fit(candidate, market, s) for s in seeds], candidate)
            study.tell(trial, distance)
            tried.append((candidate, distance))
            if progress:
                progress(len(tried), trials)
        best = min(tried, key=lambda pair: pair[1])
    fits = [_fit(best[0], market, s) for s in seeds]
    return Calibration(best[0], _mean(fits), best[1], tried[0][1], len(tried))


def still_market(days: int = 60, assets: tuple[str, ...] = ("BTC", "ETH")) -> MarketTape:
    """Make an hourly market in which nothing moves, for facts that need no history.

    Each asset has a linear and an inverse perpetual, a constant price and the same large
    volume; there are no options.
    """
    shape = (24 * days + 1, len(assets))
    price = np.broadcast_to([_STILL_PRICES.get(name, 100.0) for name in assets], shape)
    ts = _START_MS + MS_PER_HOUR * np.arange(shape[0])
    rows: list[dict[str, Any]] = [
        {"symbol": f"{name}-PERP{'-COIN' * inverse}", "asset": a, "inverse": inverse}
        | {"contract_size": 10.0 if inverse else 1.0}
        for a, name in enumerate(assets)
        for inverse in (0, 1)
    ]
    volume = np.full(shape, _STILL_VOLUME_USD * MS_PER_HOUR / MS_PER_DAY)
    return MarketTape(
        assets=assets,
        instruments=InstrumentTable.from_rows(rows),
        ts=ts,
        known_ts=ts,
        index=price,
        mark=price,
        high=price,
        low=price,
        funding=np.zeros(shape),
        volume_usd=volume,
        depth_usd=volume,
        notes=("a market that stands still, for calibration",),
        synthetic=True,
    )


def _space(spec: BookSpec) -> dict[str, tuple[float, float]]:
    """List the settings that the targets speak about, with their bounds."""
    if not spec.targets:
        raise ConfigError(
            "book.targets: there is nothing to calibrate to; give at least one published fact, "
            "such as `gini of intended notional`."
        )
    space: dict[str, tuple[float, float]] = {}
    for fact in spec.targets:
        for start, settings in _FREE.items():
            if fact.startswith(start):
                space |= settings
    if any(fact.startswith(("leverage", "notional")) for fact in spec.targets):
        median = spec.leverage.p50
        space["median"] = (median / _MEDIAN_FACTOR, median * _MEDIAN_FACTOR)
        space |= dict.fromkeys(("p25 to p05", "p50 to p25", "p75 to p50", "p95 to p75"), _STEP)
    if not space:
        raise ConfigError(
            f"book.targets: no setting answers to {', '.join(spec.targets)}; give a fact about "
            "concentration, leverage or their correlation."
        )
    return space


def _settings(spec: BookSpec) -> dict[str, float]:
    """Express a spec in the search's own terms."""
    q = spec.leverage
    return {
        name: getattr(spec, name) for name in (*_CONCENTRATION, "size_leverage_correlation")
    } | {
        "median": q.p50,
        "p25 to p05": q.p25 / q.p05,
        "p50 to p25": q.p50 / q.p25,
        "p75 to p50": q.p75 / q.p50,
        "p95 to p75": q.p95 / q.p75,
    }


def _inside(
    settings: Mapping[str, float], space: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    return {name: min(max(settings[name], low), high) for name, (low, high) in space.items()}


def _around(
    settings: Mapping[str, float], space: Mapping[str, tuple[float, float]], width: float
) -> dict[str, tuple[float, float]]:
    """Cut a box out of the space, ``width`` of each side long, around where settings lie."""
    box = {}
    for name, (low, high) in space.items():
        middle = min(max(settings[name], low), high)
        reach = 0.5 * width * (high - low) if width < 1.0 else high - low
        box[name] = max(low, middle - reach), min(high, middle + reach)
    return box


def _suggest(trial: Trial, space: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    return {
        name: trial.suggest_float(name, low, high, log=low > 0.0 and high / low > 4.0)
        for name, (low, high) in space.items()
    }


def _with(spec: BookSpec, settings: Mapping[str, float]) -> BookSpec:
    changes: dict[str, Any] = {
        name: _rounded(value) for name, value in settings.items() if hasattr(spec, name)
    }
    if "median" in settings:
        p50 = settings["median"]
        p25, p75 = p50 / settings["p50 to p25"], p50 * settings["p75 to p50"]
        steps = (p25 / settings["p25 to p05"], p25, p50, p75, p75 * settings["p95 to p75"])
        top = spec.leverage.maximum
        names = ("p05", "p25", "p50", "p75", "p95")
        points = {name: min(_rounded(x), top) for name, x in zip(names, steps, strict=True)}
        changes["leverage"] = LeverageQuantiles(**points, maximum=top)
    moved = {name for name, value in changes.items() if value != getattr(spec, name)}
    sources = spec.sources | dict.fromkeys(moved, "calibrated to the targets")
    return spec.model_copy(update=changes | {"sources": sources})


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _fit(spec: BookSpec, market: MarketTape, seed: int) -> BookFit:
    # The seed of the calibration decides, whatever a spec says for itself.
    drawn = spec.model_copy(update={"seed": None})
    return describe_book(generate_book(drawn, market, seed), market, spec)


def _distance(fits: list[BookFit], spec: BookSpec) -> float:
    total = weights = 0.0
    for fit in fits:
        for name, aim in spec.targets.items():
            if name in fit.published:
                total += aim.weight * ((fit[name].achieved - aim.value) / aim.tolerance) ** 2
                weights += aim.weight
    if weights == 0.0:
        raise ConfigError("book.targets: this market shows none of the facts to calibrate to.")
    # A fact that has no value, such as the tail of too few accounts, is the worst there is.
    return math.sqrt(total / weights) if math.isfinite(total) else math.inf


def _mean(fits: list[BookFit]) -> BookFit:
    """Average each fact over the books that show it, in the first book's order."""

    def mean(row: FitRow) -> FitRow:
        values = [other.achieved for fit in fits for other in fit.rows() if other.name == row.name]
        return row._replace(achieved=float(np.mean(values)))

    first = fits[0]
    return BookFit(tuple(mean(row) for row in first.rows()), first.synthetic, first.published)
