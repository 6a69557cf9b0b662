"""The update as it is: nothing encoded, nothing lost."""

from collections.abc import Mapping
from dataclasses import dataclass

from strategies.errors import WireError
from strategies.types import Encoded, Tensor, Tensors


@dataclass(frozen=True)
class Raw:
    is_linear = True

    def encode(self, delta: Tensors, residual: Tensors) -> tuple[Encoded, Tensors]:
        return {"values": delta}, {}

    def decode(self, encoded: Encoded, like: Mapping[str, Tensor]) -> Tensors:
        if set(encoded) != {"values"}:
            raise WireError(f"an update that is not encoded has the group 'values' alone, got {sorted(encoded)}")
        return encoded["values"]
