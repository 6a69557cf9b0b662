"""Early stopping inside one round: which local epoch was the best on the hospital's own validation patients.

Judged by the mean loss, which every split has; an AUC of a few patients is coarse, and of one class there is none.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from app.training import score
from app.training.batches import Crops


@dataclass
class BestEpoch:
    """Asked after every epoch; holds the best model so far.

    `patience`: epochs without a lower validation loss after which training stops.
    """

    patience: int
    validation: Crops
    device: torch.device
    loss: float = math.inf
    """Validation loss of the best epoch."""
    steps: int = 0
    """Optimiser steps up to it."""
    training_loss: float = math.nan
    waited: int = 0
    _tensors: dict[str, torch.Tensor] = field(default_factory=dict)

    def goes_on(self, model: nn.Module, training_loss: float, steps: int) -> bool:
        """Whether another epoch may help. Raises FloatingPointError where the model's scores are not finite."""
        loss = mean_loss(model, self.validation, self.device)
        if loss < self.loss:
            self.loss, self.training_loss, self.steps, self.waited = loss, training_loss, steps, 0
            self._tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        else:
            self.waited += 1
        return self.waited < self.patience

    def restore(self, model: nn.Module) -> tuple[float, int]:
        """Put the best epoch's tensors back. Returns its training loss, and the steps that led to it."""
        model.load_state_dict(self._tensors)
        return self.training_loss, self.steps


def mean_loss(model: nn.Module, crops: Crops, device: torch.device) -> float:
    """Mean binary cross-entropy over all crops, in float32, each crop alike."""
    with torch.autocast(device.type, enabled=False):
        z_N = torch.from_numpy(score.logits(model, crops, device=device))
    y_N = torch.from_numpy(np.asarray(crops.labels, np.float32))
    return float(functional.binary_cross_entropy_with_logits(z_N, y_N))
