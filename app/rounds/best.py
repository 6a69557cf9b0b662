"""The state that scored best on the pooled validation patients, kept beside the checkpoint.

The validation AUC in a round's journal line is that of the model which the round started from: line 1 scores the
initial state, line r the state after round r − 1. So the best state is one before the last, and `Best` holds it back
until it is known whether it is.

A state is written under its round's number before the checkpoint is, and others are removed after: whatever moment a
run is killed at, the state that the journal calls best is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from app.rounds.checkpoint import read_state, write_state
from app.tensor_files import Unreadable
from strategies.types import ServerState

log = getLogger(__name__)

Values = Sequence[float | None]
"""Validation AUC by journal line; None where it was not measured."""


def best_of(values: Values) -> int | None:
    """Which line has the highest value, the first of equals; so many rounds old is the state that it scores."""
    known = [(value, -line) for line, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None


@dataclass
class Best:
    """Follows a leg, round by round."""

    folder: Path
    before: ServerState
    """The state that the present round started from."""

    def keep(self, values: Values, after: ServerState) -> None:
        """Write the state that the last of `values` scored, where that is the highest; go on to the state `after`."""
        if best_of(values) == self.before.round:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_state(self._path(self.before.round), self.before)
        self.before = after

    def tidy(self, values: Values) -> None:
        """Remove all states but the best."""
        best = best_of(values)
        for path in self.folder.glob("best-*.safetensors"):
            if best is None or path != self._path(best):
                path.unlink(missing_ok=True)

    def choose(self, values: Values, last: ServerState, last_value: float | None) -> ServerState:
        """The best state of all, the last one included; the last one where nothing was measured."""
        best = best_of(values)
        if best is None or best_of([values[best], last_value]) == 1:
            return last
        try:
            return read_state(self._path(best))
        except Unreadable as error:
            log.warning("%s; the last state is delivered instead", error)
            return last

    def _path(self, round: int) -> Path:
        return self.folder / f"best-{round:05d}.safetensors"
