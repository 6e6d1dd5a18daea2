"""A study small enough for a test: 30 days, 60 accounts, real replays."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from backtest.generate import generate_book
from experiments.config import RunConfig, config_from
from experiments.run import Inputs
from tests.tapes import make_tape

CONFIG = """
name: Small study
question: Should margin follow volatility?
market:
  exchange: binanceusdm
  assets: [BTC, ETH]
  start: 2024-01-01
  end: 2024-01-31
  depth: {usd: {BTC: 5M, ETH: 5M}}
book:
  generate: {preset: cross-margin-dex, accounts: 60, option_share: 0, coin_share: 0, seed: 3}
venue:
  margin_call: {level: 1.25, deadline: 4h}
  insurance_fund: {start_usd: 0}
incumbent: {policy: fixed, rate: 4%}
candidate:
  policy: volatility
  estimator: {ewma: {halflife: {search: [6h, 14d], log: true}}}
  multiplier: {search: [1.0, 8.0], start: 3.0}
  floor: {search: [0.5%, 5%]}
objectives: [capital_efficiency, residual_bad_debt_bps]
constraints: {coverage: ">= 90%"}
windows:
  search: [2024-01-01, 2024-01-15]
  holdout: [2024-01-16, 2024-01-30]
trials: 10
batch: 4
seed: 5
"""


def raw(**changes: Any) -> dict[str, Any]:
    """Return the config as plain values, some top-level keys replaced."""
    values: dict[str, Any] = yaml.safe_load(CONFIG)
    return {**values, **changes}


def config(**changes: Any) -> RunConfig:
    """Return the validated config."""
    return config_from(raw(**changes), Path("small.yaml"))


@lru_cache(maxsize=1)
def inputs() -> Inputs:
    """Build tape and book, once per test process."""
    tape = make_tape(rows=720, options=False, inverse=False, seed=2, volatility=1.2)
    spec = config().book.generate
    assert spec is not None
    return Inputs(tape, generate_book(spec, tape, 3))
