"""The Gaussian mechanism on named tensors: noise of one standard deviation on every coordinate."""

import numpy as np

from strategies.privacy.generator import Generator
from strategies.tensors import is_averaged
from strategies.types import Tensor, Tensors


def add_noise(tensors: Tensors, sd: float, generator: Generator) -> Tensors:
    """New tensors: the floating ones with independent N(0, sd²) on every element, 0-d ones too; integers as they are.

    The generator must be fresh: one key, one release.
    """
    return {name: _noised(t, sd, generator) if is_averaged(t) else t for name, t in tensors.items()}


def _noised(tensor: Tensor, sd: float, generator: Generator) -> Tensor:
    noise = generator.normals(tensor.size).reshape(tensor.shape)
    np.multiply(noise, np.float32(sd), out=noise)
    return np.asarray(tensor + noise, dtype=tensor.dtype)
