"""When a run ends before its last round: patience, target, wall time."""

from collections.abc import Sequence
from dataclasses import dataclass

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
