"""What a tensor is follows from its layer, never from its name."""

from collections import Counter

import torch
from torch import nn

from models.norm import tensor_kinds
from models.resnet3d import resnet


class Misnamed(nn.Module):
    """Names that would fool whoever looks for "bn" or "norm"."""

    def __init__(self):
        super().__init__()
        self.bnconv = nn.Conv3d(1, 4, 1)
        self.plain = nn.BatchNorm3d(4)
        self.norm_linear = nn.Linear(4, 4)
        self.last = nn.LayerNorm(4)
        self.position = nn.Parameter(torch.zeros(4))
        self.register_buffer("hidden", torch.zeros(1), persistent=False)


def test_kinds_follow_the_layer_types_in_the_order_of_the_state_dict():
    assert list(tensor_kinds(Misnamed()).items()) == [
        ("position", "other"),
        ("bnconv.weight", "conv"),
        ("bnconv.bias", "conv"),
        ("plain.weight", "norm"),
        ("plain.bias", "norm"),
        ("plain.running_mean", "norm-statistic"),
        ("plain.running_var", "norm-statistic"),
        ("plain.num_batches_tracked", "counter"),
        ("norm_linear.weight", "linear"),
        ("norm_linear.bias", "linear"),
        ("last.weight", "norm"),
        ("last.bias", "norm"),
    ]


def test_a_group_norm_model_keeps_no_statistics():
    # resnet10: stem, 4 × 2 and 3 shortcuts make 12 convolutions and 12 norms; the head has weight and bias.
    assert Counter(tensor_kinds(resnet(10)).values()) == {"conv": 12, "norm": 24, "linear": 2}
    batch = Counter(tensor_kinds(resnet(10, norm="batch")).values())
    assert batch == {"conv": 12, "norm": 24, "linear": 2, "norm-statistic": 24, "counter": 12}


def test_every_entry_has_a_kind():
    model = resnet(18, (4, 4, 8, 8), "batch")
    assert list(tensor_kinds(model)) == list(model.state_dict())
