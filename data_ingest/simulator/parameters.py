"""Every number of the simulated market, with its unit and where it comes from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backtest.units import MS_PER_DAY, UtcMs, iso_utc

STEP_MS = 300_000
"""The market's own clock: five minutes, the finest candle that the simulator can serve."""

SVCJ = "stochastic volatility with correlated jumps, CRIX index estimates (Hou et al. 2020 model)"
RECORDED_2024 = "recorded Binance USD-M five-minute candles, January to mid-May 2024"
CHAIN_2026 = "least-squares fit to the recorded Deribit BTC chain of 26 June 2026"
EXCHANGE_RULE = "published rule of the exchange"
CHOICE = "our choice"

Range = Annotated[tuple[float, float], Field(min_length=2, max_length=2)]


def _parameter(default: Any, doc: str, unit: str, source: str, **bounds: Any) -> Any:
    return Field(
        default,
        description=doc,
        json_schema_extra={"unit": unit, "source": source},
        validate_default=True,
        **bounds,
    )


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AssetParameters(_Parameters):
    """What distinguishes one asset from another."""

    name: str = _parameter("BTC", "asset", "-", CHOICE, pattern="^[A-Z]{2,6}$")
    start_price_usd: float = _parameter(
        42_300.0, "index at the start", "USD", "prices of 2024-01-01, rounded", gt=0
    )
    variance_scale: float = _parameter(
        1.0, "variance relative to BTC", "ratio", "BTC is the yardstick", gt=0
    )
    crisis_beta: float = _parameter(
        1.0, "share of a crisis drop that the asset takes, in log price", "ratio", CHOICE, gt=0
    )
    daily_volume_usd: float = _parameter(
        21.7e9,
        "perpetual's traded volume on Binance on a day of typical variance",
        "USD/day",
        "set so that the median day trades 16.3 (BTC) and 7.4 (ETH) billion as in the "
        + RECORDED_2024,
        gt=0,
    )
    depth_usd: float = _parameter(
        60e6, "resting orders within 1 % of mid, each side, calm market", "USD", CHOICE, gt=0
    )
    open_interest_usd: float = _parameter(
        5e9, "perpetual's open interest at the start", "USD", CHOICE, gt=0
    )
    option_trades_per_day: float = _parameter(
        400.0,
        "option trades on an average day",
        "trades/day",
        CHOICE + ", thinned: Deribit printed 3,719 in half of 1 January 2022 (BTC)",
        ge=0,
    )
    price_tick_usd: float = _parameter(0.1, "price step on Binance", "USD", EXCHANGE_RULE, gt=0)
    deribit_tick_usd: float = _parameter(0.5, "price step on Deribit", "USD", EXCHANGE_RULE, gt=0)


class VolatilityParameters(_Parameters):
    """Stochastic variance with correlated jumps. Variances are annual, time runs in days."""

    annual_drift: float = _parameter(
        0.6,
        "expected log return outside crises, jumps included",
        "1/year",
        CHOICE + ": BTC's rise of 2024, pays back the crises",
    )
    reversion_per_day: float = _parameter(0.187, "speed of variance reversion", "1/day", SVCJ, gt=0)
    base_variance: float = _parameter(
        0.10,
        "level that the diffusive variance reverts to between jumps",
        "1/year",
        "SVCJ gives 0.054; raised towards the 56 % annual volatility of the " + RECORDED_2024,
        gt=0,
    )
    variance_diffusion: float = _parameter(
        0.07,
        "volatility of variance",
        "1/sqrt(day)",
        "SVCJ gives 0.0069; raised so that the surface moves between jumps",
        ge=0,
    )
    price_variance_correlation: float = _parameter(
        0.275, "correlation of price and variance shocks", "ratio", SVCJ, ge=-1, le=1
    )
    jumps_per_day: float = _parameter(0.051, "arrivals of joint jumps", "1/day", SVCJ, ge=0)
    variance_jump_mean: float = _parameter(
        0.709, "mean (exponential) jump of variance", "1/year", SVCJ, ge=0
    )
    jump_mean: float = _parameter(
        -0.0031, "mean log price jump", "ratio", SVCJ + ", -0.049 per sqrt(250)"
    )
    jump_per_variance_jump: float = _parameter(
        -0.0133, "log price jump per unit of variance jump", "ratio", SVCJ + ", -0.21 per sqrt(250)"
    )
    jump_deviation: float = _parameter(
        0.04,
        "standard deviation of a log price jump",
        "ratio",
        "SVCJ gives 0.091 for 2014-2019; lowered towards the daily kurtosis of 2024",
        ge=0,
    )
    jump_hours: float = _parameter(
        0.5,
        "time constant over which a jump estimated from daily data reaches the price",
        "hours",
        CHOICE,
        gt=0,
    )
    regime_half_life_days: float = _parameter(
        30.0,
        "half-life of the slow log factor on the base variance",
        "days",
        "long memory of realised variance (Catania and Sandholdt 2019); value our choice",
        gt=0,
    )
    regime_deviation: float = _parameter(
        0.25, "stationary deviation of that log factor", "ratio", CHOICE, ge=0
    )
    asset_correlation: float = _parameter(
        0.85, "correlation of the assets' diffusive returns", "ratio", CHOICE, ge=-1, le=1
    )
    common_jump_share: float = _parameter(
        0.8, "probability that a jump hits all assets", "ratio", CHOICE, ge=0, le=1
    )


class CrisisParameters(_Parameters):
    """Crises that a diffusion alone would not give: scripted in kind, random in detail."""

    count: int = _parameter(2, "crises, one in each equal part of the span", "-", CHOICE, ge=0)
    duration_days: Range = _parameter((3.0, 7.0), "length (uniform)", "days", CHOICE)
    drop: Range = _parameter(
        (0.28, 0.42),
        "total log fall (uniform) before the rebound",
        "ratio",
        "recorded BTC weeks: down 56 % in March 2020, 32 % in May 2021, 27 % in November 2022",
    )
    waves: tuple[int, int] = _parameter((3, 6), "selling waves (uniform)", "-", CHOICE)
    wave_hours: float = _parameter(2.0, "time constant of one wave", "hours", CHOICE, gt=0)
    rebound: Range = _parameter((0.2, 0.5), "share of the fall regained", "ratio", CHOICE)
    variance_jump: Range = _parameter(
        (0.8, 1.6), "annual variance added over the waves", "1/year", CHOICE
    )
    depth_factor: Range = _parameter((0.1, 0.3), "depth left at the worst", "ratio", CHOICE)


class LiquidityParameters(_Parameters):
    """Volume, depth, premium and funding of the perpetuals."""

    deribit_share: float = _parameter(
        0.05, "Deribit's perpetual relative to Binance's", "ratio", CHOICE, gt=0
    )
    okx_share: float = _parameter(
        0.35, "OKX's USDT perpetual relative to Binance's", "ratio", CHOICE, gt=0
    )
    bybit_share: float = _parameter(
        0.4, "Bybit's USDT perpetual relative to Binance's", "ratio", CHOICE, gt=0
    )
    hyperliquid_share: float = _parameter(
        0.15, "Hyperliquid's perpetual relative to Binance's", "ratio", CHOICE, gt=0
    )
    coin_margined_share: float = _parameter(
        0.08, "a coin-margined perpetual relative to Binance's USDT one", "ratio", CHOICE, gt=0
    )
    usdc_share: float = _parameter(
        0.05, "Binance's USDC perpetual relative to its USDT one", "ratio", CHOICE, gt=0
    )
    volume_elasticity: float = _parameter(
        1.2,
        "log volume per log activity",
        "ratio",
        "1.26 (BTC) and 1.19 (ETH) in the " + RECORDED_2024,
    )
    volume_deviation: float = _parameter(0.35, "noise of log volume", "ratio", CHOICE, ge=0)
    depth_elasticity: float = _parameter(
        -0.5, "log depth per log variance", "ratio", CHOICE + ": depth falls as one over volatility"
    )
    depth_deviation: float = _parameter(0.15, "noise of log depth", "ratio", CHOICE, ge=0)
    premium_deviation: float = _parameter(
        0.0002, "deviation of the perpetual's premium over the index", "ratio", CHOICE, ge=0
    )
    premium_half_life_hours: float = _parameter(
        6.0, "half-life of the premium", "hours", CHOICE, gt=0
    )
    premium_per_daily_return: float = _parameter(
        0.009, "premium per unit of trailing 24 h log return", "ratio", CHOICE
    )
    funding_interest: float = _parameter(0.0001, "8 h interest component", "ratio", EXCHANGE_RULE)
    funding_dampener: float = _parameter(
        0.0005, "clamp of interest minus premium (Binance)", "ratio", EXCHANGE_RULE
    )
    deribit_dampener: float = _parameter(
        0.00025, "premium that pays no funding (Deribit)", "ratio", "documented damper of 0.025 %"
    )
    funding_cap: float = _parameter(0.003, "largest 8 h rate either way", "ratio", EXCHANGE_RULE)


class SurfaceParameters(_Parameters):
    """Implied volatility: surface SVI (Gatheral and Jacquier 2014) over a reverting variance."""

    risk_premium: float = _parameter(
        1.08, "implied volatility over expected volatility, calm", "ratio", CHOICE, gt=0
    )
    belief_hours: float = _parameter(
        4.0, "time constant with which quotes follow the variance", "hours", CHOICE, gt=0
    )
    skew: float = _parameter(
        -0.38, "SSVI correlation: negative makes puts dearer", "ratio", CHAIN_2026, gt=-1, lt=1
    )
    crisis_skew: float = _parameter(
        -0.25, "added to it at the height of a crisis", "ratio", CHOICE, le=0
    )
    curvature: float = _parameter(
        0.99, "SSVI eta with phi = eta / sqrt(theta)", "ratio", CHAIN_2026, gt=0, le=1.4
    )
    annual_carry: float = _parameter(0.06, "forward over index in a flat market", "1/year", CHOICE)
    carry_per_weekly_return: float = _parameter(
        0.35, "carry added per unit of trailing 7 day log return", "ratio", CHOICE
    )
    half_spread_vol: float = _parameter(
        0.008, "half the bid-ask spread at the money", "annual vol", CHOICE, gt=0
    )
    daily_expiries: int = _parameter(0, "daily expiries listed", "-", CHOICE, ge=0, le=7)
    weekly_expiries: int = _parameter(3, "Friday expiries listed", "-", EXCHANGE_RULE, ge=0, le=8)
    monthly_expiries: int = _parameter(
        3, "last-Friday expiries listed", "-", EXCHANGE_RULE, ge=0, le=12
    )
    quarterly_expiries: int = _parameter(
        3,
        "March, June, September, December",
        "-",
        "Deribit lists four; one fewer keeps it small",
        ge=0,
        le=8,
    )
    strike_range: float = _parameter(
        2.5, "listed strikes within so many deviations of spot", "deviations", CHOICE, gt=0
    )
    strike_step: float = _parameter(0.35, "step between strikes", "deviations", CHOICE, gt=0)
    listing_volatility: float = _parameter(
        0.6, "volatility by which the exchange spaces strikes", "annual vol", CHOICE, gt=0
    )

    @model_validator(mode="after")
    def _no_butterfly_arbitrage(self) -> SurfaceParameters:
        # SSVI with phi = eta / sqrt(theta) has no butterfly arbitrage while
        # eta^2 (1 + |rho|) <= 4 (Gatheral and Jacquier 2014, theorem 4.2).
        steepest = min(0.99, abs(self.skew) + abs(self.crisis_skew))
        if self.curvature**2 * (1 + steepest) > 4:
            raise ValueError(f"curvature {self.curvature} allows butterfly arbitrage; lower it")
        return self


BITCOIN = AssetParameters()
ETHER = AssetParameters(
    name="ETH",
    start_price_usd=2_280.0,
    variance_scale=1.31,
    crisis_beta=1.15,
    daily_volume_usd=10.0e9,
    depth_usd=35e6,
    open_interest_usd=2.5e9,
    option_trades_per_day=250.0,
    price_tick_usd=0.01,
    deribit_tick_usd=0.05,
)


class MarketParameters(_Parameters):
    """The simulated market as a whole; equal parameters give equal bits."""

    seed: int = _parameter(7, "seed of every random stream", "-", CHOICE, ge=0)
    start: UtcMs = _parameter(1_704_067_200_000, "first instant, midnight UTC", "date", CHOICE)
    end: UtcMs = _parameter(1_735_603_200_000, "end (exclusive), midnight UTC", "date", CHOICE)
    assets: tuple[AssetParameters, ...] = Field(
        default=(BITCOIN, ETHER), description="what is traded", min_length=1
    )
    volatility: VolatilityParameters = VolatilityParameters()
    crises: CrisisParameters = CrisisParameters()
    liquidity: LiquidityParameters = LiquidityParameters()
    surface: SurfaceParameters = SurfaceParameters()

    @model_validator(mode="after")
    def _span_of_whole_days(self) -> MarketParameters:
        for name, instant in (("start", self.start), ("end", self.end)):
            if instant % MS_PER_DAY:
                raise ValueError(f"{name}: {iso_utc(instant)} is not midnight UTC")
        if self.end - self.start < 14 * MS_PER_DAY:
            raise ValueError("end: the span must be at least 14 days after start")
        names = [asset.name for asset in self.assets]
        if len(set(names)) < len(names):
            raise ValueError(f"assets: {', '.join(names)} repeats a name")
        return self

    @property
    def steps(self) -> int:
        """Number of five-minute steps in the span."""
        return (self.end - self.start) // STEP_MS

    @property
    def step_days(self) -> float:
        """Length of a step in days."""
        return STEP_MS / MS_PER_DAY


def parameter_table() -> str:
    """Return every parameter as a Markdown table: name, default, unit, meaning, source."""
    defaults = MarketParameters()
    lines = ["| parameter | default | unit | meaning | source |", "|---|---|---|---|---|"]
    sections: tuple[tuple[str, tuple[BaseModel, ...]], ...] = (
        ("", (defaults,)),
        ("assets.", defaults.assets),
        ("volatility.", (defaults.volatility,)),
        ("crises.", (defaults.crises,)),
        ("liquidity.", (defaults.liquidity,)),
        ("surface.", (defaults.surface,)),
    )
    for prefix, models in sections:
        for name, field in type(models[0]).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict):
                shown = " / ".join(_shown(getattr(model, name), extra["unit"]) for model in models)
                lines.append(
                    f"| `{prefix}{name}` | {shown} | {extra['unit']} "
                    f"| {field.description} | {extra['source']} |"
                )
    return "\n".join(lines)


def _shown(value: Any, unit: Any) -> str:
    if unit == "date":
        return iso_utc(value)[:10]
    if isinstance(value, tuple):
        return " to ".join(f"{bound:g}" for bound in value)
    return f"{value:,.12g}" if isinstance(value, (int, float)) else str(value)
