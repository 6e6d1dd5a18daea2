"""Margin policies, one per file, and what they share: signals, update rules, kernels."""
