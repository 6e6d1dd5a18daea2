"""The venue's rules in plain words: those that are in force, and whom each makes look better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.units import duration_text
from experiments.report.wording import money, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backtest.rules.liquidation import Liquidation
    from backtest.rules.prices import Oracle
    from backtest.venue import VenueRules

MORE_LIQUIDATED = "the policy that liquidates more"
ASKS_FOR_LESS = "the policy that asks for less"
ASKS_FOR_MORE = "the policy that asks for more"
NEITHER = "neither"


@dataclass(frozen=True)
class Assumption:
    """One sentence, and the side that it makes look better."""

    text: str
    favours: str


def venue_assumptions(venue: VenueRules, longest_row_ms: int) -> Iterator[Assumption]:
    """Say how the venue enforces, rule by rule; a rule that is off goes unmentioned.

    Parameters
    ----------
    venue
        Rules of both replays.
    longest_row_ms
        Longest time between two rows of the tape.
    """
    yield from _impact(venue.liquidation)
    yield from _liquidation(venue.liquidation)
    yield from _keepers(venue.liquidation)
    yield from _checks(venue, longest_row_ms)
    yield from _stale_prices(venue.oracle)
    if (breaker := venue.circuit_breaker) is not None:
        yield Assumption(
            f"A move of {percent(breaker.move)} within {duration_text(breaker.window)} stops "
            f"trading and liquidation of the asset for {duration_text(breaker.halt)}.",
            ASKS_FOR_LESS,
        )
    yield from _collateral(venue)
    yield from _money(venue)


def _impact(liquidation: Liquidation) -> Iterator[Assumption]:
    impact, feedback = liquidation.impact, liquidation.impact.feedback
    law = "the square-root law" if impact.law == "square_root" else "a straight line (Kyle)"
    if feedback is None:
        yield Assumption(
            "Liquidations pay for their own price impact but do not move the recorded price; "
            "cascades are not replayed.",
            MORE_LIQUIDATED,
        )
    else:
        yield Assumption(
            "Liquidations move the price at which everybody is margined: "
            f"{percent(feedback.permanent_share)} of the move stays, and half of the rest is gone "
            f"after {duration_text(feedback.half_life)}. Accounts are checked at the moved price "
            f"after {duration_text(feedback.delay)}. Nobody else trades on it.",
            "the policy that liquidates less",
        )
    yield Assumption(
        f"Impact follows {law}: {percent(impact.at_depth)} at a volume equal to "
        f"the depth within 1 % of mid, at most {percent(impact.cap)}.",
        f"{MORE_LIQUIDATED}, if depth is overstated",
    )


def _liquidation(rules: Liquidation) -> Iterator[Assumption]:
    size = {
        "full": "closes the whole portfolio",
        "step": f"closes {percent(rules.step)} of the first portfolio per step until "
        f"{rules.target:g} times maintenance margin is restored",
        "to_target": f"closes what restores {rules.target:g} times maintenance margin, at least "
        f"{percent(rules.minimum_share)}",
        "step_down": "closes down to the next lower of the brackets "
        + ", ".join(money(edge) for edge in rules.brackets),
        "proportional": f"closes {rules.proportional.gain:g} times the share of maintenance "
        f"margin that is missing, at most {percent(rules.proportional.cap)} at once",
        "auction": "sells a share of the account in a falling auction, from "
        f"{percent(rules.auction.start)} to {percent(rules.auction.cut)} of its value within "
        f"{duration_text(rules.auction.fast)}, then to nothing within "
        f"{duration_text(rules.auction.slow)}",
    }[rules.mode]
    pause = f", {duration_text(rules.interval)} between steps" if rules.interval else ""
    base = "closed notional" if rules.penalty_base == "notional" else "maintenance margin released"
    yield Assumption(
        f"A liquidation {size}{pause}, for a penalty of {percent(rules.penalty)} of {base}.",
        NEITHER,
    )
    if rules.backstop is not None:
        yield Assumption(
            f"Below {percent(rules.backstop.below)} of maintenance margin a vault with "
            f"{money(rules.backstop.start_usd)} takes an account over at once, whole, and sells "
            "it at the depth there is.",
            MORE_LIQUIDATED,
        )


def _keepers(rules: Liquidation) -> Iterator[Assumption]:
    keepers = rules.keepers
    if keepers.capacity is None and not keepers.outages and not keepers.participation:
        yield Assumption(
            "Liquidators always answer: an order to liquidate executes when it is due.",
            MORE_LIQUIDATED,
        )
    if keepers.capacity is not None:
        yield Assumption(
            f"Keepers carry out {keepers.capacity:,} liquidations per "
            f"{duration_text(keepers.block)}; the others wait.",
            "the policy that liquidates less",
        )
    if keepers.outages:
        yield Assumption(
            f"No keeper works during {_times(len(keepers.outages), 'window')} of "
            f"{duration_text(sum(end - start for start, end in keepers.outages))} in all.",
            ASKS_FOR_MORE,
        )
    if keepers.cost_usd > 0.0:
        rise = (
            f" in a calm market, and {percent(0.01 * keepers.cost_per_move)} more for each percent "
            "of the largest move of the row"
            if keepers.cost_per_move
            else ""
        )
        yield Assumption(
            f"A liquidation costs its keeper {money(keepers.cost_usd)}{rise}.", NEITHER
        )
    if keepers.participation:
        yield Assumption(
            "No keeper works at a loss: a liquidation that pays less than it costs is put off.",
            "the policy that liquidates less",
        )


def _checks(venue: VenueRules, longest_row_ms: int) -> Iterator[Assumption]:
    oracle, check = venue.oracle, venue.margin_check
    when = []
    if oracle.heartbeat is not None:
        when.append(f"at least every {duration_text(oracle.heartbeat)}")
    if oracle.deviation > 0.0:
        when.append(f"when it has moved by {percent(oracle.deviation)}")
    posts = f" A price is posted {' or '.join(when)}." if when else ""
    late = (
        f"The venue's oracle adds {duration_text(oracle.latency)} to the delays that the tape "
        "carries"
        if oracle.latency
        else "The venue's oracle adds no delay to those that the tape carries"
    )
    often = (
        "margin is checked at every row of the tape and whenever a price arrives, at most "
        f"{duration_text(longest_row_ms)} apart"
    )
    if check.every:
        often = f"margin is checked at most once per {duration_text(check.every)}"
        if check.near_expiry:
            often += f", and at every row within {duration_text(check.near_expiry)} of an expiry"
    yield Assumption(f"{late}, and {often}.{posts}", ASKS_FOR_LESS)
    if check.mode == "trigger":
        yield Assumption(
            "An account is margined in full only when a linear estimate falls below "
            f"{check.trigger.level:g} times its last known maintenance margin, when its positions "
            f"changed, or after {duration_text(check.trigger.refresh)}.",
            ASKS_FOR_MORE,
        )


def _stale_prices(oracle: Oracle) -> Iterator[Assumption]:
    frozen = "accounts that hold the asset are not liquidated and do not trade it"
    if oracle.outages:
        yield Assumption(
            f"The oracle posts nothing during {_times(len(oracle.outages), 'window')} of "
            f"{duration_text(sum(end - start for start, end in oracle.outages))} in all.",
            ASKS_FOR_MORE,
        )
    if oracle.stale_after is not None and oracle.when_stale == "halt":
        yield Assumption(
            f"While a price is older than {duration_text(oracle.stale_after)}, {frozen}.",
            ASKS_FOR_MORE,
        )
    if (limit := oracle.confidence.limit) is not None:
        yield Assumption(
            f"While the oracle is unsure of a price by more than {percent(limit)}, {frozen}.",
            ASKS_FOR_MORE,
        )


def _collateral(venue: VenueRules) -> Iterator[Assumption]:
    for coin, rule in venue.collateral.items():
        parts = [f"{percent(rule.haircut)} is taken off"]
        if rule.treasury is not None:
            parts.append(f"{percent(rule.treasury.loss())} for rates and credit")
        if rule.depth_impact:
            parts.append("more the larger the balance is against the depth")
        if rule.wrong_way:
            parts.append("more where the positions beside it lose with it")
        if rule.peg is not None:
            parts.append(f"more off its peg of {rule.peg.usd:g} USD")
        if rule.scale_start_usd is not None:
            parts.append(f"more once the venue holds over {money(rule.scale_start_usd)} of it")
        yield Assumption(f"{coin} as collateral: {', '.join(parts)}.", NEITHER)
    if venue.withdrawals.gated_by_deficit:
        yield Assumption("Nobody withdraws while a deficit is open.", NEITHER)


def _money(venue: VenueRules) -> Iterator[Assumption]:
    fund, liquidation = venue.insurance_fund, venue.liquidation
    share = liquidation.fund_share
    share = 1.0 - liquidation.incentive_share if share is None else share
    income = [f"{percent(share)} of penalties"] if share and liquidation.penalty else []
    if fund.fee_share:
        income.append(f"{percent(fund.fee_share)} of trading fees")
    refill = f"is refilled by {' and '.join(income)}" if income else "is refilled by nobody"
    target = f", up to {money(fund.target_usd)}" if fund.target_usd is not None else ""
    yield Assumption(
        f"The insurance fund starts each window at {money(fund.start_usd)} and {refill}{target}.",
        NEITHER,
    )
    if fund.market_cap_usd:
        caps = ", ".join(f"{asset} {money(cap)}" for asset, cap in fund.market_cap_usd.items())
        yield Assumption(f"The most that the fund pays for one asset: {caps}.", NEITHER)
    adl = venue.auto_deleveraging
    if adl.mode != "none":
        order = (
            "those with the largest profit times leverage first"
            if adl.mode == "queue"
            else "each in proportion to its gain"
        )
        yield Assumption(
            f"Of what the fund cannot pay, {percent(adl.severity)} is taken from the gains of "
            f"winners on the other side, {order}, and as much of their positions is closed.",
            "the policy that leaves more bad debt",
        )
    shared = {
        "equity": "shared among accounts with positions by their equity",
        "profit": "shared by unrealised profit, then by equity",
        "funding": "charged per contract through the funding index, then by equity",
        "withdrawal": "taken from withdrawals until it is paid",
    }[venue.socialised_loss.by]
    rest = "the fund and winners" if adl.mode != "none" else "the fund"
    yield Assumption(f"A deficit that {rest} cannot pay is {shared}.", NEITHER)


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
