"""What local training is fed: augmented batches of crops a second, from our cache and from two MONAI pipelines.

The same scans (phantoms, written to disk as DICOM), the same places, crops of 32³ voxels of 1.25 mm, flips and
rotations by 90°, one process and one thread on each side, nothing trained.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.training.batches import batches
from data.augment import Augment
from data.cache import Cache
from data.dataset import Crops, open_crops
from data.preprocess import Preprocess
from data.sources import DicomFolder
from data.synthetic import write_cohort
from tests.benchmarks import monai_pipelines
from tests.benchmarks.clock import interleaved
from tests.benchmarks.row import Row, Target, at_least, compared

PATIENTS = 8
BATCH = 32
SCANS_A_BATCH = 3
"""MONAI's loader counts scans; with about ten places each this makes batches of about 30."""

PREPROCESS = Preprocess(spacing_mm=1.25, size=32, window_hu=(-1000.0, 400.0))
AUGMENT = Augment(flips=True, rotations=True)

ALIKE = 0.9
"""Correlation of the two pipelines' crops: their voxel grids lie up to half a voxel apart."""


@dataclass(frozen=True)
class Pipeline:
    """One way to be fed."""

    epoch: Callable[[], object]
    epochs_at_once: int
    """Timed together, so that a time is well above the clock's grain."""

    def run(self) -> None:
        for _ in range(self.epochs_at_once):
            self.epoch()


def rows(full: bool) -> Iterator[Row]:
    """Against reading every scan in every epoch, and against crops kept in memory."""
    with tempfile.TemporaryDirectory(prefix="fedvox-bench-") as folder:
        data = _written(Path(folder), 3 * PATIENTS if full else PATIENTS)
        began = time.perf_counter()
        crops = open_crops(DicomFolder(str(data)), PREPROCESS, Cache(str(data.parent / "cache")))
        note = f"our cache was filled once, in {time.perf_counter() - began:.1f} s"
        items = monai_pipelines.items(data)
        _check_alike(crops, items)
        reading = monai_pipelines.reading(items, PREPROCESS, SCANS_A_BATCH)
        kept = monai_pipelines.cached(items, PREPROCESS, SCANS_A_BATCH)
        ours = _ours(crops)
        yield _row("MONAI reading every scan each epoch", crops, ours, Pipeline(lambda: _all(reading, crops), 1),
                   target=at_least(10), repeats=3, note=note)  # fmt: skip
        yield _row("MONAI's CacheDataset", crops, ours, Pipeline(lambda: _all(kept, crops), 5),
                   target=at_least(1), repeats=9, note="crops in memory on their side, on disk on ours")  # fmt: skip


def _written(folder: Path, patients: int) -> Path:
    write_cohort(folder, hospitals={"A": {"patients": patients, "scanner": "GE", "format": "dicom"}}, seed=0)
    return folder / "A" / "data"


def _ours(crops: Crops) -> Pipeline:
    numbers = itertools.count()
    cpu = torch.device("cpu")

    def epoch() -> None:
        for _ in batches(crops, BATCH, address=(0, "bench", next(numbers)), device=cpu, augment=AUGMENT):
            pass

    return Pipeline(epoch, 20)


def _all(loader: Iterable[Any], crops: Crops) -> None:
    if (got := monai_pipelines.drain(loader)) != len(crops):
        raise RuntimeError(f"the reference gave {got} crops, {len(crops)} are there")


def _row(name: str, crops: Crops, ours: Pipeline, theirs: Pipeline, *, target: Target, repeats: int, note: str) -> Row:
    took = interleaved({"ours": ours.run, "theirs": theirs.run}, repeats=repeats)
    each = {"ours": ours.epochs_at_once * len(crops), "theirs": theirs.epochs_at_once * len(crops)}
    return compared(
        f"samples a second against {name}",
        ours=each["ours"] / took["ours"].wall,
        reference=each["theirs"] / took["theirs"].wall,
        unit="/s",
        target=target,
        note=f"{len(crops)} crops of {len(crops.refs)} scans, medians of {repeats}; {note}",
    )


def _check_alike(crops: Crops, items: list[monai_pipelines.Item]) -> None:
    """The reference must cut the same places, or it is none."""
    theirs = monai_pipelines.crops_of(items[0], PREPROCESS).numpy()
    ours = crops.batch(np.flatnonzero(crops.scan_N == 0))[0][:, 0]
    if ours.shape != theirs.shape or (got := np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < ALIKE:
        raise RuntimeError(f"the two pipelines cut other crops: correlation {got:.2f}, at least {ALIKE} is expected")
