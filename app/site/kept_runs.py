"""Runs that a hospital keeps its memory of. When a new one begins, what belongs to all but the newest is removed.

    STATE/runs/RUN/       memory of a run (`app.site.memory`); its time is when the run asked last
    STATE/removed-runs    names of runs whose memory was removed, a line each

A run's memory is some times the size of its model, and coordinators name as many runs as they like. The ledger is
another thing, and stays whole; replies that it holds are removed by the same number (`app.site.budget`).
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.site.shield import Declined
from app.site.site_file import KEEP_RUNS

BESIDE_S = 3600.0
"""A run that asked within so many seconds (a round's deadline, if nobody sets another) may be going on beside the new
one, and stays whatever the number is."""


@dataclass(frozen=True)
class KeptRuns:
    """Memory of the newest `keep` runs."""

    state_dir: Path
    keep: int = KEEP_RUNS
    clock: Callable[[], float] = field(default=time.time)

    def begin(self, run: str) -> None:
        """Note that `run` asks; where it is new, make room.

        Raises:
            Declined: run-forgotten, for a run whose memory was removed: to begin again with none would not be the
                same run.
            OSError: the disk does not take it.
        """
        if run in self._removed():
            raise Declined(
                "run-forgotten",
                f"what was remembered of run {run!r} was removed when newer runs began (keep_runs in site.yaml is "
                f"{self.keep}); it cannot go on here, start it anew",
            )
        folder = self._runs / run
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder, (self.clock(), self.clock()))
        if is_new:
            for old in self._old():
                self._remove(old)

    def _old(self) -> Iterator[Path]:
        newest_first = sorted(self._runs.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in newest_first[self.keep :]:
            if folder.is_dir() and folder.stat().st_mtime < self.clock() - BESIDE_S:
                yield folder

    def _remove(self, folder: Path) -> None:
        """Its name is on the disk before its memory goes: a kill between must not make it a new run."""
        if any(folder.rglob("*.safetensors")) and folder.name not in self._removed():
            with self._list.open("a", encoding="utf-8") as file:
                file.write(f"{folder.name}\n")
                file.flush()
                os.fsync(file.fileno())
        shutil.rmtree(folder)

    def _removed(self) -> set[str]:
        return set(self._list.read_text(encoding="utf-8").split("\n")) if self._list.exists() else set()

    @property
    def _runs(self) -> Path:
        return self.state_dir / "runs"

    @property
    def _list(self) -> Path:
        return self.state_dir / "removed-runs"
