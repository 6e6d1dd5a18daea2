"""What a replay did, as Parquet tables that any tool reads: one row per event, account or bar.

Codes are written as the names that people use, and read back to the very arrays they came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import RunError
from backtest.kernels.records import LEDGER_NAMES, LIQUIDATION_KINDS, SERIES_NAMES
from backtest.result import ADL_DTYPE, LIQUIDATION_DTYPE

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from backtest.book import AccountBook
    from backtest.result import ReplayResult

TABLES = ("liquidations", "deleveraging", "accounts", "protocol")
COLUMNS: dict[str, tuple[str, ...]] = {
    "liquidations": LIQUIDATION_DTYPE.names or (),
    "deleveraging": ADL_DTYPE.names or (),
    "accounts": ("account", "segment", "scheme", *LEDGER_NAMES, "left_usd"),
    "protocol": ("ts", "interval_ms", *SERIES_NAMES),
}
"""Columns of every table, in order; `docs/outputs.md` says what each means."""
SCHEMES = ("portfolio", "cross", "isolated")
"""Names of the account schemes, by the codes of `backtest.book`."""
_SIDES = ("short", "long")


def tables_of(result: ReplayResult) -> dict[str, dict[str, np.ndarray]]:
    """Return the numbers of each table by column, as they are compared when a run is repeated."""
    return {
        "liquidations": {key: result.liquidation_log[key] for key in COLUMNS["liquidations"]},
        "deleveraging": {key: result.adl_log[key] for key in COLUMNS["deleveraging"]},
        "accounts": dict(zip(LEDGER_NAMES, result.account_ledger.T, strict=True)),
        "protocol": {"ts": result.ts, "interval_ms": result.interval_ms, **result.series},
    }


def write_tables(result: ReplayResult, book: AccountBook, folder: Path, name: str) -> None:
    """Write ``NAME.TABLE.parquet`` for each of `TABLES`; the same result gives the same bytes.

    Parameters
    ----------
    result
        The replay.
    book
        What it replayed: accounts are named by their segment and scheme.
    folder
        Where to, it exists.
    name
        Of the replay within its run, ``replay`` or ``proposed-holdout``.
    """
    tables = tables_of(result)
    for key in ("liquidations", "deleveraging"):
        tables[key]["asset"] = np.array(result.assets)[tables[key]["asset"]]
    log = tables["liquidations"]
    log["kind"] = np.array(LIQUIDATION_KINDS)[log["kind"]]
    log["side"] = np.array(_SIDES)[(log["side"] > 0).astype(np.int64)]
    accounts = len(result.account_ledger)
    tables["accounts"] = {
        "account": np.arange(accounts),
        "segment": np.array(book.segments)[book.segment[:accounts]],
        "scheme": np.array(SCHEMES)[book.scheme[:accounts]],
        **tables["accounts"],
        "left_usd": result.account_ledger.sum(axis=1),
    }
    for key, columns in tables.items():
        write_parquet(columns, folder / f"{name}.{key}.parquet")


def read_tables(folder: Path, name: str, assets: tuple[str, ...]) -> dict[str, Any]:
    """Read what `write_tables` wrote, as fields of a `ReplayResult`.

    Raises
    ------
    RunError
        If a table is missing or damaged.
    """
    tables = {key: _read(folder / f"{name}.{key}.parquet", COLUMNS[key]) for key in TABLES}
    log = tables["liquidations"]
    log["kind"] = _codes(log["kind"], LIQUIDATION_KINDS)
    log["side"] = 2 * _codes(log["side"], _SIDES) - 1
    for key in ("liquidations", "deleveraging"):
        tables[key]["asset"] = _codes(tables[key]["asset"], assets)
    protocol = tables["protocol"]
    ledger = np.stack([tables["accounts"][key] for key in LEDGER_NAMES], axis=1)
    return {
        "ts": protocol.pop("ts"),
        "interval_ms": protocol.pop("interval_ms"),
        "series": protocol,
        "liquidation_log": _records(log, LIQUIDATION_DTYPE),
        "adl_log": _records(tables["deleveraging"], ADL_DTYPE),
        "account_ledger": ledger,
    }


def write_parquet(columns: dict[str, Any], path: Path) -> None:
    """Write columns as a Parquet file, compressed with Zstandard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({key: pa.array(values) for key, values in columns.items()})
    pq.write_table(table, path, compression="zstd")


def read_parquet(path: Path) -> pa.Table:
    """Read a Parquet file of a run.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"{path.name} of the run cannot be read: {error}.") from None


def _read(path: Path, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    table = read_parquet(path)
    for missing in [key for key in columns if key not in table.column_names]:
        raise RunError(f"{path.name} of the run has no column {missing!r}.")
    return {key: table[key].to_numpy() for key in columns}


def _codes(names: np.ndarray, of: tuple[str, ...]) -> np.ndarray:
    return np.array([of.index(name) for name in names], np.int64)


def _records(columns: dict[str, np.ndarray], dtype: np.dtype) -> np.ndarray:
    rows = len(next(iter(columns.values())))
    records = np.zeros(rows, dtype)
    for key, values in columns.items():
        records[key] = values
    return records
