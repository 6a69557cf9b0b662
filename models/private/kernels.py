"""Are a lower precision's kernels right on this device, at the very shapes a model runs them?

torch 2.13.0 on a CPU computes a wrong bfloat16 weight gradient of Conv3d where the output map is two voxels deep (3³
kernel, stride 1, padding 1; values up to 1e17 or NaN). Such a gradient would be clipped, noised and released as if
it were one: run this before the first step in another precision than float32.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.private.errors import KernelError
from models.private.layers import Wanted
from models.private.precision import Precision, computing, layer_dtype, mixed
from models.private.release import trainable
from models.private.shares import Scales, Share
from models.private.tape import Seen, Tape
from models.private.units import Units

TOLERANCE = 0.02
"""Relative error. bfloat16 keeps 8 bits: rounding costs up to 2^-9 = 0.002 a number; a broken kernel, > 0.1."""


def self_test(model: nn.Module, x_shape: Sequence[int], precision: Precision) -> None:
    """Compare each layer's output, input gradient and per-unit gradients in `precision` with float32's.

    `x_shape` is that of a whole batch, (B, C, Z, Y, X); the model is on the device to be tested, and not changed.

    Raises KernelError, which names the first layer that is off by more than TOLERANCE; ValueError for a precision the
    device does not have.
    """
    trained, units = trainable(model), Units((1,) * x_shape[0])
    device = next(iter(trained.values())).device
    tape = Tape(trained, units, layer_dtype(precision))
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        with computing(precision, device), mixed(precision, device), tape:
            model(torch.zeros(tuple(x_shape), device=device))
        tested: set[Seen] = set()
        for name, seen in tape.seen.items():
            if seen.is_norm or seen in tested:
                continue
            tested.add(seen)
            _test(name, seen, units, precision, device)


def _test(name: str, seen: Seen, units: Units, precision: Precision, device: torch.device) -> None:
    exact, low = _results(seen, units, "float32", device), _results(seen, units, precision, device)
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(low, exact, strict=True)]
    worst = float(torch.tensor(errors).max())  # torch's max hands a NaN on
    if not worst <= TOLERANCE:
        raise KernelError(
            f"{name}: {precision} on {device} is off by {worst:.2g} of its length for an input of "
            f"{tuple(seen.x_shape)}; choose precision float32"
        )


def _results(seen: Seen, units: Units, precision: Precision, device: torch.device) -> list[Tensor]:
    """Output, input gradient, the units' squared norms and the sum of their weight gradients."""
    generator = torch.Generator().manual_seed(0)
    dtype = layer_dtype(precision) or torch.float32

    def draw(shape: Sequence[int]) -> Tensor:
        # Exactly representable in both precisions, so that only the kernels can differ.
        return torch.randn(tuple(shape), generator=generator).bfloat16().to(device, dtype)

    x, weight = draw(seen.x_shape), draw(cast(torch.Size, seen.weight_shape))
    with computing(precision, device):
        y, saved = seen.layer.forward(x, weight, None)
        wanted = Wanted(x=True, weight=True, bias=False)
        found = seen.layer.backward(draw(y.shape), x, weight, saved, units=units, wanted=wanted)
        share = cast(Share, found.weight)
        everyone = torch.ones(len(units), dtype=torch.float64, device=device)
        total = share.weighted_sum(Scales(units, everyone, everyone < 0, is_anyone_out=False))
    return [t.double().flatten() for t in (y, cast(Tensor, found.x), share.squares(), total)]
