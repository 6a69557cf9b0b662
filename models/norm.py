"""What each tensor of a model is, by the type of its layer: never by its name."""

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Kind = Literal["conv", "linear", "norm", "norm-statistic", "counter", "other"]

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""`_NormBase` covers batch and instance norms of every dimension, synchronised ones too."""


def tensor_kinds(model: nn.Module) -> dict[str, Kind]:
    """Say of every entry of `model.state_dict()`, in its order, what it is.

    conv, linear: weight and bias of such layers. norm: scale and shift of a norm layer. norm-statistic: what a batch
    norm remembers of its training crops. counter: a norm's count of batches (an integer; never averaged).
    other: tensors of any other layer.
    """
    kinds: dict[str, Kind] = {}
    for name in model.state_dict():
        layer, _, leaf = name.rpartition(".")
        kinds[name] = _kind(model.get_submodule(layer), leaf)
    return kinds


def _kind(layer: nn.Module, leaf: str) -> Kind:
    if isinstance(layer, NORMS):
        if leaf in dict(layer.named_parameters(recurse=False)):
            return "norm"
        return "norm-statistic" if layer.get_buffer(leaf).is_floating_point() else "counter"
    if isinstance(layer, _ConvNd):
        return "conv"
    return "linear" if isinstance(layer, nn.Linear) else "other"
