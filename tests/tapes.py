"""The made-up tapes of the public contract suite, under the name that tests know them by."""

from strategies.testing.tapes import START_MS, make_tape

__all__ = ["START_MS", "make_tape"]
