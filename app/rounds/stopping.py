"""When a run ends before its last round: patience, target, wall time, budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strategies.types import Stop


@dataclass(frozen=True)
class Stopping:
    """Rules over the pooled validation AUC, one value a round (None where it was not measured), oldest first.

    The value of round r scores the model that round r started from, so that validation costs no extra message.
    """

    patience: int | None = None
    """Rounds without a better value."""
    target: float | None = None
    """A value that is enough."""
    seconds: float | None = None
    """Wall time of the run."""
    keep_best: bool = False
    """Deliver the state with the best value instead of the last one (`app.rounds.best`)."""

    def verdict(self, values: Sequence[float | None], *, seconds: float) -> Stop | None:
        """Stop now? The first rule that says so gives the reason."""
        known = [value for value in values if value is not None]
        if self.target is not None and known and known[-1] >= self.target:
            return Stop("target", f"validation AUC {known[-1]:.3f} reached {self.target}")
        if self.patience is not None and known and len(known) - 1 - known.index(max(known)) >= self.patience:
            return Stop("patience", f"no validation AUC above {max(known):.3f} for {self.patience} rounds")
        if self.seconds is not None and seconds >= self.seconds:
            return Stop("time", f"{seconds:.0f} s of {self.seconds:.0f} s are used")
        return None


NO_BUDGET = "budget-cap"
"""What a hospital answers whose patients have paid all that they may."""


def is_spent(lines: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run ends with its budget: a round failed for want of it alone, after rounds that did not.

    Budget does not come back, so that no further round is tried. Where no round went well, nothing was learned, and
    the run is left to fail.
    """
    if not lines or not lines[-1]["failed"]:
        return False
    codes = {refusal["code"] for refusal in lines[-1]["refused"]}
    return codes == {NO_BUDGET} and any(not line["failed"] for line in lines)
