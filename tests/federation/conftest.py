"""Runs of the real two apps over LocalGrid, on cubes small enough for seconds."""

import numpy as np
import pytest

from app.commands import console, launch

SMALL = [
    "federation=vendors", "source=cubes", "partition=by_scanner", "preprocess=cube28", "preprocess.size=16",
    "augment=flips", "model=tiny", "model.widths=[8,8,16,16]", "+model.max_pool=false", "training.lr=0.01",
    "training.batch_size=16", "rounds=2", "replicates=20",
]  # fmt: skip


@pytest.fixture
def overrides(cubes):
    """Settings of a run of a few seconds."""
    return [*SMALL, f"source.path={cubes}"]


@pytest.fixture
def run(overrides, tmp_path):
    """run(*overrides) → (folder, summary), in this process."""

    def do(*more, name="run", listen=None):
        job = launch.fresh(tmp_path / name, [*overrides, *more])
        return job.folder, launch.start(job, engine="inprocess", superlink=None, screen=console.Console())

    return do


@pytest.fixture(scope="module")
def few_cubes(tmp_path_factory):
    """Twelve patients a hospital, two cubes each."""
    rng = np.random.default_rng(7)
    y = np.tile([0, 1], 36)
    x = rng.integers(0, 90, (72, 16, 16, 16)).astype(np.uint8)
    x[y == 1, 5:11, 5:11, 5:11] += 120
    vendor = np.array(["GE", "SIEMENS", "PHILIPS"])[np.arange(72) // 2 % 3]
    path = tmp_path_factory.mktemp("few") / "cubes.npz"
    np.savez(path, x=x, y=y, patient=np.repeat(np.arange(36), 2).astype(str), vendor=vendor)
    return path
