"""The SQL that turns the columns of a recorded file into the columns of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.units import MS_PER_HOUR
from data_ingest.recorded_feeds import NATIVE
from data_ingest.symbols import FUTURES_EXPIRE_MS

if TYPE_CHECKING:
    from data_ingest.mapping import Column, FileGroup

_SCALE = {"one": 1.0, "percent": 0.01, "bps": 0.0001, "hours": float(MS_PER_HOUR)}
_TIME_TO_MS = {
    "ms": "try_cast({0} AS BIGINT)",
    "s": "(try_cast({0} AS DOUBLE) * 1000)::BIGINT",
    "us": "try_cast({0} AS BIGINT) // 1000",
    "iso": "epoch_ms(try_cast({0} AS TIMESTAMPTZ))",
}
_IS_CALL = (
    "CASE lower({0}) WHEN 'call' THEN true WHEN 'c' THEN true "
    "WHEN 'put' THEN false WHEN 'p' THEN false END"
)


def staging_sql(group: FileGroup, exchange: str, symbol: str, raw: str) -> str:
    """Write the query over a file's raw rows that has ``row_number`` and the store's columns.

    Parameters
    ----------
    group : FileGroup
        What the columns mean.
    exchange, symbol : str
        Whose rows they are; a row's own market, where the mapping names its column, prevails.
    raw : str
        Relation with the file's columns and ``row_number``.
    """
    columns = _columns(group, exchange, symbol)
    listed = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    query = f"SELECT row_number, {listed} FROM {raw}"
    if group.snapshot_gap:
        query = _as_snapshots(query, group.snapshot_gap, group.known_delay)
    identifier = group.content.identifier
    if identifier and identifier not in group.columns:
        query = _with_identifier(query, group, identifier)
    return query


def _columns(group: FileGroup, exchange: str, symbol: str) -> dict[str, str]:
    """Write an expression per column of the store, NULL where the file has nothing."""
    table = group.content.table
    written = {
        name: _value(group.columns[name], kind, name)
        for name, kind in table.columns.items()
        if name in group.columns
    }
    written["exchange"] = text(exchange)
    if market := group.content.market:
        written[market] = text(symbol) if symbol else "NULL::VARCHAR"
    if NATIVE in group.columns:
        written[NATIVE] = _text_value(group.columns[NATIVE])
        written[group.content.market or NATIVE] = _renamed(written[NATIVE], group.markets)
    written |= _times(group)
    if "kind" in table.key and group.feed == "candles":
        written["kind"] = text(group.kind)
    if group.feed == "candles":
        written |= _volumes(written)
    elif group.feed == "chain":
        written |= _option_terms(group)
    for name, kind in table.columns.items():
        written.setdefault(name, f"NULL::{kind}")
    return written


def _times(group: FileGroup) -> dict[str, str]:
    time_ms = _TIME_TO_MS[group.time.unit].format(identifier_sql(group.time.column))
    if group.time.round:
        # Half-up in integers: a double would be exact here too, but this needs no argument.
        step = group.time.round
        time_ms = f"(({time_ms} + {step // 2}) // {step} * {step})"
    table = group.content.table
    shift = group.timeframe if group.time.means == "bar_close" else 0
    times = {table.time: f"{time_ms} - {shift}" if shift else time_ms}
    if "timeframe_ms" in table.key:
        times["timeframe_ms"] = f"{group.timeframe}::BIGINT"
    if "known_ts_ms" in table.columns:
        times["known_ts_ms"] = f"{time_ms} + {group.known_delay}"
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
            "expiry_ms": f"try_cast({_source(group.columns['expiry'])} AS BIGINT)",
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


def _as_snapshots(query: str, gap_ms: int, known_delay_ms: int) -> str:
    """Give all rows of one run one stamp; what it says was known when its last row was."""
    return f"""
        SELECT * EXCLUDE (run) REPLACE (
            min(ts_ms) OVER (PARTITION BY run) AS ts_ms,
            max(ts_ms) OVER (PARTITION BY run) + {known_delay_ms} AS known_ts_ms)
        FROM (SELECT * EXCLUDE (breaks), sum(breaks) OVER (ORDER BY ts_ms, row_number) AS run
              FROM (SELECT *, coalesce(ts_ms - lag(ts_ms) OVER (ORDER BY ts_ms, row_number)
                                       > {gap_ms}, false)::INTEGER AS breaks
                    FROM ({query})))"""


def _with_identifier(query: str, group: FileGroup, name: str) -> str:
    """Name each row by a digest of its own content, and its place among those that equal it."""
    table = group.content.table
    content = ", ".join(
        f"coalesce({column}::VARCHAR, '')" for column in table.columns if column != name
    )
    return f"""
        SELECT * REPLACE (digest || '-' || row_number() OVER
                          (PARTITION BY digest ORDER BY row_number) AS {name})
        FROM (SELECT *, md5(concat_ws('|', {content})) AS digest FROM ({query}))"""


def _value(column: Column, kind: str, name: str) -> str:
    if kind == "VARCHAR":
        # Sides are written in every case; symbols and accounts are what they are.
        return f"lower({_text_value(column)})" if name == "side" else _text_value(column)
    return _number(column) if kind == "DOUBLE" else f"try_cast({_source(column)} AS {kind})"


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
    return number if column.unit == "one" else f"({number}) * {_SCALE[column.unit]}"


def _source(column: Column) -> str:
    if column.column is None:
        return text(str(column.value))
    return identifier_sql(column.column)


def _renamed(expression: str, names: dict[str, str]) -> str:
    cases = " ".join(f"WHEN {text(old)} THEN {text(new)}" for old, new in names.items())
    return f"CASE {expression} {cases} END"


def _texts(values: tuple[str, ...]) -> str:
    return ", ".join(map(text, values))


def identifier_sql(name: str) -> str:
    """Quote a column's name."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a text."""
    return "'" + value.replace("'", "''") + "'"
