"""Which recorded files a config wants in the store, and where they and the store are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import ConfigError
from backtest.yaml_files import read_yaml
from data_ingest.formats import load_format
from data_ingest.mapping import ImportMapping
from experiments.config import load_config
from experiments.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.config import RunConfig

SHIPPED = Path(__file__).resolve().parent.parent
"""The folder that holds ``configs``."""


@dataclass(frozen=True)
class ImportPlan:
    """Mappings to import, in order, from a data folder into a store."""

    mappings: tuple[ImportMapping, ...]
    data: Path
    store: Path


def plan_format(
    name: str,
    data: Path | None,
    store: Path | None,
    exchange: str | None = None,
    markets: Sequence[str] = (),
) -> ImportPlan:
    """Read what an import of files in a vendor's layout needs.

    Parameters
    ----------
    name
        A format, as `data_ingest.formats.format_names` lists them.
    data
        Folder of the files.
    store
        DuckDB file to fill; the workspace's if not given.
    exchange
        Whose data they are, where the format does not say.
    markets
        ``NATIVE=SYMBOL`` each; by the exchange's own rules if none is given.

    Raises
    ------
    ConfigError
        If no data folder is given, a market is not of that form, or there is no such format.
    """
    if data is None:
        raise ConfigError("no data folder is given; write --data DIR or set REMARGIN_DATA.")
    symbols: dict[str, str] = {}
    for market in markets:
        native, equals, symbol = market.partition("=")
        if not (native and equals and symbol):
            raise ConfigError(
                f"--market {market}: write NATIVE=SYMBOL, such as BTCUSDT=BTC/USDT:USDT."
            )
        symbols[native] = symbol
    mapping = load_format(name, exchange, symbols)
    return ImportPlan((mapping,), data, writable_store(store))


def plan_import(config: Path, data: Path | None, store: Path | None) -> ImportPlan:
    """Read what an import needs.

    Parameters
    ----------
    config
        A study config whose market names import mappings, or one mapping.
    data
        Folder of recorded files.
    store
        DuckDB file to fill; the config's or the workspace's if not given.

    Raises
    ------
    ConfigError
        If no data folder is given, or the config names no mapping.
    """
    if data is None:
        raise ConfigError("no data folder is given; write --data DIR or set REMARGIN_DATA.")
    if _is_mapping(config):
        return ImportPlan((ImportMapping.load(config),), data, writable_store(store))
    study = load_config(config)
    if not study.market.imports:
        raise ConfigError(f"{config}: market.imports: names no import mapping.")
    mappings = tuple(ImportMapping.load(_found(name, study)) for name in study.market.imports)
    return ImportPlan(mappings, data, writable_store(store, study.store))


def writable_store(given: Path | None, config_store: str | None = None) -> Path:
    """Return the store to write to, its folder made; unlike for reading it need not exist."""
    path = Path(given or config_store or Workspace.default().store)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _is_mapping(path: Path) -> bool:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such config file.")
    raw = read_yaml(path)
    return isinstance(raw, dict) and "files" in raw


def _found(name: str, study: RunConfig) -> Path:
    """Look beside the config, in the working folder, and among the shipped configs."""
    places = (study.file.parent, Path(), SHIPPED)
    return next((place / name for place in places if (place / name).is_file()), Path(name))
