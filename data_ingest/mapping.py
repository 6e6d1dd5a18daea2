"""The import mapping: a YAML file that says what every column of a recorded file means.

It names, per group of files, the feed, the market of each file, the columns with their units,
and what a time stamp means. Nothing is guessed from a file's content, so a column that was
renamed upstream is an error and not a silently empty feed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from backtest.errors import ConfigError, nearest
from backtest.mistakes import first_mistake
from backtest.units import DurationMs
from backtest.yaml_files import read_yaml
from data_ingest.store import Conflict

_REQUIRED = {
    "candles": ("open", "high", "low", "close"),
    "funding": ("rate",),
    "chain": (
        "native_id", "asset", "strike", "option_type", "expiry",
        "mark_coin", "mark_iv", "forward_price", "index_price",
    ),
    "option_trades": (
        "trade_id", "native_id", "price_coin", "iv", "index_price", "amount", "side",
    ),
}  # fmt: skip
_OPTIONAL = {
    "candles": ("volume_base", "volume_usd"),
    "funding": ("index_price",),
    "chain": ("bid_coin", "ask_coin", "open_interest", "volume_24h"),
    "option_trades": (),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Frozen):
    """A source column and the unit of its numbers."""

    column: str
    unit: Literal["one", "percent", "bps"] = "one"


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
    feed : {"candles", "funding", "chain", "option_trades"}
        What the files hold.
    path : str
        Path under the data folder; ``{native}`` stands for each key of ``markets``, and ``*``
        matches any text. Parquet, or CSV with a header line.
    markets : dict of str to str
        Native name to the symbol it is stored under (candles, funding).
    kind : {"trade", "mark", "index"}
        Price that the candles describe.
    timeframe : duration
        Bar length (candles).
    interval : duration
        Longest regular step between funding payments; a longer one is a gap.
    known_delay : duration
        How long after its stamp a snapshot could be known.
    settlement : {"linear", "inverse"}
        How the options settle (chain).
    contract_size : float
        Coins per option contract (chain).
    """

    feed: Literal["candles", "funding", "chain", "option_trades"]
    path: str
    time: TimeStamp
    columns: dict[str, Annotated[Column, BeforeValidator(_as_column)]]
    markets: dict[str, str] = Field(default_factory=dict)
    kind: Literal["trade", "mark", "index"] = "trade"
    timeframe: DurationMs | None = None
    interval: DurationMs | None = None
    known_delay: DurationMs = 0
    settlement: Literal["linear", "inverse"] = "inverse"
    contract_size: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> FileGroup:
        required, optional = _REQUIRED[self.feed], _OPTIONAL[self.feed]
        if lacking := [name for name in required if name not in self.columns]:
            raise ValueError(f"columns of a {self.feed} file lack {', '.join(lacking)}")
        for name in self.columns:
            if name not in (*required, *optional):
                raise ValueError(
                    f"a {self.feed} file has no {name!r}.{nearest(name, (*required, *optional))}"
                )
        if self.feed in {"candles", "funding"} and not self.markets:
            raise ValueError(f"{self.feed} files need markets, a map of native name to symbol")
        if len(self.markets) > 1 and "{native}" not in self.path:
            raise ValueError("path needs {native} where there is more than one market")
        if self.feed == "candles" and not self.timeframe:
            raise ValueError("candle files need a timeframe, for example 1h")
        if self.feed == "funding" and not self.interval:
            raise ValueError("funding files need an interval, for example 8h")
        if self.feed != "candles" and self.time.means != "instant":
            raise ValueError(f"the time of a {self.feed} file means instant")
        if self.feed == "candles" and self.time.means == "instant":
            raise ValueError("the time of a candle means bar_open or bar_close")
        return self


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
