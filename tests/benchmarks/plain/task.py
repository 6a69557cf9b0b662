"""Train and score one network on cubes in memory, in plain torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.resnet3d import resnet

BATCH = 32


def build() -> torch.nn.Module:
    """The network of `experiment=lidc_vendors`."""
    return resnet(depth=10, widths=(16, 32, 64, 128))


def load(cubes: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """All cubes (N, 32, 32, 32) uint8 and their labels."""
    with np.load(cubes) as archive:
        return archive["x"], archive["y"]


def rows(split: str) -> dict[str, dict[str, list[int]]]:
    """Hospital → train, validation, test → rows of the archive."""
    found: dict[str, Any] = json.loads(Path(split).read_text(encoding="utf-8"))
    return found


def train(model: torch.nn.Module, x: NDArray[Any], y: NDArray[Any], mine: list[int], rng: np.random.Generator) -> float:
    """One epoch of AdamW; the mean loss."""
    labels = y[mine]
    pos_weight = torch.tensor((labels == 0).sum() / (labels == 1).sum(), dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5)
    model.train()
    losses = []
    order = rng.permutation(mine)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        inputs = torch.from_numpy(np.stack([flipped(x[row], rng) for row in batch])[:, None]).float() / 255
        targets = torch.from_numpy(y[batch]).float()
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(model(inputs).squeeze(1), targets, pos_weight=pos_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def flipped(cube: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """The cube, mirrored along each axis or not."""
    return np.flip(cube, tuple(axis for axis in range(3) if rng.random() < 0.5))


def score(model: torch.nn.Module, x: NDArray[Any], y: NDArray[Any], mine: list[int]) -> float:
    """Accuracy at probability 0.5."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(mine), 2 * BATCH):
            batch = mine[start : start + 2 * BATCH]
            logits = model(torch.from_numpy(x[batch][:, None]).float() / 255).squeeze(1)
            right += int(((logits > 0).numpy() == (y[batch] == 1)).sum())
    return right / max(len(mine), 1)
