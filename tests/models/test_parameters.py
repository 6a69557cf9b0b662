"""Tensors leave a model as they are and enter it whole or not at all."""

import numpy as np
import pytest
import torch
from torch import nn

from models.parameters import MisfitError, get_tensors, set_tensors
from models.resnet3d import resnet

NARROW = (4, 4, 8, 8)


@pytest.fixture
def model():
    return resnet(10, NARROW, "batch", seed=1)


def test_what_was_taken_out_goes_back_in(model):
    other = resnet(10, NARROW, "batch", seed=2)
    set_tensors(other, get_tensors(model))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_arrays_are_copies_in_c_order(model):
    taken = get_tensors(model.to(memory_format=torch.channels_last_3d))
    taken["conv1.weight"][:] = 7
    assert not (model.conv1.weight == 7).any()
    assert all(array.flags.c_contiguous and array.flags.writeable and array.flags.owndata for array in taken.values())


def test_the_model_keeps_no_hold_of_the_arrays(model):
    tensors = get_tensors(model)
    set_tensors(model, tensors)
    tensors["conv1.weight"][:] = 7
    assert not (model.conv1.weight == 7).any()


def test_a_counter_stays_a_scalar_integer(model):
    model(torch.rand(2, 1, 24, 24, 24))
    counter = get_tensors(model)["bn1.num_batches_tracked"]
    assert (counter.shape, counter.dtype, int(counter)) == ((), np.int64, 1)
    set_tensors(model, get_tensors(model) | {"bn1.num_batches_tracked": np.array(41)})
    model(torch.rand(2, 1, 24, 24, 24))
    assert int(model.bn1.num_batches_tracked) == 42


def test_read_only_and_strided_arrays_are_taken_too(model):
    tensors = {name: array.copy(order="F") for name, array in get_tensors(model).items()}
    for array in tensors.values():
        array.flags.writeable = False
    other = resnet(10, NARROW, "batch", seed=2)
    set_tensors(other, tensors)
    assert torch.equal(other.conv1.weight, model.conv1.weight)


def test_optimisers_and_gradients_survive_new_values(model):
    weight = model.conv1.weight
    set_tensors(model, get_tensors(resnet(10, NARROW, "batch", seed=2)))
    assert model.conv1.weight is weight
    assert weight.requires_grad
    assert weight.is_leaf


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.pop("layer1.0.conv1.weight"), "layer1.0.conv1.weight: missing"),
        (lambda t: t.update({"extra": np.zeros(1)}), "extra: unknown to the model"),
        (
            lambda t: t.update({"fc.weight": np.zeros((2, 8), np.float32)}),
            r"fc.weight: got shape \(2, 8\), the model has \(1, 8\)",
        ),
        (lambda t: t.update({"fc.bias": np.zeros(1)}), "fc.bias: got float64, the model has float32"),
        (
            lambda t: t.update({"bn1.num_batches_tracked": np.zeros(1, np.int64)}),
            r"bn1.num_batches_tracked: got shape \(1,\), the model has \(\)",
        ),
    ],
)
def test_the_first_difference_is_named_and_nothing_changes(model, spoil, said):
    tensors = get_tensors(resnet(10, NARROW, "batch", seed=2))
    spoil(tensors)
    before = get_tensors(model)
    with pytest.raises(MisfitError, match=said):
        set_tensors(model, tensors)
    assert all(np.array_equal(before[name], array) for name, array in get_tensors(model).items())


def test_a_model_without_tensors_has_none():
    assert get_tensors(nn.ReLU()) == {}
