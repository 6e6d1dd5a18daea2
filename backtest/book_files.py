"""Account books in files: a folder of plain tables that anybody can write.

=================  ==========================================================================
file               columns (``*`` may be absent)
=================  ==========================================================================
``accounts``       ``account``, ``wallet``, ``collateral*`` (``USD`` or an asset; USD),
                   ``buffer*`` (1), ``release*`` (1), ``top_up_share*`` (0),
                   ``top_up_delay_ms*`` (0), ``segment*`` (``observed``), ``scheme*``
                   (``portfolio``, ``cross`` or ``isolated``; portfolio), ``flight*`` (0)
``orders``         ``ts_ms``, ``account``, ``instrument``, ``quantity``, ``kind*`` (``open``),
                   ``group*`` (each order its own), ``limit_usd*`` (empty: at market),
                   ``until_ms*`` (0)
``transfers*``     ``ts_ms``, ``account``, ``amount``, ``currency*`` (the account's collateral)
=================  ==========================================================================

Each table is Parquet or CSV. Times are whole milliseconds UTC, ascending; account names are
text or numbers. ``book.json`` holds the header, a `BookHeader`; a folder without one is read
with a header that the caller gives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backtest.book import CLOSE, CROSS, ISOLATED, OPEN, OWN_CURRENCY, PORTFOLIO, AccountBook
from backtest.errors import BookError, nearest
from backtest.mistakes import first_mistake

if TYPE_CHECKING:
    from collections.abc import Sequence

Table = Literal["accounts", "orders", "transfers"]

_KINDS = {"open": OPEN, "close": CLOSE}
_SCHEMES = {"portfolio": PORTFOLIO, "cross": CROSS, "isolated": ISOLATED}
_OWN = "collateral"
"""What a transfer says that is made in the account's own collateral."""
_REQUIRED: dict[Table, tuple[str, ...]] = {
    "accounts": ("account", "wallet"),
    "orders": ("ts_ms", "account", "instrument", "quantity"),
    "transfers": ("ts_ms", "account", "amount"),
}
_OPTIONAL: dict[Table, dict[str, Any]] = {
    "accounts": {
        "collateral": "USD",
        "buffer": 1.0,
        "release": 1.0,
        "top_up_share": 0.0,
        "top_up_delay_ms": 0,
        "segment": "observed",
        "scheme": "portfolio",
        "flight": 0.0,
    },
    "orders": {"kind": "open", "group": None, "limit_usd": np.nan, "until_ms": 0},
    "transfers": {"currency": _OWN},
}
_WHOLE = ("ts_ms", "top_up_delay_ms", "group", "until_ms")
_TEXT = ("account", "collateral", "segment", "scheme", "instrument", "kind", "currency")
_MAY_BE_EMPTY = ("limit_usd",)


class BookHeader(BaseModel):
    """What the tables of a book do not say themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["elastic", "recorded"] = Field(
        "recorded", description="whether the policy sets the collateral"
    )
    assets: tuple[str, ...] = Field(min_length=1, description="the tape's assets, in its order")
    symbols: tuple[str, ...] = Field(
        (), description="order of the instruments; alphabetical where empty"
    )
    segments: tuple[str, ...] = Field(
        (), description="order of the segments; alphabetical where empty"
    )
    columns: dict[Table, dict[str, str]] = Field(
        default_factory=dict, description="per table, our column name to the file's own"
    )
    synthetic: bool = Field(False, description="whether the book was generated")
    origin: str = Field("", description="one sentence on where it comes from")


class _Columns:
    """One table: columns as numpy arrays, and sentences that name file, row and field."""

    def __init__(self, folder: Path, table: Table, header: BookHeader) -> None:
        self.path = _table_path(folder, table)
        own = header.columns.get(table, {})
        known = (*_REQUIRED[table], *_OPTIONAL[table])
        for name in own:
            if name not in known:
                raise BookError(
                    f"{folder}: the column mapping of {table} names an unknown field {name!r}."
                    f"{nearest(name, known)}"
                )
        self.own = {name: own.get(name, name) for name in known}
        raw = _read_table(self.path, [self.own[name] for name in known if name in _TEXT])
        self.rows = raw.num_rows
        self.data: dict[str, np.ndarray] = {}
        for name in known:
            column = self.own[name]
            if column in raw.column_names:
                self.data[name] = self._convert(name, raw.column(column))
            elif name in _REQUIRED[table]:
                raise BookError(
                    f"{self.path}: column {column!r} is missing.{nearest(column, raw.column_names)}"
                )
            elif name in own:
                raise BookError(
                    f"{self.path}: column {column!r}, mapped to {name!r}, is missing."
                    f"{nearest(column, raw.column_names)}"
                )
            elif _OPTIONAL[table][name] is None:
                self.data[name] = np.arange(self.rows)
            else:
                self.data[name] = np.full(self.rows, _OPTIONAL[table][name])

    def _convert(self, name: str, column: Any) -> np.ndarray:
        import pyarrow as pa

        empty = column.is_null().to_numpy(zero_copy_only=False)
        if column.null_count and name not in _MAY_BE_EMPTY:
            row = int(np.flatnonzero(empty)[0])
            raise self.refuse(row, name, "is empty")
        if name in _TEXT:
            try:
                text = column.cast(pa.string())
            except pa.ArrowInvalid:
                raise BookError(
                    f"{self.path}: column {self.own[name]!r} holds {column.type}, expected text."
                ) from None
            return np.array(text.to_pylist(), dtype=object)
        whole = name in _WHOLE
        fits = pa.types.is_integer(column.type) or (not whole and pa.types.is_floating(column.type))
        # A CSV column without values has no type at all.
        if not fits and not empty.all():
            wanted = "whole numbers" if whole else "numbers"
            unit = " (milliseconds UTC)" if name == "ts_ms" else ""
            raise BookError(
                f"{self.path}: column {self.own[name]!r} holds {column.type}, "
                f"expected {wanted}{unit}."
            )
        values = np.array(column.to_pylist(), dtype=np.int64 if whole else np.float64)
        for row in np.flatnonzero(~np.isfinite(values) & ~empty)[:1]:
            raise self.refuse(int(row), name, f"is {float(values[row])}; it must be finite")
        return values

    def refuse(self, row: int, name: str, what: str, hint: str = "") -> BookError:
        """Make the error of one cell; rows are counted from 1, below the heading."""
        return BookError(f"{self.path} row {row + 1}: {self.own[name]} {what}.{hint}")

    def codes(self, name: str, choices: Sequence[str], unknown: str) -> np.ndarray:
        """Replace each text by its place among the choices."""
        place = {choice: i for i, choice in enumerate(choices)}
        codes = np.array([place.get(text, -1) for text in self.data[name]], dtype=np.int64)
        for row in np.flatnonzero(codes < 0)[:1]:
            text = self.data[name][row]
            raise self.refuse(int(row), name, f"{text!r} {unknown}", nearest(text, choices[:50]))
        return codes

    def check_ascending(self, name: str) -> None:
        """Refuse a table that is not in order of time."""
        for row in np.flatnonzero(np.diff(self.data[name]) < 0)[:1]:
            value = self.data[name][row + 1]
            raise self.refuse(
                int(row) + 1, name, f"{value} stands after the later {self.data[name][row]}"
            )


def load_book(path: str | Path, header: BookHeader | None = None) -> AccountBook:
    """Read a book from a folder of tables.

    Parameters
    ----------
    path
        Folder with ``accounts``, ``orders`` and perhaps ``transfers``, each ``.parquet`` or
        ``.csv``.
    header
        Mode, assets and column mapping; the folder's own ``book.json`` where not given.

    Returns
    -------
    AccountBook
        A saved book comes back with the same digest.

    Raises
    ------
    BookError
        One sentence with file, row and field, for whatever is missing, empty, unknown,
        unsorted, doubled or out of range.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BookError(f"{folder}: no such folder; a book is a folder with accounts and orders.")
    header = header or _read_header(folder)
    accounts = _Columns(folder, "accounts", header)
    orders = _Columns(folder, "orders", header)
    names = accounts.data["account"].tolist()
    seen: set[str] = set()
    for row, name in enumerate(names):
        if name in seen:
            raise accounts.refuse(row, "account", f"{name!r} is listed twice")
        seen.add(name)
    for row in np.flatnonzero(accounts.data["wallet"] < 0.0)[:1]:
        raise accounts.refuse(
            int(row), "wallet", f"is {accounts.data['wallet'][row]:g}; it must not be negative"
        )
    for row in np.flatnonzero(orders.data["quantity"] == 0.0)[:1]:
        raise orders.refuse(int(row), "quantity", "is zero")
    for row in np.flatnonzero(orders.data["kind"] == "exercise")[:1]:
        raise orders.refuse(
            int(row), "kind", "is 'exercise'; options here are European, none is exercised early"
        )
    segments = header.segments or tuple(sorted(set(accounts.data["segment"].tolist())))
    symbols = header.symbols or tuple(sorted(set(orders.data["instrument"].tolist())))
    orders.check_ascending("ts_ms")
    group = orders.data["group"]
    first = np.zeros(len(group), bool)
    first[np.unique(group, return_index=True)[1]] = True
    starts = np.append(True, group[1:] != group[:-1])[: len(group)]
    for row in np.flatnonzero(starts & ~first)[:1]:
        raise orders.refuse(
            int(row), "group", f"{group[row]} goes on after another; legs must stand together"
        )
    stranger = f"is not in {accounts.path.name}"
    transfers = _read_transfers(folder, header, names, stranger)
    try:
        return AccountBook(
            mode=header.mode,
            assets=header.assets,
            symbols=symbols,
            collateral_currency=accounts.codes(
                "collateral", ("USD", *header.assets), "is neither USD nor an asset of the book"
            ),
            wallet=accounts.data["wallet"],
            buffer=accounts.data["buffer"],
            release=accounts.data["release"],
            top_up_share=accounts.data["top_up_share"],
            top_up_delay_ms=accounts.data["top_up_delay_ms"],
            segment=accounts.codes("segment", segments, "is not a segment of the book"),
            segments=segments,
            order_ts=orders.data["ts_ms"],
            order_account=orders.codes("account", names, stranger),
            order_instrument=orders.codes("instrument", symbols, "is not in the book's header"),
            order_quantity=orders.data["quantity"],
            order_kind=np.array([OPEN, CLOSE])[
                orders.codes("kind", tuple(_KINDS), "is neither open nor close")
            ],
            order_group=orders.data["group"],
            order_limit=orders.data["limit_usd"],
            order_until_ms=orders.data["until_ms"],
            scheme=accounts.codes(
                "scheme", tuple(_SCHEMES), "is neither portfolio nor cross nor isolated"
            ),
            flight=accounts.data["flight"],
            **transfers,
            synthetic=header.synthetic,
            origin=header.origin or f"imported from {folder.name}",
        )
    except BookError as error:
        text = str(error)
        raise BookError(text if text.startswith(str(folder)) else f"{folder}: {text}") from None


def save_book(
    book: AccountBook,
    folder: str | Path,
    *,
    csv: bool = False,
    names: Sequence[str] | None = None,
) -> Path:
    """Write a book as a folder that `load_book` reads back with the same digest.

    Parameters
    ----------
    book
        What to write.
    folder
        Made where it does not exist. A book that is already there is not overwritten.
    csv
        Write CSV instead of Parquet.
    names
        Names of the accounts, each once; their rows where not given.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    BookError
        If the folder holds files already.
    """
    folder = Path(folder)
    refuse_existing(folder)
    ids = np.arange(len(book)) if names is None else np.array(names)
    if len(np.unique(ids)) != len(book) or len(ids) != len(book):
        raise BookError(f"{folder}: {len(ids)} names for {len(book)} accounts; each needs its own.")
    folder.mkdir(parents=True, exist_ok=True)
    currencies = np.array(["USD", *book.assets])
    tables: dict[Table, dict[str, np.ndarray]] = {
        "accounts": {
            "account": ids,
            "wallet": book.wallet,
            "collateral": currencies[book.collateral_currency],
            "buffer": book.buffer,
            "release": book.release,
            "top_up_share": book.top_up_share,
            "top_up_delay_ms": book.top_up_delay_ms,
            "segment": np.array(book.segments)[book.segment],
            "scheme": np.array(list(_SCHEMES))[book.scheme],
            "flight": book.flight,
        },
        "orders": {
            "ts_ms": book.order_ts,
            "account": ids[book.order_account],
            "instrument": np.array(book.symbols)[book.order_instrument],
            "quantity": book.order_quantity,
            "kind": np.array(list(_KINDS))[book.order_kind],
            "group": book.order_group,
            "limit_usd": book.order_limit,
            "until_ms": book.order_until_ms,
        },
    }
    if len(book.transfer_ts):
        tables["transfers"] = {
            "ts_ms": book.transfer_ts,
            "account": ids[book.transfer_account],
            "amount": book.transfer_amount,
            # Index -1, the account's own, is the last of the names.
            "currency": np.append(currencies, _OWN)[book.transfer_currency],
        }
    for name, columns in tables.items():
        _write_table(folder / f"{name}.{'csv' if csv else 'parquet'}", columns)
    header = BookHeader(
        mode=book.mode,
        assets=book.assets,
        symbols=book.symbols,
        segments=book.segments,
        synthetic=book.synthetic,
        origin=book.origin,
    )
    text = json.dumps(header.model_dump(exclude={"columns"}), indent=2)
    (folder / "book.json").write_text(text + "\n", encoding="utf-8")
    return folder


def refuse_existing(folder: Path) -> None:
    """Refuse to save over anything; asked before a long pull, too.

    Raises
    ------
    BookError
        If the folder is not empty, or a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BookError(f"{folder}: exists and is not an empty folder; choose another name.")


def _read_header(folder: Path) -> BookHeader:
    path = folder / "book.json"
    if not path.is_file():
        raise BookError(
            f"{path}: missing; write one with at least "
            '{"mode": "recorded", "assets": ["BTC", "ETH"]}.'
        )
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return BookHeader.model_validate(written)
    except json.JSONDecodeError as error:
        raise BookError(f"{path} line {error.lineno}: not valid JSON, {error.msg}.") from None
    except ValidationError as error:
        raise BookError(f"{path}: {first_mistake(error, '', BookHeader, written)}") from None


def _read_transfers(
    folder: Path, header: BookHeader, names: list[str], stranger: str
) -> dict[str, Any]:
    if not any(folder.glob("transfers.*")):
        return {}
    table = _Columns(folder, "transfers", header)
    table.check_ascending("ts_ms")
    return {
        "transfer_ts": table.data["ts_ms"],
        "transfer_account": table.codes("account", names, stranger),
        "transfer_amount": table.data["amount"],
        "transfer_currency": table.codes(
            "currency",
            (_OWN, "USD", *header.assets),
            f"is neither {_OWN!r} nor USD nor an asset of the book",
        )
        + OWN_CURRENCY,
    }


def _table_path(folder: Path, table: Table) -> Path:
    found = [
        path for path in (folder / f"{table}.parquet", folder / f"{table}.csv") if path.is_file()
    ]
    if not found:
        raise BookError(f"{folder}: holds neither {table}.parquet nor {table}.csv.")
    if len(found) == 2:
        raise BookError(f"{folder}: holds both {table}.parquet and {table}.csv; keep one.")
    return found[0]


def _read_table(path: Path, text: list[str]) -> Any:
    import pyarrow as pa

    try:
        if path.suffix == ".csv":
            from pyarrow import csv

            # Left to guess, the reader takes an address such as 0x1f for a number.
            types = dict.fromkeys(text, pa.string())
            options = csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            return csv.read_csv(path, convert_options=options)
        from pyarrow import parquet

        return parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BookError(f"{path}: cannot be read ({str(error).splitlines()[0]}).") from None


def _write_table(path: Path, columns: dict[str, np.ndarray]) -> None:
    import pyarrow as pa

    # NaN stands for "no value" in a book and is an empty cell in a file.
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    if path.suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, path)
    else:
        from pyarrow import parquet

        parquet.write_table(table, path)
