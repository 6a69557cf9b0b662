"""Local training: a model, a hospital's crops and settings in; a trained model and three numbers out.

The loop is all here. What an algorithm adds to the gradients is a `local` part; which crops come when, and how they
are augmented, follows from the address, so that a repeated round on a CPU repeats bit by bit.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from app.addresses import Address
from app.training.batches import Batch, Crops, batches, cut_count
from app.training.best_epoch import BestEpoch
from app.training.device import threads
from app.training.optimiser import SGD, AdamW, Optimiser
from app.training.precision import AMP, precision
from strategies.local import Learned, Local
from strategies.types import Tensor

LossOf = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits (B,) and labels (B,) → a scalar."""
NOTHING: Mapping[str, Tensor] = {}
OPTIMISERS = ("adamw", "sgd")


class NonFiniteLoss(FloatingPointError):  # a state of the numbers, named like its parent's cousins
    """The loss is NaN or infinite; the model is as it was after the step before."""


@dataclass(frozen=True)
class Training:
    """How a hospital trains in a round. Names and numbers only, the same for all hospitals.

    Raises ValueError for a value out of range.
    """

    lr: float
    optimiser: str = "adamw"
    momentum: float = 0.0
    """Of SGD; AdamW's betas are 0.9 and 0.999."""
    weight_decay: float = 0.0
    """Decoupled with AdamW, an L2 term with SGD."""
    epochs: int = 1
    """Passes over the crops in a round; with `steps` or `patience`, the most."""
    steps: int | None = None
    """Passes stop after the one that reaches this many optimiser steps: hospitals of unlike size then do like work."""
    patience: int | None = None
    """Epochs without a lower loss on the hospital's own validation patients; the best epoch's model is kept."""
    batch_size: int = 32
    class_balance: bool = False
    """Weigh positives by negatives / positives of the hospital's own training crops."""
    clip_norm: float | None = None
    """Largest L2 norm of a step's gradient."""
    amp: str = "auto"
    """auto, off or bf16: see app.training.precision."""
    threads: int | None = None
    """CPU threads of training and scoring; None leaves torch's own number."""

    def __post_init__(self) -> None:
        checks: dict[str, tuple[bool, str]] = {
            "lr": (self.lr > 0, "a number above 0"),
            "optimiser": (self.optimiser in OPTIMISERS, " or ".join(OPTIMISERS)),
            "momentum": (0 <= self.momentum < 1, "0, or a number below 1"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "epochs": (self.epochs >= 1, "1 or more"),
            "steps": (self.steps is None or self.steps >= 1, "null, or 1 or more"),
            "patience": (self.patience is None or self.patience >= 1, "null, or 1 or more epochs"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "clip_norm": (self.clip_norm is None or self.clip_norm > 0, "null, or a number above 0"),
            "amp": (self.amp in AMP, ", ".join(AMP)),
            "threads": (self.threads is None or self.threads >= 1, "null, or 1 or more"),
        }
        for name, (is_fine, remedy) in checks.items():
            if not is_fine:
                raise ValueError(f"training.{name}: got {getattr(self, name)!r}; write {remedy}")

    def epochs_for(self, crops: int) -> int:
        """Passes of a hospital with so many crops: as many as reach `steps`, at least 1 and at most `epochs`."""
        if self.steps is None:
            return self.epochs
        return min(self.epochs, math.ceil(self.steps / cut_count(crops, self.batch_size)))

    def optimiser_of(self, trained: Sequence[nn.Parameter]) -> Optimiser:
        """A fresh optimiser: no moment outlasts the round."""
        if self.optimiser == "sgd":
            return SGD(trained, self.lr, self.weight_decay, momentum=self.momentum)
        return AdamW(trained, self.lr, self.weight_decay)


@dataclass(frozen=True)
class Fit:
    """What local training did."""

    loss: float
    """Mean over the crops of the last epoch that counts, each taken before the step it led to."""
    steps: int
    """Optimiser steps of the epochs that count: all, or with patience those up to the best."""
    seconds: float
    """Wall time."""
    precision: str = "float32"
    """What the network computed in: float32 or bfloat16."""
    learned: Learned = field(default_factory=Learned)
    """What the local part hands on beside the model."""


def fit(
    model: nn.Module,
    crops: Crops,
    *,
    training: Training,
    device: torch.device,
    address: Address,
    local: Local | None = None,
    augment: Any = None,
    control: Mapping[str, Tensor] = NOTHING,
    kept: Mapping[str, Tensor] = NOTHING,
    validation: Crops | None = None,
) -> Fit:
    """Train `model` in place on `crops`, on `device`, where it stays.

    `address` is (seed, hospital, round …): equal addresses, threads and machines give bit-equal models on a CPU.
    `local` is the algorithm's part, with what the server sent (`control`) and the hospital stored (`kept`) for it.
    `validation` is what `training.patience` watches; without a crop of it, every epoch is trained.

    Raises NonFiniteLoss before the update that it would have caused; ValueError where there is nothing to train on.
    """
    if not len(crops):
        raise ValueError("no crops to train on; every patient of this hospital is held out, or it has none")
    started = time.perf_counter()
    training_mode(model.to(device))
    trained = [p for p in model.parameters() if p.requires_grad]
    own_optimiser = local.optimiser(trained, training.lr) if local else None
    optimiser = own_optimiser or training.optimiser_of(trained)
    state = local.start(model, control, kept) if local else None
    loss_of = _loss(positive_weight(crops).to(device) if training.class_balance else None)
    x_shape = (min(training.batch_size, len(crops)), *crops.batch([0])[0].shape[1:])
    best = BestEpoch(training.patience, validation, device) if training.patience and validation else None
    loss, steps = math.nan, 0
    with threads(training.threads), precision(training.amp, model, x_shape, device) as dtype:
        for epoch in range(training.epochs_for(len(crops))):
            loss, taken = run_epoch(
                model,
                batches(crops, training.batch_size, address=(*address, epoch), device=device, augment=augment),
                optimiser=optimiser,
                loss_of=loss_of,
                correct=(lambda: local.correct(model, state)) if local else None,
                clip_norm=training.clip_norm,
            )
            steps += taken
            if best and not best.goes_on(model, loss, steps):
                break
    if best:
        loss, steps = best.restore(model)
    learned = local.finish(model, state, steps=steps, lr=training.lr) if local else Learned()
    return Fit(loss, steps, time.perf_counter() - started, dtype, learned)


def training_mode(model: nn.Module) -> None:
    """Training mode, but not for frozen layers: a frozen batch norm keeps its running statistics, and uses them."""
    model.train()
    for layer in model.modules():
        own = [*layer.parameters(recurse=False)]
        if own and not any(parameter.requires_grad for parameter in own):
            layer.eval()


def _loss(pos_weight: torch.Tensor | None) -> LossOf:
    return lambda z_B, y_B: functional.binary_cross_entropy_with_logits(z_B, y_B, pos_weight=pos_weight)


def run_epoch(
    model: nn.Module,
    epoch: Iterable[Batch],
    *,
    optimiser: Optimiser,
    loss_of: LossOf,
    correct: Callable[[], None] | None,
    clip_norm: float | None,
) -> tuple[float, int]:
    """Step once per batch. Returns the mean loss over the crops, and the steps."""
    total, seen, steps = 0.0, 0, 0
    for x_BCZYX, y_B in epoch:
        optimiser.zero_grad()
        loss = loss_of(model(x_BCZYX).squeeze(1).float(), y_B)
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"loss is {value} at step {steps + 1}; stopped before the update; lower training.lr or set "
                "training.clip_norm"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if correct:
            correct()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimiser.step()
        total, seen, steps = total + value * len(y_B), seen + len(y_B), steps + 1
    return total / seen, steps


def positive_weight(crops: Crops) -> torch.Tensor:
    """Negatives / positives, so that both classes pull alike; 1 where a class is missing."""
    positives = int((crops.labels == 1).sum())
    negatives = len(crops) - positives
    return torch.tensor(negatives / positives if positives and negatives else 1.0)
