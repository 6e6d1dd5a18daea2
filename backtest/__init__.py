"""Ground floor: the tape, the book, the venue, the kernels, `replay` and its result."""

from backtest.cache import use_hashed_cache

use_hashed_cache()
