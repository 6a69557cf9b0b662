"""What callers may rely on: clipping, units, zeros, and a model left as it was. For both engines."""

import gc
import math
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.private import UnitsError, clipped_sum, opacus_engine
from models.resnet3d import resnet
from tests.models.private import oracle

both_engines = pytest.mark.parametrize("engine", [clipped_sum, opacus_engine.clipped_sum], ids=["fast", "opacus"])


def network(seed=0, widths=(4, 4, 8, 8)):
    return resnet(10, widths, seed=seed)


def crops(count, seed=0, size=16):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, size, size, size, generator=generator)
    return x, torch.arange(count) % 2


@both_engines
@pytest.mark.parametrize("clip", [1e-6, 1e-2, 1.0, 1e6])
def test_one_unit_never_moves_the_sum_by_more_than_the_clip(engine, clip):
    x, y = crops(3)
    found = engine(network(), oracle.bce, x, y, [3], clip)
    assert oracle.length(found.sum) <= clip
    assert oracle.length(found.sum) == pytest.approx(min(clip, float(found.norms[0])), rel=2e-5)


@given(clip=st.floats(1e-4, 1.0), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_no_scaling_in_float32_overshoots_the_clip(clip, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(31, 7), nn.Tanh(), nn.Linear(7, 3))
    found = clipped_sum(model, oracle.squares, 100 * torch.randn(1, 31), torch.zeros(1), [1], clip)
    assert float(found.norms[0]) > clip
    assert oracle.length(found.sum) <= clip


@both_engines
def test_adding_a_unit_adds_its_clipped_gradient_and_nothing_else(engine):
    x, y = crops(5)
    all_of_them = engine(network(), oracle.bce, x, y, [2, 1, 2], 0.1)
    without = engine(network(), oracle.bce, x[:3], y[:3], [2, 1], 0.1)
    alone = engine(network(), oracle.bce, x[3:], y[3:], [2], 0.1)
    together = {name: without.sum[name] + alone.sum[name] for name in alone.sum}
    assert oracle.distance(all_of_them.sum, together) <= 1e-5


@both_engines
def test_a_unit_counts_alike_however_often_the_same_crops_are_repeated(engine):
    x, y = crops(2)
    once = engine(network(), oracle.bce, x, y, [1, 1], 1e3)
    thrice = engine(network(), oracle.bce, x.repeat_interleave(3, 0), y.repeat_interleave(3), [3, 3], 1e3)
    assert oracle.distance(thrice.sum, once.sum) <= 1e-5
    torch.testing.assert_close(thrice.norms, once.norms, rtol=1e-5, atol=0)


@both_engines
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("widths", [(4, 4, 8, 8), (4, 8, 16, 64)])
def test_a_unit_whose_gradient_is_not_finite_adds_zero_and_says_nothing(engine, bad, widths):
    x, y = crops(4)
    x[2, 0, 8, 8, 8] = bad
    found = engine(network(widths=widths), oracle.bce, x, y, [1, 2, 1], 0.1)
    others = engine(network(widths=widths), oracle.bce, x[[0, 3]], y[[0, 3]], [1, 1], 0.1)
    assert found.norms.isfinite().tolist() == [True, False, True]
    assert oracle.distance(found.sum, others.sum) <= 1e-5


@both_engines
def test_nobody_drawn_gives_zeros_of_every_shape(engine):
    model, (x, y) = network(), crops(1)
    found = engine(model, oracle.bce, x[:0], y[:0], [], 1.0)
    assert found.norms.shape == (0,)
    assert {name: t.shape for name, t in found.sum.items()} == {name: p.shape for name, p in model.named_parameters()}
    assert oracle.length(found.sum) == 0


@both_engines
def test_the_sum_has_the_trainable_parameters_in_their_order(engine):
    model, (x, y) = network(), crops(2)
    for parameter in model.layer1.parameters():
        parameter.requires_grad_(False)
    found = engine(model, oracle.bce, x, y, [1, 1], 1.0)
    assert list(found.sum) == [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(not t.requires_grad for t in found.sum.values())


@both_engines
@pytest.mark.parametrize("is_training", [True, False])
def test_the_model_is_left_as_it_was(engine, is_training):
    model, (x, y) = network().train(is_training), crops(2)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    attributes = [set(vars(p)) for p in model.parameters()]
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()]
    model.fc.bias.grad = torch.full_like(model.fc.bias, 7.0)
    engine(model, oracle.bce, x, y, [1, 1], 1.0)
    assert model.training is is_training
    assert model.fc.bias.grad.tolist() == [7.0]
    assert all(p.grad is None for p in model.parameters() if p is not model.fc.bias)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()]
    assert attributes == [set(vars(p)) for p in model.parameters()]


@both_engines
def test_gradients_come_out_where_the_caller_computes_without_them(engine):
    x, y = crops(2)
    with torch.no_grad():
        inside = engine(network(), oracle.bce, x, y, [1, 1], 1.0)
    assert oracle.distance(inside.sum, engine(network(), oracle.bce, x, y, [1, 1], 1.0).sum) == 0


def test_equal_inputs_give_equal_bits():
    x, y = crops(4)
    first, second = (clipped_sum(network(), oracle.bce, x, y, [1, 3], 0.1) for _ in range(2))
    assert all(torch.equal(first.sum[name], second.sum[name]) for name in first.sum)


def test_nothing_of_a_step_stays_in_memory():
    model, (x, y), kept = network(), crops(2), []

    def loss(output, labels):
        kept.append(weakref.ref(output))
        return oracle.bce(output, labels)

    model.layer4.register_forward_hook(lambda _module, _inputs, out: kept.append(weakref.ref(out)))
    model.layer4[0].conv1.register_forward_hook(lambda _module, inputs, _out: kept.append(weakref.ref(inputs[0])))
    gc.disable()
    try:
        clipped_sum(model, loss, x, y, [1, 1], 1.0)
        assert len(kept) == 3
        assert all(tensor() is None for tensor in kept)
    finally:
        gc.enable()


def test_dropout_and_other_layers_without_parameters_are_free():
    def network(is_inplace):
        act, pool = nn.ReLU(inplace=is_inplace), nn.AdaptiveAvgPool3d(1)
        return nn.Sequential(nn.Conv3d(1, 4, 3), act, nn.Dropout(0.5), pool, nn.Flatten())

    ours, theirs, (x, y) = network(True), network(False), crops(3)
    theirs.load_state_dict(ours.state_dict())
    torch.manual_seed(5)
    found = clipped_sum(ours, oracle.squares, x, y, [1, 2], 1.0)
    torch.manual_seed(5)
    expected = opacus_engine.clipped_sum(theirs, oracle.squares, x, y, [1, 2], 1.0)
    assert oracle.distance(found.sum, expected.sum) <= 1e-5


@both_engines
@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_a_clip_that_bounds_nothing_is_refused(engine, clip):
    x, y = crops(1)
    with pytest.raises(ValueError, match="clip: got"):
        engine(network(), oracle.bce, x, y, [1], clip)


@both_engines
def test_units_that_do_not_cover_the_crops_are_refused(engine):
    x, y = crops(3)
    with pytest.raises(UnitsError, match="count every crop once"):
        engine(network(), oracle.bce, x, y, [1, 1], 1.0)


@both_engines
def test_a_loss_that_is_already_averaged_is_refused(engine):
    x, y = crops(2)
    with pytest.raises(ValueError, match="reduction='none'"):
        engine(network(), lambda o, t: oracle.bce(o, t).mean(), x, y, [1, 1], 1.0)
