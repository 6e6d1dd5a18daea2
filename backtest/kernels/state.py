"""The world of a replay: every array that the event loop reads and changes.

One block, `WORLD`, holds the read-only inputs (tape, timeline, book, venue), what the venue sees
(market), what a replay changes (state), what a policy is asked with (ask) and what is recorded
(records). Kernels take the world and the row, account or event they work on.
"""

from __future__ import annotations

from backtest.kernels.blocks import BlockType
from backtest.kernels.types import KERNEL_SLOTS
from backtest.venue import VenueNumbers

# Places in `state.purse`, US dollars.
FUND, LIQUIDATORS, FEES, DEFICIT, VAULT = range(5)
PURSES = 5

# Rows of `state.assets`, one column per asset.
(
    TRUE_INDEX,  # USD, the tape's times one plus the shift
    TRUE_MARK,
    SOLD,  # exposure executed at this instant, USD
    PUSHED,  # the same signed: sales less purchases
    PERMANENT,  # part of the shift that stays
    TRANSIENT,  # part that decays
    SHIFT,  # how far liquidations have moved the price, fraction
    SEEN_SHIFT,  # the shift in the price that the venue sees
    DRAWN,  # what the asset's deficits have drawn from the fund, USD
    HELD_COINS,  # coins that accounts hold as collateral
    NET,  # scratch
    TRIAL_SOLD,  # scratch
    OWED_BY_LONGS,  # shortfall of this instant, USD
    OWED_BY_SHORTS,
) = range(14)
ASSET_ROWS = 14

# Places in `state.counter`.
(
    CLOCK,
    ROW,
    INSTANT,
    STAMP,  # names the present true prices
    TICK,  # names what the venue sees
    NEXT_ACTION,
    NEXT_FATE,
    NEXT_TRANSFER,
    SEQUENCE,
    EVENTS,  # in the queue
    FREE_BLOCK,
    BLOCK_USED,
    LOGGED,
    ADL_LOGGED,
    KNOWN,  # 1 when the venue knows every price and the policy's parameters
    CROSSED,  # accounts whose legs are margined one by one
    LIVE,  # orders that rest
    ACTIVE,  # accounts that hold positions, listed in `state.active`
    LIST_STALE,  # 1 when positions changed since they were listed
    GROSS_STALE,  # 1 when positions changed since contracts were added up
    FUNDED,  # slots that pay funding
    MONEY_MOVED,  # 1 when money may have moved since it was counted
    WALLETS_MOVED,  # 1 when wallets may have moved since they were counted
    SAME_VIEW,  # 1 when the venue sees the market as it is
    COINS,  # 1 when accounts may hold or owe coins
) = range(25)
COUNTERS = 25
# Places in `state.level`.
HEALTH, CLIENT_FUNDS, OWED_SO_FAR = range(3)
LEVELS = 3

# Columns of the coins' collateral rules.
(
    HAIRCUT,
    DEPTH_IMPACT,
    SCALE_START_USD,
    WRONG_WAY,
    CORRELATION,
    PEG_USD,
    PEG_THRESHOLD,
    PEG_FACTOR,
) = range(8)
COLLATERAL_COLUMNS = 8

NEVER = -1
"""An instant that stands for none."""

TRADE, REST, FILL, CANCEL = range(4)
"""What an action of the book does with its orders."""


def _fields(spec: str) -> dict[str, str]:
    return dict(word.split(":") for word in spec.split())


TAPE = BlockType(
    "Tape",
    _fields(
        "ts:I1 snapshot:I1 index:F2 mark:F2 depth_usd:F2 funding:F2 keeper_cost_usd:F1 "
        "settlement_usd:F1 confidence:F2 iv:F2 forward_ratio:F2 carry:F2 asset:W1 kind:B1 "
        "inverse:B1 contract_size:F1 strike:F1 is_call:B1 listed_ms:I1 expiry_ms:I1 "
        "iv_column:W1 expiry_column:W1"
    ),
)
"""The market, ``T`` rows, ``A`` assets, ``I`` instruments; see `backtest.arrays`."""
TIMELINE = BlockType(
    "Timeline",
    _fields(
        "at_ms:I1 row:I1 opens_row:I1 seen_row:I2 seen_snapshot:I1 policy_row:I1 enforce:I2 "
        "check:I1"
    ),
)
"""The instants; see `backtest.timeline.Timeline`."""
BOOK = BlockType(
    "Book",
    _fields(
        "recorded:i0 owner:I1 collateral_currency:I1 buffer:F1 release:F1 flight:F1 "
        "top_up_share:F1 top_up_delay_ms:I1 order_account:I1 order_instrument:I1 "
        "order_quantity:F1 order_limit:F1 order_kind:I1 action_row:I1 action_kind:I1 "
        "action_first:I1 action_last:I1 fate_row:I1 fate_kind:I1 fate_order:I1 "
        "resting_start:I1 resting_order:I1 transfer_row:I1 transfer_account:I1 "
        "transfer_currency:I1 transfer_amount:F1"
    ),
)
"""``N`` margin accounts and what they want; an isolated account is one per instrument."""
VENUE = BlockType(
    "Venue",
    {
        **dict.fromkeys(VenueNumbers._fields, "f0"),
        **_fields(
            "brackets:F1 outage_start_ms:I1 outage_end_ms:I1 market_cap_usd:F1 collateral:F2"
        ),
    },
)
MARKET = BlockType(
    "Market",
    _fields(
        "tick:i1 index:f1 mark:f1 value_usd:f1 notional_usd:f1 forward:f1 sigma:f1 years:f1 "
        "delta_usd:f1 rate:f1 settled:f1 confidence:f1 index_confidence:f1 protocol:f2"
    ),
)
"""What the venue sees; the requirement kernels get it as `backtest.kernels.types.Market`."""
STATE = BlockType(
    "State",
    _fields(
        # Money: cash by currency and account; column N is a spare account to try an order on.
        "scheme:i1 cash:f2 wallet:f1 wallet_currency:I1 outside:f1 flow:f1 opening:f1 purse:f1 "
        "counted:f2 "
        # Positions in slots: account a holds start[a] .. start[a] + count[a].
        "start:i1 count:i1 instrument:i1 quantity:f1 entry:f1 holders:i1 gross:f1 net:f1 "
        # Slots that pay funding, and whose they are.
        "funded:i1 funded_account:i1 "
        # Calls, payments and liquidations in progress; NEVER where there is none.
        "call_ts:i1 deposit_ts:i1 deposit_usd:f1 liquidation_ts:i1 steps:i1 queued:i1 reserved:f1 "
        # Resting orders, and what each account would post and release in a run.
        "live:i1 live_count:i1 "
        # The linear trigger: position value, margin, deltas and prices when it was last set.
        "anchor_ts:i1 anchor_value:f1 anchor_margin:f1 anchor_delta:f2 anchor_index:f2 "
        # Prices of one contract, true; stamps say at which prices.
        "unit:f1 value_usd:f1 notional_usd:f1 delta_usd:f1 priced:i1 seen_priced:i1 "
        "quotes:f2 quoted:i1 "
        # Everything per asset, counters, levels and the queue of scheduled events.
        "assets:f2 shift_at_row:f2 counter:i1 level:f1 event_time:i1 event_sequence:i1 "
        "event_heap:i1 event_place:i1 "
        # Scratch per account.
        "who:i1 listed:i1 done:i1 active:i1 winners:i1 equity:f1 gain:f1 score:f1 last_few:f1"
    ),
)
ASK = BlockType(
    "Ask",
    {
        **_fields(
            "initial:f1 maintenance:f1 worst_scenario:i1 leg_start:i1 leg_count:i1 "
            "leg_initial:f1 leg_maintenance:f1 leg_worst:i1 legs:i1 no_cash:f2 layers:i0"
        ),
        **{
            f"{name}{slot}": kind
            for slot in range(KERNEL_SLOTS)
            for name, kind in _fields(
                "parameters:f1 constants:F1 scratch:f2 scratch_tick:i1 path:F2"
            ).items()
        },
    },
)
"""What requirement kernels are handed and fill; per slot the parameters, constants, scratch."""
RECORDS = BlockType("Records", _fields("series:f2 log:f2 adl_log:f2 ledger:f2"))
WORLD = BlockType(
    "World",
    {
        "tape": TAPE,
        "timeline": TIMELINE,
        "book": BOOK,
        "venue": VENUE,
        "market": MARKET,
        "state": STATE,
        "ask": ASK,
        "records": RECORDS,
    },
)
