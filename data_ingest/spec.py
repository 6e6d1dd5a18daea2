"""What market a study wants: the config that a tape is pulled, imported and built from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from backtest.errors import nearest
from backtest.units import MS_PER_DAY, DurationMs, Fraction, Usd, UtcMs, parse_duration_ms
from data_ingest.feed_table import FEEDS, PULLED_ANYWAY
from data_ingest.symbols import EXCHANGES, DatedFuture, parse_future, perpetual_symbol


def _as_clock(value: object) -> object:
    return value if value == "snapshots" else parse_duration_ms(value)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DepthSpec(_Frozen):
    """Where market depth (US dollars within 1 % of mid, one side) comes from; exactly one.

    Parameters
    ----------
    recorded : bool
        Polled order books, last known value; the thinner side counts.
    share_of_volume : fraction
        A model: this share of the median, over the last seven days, of the rolling one-day
        volume. Causal, and blind to a crash in which depth goes while volume comes.
    usd : dict of str to money
        A constant per asset: an assumption, and the report says so.
    max_age : duration
        Oldest polled book that still counts.
    poll : duration
        How often a collector polls the books.
    """

    recorded: bool = False
    share_of_volume: Fraction | None = Field(default=None, gt=0, le=1)
    usd: dict[str, Annotated[Usd, Field(gt=0)]] | None = None
    max_age: DurationMs = Field(default=MS_PER_DAY, gt=0)
    poll: DurationMs = Field(default=6 * 3_600_000, ge=60_000)

    @model_validator(mode="after")
    def _exactly_one(self) -> DepthSpec:
        given = [self.recorded, self.share_of_volume is not None, self.usd is not None]
        if sum(given) != 1:
            raise ValueError("depth needs exactly one of recorded: true, share_of_volume, usd")
        return self


class OptionsSpec(_Frozen):
    """Which options of a chain the tape holds.

    The filters choose instruments by what the whole window shows, which a policy never sees;
    they bound the tape's size and say nothing of any instrument's future.

    Parameters
    ----------
    exchange : str
        Whose chain.
    min_open_interest : float
        In coins, reached at least once in the window.
    max_expiry : duration
        Longest time to expiry at some snapshot.
    strikes : (fraction, fraction)
        Strike over index at some snapshot, lowest and highest.
    max_snapshot_gap : duration
        Longest allowed step between snapshots.
    poll : duration
        How often a collector polls the chain.
    trades : bool
        Pull every option trade too; the tape does not need them.
    surface : "svi", optional
        Where an option has no quote of its own at a snapshot that quotes its expiry, take the
        volatility from the snapshot's fitted surface; without it the last known one holds.
    extra : sequence of str
        Options to list whatever the filters say, by the exchange's name. One that was never
        quoted needs ``surface`` and quotes of other strikes of its expiry.
    """

    exchange: str = "deribit"
    min_open_interest: float = Field(default=0.0, ge=0)
    max_expiry: DurationMs | None = Field(default=None, gt=0)
    strikes: tuple[Fraction, Fraction] = (0.0, 1e9)
    max_snapshot_gap: DurationMs = Field(default=14 * 3_600_000, gt=0)
    poll: DurationMs = Field(default=6 * 3_600_000, ge=60_000)
    trades: bool = False
    surface: Literal["svi"] | None = None
    extra: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> OptionsSpec:
        if self.exchange not in EXCHANGES:
            raise ValueError(
                f"there is no exchange {self.exchange!r}.{nearest(self.exchange, EXCHANGES)}"
            )
        if self.strikes[0] >= self.strikes[1]:
            raise ValueError("strikes needs its lowest before its highest, for example [0.5, 2]")
        if len(set(self.extra)) != len(self.extra):
            raise ValueError("extra names an option twice")
        return self


class IndexSource(_Frozen):
    """One market whose trades count for a composite index.

    Parameters
    ----------
    exchange : str
        One of `EXCHANGES`, or any name that an import stored candles under.
    symbol : str, optional
        Unified symbol, in which ``{asset}`` stands for each asset, as in ``{asset}/USDT``; one
        without it counts for its own asset only. The exchange's usual perpetual if not given.
    """

    exchange: str
    symbol: str | None = None

    @model_validator(mode="after")
    def _named(self) -> IndexSource:
        if self.symbol is None and self.exchange not in EXCHANGES:
            raise ValueError(
                f"{self.exchange!r} is not pulled from, so its source needs a symbol, for example "
                f"'{{asset}}/USDT'.{nearest(self.exchange, EXCHANGES)}"
            )
        if self.symbol is not None and "/" not in self.symbol:
            raise ValueError(f"{self.symbol!r} is no unified symbol; write one such as BTC/USDT")
        return self

    def of(self, asset: str) -> str | None:
        """Return the symbol that counts for an asset, if one does."""
        if self.symbol is None:
            return perpetual_symbol(self.exchange, asset)
        symbol = self.symbol.replace("{asset}", asset)
        return symbol if symbol.split("/")[0] == asset else None


class IndexSpec(_Frozen):
    """An index built here from the trades of several exchanges; see `data_ingest.composite`.

    Parameters
    ----------
    sources : sequence of IndexSource
        Whose trade candles count; their order does not matter.
    max_age : duration
        A source whose last trade is older is stale and does not count.
    max_deviation : fraction
        A source farther from the median of the fresh ones does not count.
    min_sources : int
        Fewer make no price; ``market.max_gap`` says how long the last one may then hold.
    weights : {"volume", "equal"}
        By US dollars traded in the ``weight_window`` before the instant, or alike.
    weight_window : duration
        See ``weights``.
    method : {"trimmed_mean", "mean", "median"}
        How what counts is joined.
    """

    sources: tuple[IndexSource, ...] = Field(min_length=2)
    max_age: DurationMs = Field(default=5 * 60_000, ge=0)
    max_deviation: Fraction = Field(default=0.01, gt=0, le=0.5)
    min_sources: int = Field(default=2, ge=1)
    weights: Literal["volume", "equal"] = "volume"
    weight_window: DurationMs = Field(default=MS_PER_DAY, gt=0)
    method: Literal["trimmed_mean", "mean", "median"] = "trimmed_mean"

    def of(self, asset: str) -> tuple[tuple[str, str], ...]:
        """Return exchange and symbol of every source of an asset."""
        named = ((source.exchange, source.of(asset)) for source in self.sources)
        return tuple((exchange, symbol) for exchange, symbol in named if symbol is not None)

    def refuse_for(self, assets: tuple[str, ...]) -> None:
        """Refuse sources that name one market twice, or are too few for an asset."""
        for source in self.sources:
            if all(source.of(asset) is None for asset in assets):
                raise ValueError(
                    f"index.sources: {source.symbol!r} is of none of the assets {', '.join(assets)}"
                )
        for asset in assets:
            pairs = self.of(asset)
            for exchange, symbol in pairs:
                if pairs.count((exchange, symbol)) > 1:
                    raise ValueError(f"index.sources names {exchange} {symbol} twice")
            if len(pairs) < max(2, self.min_sources):
                raise ValueError(
                    f"index.sources: {asset} has {len(pairs)} of them; an index needs at least "
                    f"{max(2, self.min_sources)}"
                )


class MarketSpec(_Frozen):
    """A window of a market on one clock.

    Parameters
    ----------
    exchange : str
        Where the perpetuals trade: one of `EXCHANGES`.
    assets : sequence of str
        For example ``[BTC, ETH]``.
    start, end : date
        Bars that open in ``[start, end)``, UTC.
    clock : duration or "snapshots"
        Length of a row; ``snapshots`` makes each option snapshot a row, with the chain's own
        index as the price, for windows without recorded candles.
    max_gap : duration
        Longest hole that is filled with the last known value; a longer one is refused.
    feed_delay : duration
        How long after its end a bar is known.
    symbols : dict of str to str
        Unified symbol per asset where it is not the exchange's usual perpetual.
    settlement : {"exchange", "linear", "inverse"}
        How the perpetuals settle; ``exchange`` follows the exchange.
    depth : DepthSpec
        Where depth comes from.
    options : OptionsSpec, optional
        The option chain; without it the tape holds no options.
    futures : sequence of str
        Unified symbols of dated futures, for example ``[BTC/USDT:USDT-240628]``. They are
        priced by their own trade candles, or by the chain's forward where snapshots are the
        clock.
    intrabar : {"close", "high_low"}
        Whether a replay sees closes only, or passes through each bar's high and low too.
    imports : sequence of str
        Import mappings that fill the store for this market.
    feeds : sequence of str
        Feeds that a pull gathers beside what the tape is built from, for example
        ``[open_interest, dvol]``; the options' exchange gives those that ``exchange`` lacks.
    index : IndexSpec, optional
        Build the index from several exchanges instead of taking the exchange's own.
    signals : sequence of str
        Imported outside signals that the tape carries, as last known at each row.
    calendars : sequence of str
        Imported calendars whose events the tape carries, as announced.
    snapshot : str, optional
        Folder of a frozen store, beside the config or in the workspace, that the market is
        read from instead of a store.
    """

    exchange: str
    assets: tuple[str, ...] = Field(min_length=1)
    start: UtcMs
    end: UtcMs
    clock: Annotated[int | Literal["snapshots"], BeforeValidator(_as_clock)] = 3_600_000
    max_gap: DurationMs = Field(default=3 * 3_600_000, ge=0)
    feed_delay: DurationMs = Field(default=0, ge=0)
    symbols: dict[str, str] = Field(default_factory=dict)
    settlement: Literal["exchange", "linear", "inverse"] = "exchange"
    depth: DepthSpec
    options: OptionsSpec | None = None
    futures: tuple[str, ...] = ()
    intrabar: Literal["close", "high_low"] = "close"
    imports: tuple[str, ...] = ()
    # They change no tape, so a market without them keeps the identity that it always had.
    feeds: tuple[str, ...] = Field(default=(), exclude_if=lambda feeds: not feeds)
    index: IndexSpec | None = Field(default=None, exclude_if=lambda index: index is None)
    signals: tuple[str, ...] = Field(default=(), exclude_if=lambda signals: not signals)
    calendars: tuple[str, ...] = Field(default=(), exclude_if=lambda calendars: not calendars)
    # Where the data lies is no part of what it is; a run records the snapshot's digest instead.
    snapshot: str | None = Field(default=None, min_length=1, exclude=True)

    @model_validator(mode="after")
    def _consistent(self) -> MarketSpec:
        if self.exchange not in EXCHANGES:
            raise ValueError(
                f"there is no exchange {self.exchange!r}.{nearest(self.exchange, EXCHANGES)}"
            )
        if self.start >= self.end:
            raise ValueError("start must precede end")
        if len(set(self.assets)) != len(self.assets):
            raise ValueError("assets names an asset twice")
        for named in (self.symbols, self.depth.usd or {}):
            for asset in named:
                if asset not in self.assets:
                    raise ValueError(
                        f"{asset!r} is not among the assets.{nearest(asset, self.assets)}"
                    )
        if self.depth.usd is not None and (lacking := set(self.assets) - set(self.depth.usd)):
            raise ValueError(f"depth.usd lacks {', '.join(sorted(lacking))}")
        for future in self.dated_futures():
            if future.asset not in self.assets:
                raise ValueError(
                    f"{future.symbol!r} is a future of {future.asset}, which is not among the "
                    f"assets.{nearest(future.asset, self.assets)}"
                )
        listed = {"futures": self.futures, "signals": self.signals, "calendars": self.calendars}
        for what, names in listed.items():
            if len(set(names)) != len(names):
                raise ValueError(f"{what} names a {what[:-1]} twice")
        having = {self.exchange, self.options.exchange if self.options else self.exchange}
        known = sorted({name for exchange, name in FEEDS if exchange in having} - PULLED_ANYWAY)
        for name in self.feeds:
            if name not in known:
                raise ValueError(
                    f"{' and '.join(sorted(having))} have no further feed {name!r}; feeds may "
                    f"name {', '.join(known)}"
                )
        if self.index is not None:
            self.index.refuse_for(self.assets)
        if not isinstance(self.clock, int):
            if self.index is not None:
                raise ValueError("index needs candles; clock: snapshots has none")
            if self.intrabar != "close":
                raise ValueError("intrabar: high_low needs candles; clock: snapshots has none")
            if self.options is None:
                raise ValueError("clock: snapshots needs options, whose snapshots make the rows")
            if self.depth.share_of_volume is not None:
                raise ValueError("depth.share_of_volume needs candles; clock: snapshots has none")
        elif not 60_000 <= self.clock <= MS_PER_DAY or MS_PER_DAY % self.clock:
            raise ValueError("clock must divide a day, from 1min to 1d, for example 1h")
        return self

    def dated_futures(self) -> list[DatedFuture]:
        """Read the symbols of the dated futures."""
        return [parse_future(symbol) for symbol in self.futures]

    def symbol(self, asset: str) -> str:
        """Return the unified symbol of an asset's perpetual."""
        return self.symbols.get(asset) or perpetual_symbol(self.exchange, asset)
