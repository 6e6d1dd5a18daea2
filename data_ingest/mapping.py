"""The import mapping: a YAML file that says what every column of a recorded file means.

It names, per group of files, the feed, the market of each file, the columns with their units,
and what a time stamp means. Nothing is guessed from a file's content, so a column that was
renamed upstream is an error and not a silently empty feed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from backtest.errors import ConfigError, nearest
from backtest.mistakes import first_mistake
from backtest.units import DurationMs
from backtest.yaml_files import read_yaml
from data_ingest.quality import OUTSIDE_KINDS
from data_ingest.recorded_feeds import (
    NATIVE,
    OPTION_TERMS,
    PRICE,
    RECORDED_FEEDS,
    RecordedFeed,
)
from data_ingest.store import Conflict

Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda value: tuple(map(_text, value if isinstance(value, list | tuple) else [value]))
    ),
]


def _text(value: Any) -> str:
    """Write a YAML value as the file does: ``true`` and not ``True``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Frozen):
    """Where the values of a column come from, and in which unit.

    Parameters
    ----------
    column : str, optional
        Its name in the file; ``{base}`` stands for the base of the market's symbol.
    value : str or float, optional
        In its stead, one value for all rows.
    unit : {"one", "percent", "bps", "hours", "lots", "ms", "us", "iso"}
        Of its numbers; ``lots`` is what an order of that exchange counts: coins, contracts, or
        the US dollars of an inverse market. The last three are for an expiry.
    missing : tuple of str
        Values that mean "not there", as the 0 that some write for a quote nobody made.
    values : dict of str to str
        What its texts are called in the store; any other text then counts as not there.
    """

    column: str | None = None
    value: str | float | None = None
    unit: Literal["one", "percent", "bps", "hours", "lots", "ms", "us", "iso"] = "one"
    missing: Texts = ()
    values: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> Column:
        if (self.column is None) == (self.value is None):
            raise ValueError("a column has either the name of a column or one value for all rows")
        return self


class RowFilter(_Frozen):
    """Which rows of a file are meant; the others are counted and left out.

    Parameters
    ----------
    column : str
        Of the file.
    one_of : tuple of str
        Its values in the rows that are meant, without regard to case; any value if not given.
    why : str
        What is wrong with the others, in a sentence for whoever reads the mapping.
    """

    column: str
    one_of: Texts = ()
    why: str = Field(min_length=1)


class TimeStamp(_Frozen):
    """The time column: its unit, what it stamps, and a grid it is rounded to.

    ``epoch`` is seconds, milliseconds or microseconds, as the first row's size shows; a file
    that mixes them is refused.

    ``round`` removes an exchange's millisecond jitter (Binance stamps a funding payment of
    08:00:00 as 08:00:00.013), without which two recordings of one payment would be two rows.
    """

    column: str
    unit: Literal["ms", "s", "us", "iso", "epoch"] = "ms"
    means: Literal["bar_open", "bar_close", "instant"]
    round: DurationMs | None = None


class LastOf(_Frozen):
    """Of several rows with one key the last by a column, of the same unit as the time.

    ``within`` takes only rows that precede the time they are for by no more: a rate that was
    announced hours before its payment is not the one that was paid.
    """

    column: str
    within: DurationMs | None = None


class KnownAt(_Frozen):
    """The column that says when a row could be known: published, announced or received."""

    column: str
    unit: Literal["ms", "s", "us", "iso"] = "ms"


def _as_column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class FileGroup(_Frozen):
    """Files of one layout.

    Parameters
    ----------
    feed : str
        What the files hold: a name of `data_ingest.recorded_feeds.RECORDED_FEEDS`.
    path : str
        Path under the data folder; ``{native}`` stands for each key of ``markets``, ``*`` for
        any text and ``**`` for any folders; ``{timeframe}`` and ``{exchange}`` are read from the
        name. Parquet or CSV, the latter also packed as .gz or .zip.
    header : tuple of str
        Names of the columns where a CSV has no header line.
    banner : bool
        The header is the first line that names the time column; what stands above is skipped.
    markets : dict of str to str, or "native"
        Native name to the symbol it is stored under (an asset for a volatility index); or
        ``native``: whatever the files name, by the exchange's own rules.
    exchange : str, optional
        Where these files are of another exchange than the mapping.
    only : RowFilter, optional
        Which rows are meant, where not all are.
    kind : {"trade", "mark", "index"}
        Price that the candles describe.
    timeframe : duration
        Bar length, or the step of open interest and ratios.
    sample : duration, optional
        Keep the last row of each key in each such step, stamped with the step's end.
    last_of : LastOf, optional
        Which of several rows with one key counts.
    interval : duration
        Longest regular step between funding payments; a longer one is a gap.
    known_delay : duration
        How long after its stamp a row could be known (chain, signals, events).
    known : KnownAt, optional
        In its stead, the column that says so (signals, events).
    forecast : bool
        Signals may be known before the instant that they are about.
    snapshot_gap : duration, optional
        Rows of a chain that follow one another by no more belong to one snapshot: it is stamped
        with its first row, and was known after its last.
    index : {"nearest_forward"}, optional
        Where a chain has no index: the forward of the nearest expiry stands for it.
    instrument_names : {"deribit"}, optional
        By whose rules the options' names say asset, strike, type and expiry.
    settlement : {"linear", "inverse"}
        How the options settle (chain).
    contract_size : float
        Coins per option contract (chain).
    """

    feed: str
    path: str
    time: TimeStamp
    columns: dict[str, Annotated[Column, BeforeValidator(_as_column)]]
    header: tuple[str, ...] = ()
    banner: bool = False
    markets: dict[str, str] | Literal["native"] = Field(default_factory=dict)
    exchange: str | None = None
    only: RowFilter | None = None
    kind: Literal["trade", "mark", "index"] = "trade"
    timeframe: DurationMs | None = None
    sample: DurationMs | None = None
    last_of: LastOf | None = None
    interval: DurationMs | None = None
    known_delay: DurationMs = 0
    known: KnownAt | None = None
    forecast: bool = False
    snapshot_gap: DurationMs | None = None
    index: Literal["nearest_forward"] | None = None
    instrument_names: Literal["deribit"] | None = None
    settlement: Literal["linear", "inverse"] = "inverse"
    contract_size: float = Field(default=1.0, gt=0)

    @property
    def content(self) -> RecordedFeed:
        """What is known of the feed."""
        return RECORDED_FEEDS[self.feed]

    @field_validator("feed")
    @classmethod
    def _known_feed(cls, feed: str) -> str:
        if feed not in RECORDED_FEEDS:
            raise ValueError(f"there is no feed {feed!r}.{nearest(feed, RECORDED_FEEDS)}")
        return feed

    @model_validator(mode="after")
    def _complete(self) -> FileGroup:
        self._check_columns()
        feed, bars = self.feed, self.content.bars
        if self.content.market == "symbol" and feed != "liquidations" and not self.markets:
            raise ValueError(f"{feed} files need markets, a map of native name to symbol")
        if len(self.markets) > 1 and not (NATIVE in self.columns or "{native}" in self.path):
            raise ValueError("path needs {native} where there is more than one market")
        if "timeframe_ms" in self.content.table.key and not (
            self.timeframe or "{timeframe}" in self.path
        ):
            raise ValueError(f"{feed} files need a timeframe, for example 1h")
        if feed == "funding" and not (self.interval or "interval" in self.columns):
            raise ValueError("funding files need an interval, for example 8h")
        if PRICE in self.columns:
            bars = False
        if not bars and self.time.means != "instant":
            raise ValueError(f"the time of a {feed} file means instant")
        if bars and self.time.means == "instant":
            raise ValueError(f"the time of a {feed} file means bar_open or bar_close")
        self._check_outside()
        return self

    def _check_outside(self) -> None:
        """Demand of what is not traded that it says when it was known, and what it is."""
        if self.feed not in OUTSIDE_KINDS:
            if self.forecast:
                raise ValueError(f"forecast is for signals, not {self.feed}")
            if self.known and "known_ts_ms" not in self.content.table.columns:
                raise ValueError(f"{self.feed} files have no known: a row is known when it happens")
            return
        if (self.known is None) == ("known_delay" not in self.model_fields_set):
            raise ValueError(
                f"{self.feed} files need known, the column that says when a row was published, or "
                "known_delay, how long after its time that was, and not both"
            )
        if self.forecast and self.feed != "signals":
            raise ValueError("an event may be known before it happens; forecast is for signals")
        column, kinds = self.columns["kind"], OUTSIDE_KINDS[self.feed]
        told = column.values.values() if column.column else (str(column.value),)
        for kind in told:
            if kind not in kinds:
                raise ValueError(f"{self.feed} have no kind {kind!r}.{nearest(kind, kinds)}")

    def _check_columns(self) -> None:
        wanted, known = self.content.required, (*self.content.columns, NATIVE)
        said = set(OPTION_TERMS if self.instrument_names else ())
        if self.index:
            said.add("index_price")
        if PRICE in self.columns and self.feed == "candles":
            said |= {"open", "high", "low", "close", "volume_usd"}
            known = (*known, PRICE)
        wanted = tuple(name for name in wanted if name not in said)
        known = tuple(name for name in known if name not in said)
        if lacking := [name for name in wanted if name not in self.columns]:
            raise ValueError(f"columns of a {self.feed} file lack {', '.join(lacking)}")
        for name, column in self.columns.items():
            if column.unit == "lots" and PRICE not in self.columns:
                raise ValueError(f"{name} in lots needs the column price")
            if name not in known:
                raise ValueError(f"a {self.feed} file has no {name!r}.{nearest(name, known)}")


class ImportMapping(_Frozen):
    """A YAML file of ``configs/import``: an exchange and its groups of recorded files.

    Parameters
    ----------
    name : str
        One line on what it is.
    exchange : str, optional
        Whose data these are, unless a group or a file's name says so.
    exchanges : dict of str to str
        What ``{exchange}`` in a file's name is called in the store.
    some : bool
        It describes a vendor's layout: not all groups need have files, one must.
    on_conflict : {"refuse", "keep", "replace"}
        What to do where a key is stored already with another value.
    files : tuple of FileGroup
        What there is.
    """

    name: str
    exchange: str | None = None
    exchanges: dict[str, str] = Field(default_factory=dict)
    some: bool = False
    on_conflict: Conflict = "refuse"
    files: tuple[FileGroup, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_exchange(self) -> ImportMapping:
        for group in self.files:
            if not (self.exchange or self.some or group.exchange or "{exchange}" in group.path):
                raise ValueError("exchange is missing: whose data are these?")
        return self

    @classmethod
    def load(cls, path: Path) -> ImportMapping:
        """Read and check a mapping.

        Raises
        ------
        ConfigError
            If the file is missing, not YAML, or breaks the model; names file and field.
        """
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such import mapping.")
        written = read_yaml(path)
        try:
            return cls.model_validate(written)
        except ValidationError as error:
            raise ConfigError(f"{path}: {first_mistake(error, '', cls, written)}") from None
