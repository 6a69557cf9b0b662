"""No privacy mechanism: updates are used as they come. Guarantees nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from strategies.privacy import Facts
from strategies.types import Tensors


@dataclass(frozen=True)
class NoPrivacy:
    unit = "none"
    counts_refused = False

    def bound(self, delta: Tensors, state: Facts) -> Tensors:
        return delta

    def factor(self, factor: float) -> float:
        return factor

    def release(
        self, mean: Tensors, factors: Mapping[str, float], state: Facts, norms: Mapping[str, float]
    ) -> tuple[Tensors, Facts, Facts]:
        return mean, state, {}
