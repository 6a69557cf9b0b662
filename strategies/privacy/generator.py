"""Random numbers on which a privacy claim may rest: AES-256 in counter mode, keyed by the operating system.

In:  nothing, or a fixed seed and an address (simulation only).
Out: uniforms in (0, 1), standard normals, Poisson draws of units.

torch's and numpy's generators will not do: torch's CPU generator has 32 bits of seed and forked workers repeat it, and
whoever knows the plan's seed could subtract the noise or tell which patients were drawn. Open a new generator for
every release: a key that is used once cannot join two releases.

Gaussian noise in floating point is not exact (Mironov 2012, "On significance of the least significant bits for
differential privacy"): the lowest bits of a released value say a little about what it was added to. Known, not removed.
"""

import hashlib
import os
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES = 32
BLOCK_BYTES = 16

PAIRS_AT_ONCE = 1 << 13
"""Normals are made in blocks of twice this many, so that the buffers stay in the second-level cache."""

PAIR_BYTES = 12
"""64 bits for the radius, 32 for the angle."""

WORD, HALF_WORD = np.dtype("<u8"), np.dtype("<u4")
"""Byte order is stated, so that a fixed seed gives the same stream on every machine."""


class Generator:
    """A stream of random numbers. Open it with `SystemRandomness` or `FixedSeed`, use it for one release, drop it.

    After a fork the child takes a new key from the operating system, so that no two processes share noise. It can be
    neither copied nor pickled, for the same reason. Not for two threads at once: cryptography raises then.
    """

    def __init__(self, key: bytes, *, claims_epsilon: bool) -> None:
        self.claims_epsilon = claims_epsilon
        """False where the numbers can be foretold: whatever they hide is not private, and no ε may be claimed."""
        self._open(key)

    def bits(self, count: int) -> NDArray[np.uint64]:
        """`count` random 64-bit words."""
        return self._stream(8 * count).view(WORD)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """`count` numbers in the open interval (0, 1), multiples of 2^-53 moved by half a step."""
        return ((self.bits(count) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def normals(self, count: int) -> NDArray[np.float32]:
        """`count` standard normals (Box & Muller 1958).

        The radius comes from 64 bits: values up to 9.49 occur, as often as they should, and larger ones have
        probability 2^-64; nothing is cut off or drawn again.
        """
        out = np.empty(count, dtype=np.float32)
        for start in range(0, count, 2 * PAIRS_AT_ONCE):
            block = out[start : start + 2 * PAIRS_AT_ONCE]
            _box_muller(block, self._stream(PAIR_BYTES * _pairs(block.size)))
        return out

    def draw_units(self, units: int, rate: float) -> NDArray[np.intp]:
        """Poisson sampling: each of `units` is taken by its own coin of probability `rate`; their sorted indices."""
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"sampling rate is {rate}; a probability between 0 and 1 is needed")
        return np.flatnonzero((self.bits(units) >> np.uint64(11)).astype(np.float64) < rate * 2.0**53)

    def _open(self, key: bytes) -> None:
        self._process = os.getpid()
        self._cipher: CipherContext = Cipher(algorithms.AES(key), modes.CTR(bytes(BLOCK_BYTES))).encryptor()

    def _stream(self, count: int) -> NDArray[np.uint8]:
        """`count` bytes of key stream: zeros, encrypted."""
        if self.claims_epsilon and self._process != os.getpid():
            self._open(os.urandom(KEY_BYTES))
        out = bytearray(count + BLOCK_BYTES)
        self._cipher.update_into(bytes(count), out)
        return np.frombuffer(out, dtype=np.uint8, count=count)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a generator may not be copied: two copies would draw the same noise; open a new one instead")


@dataclass(frozen=True)
class SystemRandomness:
    """Keys from the operating system: the only source under which ε is claimed."""

    origin: str = field(default="system", init=False)

    def open(self, *address: str | int) -> Generator:
        """A generator with a new key of 32 bytes of `os.urandom`. The address is not used: nothing can be repeated."""
        return Generator(os.urandom(KEY_BYTES), claims_epsilon=True)


@dataclass(frozen=True)
class FixedSeed:
    """Numbers that depend on a seed and an address alone: for simulation, where a run must repeat. Claims no ε."""

    seed: int
    origin: str = field(default="fixed seed", init=False)

    def open(self, *address: str | int) -> Generator:
        """The generator of an address (run, round, hospital, purpose …): the same stream each time, on any machine."""
        name = "/".join(map(str, ("fedvox", self.seed, *address)))
        return Generator(hashlib.sha256(name.encode()).digest(), claims_epsilon=False)


Randomness = SystemRandomness | FixedSeed


def _pairs(count: int) -> int:
    return (count + 1) // 2


def _box_muller(out: NDArray[np.float32], stream: NDArray[np.uint8]) -> None:
    pairs = _pairs(out.size)
    radius = stream[: 8 * pairs].view(WORD).astype(np.float64)
    radius += 0.5
    radius *= 2.0**-64
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    radius_32 = radius.astype(np.float32)
    angle = stream[8 * pairs :].view(HALF_WORD).astype(np.float32)
    angle *= np.float32(2.0 * np.pi * 2.0**-32)
    np.multiply(np.cos(angle), radius_32, out=out[:pairs])
    np.multiply(np.sin(angle)[: out.size - pairs], radius_32[: out.size - pairs], out=out[pairs:])
