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
from data_ingest.recorded_feeds import NATIVE, OPTION_TERMS, RECORDED_FEEDS, RecordedFeed
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
        Its name in the file.
    value : str or float, optional
        In its stead, one value for all rows.
    unit : {"one", "percent", "bps", "hours"}
        Of its numbers.
    missing : tuple of str
        Values that mean "not there", as the 0 that some write for a quote nobody made.
    values : dict of str to str
        What its texts are called in the store; any other text then counts as not there.
    """

    column: str | None = None
    value: str | float | None = None
    unit: Literal["one", "percent", "bps", "hours"] = "one"
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
        Its values in the rows that are meant, without regard to case.
    why : str
        What is wrong with the others, in a sentence for whoever reads the mapping.
    """

    column: str
    one_of: Texts = Field(min_length=1)
    why: str = Field(min_length=1)


class TimeStamp(_Frozen):
    """The time column: its unit, what it stamps, and a grid it is rounded to.

    ``round`` removes an exchange's millisecond jitter (Binance stamps a funding payment of
    08:00:00 as 08:00:00.013), without which two recordings of one payment would be two rows.
    """

    column: str
    unit: Literal["ms", "s", "us", "iso"] = "ms"
    means: Literal["bar_open", "bar_close", "instant"]
    round: DurationMs | None = None


def _as_column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class FileGroup(_Frozen):
    """Files of one layout.

    Parameters
    ----------
    feed : str
        What the files hold: a name of `data_ingest.recorded_feeds.RECORDED_FEEDS`.
    path : str
        Path under the data folder; ``{native}`` stands for each key of ``markets``, and ``*``
        matches any text. Parquet, or CSV with a header line.
    markets : dict of str to str
        Native name to the symbol it is stored under; an asset for a volatility index.
    only : RowFilter, optional
        Which rows are meant, where not all are.
    kind : {"trade", "mark", "index"}
        Price that the candles describe.
    timeframe : duration
        Bar length, or the step of open interest and ratios.
    interval : duration
        Longest regular step between funding payments; a longer one is a gap.
    known_delay : duration
        How long after its stamp a snapshot could be known.
    snapshot_gap : duration, optional
        Rows of a chain that follow one another by no more belong to one snapshot: it is stamped
        with its first row, and was known after its last.
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
    markets: dict[str, str] = Field(default_factory=dict)
    only: RowFilter | None = None
    kind: Literal["trade", "mark", "index"] = "trade"
    timeframe: DurationMs | None = None
    interval: DurationMs | None = None
    known_delay: DurationMs = 0
    snapshot_gap: DurationMs | None = None
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
        if len(self.markets) > 1 and not ({NATIVE} & set(self.columns) or "{native}" in self.path):
            raise ValueError("path needs {native} where there is more than one market")
        if "timeframe_ms" in self.content.table.key and not self.timeframe:
            raise ValueError(f"{feed} files need a timeframe, for example 1h")
        if feed == "funding" and not (self.interval or "interval" in self.columns):
            raise ValueError("funding files need an interval, for example 8h")
        if not bars and self.time.means != "instant":
            raise ValueError(f"the time of a {feed} file means instant")
        if bars and self.time.means == "instant":
            raise ValueError(f"the time of a {feed} file means bar_open or bar_close")
        return self

    def _check_columns(self) -> None:
        wanted, known = self.content.required, (*self.content.columns, NATIVE)
        if self.instrument_names:
            wanted = tuple(name for name in wanted if name not in OPTION_TERMS)
            known = tuple(name for name in known if name not in OPTION_TERMS)
        if lacking := [name for name in wanted if name not in self.columns]:
            raise ValueError(f"columns of a {self.feed} file lack {', '.join(lacking)}")
        for name in self.columns:
            if name not in known:
                raise ValueError(f"a {self.feed} file has no {name!r}.{nearest(name, known)}")


class ImportMapping(_Frozen):
    """A YAML file of ``configs/import``: an exchange and its groups of recorded files."""

    name: str
    exchange: str
    on_conflict: Conflict = "refuse"
    files: tuple[FileGroup, ...] = Field(min_length=1)

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
