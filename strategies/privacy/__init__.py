"""How private: what the server does to updates before and after it combines them, and what that guarantees.

This is the server's half (clip, cap, release). What a hospital does before anything leaves it (private local training,
its ledger, its caps) is the hospital's and is not asked of the server.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from strategies.types import Tensors

Facts = Mapping[str, Any]
"""JSON-able: saved with every checkpoint."""


class Privacy(Protocol):
    """State in, state out. A run's state starts empty."""

    @property
    def unit(self) -> str:
        """Whose data is protected: "none", "patient", "sample" or "site"."""

    @property
    def counts_refused(self) -> bool:
        """Whether a refused or zero update counts as zero and keeps its weight (the zero-out neighbour of site level).

        Then only checks that are fixed and per update are made: no comparison with other hospitals' updates.
        """

    def bound(self, delta: Tensors, state: Facts) -> Tensors:
        """One decoded update, clipped; `delta` itself where nothing is done."""

    def factor(self, factor: float) -> float:
        """A raw weighting factor, capped."""

    def release(
        self, mean: Tensors, factors: Mapping[str, float], state: Facts, norms: Mapping[str, float]
    ) -> tuple[Tensors, Facts, Facts]:
        """What is applied instead of the weighted mean Σ f·Δ / Σ f.

        `factors` are the raw factors of those who replied, refused ones included where `counts_refused`; `norms` the L2
        norms of the updates that were not refused, before clipping.
        Returns the released update, the next state, and the facts of this release for the journal.
        """
