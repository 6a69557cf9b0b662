"""What a hospital remembers from round to round: error feedback, control variates, tensors that stay home.

One file a round, `state_dir/runs/RUN/LEG/round-00007.safetensors`, written before the reply leaves. A round that is
repeated starts from the newest file of an *earlier* round, so that it ends as it did the first time.

An update may get lost, be late or be refused after its file was written. What was kept of that round then splits:

    own         personal tensors and models: nobody else counts on them, so the newest are right; what a hospital has
                learned about its own scanner is not lost with a message
    COUNTED     control variate and error feedback: halves of sums whose other half is at the server, which knows the
                last update that it *took* and no later one, so they are of that round
"""

from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from app.tensor_files import Groups, Unreadable, read_groups, write_groups

log = getLogger(__name__)

KEPT = 3
"""Files a leg: the last round's, and two to go back to; beside them that of the last round taken."""

COUNTED = ("kept", "residual")
"""Groups of which the server holds the other half. The server's c is the mean of the c_k that it was told of: with a
newer c_k, c would be off for good. A residual newer than the last update taken lacks what a lost update has carried."""


@dataclass(frozen=True)
class Memory:
    """A hospital's memory of one leg of one run."""

    folder: Path

    def before(self, round: int, taken: int = 0) -> Groups:
        """What was remembered before `round`, and what is COUNTED as it was after round `taken`; empty at first.

        An unreadable file is passed over, and said so: for the hospital's own the one before it is used, for what is
        COUNTED no other will do, and nothing is given back.
        """
        newest, own = self._newest(round)
        counted = own if newest == taken else self._of(taken)
        return {
            **{name: group for name, group in own.items() if name not in COUNTED},
            **{name: group for name, group in counted.items() if name in COUNTED},
        }

    def keep(self, round: int, groups: Groups, taken: int = 0) -> None:
        """Remember `groups` after `round`, and do not forget round `taken`.

        Nothing is written where there is nothing to remember.
        """
        if not any(groups.values()):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_groups(self._file(round), groups, {"round": round})
        for old in [path for path in self._files() if _round_of(path) <= round][:-KEPT]:
            if _round_of(old) != taken:
                old.unlink(missing_ok=True)

    def _newest(self, before: int) -> tuple[int, Groups]:
        """Number and groups of the newest readable round; 0 and none where there is none."""
        for path in reversed(self._files()):
            if _round_of(path) < before:
                try:
                    return _round_of(path), read_groups(path)[0]
                except Unreadable as error:
                    log.warning("%s; using the one before it", error)
        return 0, {}

    def _of(self, round: int) -> Groups:
        path = self._file(round)
        try:
            return read_groups(path)[0] if path.exists() else {}
        except Unreadable as error:
            log.warning("%s; what was kept after round %d is lost", error, round)
            return {}

    def _file(self, round: int) -> Path:
        return self.folder / f"round-{round:05d}.safetensors"

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("round-*.safetensors"))


def _round_of(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))
