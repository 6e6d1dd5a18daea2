"""Volatility surfaces: smiles from chains or trades, SVI slices, arbitrage, what was not quoted.

`smiles` gathers quotes, `svi` and `fit` describe one expiry, `surface` an instant, `arbitrage`
what contradicts itself; `stored` keeps slices, and `fill` gives the tape what was not quoted.
"""
