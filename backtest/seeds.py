"""Named child streams of one seed: a new consumer never shifts another's draws."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random generator that belongs to a seed and a name.

    Parameters
    ----------
    seed
        The run's seed, non-negative.
    names
        What the stream is for, for example ``"book", "sizes"``.

    Returns
    -------
    numpy.random.Generator
        PCG64, the same for the same arguments on every platform.
    """
    label = "/".join(str(name) for name in names).encode()
    words = np.frombuffer(hashlib.sha256(label).digest(), dtype="<u4")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words.tolist()])))
