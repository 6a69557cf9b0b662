"""How small: what stands on the wire for an update.

An encoded update is a set of named tensor groups. Group "values" is always there; a codec may add groups of its own
(scales, positions) and replaces the values by smaller ones. Codecs are lossy; what is lost is kept at the hospital and
added to its next update (error feedback).
"""

from collections.abc import Mapping
from typing import Protocol

from strategies.types import Encoded, Tensor, Tensors

__all__ = ["Encoded", "Wire"]


class Wire(Protocol):
    @property
    def is_linear(self) -> bool:
        """Whether the sum of encoded updates decodes to their sum (needed where the server sees the sum alone)."""

    def encode(self, delta: Tensors, residual: Tensors) -> tuple[Encoded, Tensors]:
        """Encode delta + residual; also give back what the encoding lost, for the next round ({} where nothing is)."""

    def decode(self, encoded: Encoded, like: Mapping[str, Tensor]) -> Tensors:
        """The update, in names, shapes and dtypes of `like`. Raises WireError where that cannot be."""
