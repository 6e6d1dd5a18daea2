"""Margin formulas that venues publish, in plain Python: what a policy must reproduce."""
