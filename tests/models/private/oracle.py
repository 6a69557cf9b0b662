"""What the engines must compute, written the plain way: one unit after the other, autograd, float64.

Two ways to compare float32 with it. A ReLU or max-pool whose inputs tie within rounding takes another side in float32
than in float64, and then every implementation differs by 1e-3: `Kinks` holds the oracle to the sides that float32 took,
so that what is compared is arithmetic. A model in float64 needs no such care.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.private.release import MARGIN

Sums = dict[str, Tensor]


def bce(output: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(output[:, 0], y.to(output.dtype), reduction="none")


def squares(output: Tensor, y: Tensor) -> Tensor:
    """A loss for outputs of any shape; every output counts differently, so that none can be swapped."""
    flat = output.flatten(1)
    return (flat * torch.linspace(1, 2, flat.shape[1], dtype=flat.dtype) - y.to(flat.dtype)[:, None]).square().sum(1)


@dataclass
class Kinks:
    """For each call of a ReLU or max-pool, in order, which elements of its input went through."""

    taken: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, model: nn.Module, x: Tensor) -> "Kinks":
        kinks = cls()

        def record(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            kinks.taken.append(_went_through(module, inputs[0], output))

        with _hooks(model, record), torch.no_grad():
            model(x)
        return kinks

    @contextmanager
    def held(self, model: nn.Module, rows: slice) -> Iterator[None]:
        """Let `model`, fed `rows` of the batch, take the recorded sides."""
        calls = iter(self.taken)

        def replace(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            taken = next(calls)[rows]
            if isinstance(module, nn.ReLU):
                return inputs[0] * taken
            return inputs[0].flatten(2).gather(2, taken.flatten(2)).view_as(output)

        with _hooks(model, replace):
            yield


def _went_through(module: nn.Module, x: Tensor, output: Tensor) -> Tensor:
    if isinstance(module, nn.ReLU):
        return output > 0
    return functional.max_pool3d(x, module.kernel_size, module.stride, module.padding, return_indices=True)[1]


@contextmanager
def _hooks(model: nn.Module, hook) -> Iterator[None]:
    kinked = [m for m in model.modules() if isinstance(m, nn.ReLU | nn.MaxPool3d)]
    handles = [module.register_forward_hook(hook) for module in kinked]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def unit_gradients(model: nn.Module, loss, x: Tensor, y: Tensor, units: Sequence[int], kinks=None) -> list[Sums]:
    """Each unit's gradient of its mean loss, float64."""
    exact, found, first = copy.deepcopy(model).double(), [], 0
    trained = {name: p for name, p in exact.named_parameters() if p.requires_grad}
    for count in units:
        rows = slice(first, first + count)
        with kinks.held(exact, rows) if kinks else torch.enable_grad():
            mean_loss = loss(exact(x[rows].double()), y[rows].double()).mean()
        gradients = torch.autograd.grad(mean_loss, list(trained.values()), allow_unused=True)
        found.append(
            {
                name: torch.zeros_like(p) if g is None else g
                for (name, p), g in zip(trained.items(), gradients, strict=True)
            }
        )
        first += count
    return found


def length(sums: Sums) -> float:
    return float(torch.sqrt(sum(t.double().square().sum() for t in sums.values())))


def clipped_sum(gradients: Sequence[Sums], clip: float) -> Sums:
    scales = [min(1.0, clip / (1 + MARGIN) / max(length(g), 1e-300)) for g in gradients]
    return {name: sum(s * g[name] for s, g in zip(scales, gradients, strict=True)) for name in gradients[0]}


def distance(found: Sums, expected: Sums) -> float:
    """Relative L2 distance over all parameters together."""
    assert list(found) == list(expected)
    difference = {name: found[name].double() - expected[name] for name in expected}
    return length(difference) / max(length(expected), 1e-300)
