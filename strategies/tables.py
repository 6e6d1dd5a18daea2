"""Numbers that a policy states asset by asset, laid out in a market's order."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from backtest.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Entry = TypeVar("Entry")


def per_asset(
    table: Mapping[str, Entry], default: Entry, assets: Sequence[str], field: str
) -> list[Entry]:
    """Return each asset's entry, or the default where it has none.

    A venue's table names assets that a market may lack; those are passed over. A name that
    looks like a slip for an asset without an entry is refused.

    Parameters
    ----------
    table
        Entries by asset.
    default
        For every other asset.
    assets
        The market's, in order.
    field
        Name of the table in a config, for the message.

    Raises
    ------
    PolicyError
        If a name is one slip away from an asset that has no entry.
    """
    bare = [asset for asset in assets if asset not in table]
    for name in table:
        if name not in assets:
            for meant in get_close_matches(name.upper(), [a.upper() for a in bare], 1, 0.8):
                asset = next(a for a in bare if a.upper() == meant)
                raise PolicyError(
                    f"{field}.{name}: the market has no such asset. Did you mean {asset!r}?"
                )
    return [table.get(asset, default) for asset in assets]
