"""bfloat16 is used only where every layer's kernels were tried and found right."""

import logging

import pytest
import torch

from app.training import precision as module
from app.training.precision import Kernel, bf16_error, kernels, precision

X_SHAPE = (4, 1, 24, 24, 24)


@pytest.fixture
def errors(monkeypatch):
    """Self-test results by depth of the output map; others are right."""
    wrong = {}
    monkeypatch.setattr(module, "bf16_error", lambda kernel, _device: wrong.get(kernel.x_shape[-1], 0.002))
    return wrong


def is_half(amp, model, device):
    with precision(amp, model, X_SHAPE, device) as name:
        computed = model(torch.rand(X_SHAPE)).dtype
    assert computed == getattr(torch, name)
    return name == "bfloat16"


def test_every_convolution_and_linear_layer_is_tried_at_its_own_shape(make_model, cpu):
    found = kernels(make_model(), X_SHAPE, cpu)
    assert len(found) == 13  # 12 convolutions and the head
    # 24³ → stem, stride 2: 12³ → pool: 6³ → layer1: 6³ → layer2: 3³ → layer3: 2³ → layer4: 1³
    assert found["layer2.0.conv1"] == Kernel((4, 4, 6, 6, 6), (4, 4, 3, 3, 3), ((2, 2, 2), (1, 1, 1), (1, 1, 1), 1))
    assert found["layer4.0.conv1"].x_shape == (4, 8, 2, 2, 2)
    assert found["fc"] == Kernel((4, 8), (1, 8))


def test_looking_for_the_shapes_leaves_the_model_as_it_was(make_model, cpu):
    model = make_model(norm="batch")
    before = {name: t.clone() for name, t in model.state_dict().items()}
    kernels(model, X_SHAPE, cpu)
    assert model.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_cpu_computes_in_float32_unless_told_otherwise(make_model, cpu, errors):
    assert not is_half("auto", make_model(), cpu)
    assert not is_half("off", make_model(), cpu)
    assert is_half("bf16", make_model(), cpu)


@pytest.mark.parametrize("error", [0.3, float("nan"), float("inf")])
def test_one_wrong_kernel_means_float32_and_a_warning_that_names_it(make_model, cpu, errors, caplog, error):
    errors[2] = error  # 24³ → stem 12³ → pool 6³ → layer2 3³ → layer3 2³: its second convolution sees 2³ first
    with caplog.at_level(logging.WARNING):
        assert not is_half("bf16", make_model(), cpu)
    assert "gradient of layer3.0.conv2" in caplog.text
    assert "computing in float32" in caplog.text


def test_the_self_test_sees_a_kernel_that_computes_something_else(cpu, monkeypatch):
    right = Kernel((2, 4, 6, 6, 6), (4, 4, 3, 3, 3), ((1, 1, 1), (1, 1, 1), (1, 1, 1), 1))
    assert bf16_error(right, cpu) < module.TOLERANCE
    convolve = module._CONVOLUTIONS[3]

    def wrong(x, weight, **how):
        out = convolve(x, weight, **how)
        return out * 1.5 if torch.is_autocast_enabled("cpu") else out

    monkeypatch.setitem(module._CONVOLUTIONS, 3, wrong)
    bf16_error.cache_clear()
    assert bf16_error(right, cpu) == pytest.approx(0.5, abs=0.01)
    bf16_error.cache_clear()


def test_linear_layers_are_right_in_half_the_bits(cpu):
    assert bf16_error(Kernel((16, 64), (2, 64)), cpu) < module.TOLERANCE


def test_the_kernel_that_torch_gets_wrong_never_trains_unnoticed(cpu):
    # torch 2.13.0+cpu, maps two voxels deep: the weight gradient is noise, 1e17 or NaN on some processors. Where it is
    # right (another processor, a later torch) the error is rounding. Nothing lies between.
    error = bf16_error(Kernel((2, 16, 2, 2, 2), (16, 16, 3, 3, 3), ((1, 1, 1), (1, 1, 1), (1, 1, 1), 1)), cpu)
    assert error < 0.005 or not error <= 10 * module.TOLERANCE
