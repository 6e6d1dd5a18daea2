from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from backtest.book import CLOSE, CROSS, ISOLATED, OPEN, OWN_CURRENCY, PORTFOLIO, AccountBook
from backtest.book_files import BookHeader, load_book, save_book
from backtest.errors import BookError
from tests.tapes import make_tape

ACCOUNTS = "account,wallet,collateral\n0xaa,1000.5,USD\n0xbb,2,BTC\n"
ORDERS = (
    "ts_ms,account,instrument,quantity,kind,group\n"
    "1704070000000,0xaa,BTC-PERP,0.1,open,1\n"
    "1704070000000,0xaa,ETH-PERP,-1.5,open,1\n"
    "1704080000000,0xbb,BTC-PERP,-0.2,open,2\n"
    "1704090000000,0xaa,BTC-PERP,-0.1,close,3\n"
)
HEADER = {"mode": "recorded", "assets": ["BTC", "ETH"]}


def write(
    folder: Path, accounts: str = ACCOUNTS, orders: str = ORDERS, transfers: str = ""
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "accounts.csv").write_text(accounts)
    (folder / "orders.csv").write_text(orders)
    if transfers:
        (folder / "transfers.csv").write_text(transfers)
    (folder / "book.json").write_text(json.dumps(HEADER))
    return folder


def two_account_book() -> AccountBook:
    third = 1.0 / 3.0
    return AccountBook(
        mode="elastic",
        assets=("BTC", "ETH"),
        symbols=("ETH-PERP", "BTC-PERP"),
        collateral_currency=np.array([0, 2]),
        wallet=np.array([third, 1e-9]),
        buffer=np.array([1.05, 3 * third + 0.1]),
        release=np.array([2.0, 2.0]),
        top_up_share=np.array([0.1, 1.0]),
        top_up_delay_ms=np.array([0, 3_600_000]),
        segment=np.array([1, 0]),
        segments=("zealous", "careful"),
        order_ts=np.array([1_704_070_000_000, 1_704_070_000_001]),
        order_account=np.array([1, 0]),
        order_instrument=np.array([0, 1]),
        order_quantity=np.array([-third, 2e5 * third]),
        order_kind=np.array([OPEN, CLOSE]),
        order_group=np.array([4, 9]),
        transfer_ts=np.array([1_704_070_000_000, 1_704_070_000_005]),
        transfer_account=np.array([1, 0]),
        transfer_amount=np.array([-0.1, third]),
        scheme=np.array([ISOLATED, CROSS]),
        flight=np.array([0.0, third]),
        order_limit=np.array([np.nan, 2000.0 + third]),
        order_until_ms=np.array([0, 1_704_070_000_009]),
        transfer_currency=np.array([OWN_CURRENCY, 1]),
        synthetic=True,
        origin="made by hand",
    )


@pytest.mark.parametrize("csv", [False, True])
def test_a_saved_book_comes_back_with_the_same_digest(tmp_path: Path, csv: bool) -> None:
    book = two_account_book()
    back = load_book(save_book(book, tmp_path / "book", csv=csv))
    assert back.digest == book.digest
    assert (back.segments, back.synthetic, back.origin) == (
        book.segments,
        book.synthetic,
        book.origin,
    )


def test_a_recorded_book_is_read_as_it_is(tmp_path: Path) -> None:
    transfers = "ts_ms,account,amount\n1704075000000,0xbb,-0.5\n"
    book = load_book(write(tmp_path / "book", transfers=transfers))
    assert book.mode == "recorded"
    assert not book.synthetic
    assert book.wallet.tolist() == [1000.5, 2.0]
    assert book.collateral_currency.tolist() == [0, 1]
    assert book.order_account.tolist() == [0, 0, 1, 0]
    assert [book.symbols[i] for i in book.order_instrument] == [
        "BTC-PERP",
        "ETH-PERP",
        "BTC-PERP",
        "BTC-PERP",
    ]
    assert book.order_kind.tolist() == [OPEN, OPEN, OPEN, CLOSE]
    assert book.transfer_account.tolist() == [1]
    assert book.transfer_amount.tolist() == [-0.5]


def test_what_a_book_does_not_say_has_a_plain_meaning(tmp_path: Path) -> None:
    transfers = "ts_ms,account,amount\n1704075000000,0xbb,-0.5\n"
    book = load_book(write(tmp_path / "book", transfers=transfers))
    assert book.scheme.tolist() == [PORTFOLIO, PORTFOLIO]
    assert book.flight.tolist() == [0.0, 0.0]
    assert np.isnan(book.order_limit).all()
    assert book.order_until_ms.tolist() == [0, 0, 0, 0]
    assert book.transfer_currency.tolist() == [OWN_CURRENCY]


def test_schemes_resting_orders_and_coin_transfers_are_read_by_name(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "book",
        "account,wallet,scheme,flight\n0xaa,1,cross,1.5\n0xbb,2,isolated,0\n",
        "ts_ms,account,instrument,quantity,limit_usd,until_ms\n"
        "5,0xaa,BTC-PERP,1,41000,9\n6,0xbb,BTC-PERP,1,,0\n",
        "ts_ms,account,amount,currency\n5,0xbb,-0.5,ETH\n6,0xbb,1,USD\n7,0xbb,1,collateral\n",
    )
    book = load_book(folder)
    assert book.scheme.tolist() == [CROSS, ISOLATED]
    assert book.flight.tolist() == [1.5, 0.0]
    assert book.order_limit[0] == 41_000.0
    assert np.isnan(book.order_limit[1])
    assert book.order_until_ms.tolist() == [9, 0]
    assert book.transfer_currency.tolist() == [2, 0, OWN_CURRENCY]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("scheme", [CROSS, CROSS]),
        ("flight", [0.0, 0.5]),
        ("order_limit", [np.nan, 2001.0]),
        ("order_until_ms", [0, 1_704_070_000_010]),
        ("transfer_currency", [OWN_CURRENCY, 0]),
    ],
)
def test_the_digest_covers_every_column(column: str, value: Any) -> None:
    book = two_account_book()
    changed: dict[str, Any] = {column: np.array(value)}
    assert replace(book, **changed).digest != book.digest


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scheme": [0, 3]}, r"scheme of account 1 is 3; it must lie between 0 and 2"),
        ({"flight": [0.0, -1.0]}, r"flight of account 1 is -1\.0; it must be at least 0"),
        ({"flight": [0.0, np.nan]}, r"flight row 1 is nan; it must be finite"),
        ({"order_limit": [np.nan, np.inf]}, r"order_limit row 1 is inf"),
        ({"order_limit": [np.nan, 0.0]}, r"order 1 has a limit of 0 USD; a price must be positive"),
        ({"order_until_ms": [0, 1_704_070_000_001]}, r"order 1 rests until .* not after its own"),
        ({"order_until_ms": [7, 1_704_070_000_009]}, r"order 0 rests until 7 ms without a limit"),
        ({"order_kind": [0, 2]}, r"order 1 names kind 2 of 2"),
        ({"order_limit": [np.nan]}, r"order_limit does not have 2 rows"),
        ({"transfer_currency": [0, 3]}, r"transfer 1 names currency 3; it must lie between -1"),
        ({"transfer_account": [0, 2]}, r"transfer 1 names account 2; it must lie between 0 and 1"),
        ({"transfer_amount": [0.0]}, r"transfer_amount does not have 2 rows"),
        ({"transfer_ts": [2, 1]}, r"transfer 1 stands after a later one"),
    ],
)
def test_a_book_that_contradicts_itself_is_refused(changes: dict[str, Any], sentence: str) -> None:
    columns: dict[str, Any] = {name: np.array(given) for name, given in changes.items()}
    with pytest.raises(BookError, match=sentence):
        replace(two_account_book(), **columns)


def test_a_resting_order_of_several_legs_is_refused() -> None:
    legs = replace(
        two_account_book(),
        order_ts=np.full(2, 1_704_070_000_001),
        order_account=np.zeros(2),
    )
    with pytest.raises(BookError, match=r"order 1 rests at a limit but shares group 4"):
        replace(legs, order_group=np.array([4, 4]))


def test_an_isolated_account_of_a_recorded_book_trades_one_instrument(tmp_path: Path) -> None:
    accounts = "account,wallet,scheme\n0xaa,1,{}\n0xbb,2,isolated\n"
    load_book(write(tmp_path / "cross", accounts.format("cross")))
    with pytest.raises(
        BookError, match=r"order 1 trades 'ETH-PERP' on isolated account 0, which holds 'BTC-PERP'"
    ):
        load_book(write(tmp_path / "isolated", accounts.format("isolated")))


def test_foreign_column_names_are_mapped(tmp_path: Path) -> None:
    folder = write(tmp_path / "book", ACCOUNTS.replace("wallet", "account_value"))
    (folder / "book.json").unlink()
    header = BookHeader(assets=("BTC", "ETH"), columns={"accounts": {"wallet": "account_value"}})
    assert load_book(folder, header).wallet.tolist() == [1000.5, 2.0]


def test_numbers_serve_as_account_names(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "book",
        "account,wallet\n17,1\n4,2\n",
        "ts_ms,account,instrument,quantity\n5,4,BTC-PERP,1\n",
    )
    assert load_book(folder).order_account.tolist() == [1]


@pytest.mark.parametrize(
    ("accounts", "orders", "transfers", "sentence"),
    [
        (ACCOUNTS.replace("2,BTC", ",BTC"), ORDERS, "", r"accounts\.csv row 2: wallet is empty"),
        (ACCOUNTS.replace("2,BTC", "nan,BTC"), ORDERS, "", r"accounts\.csv row 2: wallet"),
        (ACCOUNTS.replace("2,BTC", "-2,BTC"), ORDERS, "", r"row 2: wallet is -2; it must not be"),
        (ACCOUNTS.replace("0xbb", "0xaa"), ORDERS, "", r"row 2: account '0xaa' is listed twice"),
        (ACCOUNTS.replace("2,BTC", "2,BTX"), ORDERS, "", r"row 2: collateral 'BTX' .*mean 'BTC'"),
        (
            ACCOUNTS.replace("wallet", "walet"),
            ORDERS,
            "",
            r"column 'wallet' is missing\. Did you mean 'walet'\?",
        ),
        (
            ACCOUNTS.replace("1000.5", "much"),
            ORDERS,
            "",
            r"column 'wallet' holds string, expected numbers",
        ),
        (
            ACCOUNTS,
            ORDERS.replace("000,0xbb", "000,0xcc"),
            "",
            r"orders\.csv row 3: account '0xcc' is not in accounts\.csv",
        ),
        (
            ACCOUNTS,
            ORDERS.replace("1704090000000", "1704060000000"),
            "",
            r"orders\.csv row 4: ts_ms 1704060000000 stands after the later 1704080000000",
        ),
        (ACCOUNTS, ORDERS.replace("-1.5", "0"), "", r"orders\.csv row 2: quantity is zero"),
        (ACCOUNTS, ORDERS.replace("-1.5", "inf"), "", r"orders\.csv row 2: quantity is inf"),
        (
            ACCOUNTS,
            ORDERS.replace("close", "exercise"),
            "",
            r"row 4: kind is 'exercise'; options here are European, none is exercised early",
        ),
        (
            ACCOUNTS.replace("collateral", "scheme").replace("USD", "cros").replace("BTC", "cross"),
            ORDERS,
            "",
            r"row 1: scheme 'cros' is neither portfolio nor cross nor isolated\. Did you mean 'cro",
        ),
        (
            ACCOUNTS,
            ORDERS.replace("group", "limit_usd").replace("open,1", "open,inf"),
            "",
            r"orders\.csv row 1: limit_usd is inf; it must be finite",
        ),
        (
            ACCOUNTS,
            ORDERS,
            "ts_ms,account,amount,currency\n1,0xaa,5,XRP\n",
            r"transfers\.csv row 1: currency 'XRP' is neither 'collateral' nor USD nor an asset",
        ),
        (ACCOUNTS, ORDERS.replace("close", "shut"), "", r"row 4: kind 'shut' is neither open"),
        (ACCOUNTS, ORDERS.replace("close,3", "close,1"), "", r"row 4: group 1 goes on after"),
        (
            ACCOUNTS,
            ORDERS.replace("1704070000000", "2024-01-01T00:46:40"),
            "",
            r"column 'ts_ms' holds .*expected whole numbers \(milliseconds UTC\)",
        ),
        (
            ACCOUNTS,
            ORDERS,
            "ts_ms,account,amount\n1,0xcc,5\n",
            r"transfers\.csv row 1: account '0xcc' is not in accounts\.csv",
        ),
        (
            ACCOUNTS,
            ORDERS,
            "ts_ms,account,amount\n2,0xaa,5\n1,0xaa,5\n",
            r"transfers\.csv row 2: ts_ms 1 stands after the later 2",
        ),
    ],
)
def test_a_bad_table_is_refused_with_file_row_and_field(
    tmp_path: Path, accounts: str, orders: str, transfers: str, sentence: str
) -> None:
    with pytest.raises(BookError, match=sentence):
        load_book(write(tmp_path / "book", accounts, orders, transfers))


def test_a_value_out_of_range_names_the_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "book", "account,wallet,buffer\n0xaa,1,0.5\n0xbb,1,1\n")
    said = r"book: book buffer of account 0 is 0\.5; it must be at least 1"
    with pytest.raises(BookError, match=said):
        load_book(folder)


def test_a_missing_folder_table_or_header_is_named(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="no such folder"):
        load_book(tmp_path / "nowhere")
    folder = write(tmp_path / "book")
    (folder / "orders.csv").rename(folder / "orders.txt")
    with pytest.raises(BookError, match=r"neither orders\.parquet nor orders\.csv"):
        load_book(folder)
    (folder / "book.json").unlink()
    with pytest.raises(BookError, match=r"book\.json: missing"):
        load_book(folder)


def test_a_header_key_that_is_not_known_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "book")
    (folder / "book.json").write_text(json.dumps(HEADER | {"mod": "elastic"}))
    with pytest.raises(BookError, match=r"book\.json: mod: .*Did you mean 'mode'"):
        load_book(folder)
    (folder / "book.json").write_text("{")
    with pytest.raises(BookError, match=r"book\.json line 1: not valid JSON"):
        load_book(folder)


def test_a_mapping_of_an_unknown_field_is_refused(tmp_path: Path) -> None:
    header = BookHeader(assets=("BTC", "ETH"), columns={"orders": {"quantty": "size"}})
    with pytest.raises(BookError, match=r"unknown field 'quantty'.*mean 'quantity'"):
        load_book(write(tmp_path / "book"), header)


def test_two_files_of_one_table_are_refused_rather_than_chosen(tmp_path: Path) -> None:
    folder = write(tmp_path / "book")
    parquet.write_table(
        pa.table({"account": ["0xaa"], "wallet": [1.0]}), folder / "accounts.parquet"
    )
    with pytest.raises(BookError, match="holds both"):
        load_book(folder)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "book")
    (folder / "orders.csv").unlink()
    (folder / "orders.parquet").write_bytes(b"not parquet")
    with pytest.raises(BookError, match=r"orders\.parquet: cannot be read"):
        load_book(folder)


def test_saving_never_overwrites_a_book(tmp_path: Path) -> None:
    folder = save_book(two_account_book(), tmp_path / "book")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BookError, match="not an empty folder"):
        save_book(two_account_book(), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_accounts_keep_their_names_and_each_needs_its_own(tmp_path: Path) -> None:
    book = two_account_book()
    folder = save_book(book, tmp_path / "book", csv=True, names=("0xaa", "0xbb BTC"))
    assert load_book(folder).digest == book.digest
    for table in ("accounts", "orders", "transfers"):
        assert '"0xbb BTC"' in (folder / f"{table}.csv").read_text()
    for names in (("0xaa", "0xaa"), ("0xaa",)):
        with pytest.raises(BookError, match=r"names for 2 accounts; each needs its own"):
            save_book(book, tmp_path / "other", names=names)
        assert not (tmp_path / "other").exists()


def test_an_instrument_that_the_tape_lacks_is_named_with_the_nearest(tmp_path: Path) -> None:
    book = load_book(write(tmp_path / "book", orders=ORDERS.replace("ETH-PERP", "ETH-PRP")))
    with pytest.raises(BookError, match=r"'ETH-PRP', which the tape lacks.*mean 'ETH-PERP'"):
        book.tape_rows(make_tape(3, options=False, inverse=False))
