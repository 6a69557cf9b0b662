"""What a hospital remembers from round to round: error feedback, control variates, tensors that stay home.

One file a round, `state_dir/runs/RUN/LEG/round-00007.safetensors`, written before the reply leaves. A round that is
repeated starts from the newest file of an *earlier* round, so that it ends as it did the first time.
"""

from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from app.tensor_files import Groups, Unreadable, read_groups, write_groups

log = getLogger(__name__)

KEPT = 3
"""Files a leg: the last round's, and two to go back to."""


@dataclass(frozen=True)
class Memory:
    """A hospital's memory of one leg of one run."""

    folder: Path

    def before(self, round: int) -> Groups:
        """What was remembered before `round`; empty at first. An unreadable file is passed over, and said so."""
        for path in reversed(self._files()):
            if _round_of(path) < round:
                try:
                    return read_groups(path)[0]
                except Unreadable as error:
                    log.warning("%s; using the one before it", error)
        return {}

    def keep(self, round: int, groups: Groups) -> None:
        """Remember `groups` after `round`; nothing is written where there is nothing to remember."""
        if not any(groups.values()):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_groups(self.folder / f"round-{round:05d}.safetensors", groups, {"round": round})
        for old in [path for path in self._files() if _round_of(path) <= round][:-KEPT]:
            old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("round-*.safetensors"))


def _round_of(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))
