"""A model's tensors as plain arrays and back: the only door between torch and the rest.

Names, shapes and dtypes are those of `state_dict`, buffers included (a batch norm's statistics and counter).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Tensors = dict[str, NDArray[Any]]


class MisfitError(ValueError):
    """The tensors are not this model's: a name, a shape or a dtype differs."""


def get_tensors(model: nn.Module) -> Tensors:
    """Copy every tensor of the model into C-contiguous arrays of the same dtype; a scalar stays 0-dimensional."""
    return {name: tensor.detach().cpu().numpy().copy(order="C") for name, tensor in model.state_dict().items()}


def set_tensors(model: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Copy `tensors` into the model, on the device it is on. All of them fit, or nothing is changed.

    Raises MisfitError, which names the first difference in the model's order.
    """
    own = model.state_dict()
    if difference := first_difference(get_signature(own), get_signature(tensors)):
        raise MisfitError(
            f"{difference}; the tensors come from a model with other settings: compare model.* of both sides"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            # torch.from_numpy wants a writable array of positive strides; what came over a network is often read-only.
            tensor.copy_(torch.from_numpy(np.require(tensors[name], requirements=("C", "W"))))


Signature = dict[str, tuple[tuple[int, ...], str]]
"""Name → shape, dtype."""


def get_signature(tensors: Mapping[str, torch.Tensor | NDArray[Any]]) -> Signature:
    """Shapes and dtypes, spelled alike for torch and numpy ("float32")."""
    return {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in tensors.items()}


def first_difference(wanted: Signature, got: Signature) -> str | None:
    """Say in words where `got` first differs from `wanted`; None where it does not."""
    for name, (shape, dtype) in wanted.items():
        if name not in got:
            return f"{name}: missing"
        if got[name][0] != shape:
            return f"{name}: got shape {got[name][0]}, the model has {shape}"
        if got[name][1] != dtype:
            return f"{name}: got {got[name][1]}, the model has {dtype}"
    return next((f"{name}: unknown to the model" for name in got if name not in wanted), None)
