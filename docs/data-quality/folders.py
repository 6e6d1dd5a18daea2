"""What the recorded folders say of themselves, and what a verification finds beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_ingest.quality.findings import Finding


@dataclass(frozen=True)
class Seen:
    """One folder: its findings, and its files for what a store does not keep."""

    folder: Path
    findings: tuple[Finding, ...]

    def rows(self, rule: str, market: str = "") -> str:
        """Count the rows that a rule found."""
        return f"{sum(each.rows for each in self.of(rule, market)):,}"

    def of(self, rule: str, market: str = "") -> list[Finding]:
        """Return what a rule found."""
        return [each for each in self.findings if each.rule == rule and market in each.market]

    def ask(self, select: str, files: str = "*.parquet") -> tuple[float, ...]:
        """Ask the files themselves."""
        (row,) = duckdb.sql(
            f"SELECT {select} FROM read_parquet('{self.folder / files}', union_by_name = true)"
        ).fetchall()
        return tuple(row)


@dataclass(frozen=True)
class Folder:
    """What is told of one folder.

    Parameters
    ----------
    named : tuple of (str, sentence)
        What its PROVENANCE.md says, and what is found of it.
    rules : tuple of str
        The rules by which named things are found.
    unnamed : tuple of sentence
        What is found and not named there.
    """

    named: tuple[tuple[str, str | Callable[[Seen], str]], ...]
    rules: tuple[str, ...] = ()
    unnamed: tuple[str | Callable[[Seen], str], ...] = ()


def _jitter(files: str) -> Callable[[Seen], str]:
    def tell(seen: Seen) -> str:
        late, rows, most = seen.ask(
            "count(*) FILTER (ts_utc_ms % 60000 <> 0), count(*), max(ts_utc_ms % 60000)", files
        )
        return (
            f"{late:,} of {rows:,} funding payments are stamped up to {most} ms after the minute. "
            "The mapping rounds them, or one payment of two recordings would be two rows."
        )

    return tell


FOLDERS: dict[str, Folder] = {
    "aave-liquidations-2020-2022": Folder(
        named=(
            (
                "Two sources glued; 6,231 rows in base units with unreliable dollars",
                lambda seen: "{:,} such rows are left out by the mapping, {:,} are stored".format(
                    *seen.ask("count(*) FILTER (NOT normalised_units), "
                              "count(*) FILTER (normalised_units)")
                ),
            ),
            ("9 exact duplicates dropped", "none is left: 6,231 and 5,266 less 9 is 11,488"),
        ),
        unnamed=(
            lambda seen: "Of the {:,} stored, {:,} seize less collateral than the debt they repay, "
            "in dollars, and {:,} seize more than twice it: the two dollar columns are not of one "
            "price.".format(
                *seen.ask("count(*) FILTER (normalised_units), "
                          "count(*) FILTER (normalised_units AND amountUSDCollateral < "
                          "amountUSDPrincipal), count(*) FILTER (normalised_units AND "
                          "amountUSDCollateral > 2 * amountUSDPrincipal)")
            ),
        ),
    ),
    "binance-1h-28assets-2020-2024": Folder(
        named=(
            ("No gaps, 31,973 bars each", "none is found; 16 markets of 31,973 bars"),
            ("28 assets, Parquet for 16", "16 are here"),
        ),
    ),
    "binance-perp-1h-2019-2022": Folder(
        named=(
            ("1h: no gaps", "none is found"),
            (
                "The 8h \"mark\" carries the extremes of trades",
                lambda seen: f"found when it is read as what it is called: "
                f"{seen.of('mark_is_trade')[0].detail[:-1]}; the mapping stores it as trades",
            ),
            ("Funding starts only 2021-08-31", "found as unknown funding before"),
        ),
        rules=("mark_is_trade", "funding_unknown", "no_volume"),
        unnamed=(
            lambda seen: f"The 8h bars contradict the 1h bars of the same file set in "
            f"{len(seen.of('timeframes_disagree'))} places; the worst: "
            f"{seen.of('timeframes_disagree')[0].detail}",
            lambda seen: f"{seen.rows('no_trades')} hours without any volume in the first day, "
            "8 to 9 September 2019.",
            _jitter("BTCUSDT_funding.parquet"),
        ),
    ),
    "binance-perp-1m-2025-05": Folder(
        named=(("No gaps; equals the 5m bars of another repository", "no gap, no contradiction"),),
        unnamed=("BTC ends on 3 June and ETH on 15 June, both in the middle of an hour.",),
    ),
    "binance-perp-2023-2024": Folder(
        named=(
            ("No gaps", "none is found"),
            ("5m joined equals 1h exactly (11,991 bars)",
             "not quite: see the hour of 2023-11-10 15:00 below, among all folders"),
        ),
        rules=(),
        unnamed=(
            lambda seen: f"No trades in {seen.rows('no_trades', 'BTC')} five-minute bars from "
            "2023-09-12 08:35, in BTC, ETH and LTC at once: an outage, or a hole that was filled.",
            "The mark of SUI begins eight hours before its trades.",
            _jitter("*_funding.parquet"),
        ),
    ),
    "binance-perp-2025-2026": Folder(
        named=(
            ("14 assets", "13: WLFI is named and not here"),
            ("No missing bars", "none is found"),
            ("Funding every 4 h in HYPE, 1 to 8 h in ORCA",
             lambda seen: f"ORCA: {seen.of('funding_interval', 'ORCA')[0].detail}"),
            ("OHLC consistent, equal to copies", "not quite: see below"),
        ),
        rules=("funding_interval",),
        unnamed=(
            lambda seen: f"5m bars joined contradict the 1h bars in "
            f"{seen.rows('timeframes_disagree')} hours over five markets, "
            "on 14 and 29 January 2025: lows and volumes of whole five minutes are missing. "
            "On 29 January two bars without volume stand in their place.",
            "The trades of HYPE begin one hour after its mark, its 5m bars 90 minutes after.",
            lambda seen: f"ORCA: the mark leaves the trades by up to 10.6 % on 21 March 2025, and "
            f"{seen.rows('funding_extreme', 'ORCA')} payments go beyond 0.5 %, the largest "
            "2 %, the cap.",
            lambda seen: f"ZEC: {seen.rows('funding_extreme', 'ZEC')} payments beyond 0.5 %.",
        ),
    ),
    "binance-perp-5m-2024q4": Folder(
        named=(
            ("2 hours on 2024-10-28 20:00-21:00 disagree with another copy",
             lambda seen: "found without the copy: 14 of their bars have no volume, and "
             f"{seen.rows('no_trades', 'BTC')} bars in all"),
        ),
        rules=("no_trades",),
        unnamed=(
            "Four more bars without volume on 2024-10-28 at 16:25 and 18:50, in both markets.",
        ),
    ),
    "binance-spot-1h-2017-2022": Folder(
        named=(
            ("27 gaps, 127 missing hours in BTC and ETH, the longest 34 h",
             lambda seen: f"{seen.rows('gap', 'BTC')} hours in each; the longest step is 34 h, "
             "33 bars"),
            ("SOL 9 gaps", lambda seen: f"{len(seen.of('gap', 'SOL')) // 2} in each timeframe"),
        ),
        rules=("gap",),
        unnamed=(
            lambda seen: f"Hours without volume that are no gap: {seen.rows('no_trades', 'BTC')} "
            f"in BTC, {seen.rows('no_trades', 'ETH')} in ETH; SOL has 75 minutes on 2021-02-11.",
            "ETH traded from 144 to 309 USD in the hour of 2017-08-22 04:00: one wick of 114 %.",
            "The 15m bars of SOL end 2 h 45 min before its 1h bars.",
        ),
    ),
    "binance-spot-5m-2025-2026": Folder(
        named=(("No gaps, no duplicates", "none is found"),),
    ),
    "btc-dvol-funding-2022-2025": Folder(
        named=(
            ("DVOL: one day missing", "not in this copy: 603 days from 2022-11-06, none missing"),
            ("Funding: no gaps", "none is found"),
        ),
        unnamed=(_jitter("BTCUSDT_funding.parquet"),),
    ),
    "btc-perp-1m-2022-01": Folder(
        named=(("No gaps", "none is found"),),
        unnamed=("The stamps are closes, not opens: see [imports](imports.md).",),
    ),
    "deribit-chain-2021-02": Folder(
        named=(
            ("Two snapshots only", "found, and stored as two: each row has a time of its own"),
            ("High volatility, median mark 100 %", "true, and no sign of stress: see below"),
        ),
        unnamed=(
            lambda seen: f"**These are hardly the marks of a live market.** "
            f"{seen.rows('flat_smile', 'ETH')} of 996 marks of ETH stand at one default of 80 % "
            f"and {seen.rows('flat_smile', 'BTC')} of BTC at 100 %, while BTC-26MAR21 is marked at "
            "231 %; the forward of BTC for the next morning is 5.4 % below the index; marks lie "
            "beyond bid and ask by half the price. The exchange's test system looks so. Use it for "
            "formats, not for conclusions.",
            lambda seen: f"Marks outside their quotes: {seen.rows('mark_outside_quotes', 'BTC')} "
            f"of BTC, {seen.rows('mark_outside_quotes', 'ETH')} of ETH; call and put out of line: "
            f"{seen.rows('parity')}; neighbours not convex: {seen.rows('butterfly')}.",
            lambda seen: "Bids of 0 mean none: {:,} of {:,} rows have no bid, {:,} no "
            "ask.".format(*seen.ask("count(*) FILTER (bid = 0), count(*), "
                                    "count(*) FILTER (ask = 0)")),
        ),
    ),
    "deribit-chain-2026": Folder(
        named=(
            ("89 gaps above 8 h, the longest 13.5 h (931 snapshots)",
             lambda seen: f"{seen.rows('snapshot_gap', 'BTC')} among the 572 of this copy; "
             "the longest is 13.5 h"),
            ("Greeks and index lag prices by up to 2 min",
             lambda seen: f"the index differs by more than 0.1 % within "
             f"{seen.rows('index_lag', 'BTC')} snapshots of BTC and "
             f"{seen.rows('index_lag', 'ETH')} of ETH"),
            ("Bid missing 7.6 %, ask missing 1.5 %",
             lambda seen: seen.of("no_quote", "BTC")[0].detail[:-1] + " (BTC); "
             + seen.of("no_quote", "ETH")[0].detail[:-1] + " (ETH), in this copy"),
            ("Bid at most ask; no duplicates", "no quote crosses or locks"),
            ("Black-76 reproduces marks: median 5e-6, p99 4.5e-4 coin", "REPRICED"),
        ),
        rules=("snapshot_gap", "index_lag", "no_quote"),
        unnamed=(
            lambda seen: f"{seen.rows('mark_off_model')} marks are more than 0.001 coins from "
            "Black-76 and "
            f"{seen.rows('parity')} call-put pairs out of line, all of them in the money: mark "
            "and forward of one row are not of one instant. On 2026-07-01 22:24 the largest error "
            "is 0.0058 coins.",
            lambda seen: f"{seen.rows('mark_outside_quotes')} marks lie outside their quotes by "
            "more than a tick.",
            lambda seen: f"{seen.rows('butterfly')} marks are not convex in strike by more than "
            f"0.0002 coins, and {seen.rows('calendar')} pairs of expiries have total variance that "
            "falls by more than one volatility point.",
            "Volatilities of far strikes stand still for weeks: BTC-26JUN26-360000-C at 102.2 % "
            "for 245 snapshots. They are the exchange's extrapolation, not quotes.",
            lambda seen: f"Open interest of {len(seen.of('open_interest_stale'))} options of ETH "
            "stands still for a week and more with volume on every day.",
        ),
    ),
    "deribit-option-trades-20220101": Folder(
        named=(
            ("3,719 trades, 171 instruments",
             lambda seen: "{:,} rows, but {:,} trades: each stands there up to six times".format(
                 *seen.ask("count(*), count(DISTINCT trade_id)"))),
            ("2 trades with iv=0 and 2 with iv=500 %",
             lambda seen: f"{seen.rows('trade_without_iv')} trades: the other rows are repeats"),
            ("Every BTC option trade", lambda seen: seen.of("trade_missing")[0].detail[:-1]),
        ),
        rules=("trade_without_iv",),
        unnamed=(
            lambda seen: f"{seen.rows('repeated_rows')} rows repeat another, value for value.",
        ),
    ),
    "hl-early-2023": Folder(
        named=(
            ("62 liquidations, 35,691 trades, 560 ledger rows", "all are stored"),
            ("Account value 0.27 to 923 USD, always positive", "so it is"),
            ("Leverage of the liquidated plausible",
             lambda seen: "{:,} of {:,} were above 50 times their equity, {:.0f} at most".format(
                 *seen.ask("count(*) FILTER (liquidated_ntl_pos > 50 * liquidated_account_value), "
                           "count(*), max(liquidated_ntl_pos / liquidated_account_value)",
                           "liquidations.parquet"))),
        ),
        unnamed=(
            lambda seen: "{:,} of {:,} fills equal another in every column; they carry no number "
            "of their own, so whether they are repeats cannot be told, and all are "
            "kept.".format(*seen.ask("count(*) - count(DISTINCT (ts_utc_ms, \"user\", coin, side, "
                                     "px, sz, crossed)), count(*)", "non_mm_trades.parquet")),
        ),
    ),
}  # fmt: skip
