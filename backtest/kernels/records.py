"""What a replay records: names and places of every column."""

from __future__ import annotations

SERIES_NAMES = (
    "open_notional_usd",
    "locked_collateral_usd",
    "required_initial_usd",
    "required_maintenance_usd",
    "gross_bad_debt_usd",
    "insurance_drawdown_usd",
    "residual_bad_debt_usd",
    "liquidations",
    "liquidated_notional_usd",
    "rejected_notional_usd",
    "margin_calls_usd",
    "deposits_usd",
    "withdrawals_usd",
    "penalties_usd",
    "fund_usd",
    "accounts_open",
    "ledger_imbalance_usd",
    "ledger_scale_usd",
    "vault_usd",
    "adl_usd",
    "adl_accounts",
    "socialised_usd",
    "deficit_usd",
    "declined",
    "frozen",
    "missed_triggers",
    "needless_triggers",
    "takeovers",
    "checks",
    "shift",
    "keeper_cost_usd",
    "funding_usd",
    "haircut_usd",
)
"""Columns of the recorded series: levels at the last check or event of a row, sums of flows."""
(
    OPEN_NOTIONAL,
    LOCKED_COLLATERAL,
    REQUIRED_INITIAL,
    REQUIRED_MAINTENANCE,
    GROSS_BAD_DEBT,
    INSURANCE_DRAWDOWN,
    RESIDUAL_BAD_DEBT,
    LIQUIDATIONS,
    LIQUIDATED_NOTIONAL,
    REJECTED_NOTIONAL,
    MARGIN_CALLS,
    DEPOSITS,
    WITHDRAWALS,
    PENALTIES,
    FUND_LEVEL,
    ACCOUNTS_OPEN,
    LEDGER_IMBALANCE,
    LEDGER_SCALE,
    VAULT_LEVEL,
    ADL_USD,
    ADL_ACCOUNTS,
    SOCIALISED,
    DEFICIT_LEVEL,
    DECLINED,
    FROZEN,
    MISSED_TRIGGERS,
    NEEDLESS_TRIGGERS,
    TAKEOVERS,
    CHECKS,
    LARGEST_SHIFT,
    KEEPER_COST,
    FUNDING_PAID,
    HAIRCUT_LEVEL,
) = range(len(SERIES_NAMES))

LIQUIDATION_NAMES = (
    "row",
    "account",
    "asset",
    "side",
    "notional_usd",
    "share",
    "equity_usd",
    "maintenance_usd",
    "cost_usd",
    "penalty_usd",
    "shortfall_usd",
    "at_ms",
    "kind",
    "discount_usd",
)
LIQUIDATION_COLUMNS = len(LIQUIDATION_NAMES)
LIQUIDATION_KINDS = ("liquidation", "takeover", "auction")
LIQUIDATION, TAKEOVER, AUCTIONED = range(3)

ADL_NAMES = ("row", "at_ms", "account", "asset", "gain_usd", "taken_usd", "share", "score")
ADL_COLUMNS = len(ADL_NAMES)

LEDGER_NAMES = (
    "deposits_usd",
    "withdrawals_usd",
    "transfers_usd",
    "trading_usd",
    "funding_usd",
    "fees_usd",
    "penalties_usd",
    "slippage_usd",
    "adl_usd",
    "socialised_usd",
    "bad_debt_usd",
)
"""Columns of an account's ledger: US dollars when they moved, positive into the account."""
(
    IN_DEPOSITS,
    IN_WITHDRAWALS,
    IN_TRANSFERS,
    IN_TRADING,
    IN_FUNDING,
    IN_FEES,
    IN_PENALTIES,
    IN_SLIPPAGE,
    IN_ADL,
    IN_SOCIALISED,
    IN_BAD_DEBT,
) = range(len(LEDGER_NAMES))

LEVEL_NAMES = frozenset(
    (
        "open_notional_usd",
        "locked_collateral_usd",
        "required_initial_usd",
        "required_maintenance_usd",
        "fund_usd",
        "vault_usd",
        "deficit_usd",
        "haircut_usd",
        "accounts_open",
    )
)
"""Series that stand at a value; the others, but for the two below, add up over time."""
WORST_NAMES = frozenset(("shift", "ledger_imbalance_usd", "ledger_scale_usd"))
"""Series of which the largest within a stretch is kept."""
