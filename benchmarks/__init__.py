"""Measured speed and memory against the tools a user would otherwise reach for."""
