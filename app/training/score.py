"""A model and crops in, one number a crop out, in the crops' order. Always float32; never changes the model."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.training.batches import Crops
from app.training.device import threads as use_threads
from app.training.precision import full_precision

DEFAULT_BATCH = 64
"""Crops at once: no result depends on it beyond rounding."""


def logits(
    model: nn.Module,
    crops: Crops,
    *,
    device: torch.device,
    batch_size: int = DEFAULT_BATCH,
    threads: int | None = None,
    instead: float | None = None,
) -> NDArray[np.float32]:
    """Score every crop: (N,) float32, positive means nodule (or malignant).

    `instead` stands for scores that are NaN or infinite. Raises FloatingPointError for them where it is None.
    """
    model.to(device)
    modes = [(layer, layer.training) for layer in model.modules()]  # frozen layers do not train with the others
    parts = [np.empty(0, np.float32)]
    try:
        model.eval()
        with use_threads(threads), torch.inference_mode(), full_precision(device):
            for start in range(0, len(crops), batch_size):
                x_BCZYX, _ = crops.batch(np.arange(start, min(start + batch_size, len(crops))))
                parts.append(model(torch.from_numpy(x_BCZYX).to(device)).squeeze(1).cpu().numpy())
    finally:
        for layer, was_training in modes:
            layer.training = was_training
    scores = np.concatenate(parts)
    if instead is not None:
        return np.nan_to_num(scores, nan=instead, posinf=instead, neginf=instead)
    if broken := np.count_nonzero(~np.isfinite(scores)):
        raise FloatingPointError(f"{broken} of {len(scores)} scores are not finite; the model has diverged")
    return scores


def probabilities(
    model: nn.Module,
    crops: Crops,
    *,
    device: torch.device,
    batch_size: int = DEFAULT_BATCH,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """As `logits`, through the logistic function: (N,) float32 in [0, 1]."""
    scores = logits(model, crops, device=device, batch_size=batch_size, threads=threads)
    return torch.from_numpy(scores).sigmoid().numpy()
