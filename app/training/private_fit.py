"""Private local training: DP-SGD over a hospital's patients. The one place where engine, draws and noise meet.

    each step   draw the units, each by its own coin of probability q            secret generator
                draw at most `crops` crops of each, augment them                 secret generator
                Σ of the units' gradients, each clipped to C                     engine, a few crops at a time
                + noise of z·C on every coordinate, once                         secret generator
                / (q · N), whoever was drawn; nobody drawn is a step too
                + the algorithm's own term, then the optimiser                   post-processing

Sum, norms, loss and the draw itself are sensitive: they are dropped here, and nothing of them is returned or logged.
Computes in float32 on every device: lower precisions of a kernel that is wrong could not be told from right ones.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from app.training.batches import Crops, Indices
from app.training.device import threads
from app.training.fit import NOTHING, Fit, Training
from strategies.local import Learned, Local
from strategies.privacy.generator import Generator
from strategies.privacy.patient import PrivateTraining
from strategies.types import Tensor as Array

ENGINES = {"fast": "models.private.engine", "opacus": "models.private.opacus_engine"}

SEED_WORDS = 4
"""64-bit words of the secret generator that seed the augmentation of one step."""


class PatientCrops(Crops, Protocol):
    """Crops that say whose they are."""

    @property
    def patients(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Drawn:
    """The crops of one step, unit by unit."""

    rows: Indices
    counts: tuple[int, ...]
    """How many of them each drawn unit has; none has 0."""

    def pieces(self, most: int) -> Iterator["Drawn"]:
        """Whole units, about `most` crops together: what is computed at once. The sum does not depend on it."""
        first_unit, first_row, rows = 0, 0, 0
        for unit, count in enumerate(self.counts):
            if rows and rows + count > most:
                yield Drawn(self.rows[first_row : first_row + rows], self.counts[first_unit:unit])
                first_unit, first_row, rows = unit, first_row + rows, 0
            rows += count
        if rows:
            yield Drawn(self.rows[first_row:], self.counts[first_unit:])


@dataclass(frozen=True, eq=False)
class Units:
    """A hospital's crops by privacy unit."""

    rows: tuple[Indices, ...]
    """The crops of each unit."""
    labels: NDArray[np.int64]
    """Of all crops."""

    @classmethod
    def of(cls, crops: PatientCrops, unit: str) -> "Units":
        """Patients in the order of their names, or single crops."""
        if unit == "sample":
            return cls(tuple(np.arange(len(crops))[:, None]), crops.labels)
        _, owner = np.unique(np.asarray(crops.patients, dtype=str), return_inverse=True)
        order = np.argsort(owner, kind="stable")
        return cls(tuple(np.split(order, np.flatnonzero(np.diff(owner[order])) + 1)), crops.labels)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, generator: Generator, privacy: PrivateTraining) -> Drawn:
        """Poisson draw of units, then at most `crops` of each. A unit's crops depend on that unit alone."""
        chosen = generator.draw_units(len(self), privacy.sample_rate)
        parts = [self._few(self.rows[unit], generator, privacy) for unit in chosen]
        rows = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return Drawn(rows, tuple(len(part) for part in parts))

    def _few(self, rows: Indices, generator: Generator, privacy: PrivateTraining) -> Indices:
        if len(rows) <= privacy.crops:
            return rows
        chance = generator.uniforms(len(rows))
        turn = self._rank_within_label(rows, chance) if privacy.is_balanced else np.zeros(len(rows), np.int64)
        return rows[np.lexsort((chance, turn))[: privacy.crops]]

    def _rank_within_label(self, rows: Indices, chance: NDArray[np.float64]) -> NDArray[np.int64]:
        """First of each label, second of each label, …, in the drawn order: labels take turns."""
        rank = np.empty(len(rows), np.int64)
        for label in (0, 1):
            mine = np.flatnonzero(self.labels[rows] == label)
            rank[mine[np.argsort(chance[mine])]] = np.arange(len(mine))
        return rank


@dataclass(frozen=True, eq=False)
class Step:
    """One private gradient: what it is made from, and its only verb."""

    model: nn.Module
    crops: PatientCrops
    units: Units
    privacy: PrivateTraining
    noise_multiplier: float
    at_once: int
    """Crops computed together."""
    augment: Any
    device: torch.device

    def gradients(self, generator: Generator) -> dict[str, Tensor]:
        """Noised gradients of all trained parameters, by name. A new draw and new noise each time."""
        drawn = self.units.draw(generator, self.privacy)
        rng = np.random.Generator(np.random.PCG64(generator.bits(SEED_WORDS).tolist()))
        total = {name: torch.zeros_like(parameter) for name, parameter in self._trained.items()}
        for piece in drawn.pieces(self.at_once):
            for name, share in self._clipped_sum(piece, rng).items():
                total[name] += share
        return {name: self._noised(share, generator) for name, share in total.items()}

    def _clipped_sum(self, piece: Drawn, rng: np.random.Generator) -> dict[str, Tensor]:
        x_BCZYX, y_B = self.crops.batch(piece.rows, augment=self.augment, rng=rng)
        x, y = torch.from_numpy(x_BCZYX).to(self.device), torch.from_numpy(y_B).to(self.device)
        return self._engine(self.model, _losses, x, y, piece.counts, self.privacy.clip)

    def _noised(self, total: Tensor, generator: Generator) -> Tensor:
        """(Σ + z·C·N(0, 1)) / (q·N)."""
        noise = torch.from_numpy(generator.normals(total.numel())).view(total.shape).to(total.device)
        expected = self.privacy.sample_rate * len(self.units)
        return total.add(noise, alpha=self.noise_multiplier * self.privacy.clip).div(expected)

    @cached_property
    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    @cached_property
    def _engine(self) -> "Engine":
        return engine(self.privacy.engine)


Engine = Callable[[nn.Module, Any, Tensor, Tensor, tuple[int, ...], float], dict[str, Tensor]]
"""Model, losses, crops, labels, units, C → Σ of the units' clipped gradients by parameter name."""


def engine(name: str) -> Engine:
    """What computes the clipped sums. Imported when it is needed: Opacus takes a second."""
    clipped_sum = import_module(ENGINES[name]).clipped_sum

    def compute(*batch: Any) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = clipped_sum(*batch).sum
        return sums

    return compute


def _losses(output: Tensor, y_B: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(output.squeeze(1), y_B, reduction="none")


def private_fit(
    model: nn.Module,
    crops: PatientCrops,
    *,
    privacy: PrivateTraining,
    noise_multiplier: float,
    generator: Generator,
    training: Training,
    device: torch.device,
    local: Local | None = None,
    augment: Any = None,
    control: Mapping[str, Array] = NOTHING,
    kept: Mapping[str, Array] = NOTHING,
) -> Fit:
    """Train `model` in place by one round of DP-SGD, on `device`, where it stays.

    `generator` must be new: one round, one key. `training` gives the optimiser, and with `batch_size` how many crops
    are computed at once; it changes memory, not the result. `local` may add what depends on no patient: FedProx's pull.

    Guarantees: the trained model is a release of `privacy.event`, and so is everything returned: the loss is NaN.

    Raises PrivateStepError (a model whose gradients cannot be clipped by unit, a kernel that is wrong).
    """
    started = time.perf_counter()
    model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = (local.optimiser(trained, training.lr) if local else None) or training.optimiser_of(trained)
    state = local.start(model, control, kept) if local else None
    units = Units.of(crops, privacy.unit)
    step = Step(model, crops, units, privacy, noise_multiplier, training.batch_size, augment, device)
    with threads(training.threads):
        for _ in range(privacy.steps_a_round):
            for name, gradient in step.gradients(generator).items():
                model.get_parameter(name).grad = gradient
            if local:
                local.correct(model, state)
            optimiser.step()
    learned = local.finish(model, state, steps=privacy.steps_a_round, lr=training.lr) if local else Learned()
    return Fit(math.nan, privacy.steps_a_round, time.perf_counter() - started, "float32", learned)
