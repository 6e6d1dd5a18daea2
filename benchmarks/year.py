"""Years of hourly rows under the volatility policy; prints seconds and peak megabytes."""

from __future__ import annotations

import sys
import time

from backtest.generate import generate_book
from backtest.generator.spec import BookSpec
from backtest.replay import replay
from backtest.venue import VenueRules
from benchmarks.measure import peak_mb
from benchmarks.workload import make_tape
from strategies.registry import policy

ROWS = 8_760
ACCOUNTS = 5_000


def main() -> None:
    """Replay as many years as the command line says, and report.

    Orders are of the first year, so that more years are more rows and nothing else.
    """
    tape = make_tape(int(sys.argv[1]) * ROWS, options=0)
    spec = BookSpec.model_validate({"accounts": ACCOUNTS})
    book = generate_book(spec, tape.head(ROWS), seed=1)
    begin = time.thread_time()
    replay(tape, book, policy("volatility"), VenueRules())
    seconds = time.thread_time() - begin
    sys.stdout.write(f"{seconds:.3f} {peak_mb():.1f}\n")


if __name__ == "__main__":
    main()
