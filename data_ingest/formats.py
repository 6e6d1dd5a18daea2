"""Layouts that vendors publish, as mappings of the same model as a user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import ConfigError, nearest
from data_ingest.mapping import ImportMapping

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS_FOLDER = Path(__file__).resolve().parent.parent / "configs" / "import" / "formats"
"""One YAML file per format; a user copies one and edits it."""


def format_names() -> list[str]:
    """Return the formats that have a name."""
    return sorted(path.stem for path in FORMATS_FOLDER.glob("*.yaml"))


def format_file(name: str) -> Path:
    """Return the YAML file of a format.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    if name not in format_names():
        raise ConfigError(f"there is no format {name!r}.{nearest(name, format_names())}")
    return FORMATS_FOLDER / f"{name}.yaml"


def load_format(
    name: str, exchange: str | None = None, markets: Mapping[str, str] | None = None
) -> ImportMapping:
    """Read a format, for one exchange or for some markets only.

    Parameters
    ----------
    name : str
        One of `format_names`.
    exchange : str, optional
        Whose data the files are, where the format does not say.
    markets : mapping of str to str, optional
        Symbols by native name. Files of other markets are then not read, but for those in
        which each row names its own.

    Raises
    ------
    ConfigError
        If there is no such format, or it says the exchange itself.
    """
    mapping = ImportMapping.load(format_file(name))
    changes: dict[str, object] = {}
    if exchange:
        if mapping.exchange or mapping.exchanges or any(group.exchange for group in mapping.files):
            raise ConfigError(f"the format {name} says itself whose the data are; omit --exchange.")
        changes["exchange"] = exchange
    if markets:
        changes["files"] = tuple(
            group.model_copy(update={"markets": dict(markets)})
            if group.markets == "native"
            else group
            for group in mapping.files
        )
    return mapping.model_copy(update=changes)
