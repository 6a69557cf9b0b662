"""Cubes of noise in one .npz, for rows about time alone: what a cube shows changes nothing about the work."""

from pathlib import Path

import numpy as np

SIDE = 32


def write_noise(path: Path, cubes: dict[str, int]) -> Path:
    """`cubes` of every vendor, each a patient of its own; every third is positive."""
    total = sum(cubes.values())
    rng = np.random.default_rng(0)
    np.savez(
        path,
        x=rng.integers(0, 256, (total, SIDE, SIDE, SIDE), np.uint8),
        y=(np.arange(total) % 3 == 0).astype(np.int64),
        patient=np.array([f"p{number:05d}" for number in range(total)]),
        vendor=np.repeat(list(cubes), list(cubes.values())),
    )
    return path


def overrides(path: Path) -> list[str]:
    """One hospital a vendor, the network and the batches of `experiment=lidc_vendors`."""
    return [
        "federation=vendors", "source=cubes", "partition=by_scanner", "preprocess=cube32", "augment=flips",
        "model=resnet10", f"source.path={path}",
    ]  # fmt: skip
