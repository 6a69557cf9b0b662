"""The last step is where a wrong gradient can still be stopped."""

import pytest
import torch
from torch import nn

from models.private import KernelError, clipped_sum, conv
from models.private.release import MARGIN, release, trainable
from models.private.shares import PIECE, Ghost, Kept, Scales
from models.private.units import Units
from tests.models.private import oracle

UNITS = Units((2, 1))


def released(share, model=None, clip=1.0):
    trained = trainable(model or nn.Linear(2, 1, bias=False))
    return release(trained, {"weight": share}, UNITS, clip)


def test_norms_are_taken_over_all_parameters_together():
    # Unit 0: (3, 4, 12), norm 13, scaled to 6.5 / 13; unit 1: (0, 0, 1), untouched.
    model = nn.Linear(2, 1)
    shares = {"weight": Kept(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), "bias": Kept(torch.tensor([[12.0], [1.0]]))}
    found = release(trainable(model), shares, UNITS, 6.5)
    assert found.norms.tolist() == [13.0, 1.0]
    torch.testing.assert_close(found.sum["weight"], torch.tensor([[1.5, 2.0]]), rtol=2 * MARGIN, atol=0)
    torch.testing.assert_close(found.sum["bias"], torch.tensor([7.0]), rtol=2 * MARGIN, atol=0)


def test_a_gradient_of_zero_stays_zero():
    assert released(Kept(torch.zeros(2, 2))).sum["weight"].tolist() == [[0.0, 0.0]]


def test_squares_that_float32_cannot_hold_are_held():
    # 1e30² overflows float32; the norm is 1e30 all the same, and the unit is clipped, not left out.
    found = released(Kept(torch.tensor([[1e30, 0.0], [0.0, 0.0]])))
    assert found.norms[0] == pytest.approx(1e30)
    assert found.sum["weight"][0, 0] == pytest.approx(1.0, rel=2 * MARGIN)


def test_norms_of_long_gradients_are_those_of_float64():
    rows = torch.randn(3, 2 * PIECE + 5)
    torch.testing.assert_close(Kept(rows).squares(), rows.double().square().sum(1), rtol=1e-12, atol=0)


def understated():
    """A share that claims less than it sums: what a wrong norm, or a wrong kernel in the sum, looks like."""
    x, g = torch.ones(3, 2), torch.ones(3, 1)
    return Ghost(x, g, torch.tensor([0.01, 0.01], dtype=torch.float64), lambda x, g: g.mT @ x, torch.float32)


@pytest.mark.parametrize("broken", [understated, lambda: Broken()])
def test_a_sum_longer_than_its_parts_allow_is_never_released(broken):
    with pytest.raises(KernelError, match="longer than its units allow"):
        released(broken())


class Broken(Kept):
    """Right norms, NaN in the sum."""

    def __init__(self):
        super().__init__(torch.ones(2, 8192))

    def weighted_sum(self, scales: Scales):
        return torch.full((2,), torch.nan)


def test_a_kernel_that_goes_wrong_in_a_step_stops_it(monkeypatch):
    model, x = nn.Sequential(nn.Conv3d(16, 16, 3, padding=1), nn.Flatten()), torch.randn(2, 16, 2, 2, 2)
    native = conv.Conv._weight_gradient
    monkeypatch.setattr(conv.Conv, "_contract", lambda self, x, g: 1e3 * native(self, g, x, 1))
    with pytest.raises(KernelError, match="choose precision float32"):
        clipped_sum(model, oracle.squares, x, torch.zeros(2), [1, 1], 1.0)
