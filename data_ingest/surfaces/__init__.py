"""Volatility surfaces: SVI slices fitted to chains or trades, and what they say of the quotes."""
