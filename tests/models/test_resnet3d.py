"""The network is MONAI's architecture without the traps of its class."""

import copy

import pytest
import torch
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.resnet import ResNetBlock as MonaiBlock
from monai.networks.nets.resnet import ResNetBottleneck as MonaiBottleneck
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn

from models.resnet3d import DEPTHS, MIN_GROUP_CHANNELS, Bottleneck, resnet

NARROW = (4, 4, 8, 8)
NORMS = (nn.BatchNorm3d, nn.GroupNorm, nn.InstanceNorm3d)


def crops(count: int = 2, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, size, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [16, 24, 33, 64])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_crops_of_any_usual_size_become_one_logit_a_class(size, norm):
    assert resnet(10, NARROW, norm)(crops(2, size)).shape == (2, 1)
    assert resnet(10, NARROW, norm, classes=3)(crops(2, size)).shape == (2, 3)


@pytest.mark.parametrize(("max_pool", "side"), [(True, 1), (False, 2)])
def test_without_the_max_pool_the_last_map_is_twice_as_large(max_pool, side):
    # 24 → stem 12 → pool 6 → stages 6, 3, 2, 1; without the pool 12, 6, 3, 2.
    model, sides = resnet(10, NARROW, max_pool=max_pool), []
    model.layer4.register_forward_hook(lambda _module, _inputs, out: sides.append(tuple(out.shape[2:])))
    model(crops(1, 24))
    assert sides == [(side,) * 3]


@pytest.mark.parametrize(("norm", "wanted"), [("group", nn.GroupNorm), ("batch", nn.BatchNorm3d)])
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_norm_asked_for_is_everywhere_and_no_other(depth, norm, wanted):
    block, blocks = DEPTHS[depth]
    norms = [type(m) for m in resnet(depth, NARROW, norm).modules() if isinstance(m, NORMS)]
    # The stem's, those inside each block, and one per projecting shortcut: stages 2 to 4 (stride 2), and in a
    # bottleneck net, which widens there, stage 1.
    inside, projecting = (3, 4) if block is Bottleneck else (2, 3)
    assert norms == [wanted] * (1 + inside * sum(blocks) + projecting)


@pytest.mark.parametrize("depth", DEPTHS)
def test_nothing_is_changed_in_place(depth):
    seen = []
    model = resnet(depth, NARROW)
    for module in model.modules():
        module.register_forward_hook(lambda _module, inputs, out: seen.extend([*inputs, out]))
    model(crops())
    assert len(seen) > 20
    assert all(tensor._version == 0 for tensor in seen)


@pytest.mark.parametrize("depth", [10, 50])
def test_with_batch_norm_it_is_monais_network_number_for_number(depth):
    block, blocks = DEPTHS[depth]
    ours = resnet(depth, NARROW, "batch", seed=3)
    theirs = ResNet(
        MonaiBottleneck if block is Bottleneck else MonaiBlock,
        list(blocks),
        list(NARROW),
        n_input_channels=1,
        num_classes=1,
        conv1_t_stride=2,
        bias_downsample=False,
    )
    theirs.load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(ours(crops(3, 24)), theirs(crops(3, 24)))
    torch.testing.assert_close(ours.eval()(crops(3, 24)), theirs.eval()(crops(3, 24)))


@pytest.mark.parametrize("depth", [10, 50])
def test_every_tensor_learns(depth):
    model = resnet(depth, NARROW)
    model(crops(3, 48)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_one_crop_whose_last_map_is_one_voxel_still_reaches_the_stem():
    model = resnet(10, (8, 16, 32, 64))
    model(crops(1, 16)).sum().backward()
    assert model.conv1.weight.grad.abs().max() > 0


@pytest.mark.parametrize("depth", [10, 50])
# Opacus hooks the stem, whose input (the crops) needs no gradient; torch says so and goes on.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_per_sample_gradients_are_those_of_single_crops(depth):
    model, x = resnet(depth, NARROW, seed=1), crops(3)
    alone = []
    for crop in x:
        single = copy.deepcopy(model)
        single(crop[None]).sum().backward()
        alone.append({name: p.grad for name, p in single.named_parameters()})
    hooked = GradSampleModule(copy.deepcopy(model), loss_reduction="sum")
    hooked(x).sum().backward()
    for name, p in hooked._module.named_parameters():
        torch.testing.assert_close(p.grad_sample, torch.stack([g[name] for g in alone]), rtol=1e-4, atol=1e-4)


def test_opacus_accepts_group_norm_and_finds_each_batch_norm():
    assert ModuleValidator.validate(resnet(10, NARROW)) == []
    assert len(ModuleValidator.validate(resnet(10, NARROW, "batch"))) == 12


def test_equal_seeds_give_equal_models_whatever_torch_drew_before():
    torch.manual_seed(0)
    first = resnet(10, NARROW, "batch", seed=5).state_dict()
    torch.rand(7)
    second = resnet(10, NARROW, "batch", seed=5).state_dict()
    other = resnet(10, NARROW, "batch", seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_seeds_that_torch_would_fold_into_one_stay_two():
    assert not torch.equal(resnet(10, NARROW, seed=5).conv1.weight, resnet(10, NARROW, seed=5 + 2**32).conv1.weight)


def test_building_a_model_leaves_torchs_generator_where_it_was():
    before = torch.get_rng_state()
    resnet(10, NARROW, seed=5)
    assert torch.equal(before, torch.get_rng_state())


def test_convolutions_start_with_the_variance_that_keeps_gradients_level():
    # Stem: fan-out = 64 channels · 7³ = 21,952; sd = √(2 / 21,952) = 0.009545; 21,952 draws: sd known to 0.5 %.
    weight = resnet(10).conv1.weight
    assert weight.std().item() == pytest.approx(0.009545, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=4 * 0.009545 / 21_952**0.5)


@pytest.mark.parametrize("widths", [(2, 3, 5, 7), (8, 16, 32, 64), (12, 20, 28, 36)])
def test_no_group_is_left_with_a_single_channel(widths):
    groups = [m for m in resnet(10, widths, groups=8).modules() if isinstance(m, nn.GroupNorm)]
    assert groups
    assert all(m.num_groups <= 8 for m in groups)
    assert all(m.num_channels / m.num_groups >= min(MIN_GROUP_CHANNELS, m.num_channels) for m in groups)


def test_groups_are_as_many_as_asked_where_the_width_allows_it():
    assert resnet(10, (128, 128, 128, 128), groups=16).bn1.num_groups == 16
    assert (
        resnet(10, (60, 64, 64, 64), groups=8).bn1.num_groups == 6
    )  # 7, the most of eight channels, does not divide 60


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"depth": 12}, "model.depth: got 12; write one of 10, 18, 34, 50"),
        ({"widths": (8, 16)}, r"model.widths: got \[8, 16\]; write four"),
        ({"widths": (1, 8, 8, 8)}, "model.widths: got a stage of 1 channels"),
        ({"norm": "layer"}, "model.norm: got 'layer'; write group or batch"),
        ({"groups": 0}, "model.groups: got 0"),
        ({"stem_stride": 3}, "model.stem_stride: got 3"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_remedy(wrong, said):
    with pytest.raises(ValueError, match=said):
        resnet(**wrong)
