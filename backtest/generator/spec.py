"""What a generated account book should look like: targets, flow, kinds of trader."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backtest.errors import ConfigError, nearest
from backtest.mistakes import first_mistake
from backtest.units import DurationMs, Fraction, Usd
from backtest.yaml_files import read_yaml

PRESET_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "books"

Strategy = Literal[
    "perpetual",
    "long_call",
    "short_call",
    "long_put",
    "short_put",
    "covered_call",
    "covered_put",
    "protective_put",
    "protective_call",
    "call_spread",
    "put_spread",
    "long_straddle",
    "short_straddle",
    "long_strangle",
    "short_strangle",
    "iron_condor",
]

Scheme = Literal["portfolio", "cross", "isolated"]
Fact = Literal[
    "gini of intended notional",
    "share of largest 1 %",
    "share of ten largest",
    "hill index of equity",
    "correlation of log equity and log leverage",
    "leverage, 5 % quantile",
    "leverage, 25 % quantile",
    "leverage, median",
    "leverage, 75 % quantile",
    "leverage, 95 % quantile",
    "leverage, mean by notional",
    "leverage, 80 % quantile by notional",
    "notional below 3x",
    "notional at 3x to 7x",
    "notional above 7x",
    "options, share of notional x time",
    "longs, share of open interest",
]
_ABOUT: dict[str, str] = {
    "gini": "gini",
    "top_percent_share": "share of",
    "tail_index": "hill",
    "size_leverage_correlation": "correlation",
    "leverage": "leverage",
    "option_share": "options",
}
"""By field, how the facts begin that somebody who sets it has an opinion of their own on."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeverageQuantiles(_Part):
    """Leverage of an account, notional over equity, at five points of its distribution."""

    p05: float = Field(gt=0.0, description="5 % of the accounts use less")
    p25: float = Field(gt=0.0, description="a quarter of the accounts uses less")
    p50: float = Field(gt=0.0, description="the median account")
    p75: float = Field(gt=0.0, description="three quarters of the accounts use less")
    p95: float = Field(gt=0.0, description="95 % of the accounts use less")
    maximum: float = Field(gt=0.0, description="no account uses more")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        values = list(self.model_dump().values())
        if values != sorted(values):
            raise ValueError("leverage must not fall from p05 to p95 and on to maximum")
        return self

    def points(self) -> tuple[tuple[float, float], ...]:
        """List (quantile, leverage)."""
        return (
            (0.05, self.p05),
            (0.25, self.p25),
            (0.50, self.p50),
            (0.75, self.p75),
            (0.95, self.p95),
        )


class Segment(_Part):
    """One kind of trader: what it trades and how it answers a margin call."""

    share: Fraction = Field(gt=0.0, le=1.0, description="share of the accounts")
    strategies: dict[Strategy, float] = Field(
        min_length=1, description="weights of what it opens; options count only where listed"
    )
    trend: float = Field(
        0.0, ge=-1.0, le=1.0, description="1 always buys after a rise, -1 always sells"
    )
    activity: float = Field(1.0, gt=0.0, le=100.0, description="orders relative to the average")
    held_to_expiry: Fraction = Field(
        0.5, ge=0.0, le=1.0, description="share of option positions that are left to expire"
    )
    top_up_share: Fraction = Field(
        0.5, ge=0.0, le=1.0, description="share of a margin call that it pays"
    )
    top_up_delay: DurationMs = Field(7_200_000, ge=0, description="time until it pays, ms")
    release: float = Field(
        2.0, ge=1.0, le=100.0, description="withdraws above this multiple of its target"
    )

    @model_validator(mode="after")
    def _weights(self) -> Self:
        weights = self.strategies.values()
        if any(not math.isfinite(w) or w < 0.0 for w in weights) or sum(weights) <= 0.0:
            raise ValueError("strategies need non-negative weights, at least one positive")
        return self


class CoinCollateral(_Part):
    """Accounts that hold a part of their dollars as coin, brought in by a transfer."""

    accounts: Fraction = Field(gt=0.0, le=1.0, description="share of the accounts")
    part: Fraction = Field(gt=0.0, lt=1.0, description="share of their wallet that is coin")


class RestingOrders(_Part):
    """Openings of a single perpetual that wait at a limit price."""

    share: Fraction = Field(gt=0.0, le=1.0, description="share of those openings")
    distance: Fraction = Field(
        0.005, gt=0.0, le=0.5, description="mean distance from the price they see"
    )
    life: DurationMs = Field(86_400_000, ge=1, description="longest time that they rest, ms")


class Target(_Part):
    """A published fact that a generated book should show."""

    value: Fraction = Field(description="what was published")
    tolerance: Fraction = Field(
        gt=0.0, description="how far a book may be from it, in its own unit"
    )
    weight: float = Field(
        1.0, gt=0.0, allow_inf_nan=False, description="what a miss counts in a calibration"
    )
    source: str = Field(min_length=1, description="where it was published, or `assumption`")


class BookSpec(_Part):
    """A generated book; what is not given is taken from the preset.

    Targets describe accounts that trade at least once; `describe_book` prints each beside
    what was achieved.
    """

    preset: str = Field("cross-margin-dex", description="name in configs/books, or a YAML file")
    accounts: int = Field(2_000, ge=10, le=1_000_000, description="number of accounts")
    seed: int | None = Field(None, ge=0, description="seed; the caller's where not given")
    median_equity_usd: Usd = Field(gt=0.0, description="wallet of the median account, USD")
    open_interest_usd: Usd | None = Field(
        None, gt=0.0, description="mean intended notional, USD; overrides median_equity_usd"
    )
    wallet_multiple: float = Field(
        ge=1.0, le=100.0, description="wallet over the equity that leverage is measured on"
    )
    gini: Fraction = Field(gt=0.0, lt=1.0, description="Gini coefficient of intended notional")
    top_percent_share: Fraction = Field(
        gt=0.0, lt=1.0, description="share of intended notional of the largest 1 % of accounts"
    )
    tail_index: float = Field(
        ge=0.5, le=5.0, description="Pareto index of the largest equities, before truncation"
    )
    tail_share: Fraction = Field(gt=0.0, le=0.5, description="share of accounts in that tail")
    size_leverage_correlation: float = Field(
        gt=-0.95, lt=0.95, description="of log equity and log leverage"
    )
    leverage: LeverageQuantiles
    option_share: Fraction = Field(
        ge=0.0, le=1.0, description="options' share of notional x time; 0 without options"
    )
    orders_per_account_per_day: float = Field(
        gt=0.0, le=100.0, description="mean over all accounts, legs and closings included"
    )
    activity_spread: float = Field(
        ge=0.0, le=2.5, description="standard deviation of log activity between accounts"
    )
    time_in_market: Fraction = Field(
        gt=0.0, lt=1.0, description="share of the time in which an account holds a position"
    )
    holding_spread: float = Field(
        ge=0.0, le=2.5, description="standard deviation of the log holding time"
    )
    size_spread: float = Field(
        ge=0.0, le=1.0, description="standard deviation of log size between orders of an account"
    )
    option_tenor: DurationMs = Field(gt=0, description="median life at which options trade, ms")
    option_tenor_spread: float = Field(ge=0.0, le=3.0, description="log standard deviation of it")
    coin_share: Fraction = Field(
        ge=0.0, le=1.0, description="share of accounts that post coin and trade inverse contracts"
    )
    reference_margin: Fraction = Field(
        gt=0.0, le=1.0, description="initial margin rate that traders are used to"
    )
    posted_share: Fraction = Field(
        gt=0.0, le=1.0, description="share of its equity an account posts at that rate"
    )
    largest_buffer: float = Field(
        ge=1.05, le=100.0, description="largest multiple of initial margin that is posted"
    )
    largest_position: Fraction = Field(
        gt=0.0,
        le=10.0,
        description="largest opening, share of the asset's daily volume over 30 days before",
    )
    largest_interest: Fraction | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="largest opening, share of what all accounts are expected to hold of it",
    )
    schemes: dict[Scheme, Fraction] = Field(
        default={"portfolio": 1.0}, description="shares of the accounts by margin scheme"
    )
    flight: float = Field(
        0.0,
        ge=0.0,
        le=20.0,
        description="mean exponent with which accounts run from a falling fund",
    )
    coin_collateral: CoinCollateral | None = Field(
        None, description="accounts of dollars that also hold coin; nobody where not given"
    )
    resting: RestingOrders | None = Field(
        None, description="openings that wait at a limit; none where not given"
    )
    side_tolerance: Fraction = Field(
        ge=0.0, le=1.0, description="net over gross at which new perpetuals take the other side"
    )
    max_orders: int = Field(2_000_000, ge=1, description="a larger book is refused")
    segments: dict[str, Segment] = Field(min_length=1)
    targets: dict[Fact, Target] = Field(
        default_factory=dict, description="published facts, by the name that a fit gives them"
    )
    sources: dict[str, str] = Field(
        default_factory=dict, description="where each number comes from, by field"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        """Lay what is given over the preset.

        A changed number loses the preset's source, and the published facts about it.
        """
        if not isinstance(given, dict):
            return given
        name = given.get("preset", "cross-margin-dex")
        merged = load_preset(str(name))
        sources = {**merged.get("sources", {}), **given.get("sources", {})}
        for key, value in given.items():
            if key not in given.get("sources", {}):
                sources.pop(key, None)
            if key == "leverage" and isinstance(value, dict):
                value = {**merged.get(key, {}), **value}
            if key in _ABOUT and key in merged and "targets" not in given:
                kept = merged.get("targets", {}).items()
                merged["targets"] = {k: v for k, v in kept if not k.startswith(_ABOUT[key])}
            merged[key] = value
        return {**merged, "preset": name, "sources": sources}

    @model_validator(mode="after")
    def _shares_add_up(self) -> Self:
        total = sum(segment.share for segment in self.segments.values())
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the shares of the segments add up to {total:.4g}, not 1")
        total = sum(self.schemes.values())
        if abs(total - 1.0) > 1e-9 or min(self.schemes.values()) < 0.0:
            raise ValueError(f"the shares of the schemes add up to {total:.4g}, not 1")
        return self

    def source_of(self, name: str) -> str:
        """Say where a number comes from; ``"given"`` where the user set it."""
        return self.sources.get(name, "given")


def preset_names() -> list[str]:
    """List the presets that come with the project."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """Read a preset's fields.

    Parameters
    ----------
    name
        A name from `preset_names`, or the path of a YAML file.

    Raises
    ------
    ConfigError
        If there is no such preset, or it is not a mapping.
    """
    own_file = name.endswith((".yaml", ".yml"))
    path = Path(name) if own_file else PRESET_FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"book.preset: {name!r} does not exist.{nearest(name, preset_names())}")
    fields = read_yaml(path)
    if not isinstance(fields, dict):
        raise ConfigError(f"{path}: a preset of a book is a mapping of its fields.")
    return fields


def load_spec(preset: str) -> BookSpec:
    """Read a preset as a spec of its own, with the default number of accounts.

    Raises
    ------
    ConfigError
        If there is no such preset, or it contradicts itself.
    """
    try:
        return BookSpec.model_validate({"preset": preset})
    except ValidationError as error:
        said = first_mistake(error, "", BookSpec, load_preset(preset))
        raise ConfigError(f"{preset}: {said}") from None
