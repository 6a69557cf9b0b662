"""Runs of the real two apps over LocalGrid, on cubes small enough for seconds."""

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
