"""``remargin data surface``: fit the volatility surfaces of a market and say how well they fit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remargin.commands.options import Config, Json, Store
from remargin.terminal import (
    number,
    status,
    write_facts,
    write_json,
    write_line,
    write_remarks,
    write_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from data_ingest.store import DataStore
    from data_ingest.surfaces.stored import ExpirySummary
    from data_ingest.surfaces.surface import Surface
    from experiments.config import RunConfig

_VIOLATIONS_NAMED = 5


def surface(
    config: Config,
    trades: Annotated[
        str | None,
        typer.Option(
            help="Fit what the option trades of each window of this length show, as in `1h`, "
            "instead of the stored chain snapshots.",
            metavar="WINDOW",
            show_default=False,
        ),
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Fit SVI to every expiry of a config's option chain, or trades, and check for arbitrage.

    The slices are stored beside the chain, unless that is a snapshot, which is only read.
    """
    from backtest.errors import ConfigError
    from backtest.units import parse_duration_ms
    from data_ingest.surfaces.stored import market_surfaces, store_surfaces, summarise
    from experiments.config import load_config

    study = load_config(config)
    if study.market.options is None:
        raise ConfigError(f"{config}: market.options is missing; a surface needs an option chain.")
    try:
        window_ms = None if trades is None else parse_duration_ms(trades)
    except ValueError as error:
        raise ConfigError(f"--trades: {error}.") from error
    with (
        _opened(study, store) as (opened, writable),
        status("surface", hidden=json) as say,
    ):
        fitted = market_surfaces(
            opened, study.market, window_ms, lambda each: say(f"{each.asset} {_utc(each.ts_ms)}")
        )
        exchange = study.market.options.exchange
        if writable:
            store_surfaces(opened, exchange, "chain" if window_ms is None else "trades", fitted)
    summary = summarise(fitted)
    if json:
        write_json(_record(fitted, summary))
    else:
        _show(fitted, summary)


@contextmanager
def _opened(study: RunConfig, given: Path | None) -> Iterator[tuple[DataStore, bool]]:
    """Open where the market is, and tell whether slices may be stored there."""
    from data_ingest.snapshot import open_store_or_snapshot
    from data_ingest.store import DataStore
    from experiments.market_data import market_path

    path = market_path(study, given)
    writable = path.is_file()
    with DataStore(path) if writable else open_store_or_snapshot(path) as opened:
        yield opened, writable


def _utc(ts_ms: int) -> str:
    from backtest.units import iso_utc

    return iso_utc(ts_ms)


def _record(fitted: list[Surface], summary: list[ExpirySummary]) -> dict[str, Any]:
    from remargin.terminal import plain

    slices = [held for each in fitted for held in each.slices]
    return {
        "expiries": summary,
        "slices": [
            plain(held) | {"jump_wings": held.svi.jump_wings(held.years)} for held in slices
        ],
        "violations": [found for each in fitted for found in each.violations],
    }


def _show(fitted: list[Surface], summary: list[ExpirySummary]) -> None:
    write_table(
        ("expiry", "fits", "points", "ATM", "rmse", "99 %", "most", "arbitrage"),
        (
            (
                f"{row.asset} {_utc(row.expiry_ms)[:10]}",
                number(row.fits) + (f" of {row.fits + row.unfitted:,}" if row.unfitted else ""),
                f"{row.points:g}",
                *(
                    "" if not row.fits else f"{100 * value:.{digits}f}"
                    for value, digits in (
                        (row.atm_volatility, 1), (row.rmse, 2), (row.rmse_99, 2),
                        (row.max_error, 1),
                    )
                ),
                f"{number(row.butterflies)} + {number(row.calendars)}",
            )
            for row in summary
        ),
        right="lrrrrrrr",
    )  # fmt: skip
    write_line()
    slices = sum(len(each.slices) for each in fitted)
    found = [violation for each in fitted for violation in each.violations]
    quoted = sorted((v for v in found if v.quoted), key=lambda v: (v.kind, -v.size))
    write_remarks(
        [
            "Volatilities are in points (0.01 a year). Of the fits' errors, weighted by vega: "
            "rmse is the median, 99 % the 99th percentile, most the largest single one.",
            "Arbitrage is butterfly + calendar, counted between quoted strikes.",
            f"{number(slices)} slices of {number(len(fitted))} surfaces; "
            f"{number(len(found) - len(quoted))} stretches of arbitrage beyond the quoted strikes "
            f"are extrapolation.",
        ]
    )
    write_facts(
        (
            kind,
            f"{each.asset} {_utc(each.expiry_ms)[:10]} at {_utc(each.ts_ms)} UTC: "
            + (f"{100 * each.size:.2f} points" if kind == "calendar" else f"{each.size:.3g}")
            + f" at log-moneyness {each.log_moneyness:.3f}",
        )
        for kind in ("butterfly", "calendar")
        for each in [v for v in quoted if v.kind == kind][:_VIOLATIONS_NAMED]
    )
