"""What all lossy codecs share: error feedback at the hospital, checks at the server.

A codec packs groups of tensors into smaller ones and unpacks them; it works on what it is given and knows nothing of
rounds. What packing loses stays in the hospital and is added to its next update:

    e_0 = 0,   sent_t = pack(Δ_t + e_t),   e_{t+1} = Δ_t + e_t − unpack(sent_t)

so that nothing is lost for good. Source: Karimireddy, Rebjock, Stich, Jaggi 2019, "Error feedback fixes SignSGD and
other gradient compression schemes", alg. 2.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from strategies.errors import WireError
from strategies.types import Encoded, Tensor, Tensors


class Codec(Protocol):
    def pack(self, groups: Encoded) -> Encoded:
        """Groups made smaller."""

    def unpack(self, groups: Encoded, like: Mapping[str, Tensor]) -> Encoded:
        """The groups before `pack`, with loss. `like` has the shapes of the update. May raise what numpy raises."""


def encode(codec: Codec, delta: Tensors, residual: Tensors) -> tuple[Encoded, Tensors]:
    """Pack delta + residual; also give back what packing lost."""
    wanted = {name: t + residual[name] if name in residual else t for name, t in delta.items()}
    packed = codec.pack({"values": wanted})
    sent = codec.unpack(packed, wanted)["values"]
    return packed, {name: np.subtract(t, sent[name], dtype=t.dtype) for name, t in wanted.items()}


def decode(codec: Codec, encoded: Encoded, like: Mapping[str, Tensor]) -> Tensors:
    """Unpack what a hospital sent. Raises WireError for whatever is wrong with it."""
    try:
        groups = codec.unpack(encoded, like)
        values = groups["values"]
        shapes = {name: (tensor.shape, like[name].shape) for name, tensor in values.items()}
    except (KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
        raise WireError(f"the update cannot be decoded: {error}") from error
    if len(groups) > 1:
        raise WireError(f"the update has groups {sorted(groups)} left over after decoding")
    for name, (got, expected) in shapes.items():
        if got != expected:
            raise WireError(f"tensor {name!r} decodes to shape {got}, expected {expected}")
    return {name: tensor.astype(like[name].dtype, copy=False) for name, tensor in values.items()}
