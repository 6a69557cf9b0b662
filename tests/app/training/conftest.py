"""Crops in memory: noise, with a bright ball in the positives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.resnet3d import ResNet3d, resnet


@dataclass(frozen=True, eq=False)
class CropsInMemory:
    x_BCZYX: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(
        self, indices: Sequence[int], *, augment: Any = None, rng: np.random.Generator | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        x_BCZYX = self.x_BCZYX[indices]
        if augment is not None:
            x_BCZYX = augment(x_BCZYX, rng)
        return x_BCZYX, self.labels[indices].astype(np.float32)


MakeCrops = Callable[..., CropsInMemory]


@pytest.fixture
def make_crops() -> MakeCrops:
    def make(count: int = 24, *, size: int = 16, positives: int | None = None, seed: int = 0) -> CropsInMemory:
        rng = np.random.default_rng(seed)
        labels = np.zeros(count, np.int64)
        labels[rng.permutation(count)[: count // 2 if positives is None else positives]] = 1
        axis = np.linspace(-1, 1, size)
        radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        ball = (radius < 0.5).astype(np.float32)
        noise = rng.random((count, 1, size, size, size), dtype=np.float32)
        return CropsInMemory(0.5 * noise + 0.4 * ball * labels[:, None, None, None, None].astype(np.float32), labels)

    return make


@pytest.fixture
def make_model() -> Callable[..., ResNet3d]:
    def make(seed: int = 0, norm: str = "group") -> ResNet3d:
        return resnet(10, (4, 4, 8, 8), norm, seed=seed)

    return make


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")
