"""The contract of a margin policy as tests: for pytest, for a notebook, for the command line."""

from strategies.testing.suite import Finding, PolicyContract, check_policy

__all__ = ["Finding", "PolicyContract", "check_policy"]
