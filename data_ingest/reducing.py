"""Fewer rows than a file has: the last of each step, bars of ticks, one snapshot of a run.

Each function wraps a query that has ``row_number`` and the store's columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_ingest.mapping import FileGroup

LAST = "last_ms"
"""When a row was written, where that is not the time that it is about."""


def last_rows(query: str, group: FileGroup) -> str:
    """Keep the last row of each key; a sampled one is stamped with the end of its step."""
    table, time = group.content.table, group.content.table.time
    replaced = []
    if group.sample:
        # A row on the edge belongs to the step that ends there.
        step = group.sample
        end = f"(({time} + {step - 1}) // {step} * {step})"
        replaced.append(f"{end} AS {time}")
        if "known_ts_ms" in table.columns:
            replaced.append(f"greatest({end}, known_ts_ms) AS known_ts_ms")
    order = LAST if group.last_of else "told_ms"
    recent = ""
    if group.last_of and group.last_of.within is not None:
        recent = f"WHERE told_ms - {LAST} BETWEEN 0 AND {group.last_of.within}"
    renamed = f"REPLACE ({', '.join(replaced)})" if replaced else ""
    return f"""
        SELECT * EXCLUDE (told_ms)
        FROM (SELECT * {renamed}, {time} AS told_ms FROM ({query}))
        {recent}
        QUALIFY row_number() OVER (PARTITION BY {", ".join(table.key)}
                                   ORDER BY {order} DESC, row_number DESC) = 1"""


def bars_of_ticks(query: str, timeframe_ms: int) -> str:
    """Make bars of prices; a bar's row number is that of its first tick."""
    made = "open_ms, open, high, low, close, volume_base, volume_usd"
    return f"""
        SELECT * EXCLUDE (row_number, price, {made}),
               min(row_number) AS row_number,
               open_ms // {timeframe_ms} * {timeframe_ms} AS open_ms,
               arg_min(price, (open_ms, row_number)) AS open, max(price) AS high,
               min(price) AS low, arg_max(price, (open_ms, row_number)) AS close,
               sum(volume_base) AS volume_base, sum(volume_base * price) AS volume_usd
        FROM ({query})
        GROUP BY ALL"""


def runs_as_snapshots(query: str, gap_ms: int, known_delay_ms: int) -> str:
    """Give all rows of one run one stamp; what it says was known when its last row was."""
    return f"""
        SELECT * EXCLUDE (run) REPLACE (
            min(ts_ms) OVER (PARTITION BY run) AS ts_ms,
            max(ts_ms) OVER (PARTITION BY run) + {known_delay_ms} AS known_ts_ms)
        FROM (SELECT * EXCLUDE (breaks), sum(breaks) OVER (ORDER BY ts_ms, row_number) AS run
              FROM (SELECT *, coalesce(ts_ms - lag(ts_ms) OVER (ORDER BY ts_ms, row_number)
                                       > {gap_ms}, false)::INTEGER AS breaks
                    FROM ({query})))"""


def nearest_forward_as_index(query: str) -> str:
    """Take the forward of the nearest expiry of each snapshot for the index that it lacks."""
    return f"""
        SELECT * REPLACE (arg_min(forward_price, (expiry_ms, native_id))
                          OVER (PARTITION BY asset, ts_ms) AS index_price)
        FROM ({query})"""
