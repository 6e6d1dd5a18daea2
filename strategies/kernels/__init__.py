"""Requirement kernels: the laws by which parameters and a portfolio become margin."""
