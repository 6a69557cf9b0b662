"""Several codecs one after the other: the largest values in eight bits, a thin pair of matrices in eight bits.

Packed in order, unpacked in reverse. What the whole chain loses is fed back once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strategies.errors import PartError
from strategies.types import Encoded, Tensor, Tensors
from strategies.wire.codec import Codec, decode, encode


@dataclass(frozen=True)
class Chain:
    codecs: Sequence[Codec]
    is_linear = False

    def __post_init__(self) -> None:
        kinds = [type(codec) for codec in self.codecs]
        if not kinds or len(set(kinds)) < len(kinds):
            raise PartError(f"wire chain: at least one codec, none twice; got {[kind.__name__ for kind in kinds]}")

    def encode(self, delta: Tensors, residual: Tensors) -> tuple[Encoded, Tensors]:
        return encode(self, delta, residual)

    def decode(self, encoded: Encoded, like: Mapping[str, Tensor]) -> Tensors:
        return decode(self, encoded, like)

    def pack(self, groups: Encoded) -> Encoded:
        for codec in self.codecs:
            groups = codec.pack(groups)
        return groups

    def unpack(self, groups: Encoded, like: Mapping[str, Tensor]) -> Encoded:
        for codec in reversed(self.codecs):
            groups = codec.unpack(groups, like)
        return groups
