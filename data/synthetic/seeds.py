"""Random generators with an address: same seed and names → same numbers, on any machine and in any process."""

import hashlib

import numpy as np


def derive(seed: int, *address: str | int) -> np.random.Generator:
    """A generator that depends on its address only, never on what was drawn before."""
    digest = hashlib.sha256("/".join(map(str, (seed, *address))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
