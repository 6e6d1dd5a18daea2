"""The parts of the account book generator; `backtest.generate` is its door."""
