"""A parameter whose per-unit gradient the engine would get wrong is refused by name, never trained."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from models.private import ModelError, clipped_sum
from tests.models.private import oracle


def refusal(model, x):
    with pytest.raises(ModelError) as refused:
        clipped_sum(model, oracle.squares, x, torch.zeros(len(x)), [1] * len(x), 1.0)
    return {fault.where: fault.reason for fault in refused.value.faults}


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(torch.tanh(self.layer(x)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.up.weight = self.down.weight

    def forward(self, x):
        return self.up(torch.tanh(self.down(x)))


class Loose(nn.Module):
    """Uses a parameter outside of any layer."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.scale, self.how = nn.Linear(4, 4), nn.Parameter(torch.ones(4)), how

    def forward(self, x):
        return self.how(self, x)


class Folded(nn.Module):
    """Moves what belongs to a crop into the batch dimension, as windowed attention does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x.view(-1, 2)).view(len(x), -1)


class SequenceFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


X = torch.randn(3, 4)


def test_a_layer_used_twice_is_named():
    assert refusal(Twice(), X) == {"layer.weight": "is used twice in one forward"}


def test_tied_layers_are_named():
    assert refusal(Tied(), X) == {"down.weight": "is used twice in one forward"}


LAYER = {"layer.weight", "layer.bias"}
LOOSE = {
    "multiplied": (lambda m, x: m.layer(x) * m.scale, {"scale"}),
    "scaled weight": (lambda m, x: functional.linear(x, m.layer.weight * 2, m.layer.bias), LAYER),
    "bias made from one": (
        lambda m, x: functional.linear(x, m.layer.weight, m.layer.bias * m.scale),
        {*LAYER, "scale"},
    ),
    "penalised": (lambda m, x: m.layer(x) + m.layer.weight.square().sum(), {"layer.weight"}),
    "as an input": (lambda m, x: m.layer(x * m.scale), {"scale"}),
}


@pytest.mark.parametrize("how", LOOSE)
def test_a_parameter_used_outside_of_covered_calls_is_named(how):
    use, names = LOOSE[how]
    assert refusal(Loose(use), X) == dict.fromkeys(names, "is not covered")


def test_a_loss_that_reads_parameters_is_refused():
    model = nn.Linear(4, 4)

    def decayed(output, y):
        return oracle.squares(output, y) + model.weight.square().sum()

    with pytest.raises(ModelError, match=r"weight: is not covered; the private step covers conv1d"):
        clipped_sum(model, decayed, X, torch.zeros(3), [1, 1, 1], 1.0)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.ConvTranspose3d(1, 2, 3), torch.randn(2, 1, 4, 4, 4)),
        (nn.BatchNorm3d(1), torch.randn(2, 1, 4, 4, 4)),
        (nn.PReLU(), torch.randn(2, 4)),
        (nn.RMSNorm(4), torch.randn(2, 4)),
        (nn.Bilinear(4, 4, 2), None),
        (parametrizations.weight_norm(nn.Linear(4, 2, bias=False)), torch.randn(2, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_of_other_kinds_are_refused_by_every_parameters_name(layer, x):
    model = nn.Sequential(layer) if x is not None else Loose(lambda m, x: layer(x, x))
    if x is None:
        model.scale = None
        model.layer, x = layer, torch.randn(2, 4)
    assert refusal(model, x) == dict.fromkeys(dict(model.named_parameters()), "is not covered")


def test_crops_folded_into_other_rows_are_refused():
    assert refusal(Folded(), X) == {"layer.weight": "sees 6 rows where 3 crops went in"}
    assert refusal(SequenceFirst(), torch.randn(3, 5, 4)) == {"layer.weight": "sees 5 rows where 3 crops went in"}


def test_a_convolution_without_a_batch_dimension_is_refused():
    model = Loose(lambda m, x: m.layer(x[0])[None].expand(len(x), -1, -1, -1, -1))
    model.layer, model.scale = nn.Conv3d(2, 2, 1), None
    assert refusal(model, torch.randn(2, 2, 3, 3, 3)) == {"layer.weight": "sees 0 rows where 2 crops went in"}


def test_a_model_without_trainable_parameters_is_refused():
    assert refusal(nn.Linear(4, 4).requires_grad_(False), X) == {"model": "has no trainable parameter"}


def test_a_parameter_that_no_forward_uses_gets_zeros():
    model = Loose(lambda m, x: m.layer(x))
    found = clipped_sum(model, oracle.squares, X, torch.zeros(3), [1, 1, 1], 1.0)
    assert found.sum["scale"].tolist() == [0.0] * 4
    assert found.sum["layer.weight"].any()


def test_a_message_lists_names_of_one_fault_together():
    model = nn.Sequential(*(nn.PReLU() for _ in range(5)))
    with pytest.raises(ModelError, match=r"^0\.weight, 1\.weight, 2\.weight and 2 more: is not covered; [^\n]*$"):
        clipped_sum(model, oracle.squares, X, torch.zeros(3), [1, 1, 1], 1.0)
