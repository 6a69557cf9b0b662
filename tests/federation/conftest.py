"""Runs of the real two apps over LocalGrid, on cubes small enough for seconds."""

import contextlib
import json

import numpy as np
import pytest
import yaml

from app.commands import console, launch
from app.commands.errors import RunFailed

SMALL = [
    "federation=vendors", "source=cubes", "partition=by_scanner", "preprocess=cube28", "preprocess.size=16",
    "augment=flips", "model=tiny", "model.widths=[8,8,16,16]", "+model.max_pool=false", "training.lr=0.01",
    "training.batch_size=16", "rounds=2", "replicates=20",
]  # fmt: skip

PRIVATE = ["strategy/privacy=patient", "training.class_balance=false", "strategy.privacy.sample_rate=0.5"]


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


@pytest.fixture
def hospitals(cubes, tmp_path):
    """hospitals(**policy) → a folder of three hospitals that share the cubes by vendor, each with its own file."""

    def make(**policy):
        folder = tmp_path / "hospitals"
        whole = np.load(cubes)
        for name in sorted(set(whole["vendor"].tolist())):
            (folder / name).mkdir(parents=True, exist_ok=True)
            mine = whole["vendor"] == name
            np.savez(folder / name / "cubes.npz", **{key: whole[key][mine] for key in whole.files})
            plain = {
                "name": name,
                "source": {"_target_": "data.sources.Cubes", "path": "cubes.npz"},
                "cache_dir": "cache",
                "state_dir": "state",
                "policy": {"epsilon_cap": 8.0, "delta": 1e-5, **policy},
            }
            (folder / name / "site.yaml").write_text(yaml.safe_dump(plain))
        return folder

    return make


@pytest.fixture
def private(hospitals, tmp_path):
    """private(name, *overrides, folder=…) → (run folder, summary)."""

    def do(name, *more, folder=None):
        folder = folder or hospitals()
        plain = [text for text in SMALL if not text.startswith(("federation=", "source", "partition="))]
        overrides = ["federation=sites", f"federation.sites={folder}", *plain, *PRIVATE, *more]
        job = launch.fresh(tmp_path / name, overrides)
        with contextlib.suppress(RunFailed):
            launch.start(job, engine="inprocess", superlink=None, screen=console.Console())
        return job.folder, json.loads(job.folder.summary.read_text())

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
