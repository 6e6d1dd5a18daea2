"""From a fresh interpreter to the first replayed rows; prints processor seconds."""

from __future__ import annotations

import sys
import time


def main() -> None:
    """Import, compile or load the kernels, replay four rows and report."""
    begin = time.process_time()
    from backtest.replay import replay
    from backtest.venue import VenueRules
    from benchmarks import workload

    tape = workload.make_tape(4, options=0)
    replay(tape, workload.make_book(tape, legs=1), workload.make_linear_policy(), VenueRules())
    sys.stdout.write(f"{time.process_time() - begin:.3f}\n")


if __name__ == "__main__":
    main()
