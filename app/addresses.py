"""Random numbers with an address: a generator depends on names (seed, hospital, round …) and on nothing else."""

import hashlib
import json

import numpy as np

Address = tuple[int | str, ...]
"""The run's seed first, then ever narrower names: (7, "hospital-a", 3, "order")."""


def derive(*address: int | str) -> np.random.Generator:
    """Make the generator of an address: the same on any machine, in any process, whatever was drawn before.

    Not for privacy noise: an address can be guessed.

    >>> derive(7, "a", 3).random() == derive(7, "a", 3).random()
    True
    >>> derive(7, "a", 3).random() == derive(7, "a", 4).random()
    False
    """
    digest = hashlib.sha256(json.dumps(address).encode()).digest()  # JSON: (1, "1") and ("1/1",) stay apart
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
