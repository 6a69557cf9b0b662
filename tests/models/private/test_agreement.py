"""Both engines against the loop over units, on the networks that are trained: clipped sums agree to 5e-6 in float32."""

import pytest
import torch

from models.private import clipped_sum, opacus_engine
from models.resnet3d import resnet
from tests.models.private import oracle

NARROW, FULL = (8, 16, 32, 64), (64, 128, 256, 512)
AGREEMENT = 5e-6
ENGINES = {"fast": clipped_sum, "opacus": opacus_engine.clipped_sum}


def batch(units, size, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(units) + size)
    x = torch.rand(sum(units), 1, size, size, size, generator=generator, dtype=dtype)
    return x, torch.randint(0, 2, (sum(units),), generator=generator)


def agree(depth, widths, size, units, names=tuple(ENGINES)):
    model, (x, y) = resnet(depth, widths), batch(units, size)
    gradients = oracle.unit_gradients(model, oracle.bce, x, y, units, oracle.Kinks.of(model, x))
    norms = torch.tensor([oracle.length(g) for g in gradients])
    clip = float(norms.median())  # some units are clipped, some are not
    expected = oracle.clipped_sum(gradients, clip)
    for name in names:
        found = ENGINES[name](model, oracle.bce, x, y, units, clip)
        assert oracle.distance(found.sum, expected) <= AGREEMENT, name
        torch.testing.assert_close(found.norms.float(), norms, rtol=AGREEMENT, atol=0)


@pytest.mark.parametrize("units", [(1, 1, 1, 1), (4, 4), (1, 3, 2)], ids=str)
@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("depth", [10, 18])
def test_clipped_sums_of_both_engines_are_the_loops(depth, size, units):
    agree(depth, NARROW, size, units)


@pytest.mark.parametrize("size", [32, 48])
def test_clipped_sums_of_a_bottleneck_network_are_the_loops(size):
    agree(50, NARROW, size, (2, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "size", "units"),
    [(10, 32, (1, 6)), (10, 48, (1, 2)), (18, 32, (2, 1)), (18, 48, (1, 1)), (50, 32, (1, 2))],
)
def test_clipped_sums_at_full_width_are_the_loops(depth, size, units):
    agree(depth, FULL, size, units)


@pytest.mark.parametrize("depth", [10, 18, 50])
def test_in_float64_the_fast_engine_is_the_loop_to_the_last_digits(depth):
    model, (x, y), units = resnet(depth, NARROW).double(), batch((1, 3), 32, torch.float64), (1, 3)
    gradients = oracle.unit_gradients(model, oracle.bce, x, y, units)
    clip = oracle.length(gradients[0])
    found = clipped_sum(model, oracle.bce, x, y, units, clip)
    assert oracle.distance(found.sum, oracle.clipped_sum(gradients, clip)) <= 1e-12
