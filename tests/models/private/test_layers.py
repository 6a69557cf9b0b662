"""Every covered layer, by every way the engine may take, is the loop over units: random networks, float64."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.private import clipped_sum, conv, dense, opacus_engine
from tests.models.private import oracle

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
EXACT = 1e-10
ROUNDING = 1e-11
"""What float64 leaves of a gradient that is zero in exact arithmetic (a bias before a norm): no relative error has a
meaning there."""

WAYS = {
    "as shapes say": {},
    "formed": {"price": math.inf},
    "formed singly": {"price": math.inf, "thin": 10**9},
    "Gram, native sum": {"price": 0, "small_map": 0},
    "Gram, sum of patches": {"price": 0, "small_map": 10**9},
}


@contextmanager
def way(price=dense.GRAM_PRICE, thin=conv.THIN, small_map=conv.SMALL_MAP) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "GRAM_PRICE", price)
        patch.setattr(conv, "THIN", thin)
        patch.setattr(conv, "SMALL_MAP", small_map)
        patch.setattr(conv, "MANY_WEIGHTS", 0)
        yield


class Positions(nn.Module):
    """(B, C, *size) → (B, T, C)."""

    def forward(self, x):
        return x.flatten(2).mT


@dataclass(repr=False)
class Case:
    model: nn.Module
    x: torch.Tensor

    def __repr__(self):
        frozen = [name for name, p in self.model.named_parameters() if not p.requires_grad]
        return f"{self.model} on {tuple(self.x.shape)}, frozen {frozen}"


@st.composite
def convolutions(draw, rank, inputs, is_padded):
    """`is_padded`: by at least half the kernel, so that it fits a map of any size."""
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if inputs % g == 0]))
    kernel, stride, padding, dilation = [], [], [], []
    for _ in range(rank):
        kernel.append(draw(st.integers(1, 3)))
        stride.append(draw(st.integers(1, 2)))
        dilation.append(draw(st.integers(1, 2)))
        padding.append(draw(st.integers(0, 1)) + is_padded * math.ceil(dilation[-1] * (kernel[-1] - 1) / 2))
    if set(stride) == {1} and draw(st.booleans()):
        padding = "same"
    outputs = groups * draw(st.integers(1, 3))
    return CONVS[rank](inputs, outputs, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()))


@st.composite
def cases(draw):
    """A convolution, a norm, another convolution, and a head on maps or on positions; some parameters frozen."""
    torch.manual_seed(draw(st.integers(0, 10**6)))
    rank, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    first = draw(convolutions(rank, channels, is_padded=False))
    wide = first.out_channels
    norm = nn.GroupNorm(draw(st.sampled_from([g for g in (1, 2, 3) if wide % g == 0])), wide)
    second = draw(convolutions(rank, wide, is_padded=True))
    wide = second.out_channels
    on_positions = (Positions(), nn.LayerNorm(wide), nn.Linear(wide, 3), nn.Flatten(), nn.LazyLinear(2, bias=False))
    on_maps = (nn.Flatten(), nn.LazyLinear(3), nn.Tanh(), nn.LayerNorm(3))
    head = on_positions if draw(st.booleans()) else on_maps
    model = nn.Sequential(first, norm, nn.Tanh(), second, nn.Tanh(), *head).double()
    x = torch.randn(7, channels, *(8,) * rank, dtype=torch.float64)
    model(x[:2])
    parameters = list(model.parameters())
    for parameter in draw(st.lists(st.sampled_from(parameters), max_size=len(parameters) - 1, unique_by=id)):
        parameter.requires_grad_(False)
    return Case(model, x)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch may copy the input
@pytest.mark.parametrize("taken", WAYS)
@given(case=cases(), units=st.sampled_from([(1,) * 7, (7,), (2, 3, 1, 1), (3, 3, 1)]))
@settings(max_examples=25, deadline=None)
def test_any_network_of_covered_layers_gives_the_loops_sum(taken, case, units):
    model, x = case.model, case.x
    y = torch.arange(len(x)) % 2
    gradients = oracle.unit_gradients(model, oracle.squares, x, y, units)
    clip = oracle.length(gradients[0]) + 1e-3
    with way(**WAYS[taken]):
        found = clipped_sum(model, oracle.squares, x, y, units, clip)
    expected = oracle.clipped_sum(gradients, clip)
    assert oracle.distance(found.sum, expected) <= max(EXACT, ROUNDING / max(oracle.length(expected), 1e-300))
    assert found.norms.tolist() == pytest.approx([oracle.length(g) for g in gradients], rel=1e-6, abs=ROUNDING)


@pytest.mark.parametrize("taken", WAYS)
@pytest.mark.parametrize("layer", [nn.Conv3d(3, 5, 3, padding=1), nn.Conv3d(3, 4, 1, stride=2), nn.Linear(6, 5)])
def test_units_of_many_sizes_may_stand_in_any_order(layer, taken):
    model = nn.Sequential(layer, nn.Tanh()).double()
    x, units = torch.randn(12, 3, 4, 4, 6, dtype=torch.float64), (2, 1, 3, 1, 2, 3)
    y = torch.arange(12)
    gradients = oracle.unit_gradients(model, oracle.squares, x, y, units)
    with way(**WAYS[taken]):
        found = clipped_sum(model, oracle.squares, x, y, units, 1e3)
    assert oracle.distance(found.sum, oracle.clipped_sum(gradients, 1e3)) <= EXACT


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_that_torch_adds_before_the_convolution_is_covered(mode):
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode), nn.Flatten()).double()
    x, y, units = torch.randn(4, 2, 5, 5, dtype=torch.float64), torch.arange(4), (1, 3)
    expected = oracle.clipped_sum(oracle.unit_gradients(model, oracle.squares, x, y, units), 5.0)
    for engine in (clipped_sum, opacus_engine.clipped_sum) if mode == "zeros" else (clipped_sum,):
        assert oracle.distance(engine(model, oracle.squares, x, y, units, 5.0).sum, expected) <= EXACT


def test_memory_in_another_order_changes_nothing():
    model = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.Conv3d(4, 2, 1)).double()
    x, y, units = torch.randn(4, 4, 5, 5, 5, dtype=torch.float64), torch.arange(4), (2, 2)
    expected = clipped_sum(model, oracle.squares, x, y, units, 1.0)
    model = model.to(memory_format=torch.channels_last_3d)
    found = clipped_sum(model, oracle.squares, x.to(memory_format=torch.channels_last_3d), y, units, 1.0)
    assert oracle.distance(found.sum, expected.sum) <= EXACT
