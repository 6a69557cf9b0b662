"""Models that cannot be trained privately are told so before the first step: what, where, and the remedy."""

import pytest
import torch
from torch import nn

from models.private import ModelError
from models.private.check import check_model
from models.resnet3d import resnet

NARROW = (4, 4, 8, 8)
CROP = (1, 16, 16, 16)


def refused(model, crop_shape=CROP):
    with pytest.raises(ModelError) as caught:
        check_model(model, crop_shape)
    return caught.value


@pytest.mark.parametrize("depth", [10, 18, 50])
def test_the_networks_of_this_package_pass(depth):
    check_model(resnet(depth, NARROW), CROP)


def test_batch_norm_is_refused_by_every_layers_name_with_the_remedy():
    error = refused(resnet(10, NARROW, "batch"))
    assert {fault.where for fault in error.faults} >= {"bn1", "layer1.0.bn1", "layer4.0.downsample.1"}
    assert "depend on the other patients" in str(error)
    assert "model.norm=group" in str(error)


@pytest.mark.parametrize("freeze", [True, False])
def test_batch_norm_is_refused_also_where_it_learns_nothing(freeze):
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2, affine=False), nn.Flatten(), nn.LazyLinear(1))
    model(torch.zeros(2, *CROP))
    if freeze:
        model[0].requires_grad_(False)
    assert [fault.where for fault in refused(model).faults] == ["1"]


class Centred(nn.Module):
    """A batch norm by another name."""

    def forward(self, x):
        return x - x.mean(0)


def head():
    return nn.Sequential(nn.Conv3d(1, 2, 16), nn.Flatten())


def test_a_home_made_layer_that_mixes_crops_is_found_out():
    assert "lets one crop change the result of another" in str(refused(nn.Sequential(Centred(), head())))


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.head = head()

    def forward(self, x):
        with torch.no_grad():
            self.mean.lerp_(x.mean(), 0.1)
        return self.head(x)


def test_a_buffer_that_remembers_crops_is_found_out():
    model = Remembering()
    (fault,) = refused(model).faults
    assert fault.where == "mean"
    assert model.mean.item() == 0  # only a copy was tried


def test_an_instance_norm_with_running_statistics_is_refused():
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, track_running_stats=True), nn.Flatten())
    assert [fault.where for fault in refused(model).faults] == ["1"]


def test_what_the_engine_refuses_is_refused_here_already():
    model = nn.Sequential(head(), nn.PReLU())
    assert [fault.where for fault in refused(model).faults] == ["1.weight"]


class Shuffled(nn.Module):
    """Its second dimension, of `size`, takes the crops' place."""

    def __init__(self, size):
        super().__init__()
        self.size, self.layer = size, nn.Linear(4, 1)

    def forward(self, x):
        return self.layer(x.view(len(x), self.size, 4).transpose(0, 1)).transpose(0, 1).flatten(1)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_dimension_that_happens_to_be_as_long_as_the_batch_is_not_taken_for_it(size):
    (fault,) = refused(Shuffled(size), (size, 4)).faults[:1]
    assert fault.where == "layer.weight"


def test_a_model_that_returns_no_row_for_each_crop_is_refused():
    assert "returns 1 rows for 3 crops" in str(refused(nn.Sequential(head(), nn.Flatten(0), nn.Unflatten(0, (1, -1)))))


def test_checking_leaves_the_random_numbers_and_the_model_alone():
    model = resnet(10, NARROW).eval()
    before = torch.random.get_rng_state()
    check_model(model, CROP)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
