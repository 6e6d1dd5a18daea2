"""The SQL that turns the columns of a recorded file into the columns of the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.units import MS_PER_HOUR
from data_ingest import reducing
from data_ingest.native_symbols import coins_sql
from data_ingest.recorded_feeds import NATIVE, PRICE
from data_ingest.symbols import FUTURES_EXPIRE_MS

if TYPE_CHECKING:
    from data_ingest.mapping import Column, FileGroup

_SCALE = {"percent": 0.01, "bps": 0.0001, "hours": float(MS_PER_HOUR)}
_TIME_TO_MS = {
    "ms": "try_cast({0} AS BIGINT)",
    "s": "(try_cast({0} AS DOUBLE) * 1000)::BIGINT",
    "us": "try_cast({0} AS BIGINT) // 1000",
    "iso": "epoch_us(try_cast({0} AS TIMESTAMPTZ)) // 1000",
}
STAMP = "stamp"
"""The time as the file writes it, where its unit is left to the file."""

_IS_CALL = (
    "CASE lower({0}) WHEN 'call' THEN true WHEN 'c' THEN true "
    "WHEN 'put' THEN false WHEN 'p' THEN false END"
)


@dataclass(frozen=True)
class Market:
    """Whose rows a file holds.

    Parameters
    ----------
    exchange : str
        As the store names it.
    symbol : str
        The market of all rows; empty where each row says its own.
    natives : dict of str to str
        Symbols by native name, for rows that say their own.
    timeframe_ms : int
        Length of the bars; 0 for feeds without.
    """

    exchange: str
    symbol: str
    natives: dict[str, str]
    timeframe_ms: int


def staging_sql(group: FileGroup, market: Market, raw: str, epoch: str = "ms") -> str:
    """Write the query over a file's raw rows that has ``row_number`` and the store's columns.

    Parameters
    ----------
    group : FileGroup
        What the columns mean.
    market : Market
        Whose rows they are.
    raw : str
        Relation with the file's columns and ``row_number``.
    epoch : {"s", "ms", "us"}
        Unit of the time where the mapping leaves it to the file.
    """
    unit = epoch if group.time.unit == "epoch" else group.time.unit
    columns = _columns(group, market, unit)
    listed = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    query = f"SELECT row_number, {listed} FROM {raw}"
    if group.last_of or group.sample:
        query = reducing.last_rows(query, group)
    if PRICE in group.columns and group.feed == "candles":
        query = reducing.bars_of_ticks(query, market.timeframe_ms)
    if group.snapshot_gap:
        query = reducing.runs_as_snapshots(query, group.snapshot_gap, group.known_delay)
    if group.index:
        query = reducing.nearest_forward_as_index(query)
    identifier = group.content.identifier
    if identifier:
        query = _with_identifier(query, group, identifier)
    return query


def _columns(group: FileGroup, market: Market, unit: str) -> dict[str, str]:
    """Write an expression per column of the store, NULL where the file has nothing."""
    table, base = group.content.table, market.symbol.split("/")[0]
    given = {
        name: column.model_copy(update={"column": column.column.replace("{base}", base)})
        if column.column
        else column
        for name, column in group.columns.items()
    }
    written = {
        name: _value(given[name], kind, name)
        for name, kind in table.columns.items()
        if name in given
    }
    written["exchange"] = text(market.exchange)
    if place := group.content.market:
        written[place] = text(market.symbol) if market.symbol else "NULL::VARCHAR"
    if NATIVE in given:
        written[NATIVE] = _text_value(given[NATIVE])
        written[group.content.market or NATIVE] = _renamed(written[NATIVE], market.natives)
    for name, column in given.items():
        if column.unit == "lots":
            written[name] = _lots(written, name, market)
    written |= _times(group, market, unit)
    if group.feed == "candles":
        written["kind"] = text(group.kind)
        if PRICE in given:
            written[PRICE] = _number(given[PRICE])
        else:
            written |= _volumes(written)
    elif group.feed == "chain":
        written |= _option_terms(group)
    elif group.feed == "signals":
        plain = group.columns["value"].unit == "one"
        written["unit"] = text("one" if plain else "fraction")
    for name, kind in table.columns.items():
        written.setdefault(name, f"NULL::{kind}")
    return written


def _lots(written: dict[str, str], name: str, market: Market) -> str:
    if NATIVE not in written:
        return coins_sql(market.exchange, market.symbol, written[name], written[PRICE])
    cases = " ".join(
        f"WHEN {text(native)} THEN "
        + coins_sql(market.exchange, symbol, written[name], written[PRICE])
        for native, symbol in market.natives.items()
    )
    return f"CASE {written[NATIVE]} {cases} END" if cases else "NULL::DOUBLE"


def _times(group: FileGroup, market: Market, unit: str) -> dict[str, str]:
    time_ms = time_sql(group.time.column, unit)
    if group.time.round:
        # Half-up in integers: a double would be exact here too, but this needs no argument.
        step = group.time.round
        time_ms = f"(({time_ms} + {step // 2}) // {step} * {step})"
    table = group.content.table
    shift = market.timeframe_ms if group.time.means == "bar_close" else 0
    about = "ts_ms" if "ts_ms" in table.columns else table.time
    times = {about: f"{time_ms} - {shift}" if shift else time_ms}
    if group.time.unit == "epoch":
        times[STAMP] = f"try_cast({identifier_sql(group.time.column)} AS DOUBLE)"
    if group.last_of:
        times[reducing.LAST] = time_sql(group.last_of.column, unit)
    if "timeframe_ms" in table.key:
        times["timeframe_ms"] = f"{market.timeframe_ms}::BIGINT"
    if "known_ts_ms" in table.columns:
        known = time_sql(group.known.column, group.known.unit) if group.known else time_ms
        times["known_ts_ms"] = f"{known} + {group.known_delay}"
    if "interval_ms" in table.columns:
        own = group.columns.get("interval")
        times["interval_ms"] = f"({_number(own) if own else group.interval})::BIGINT"
    return times


def _volumes(columns: dict[str, str]) -> dict[str, str]:
    """Fill the volume that a file lacks from the one it has, at the bar's close."""
    base, usd = columns.get("volume_base"), columns.get("volume_usd")
    if base is None and usd is None:
        return {}
    return {
        "volume_base": base or f"{usd} / nullif({columns['close']}, 0)",
        "volume_usd": usd or f"{base} * {columns['close']}",
    }


def _option_terms(group: FileGroup) -> dict[str, str]:
    """Write what the chain says of an option, or what its name says by Deribit's rules."""
    if group.instrument_names is None:
        return {
            "asset": _text_value(group.columns["asset"]),
            "strike": _number(group.columns["strike"]),
            "is_call": _IS_CALL.format(_text_value(group.columns["option_type"])),
            "expiry_ms": _TIME_TO_MS[_clock(group.columns["expiry"])].format(
                _source(group.columns["expiry"])
            ),
        }
    asset, day, strike, kind = (
        f"split_part({_text_value(group.columns['native_id'])}, '-', {place})"
        for place in (1, 2, 3, 4)
    )
    return {
        "asset": asset,
        # A strike with decimals is written 0d45.
        "strike": f"try_cast(replace({strike}, 'd', '.') AS DOUBLE)",
        "is_call": _IS_CALL.format(kind),
        "expiry_ms": f"epoch_ms(try_strptime({day}, '%d%b%y')) + {FUTURES_EXPIRE_MS}",
    }


def _with_identifier(query: str, group: FileGroup, name: str) -> str:
    """Name rows without an identifier by their content, and their place among their equals."""
    content = ", ".join(
        f"coalesce({column}::VARCHAR, '')"
        for column in group.content.table.columns
        if column != name
    )
    return f"""
        SELECT * FROM ({query}) WHERE {name} IS NOT NULL
        UNION ALL BY NAME
        SELECT * EXCLUDE (digest)
               REPLACE (digest || '-' || row_number() OVER
                        (PARTITION BY digest ORDER BY row_number) AS {name})
        FROM (SELECT *, md5(concat_ws('|', {content})) AS digest FROM ({query})
              WHERE {name} IS NULL)"""


def _value(column: Column, kind: str, name: str) -> str:
    if kind == "VARCHAR":
        # Sides are written in every case; symbols and accounts are what they are.
        return f"lower({_text_value(column)})" if name == "side" else _text_value(column)
    return _number(column) if kind == "DOUBLE" else f"try_cast({_source(column)} AS {kind})"


def _clock(column: Column) -> str:
    return column.unit if column.unit in _TIME_TO_MS else "ms"


def _text_value(column: Column) -> str:
    written = f"{_source(column)}::VARCHAR"
    if column.missing:
        written = f"CASE WHEN {written} NOT IN ({_texts(column.missing)}) THEN {written} END"
    return _renamed(written, column.values) if column.values else written


def _number(column: Column) -> str:
    number = f"try_cast({_source(column)} AS DOUBLE)"
    absent = [f"isnan({number})"]
    if column.missing:
        absent.append(f"{number} IN ({', '.join(str(float(value)) for value in column.missing)})")
    # NaN and NULL both mean "not there"; the store knows only NULL.
    number = f"CASE WHEN {' OR '.join(absent)} THEN NULL ELSE {number} END"
    scale = _SCALE.get(column.unit, 1.0)
    return number if scale == 1.0 else f"({number}) * {scale}"


def _source(column: Column) -> str:
    if column.column is None:
        return text(str(column.value))
    return identifier_sql(column.column)


def _renamed(expression: str, names: dict[str, str]) -> str:
    if not names:
        return "NULL::VARCHAR"
    cases = " ".join(f"WHEN {text(old)} THEN {text(new)}" for old, new in names.items())
    return f"CASE {expression} {cases} END"


def _texts(values: tuple[str, ...]) -> str:
    return ", ".join(map(text, values))


def time_sql(column: str, unit: str) -> str:
    """Write a time column in milliseconds."""
    return _TIME_TO_MS[unit].format(identifier_sql(column))


def identifier_sql(name: str) -> str:
    """Quote a column's name."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a text."""
    return "'" + value.replace("'", "''") + "'"
