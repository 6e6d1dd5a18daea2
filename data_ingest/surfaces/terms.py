"""What an option's contract says: from the exchange's own list, or from the option's name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backtest.errors import DataError
from data_ingest.symbols import FUTURES_EXPIRE_MS

if TYPE_CHECKING:
    from data_ingest.store import DataStore


def named_terms(native_id: str) -> tuple[str, float, bool, int]:
    """Read asset, strike, call or put, and expiry from a name such as ``BTC-28MAR25-50000-C``.

    Raises
    ------
    ValueError
        If the name has another form.
    """
    match = re.fullmatch(r"(\w+)-(\d{1,2}[A-Z]{3}\d{2})-(\d+(?:d\d+)?)-([CP])", native_id)
    if match is None:
        raise ValueError(f"{native_id!r} is not an option's name such as BTC-28MAR25-50000-C")
    day = datetime.strptime(match[2], "%d%b%y").replace(tzinfo=UTC)
    expiry_ms = int(day.timestamp()) * 1_000 + FUTURES_EXPIRE_MS
    return match[1], float(match[3].replace("d", ".")), match[4] == "C", expiry_ms


def stage_option_terms(store: DataStore, exchange: str) -> None:
    """Stage ``option_terms``: the terms of every option that an exchange lists or has traded.

    Recorded trades come without terms, so an option that the exchange's list lacks is known by
    its name.

    Raises
    ------
    DataError
        If a traded option is not listed and its name tells nothing.
    """
    store.connection.execute(
        "CREATE OR REPLACE TEMP TABLE option_terms AS SELECT native_id, asset, strike, is_call, "
        "expiry_ms FROM instruments WHERE exchange = ? AND kind = 'option'",
        [exchange],
    )
    unlisted = store.rows(
        "SELECT DISTINCT native_id FROM option_trades ANTI JOIN option_terms USING (native_id) "
        "WHERE exchange = ? ORDER BY 1",
        [exchange],
    )
    rows = []
    for (native_id,) in unlisted:
        try:
            rows.append((native_id, *named_terms(native_id)))
        except ValueError as error:
            raise DataError(
                f"the store {store.path} has trades of {native_id} on {exchange} but not its "
                "terms, and its name does not tell them; pull the instruments."
            ) from error
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        store.connection.execute(
            "INSERT INTO option_terms SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), "
            "unnest(?::DOUBLE[]), unnest(?::BOOLEAN[]), unnest(?::BIGINT[])",
            columns,
        )
