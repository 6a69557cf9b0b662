"""A lower precision is chosen knowingly, tested first, and never loosens the clip."""

import pytest
import torch
from torch import nn

from models.private import KernelError, clipped_sum, opacus_engine, self_test
from models.private import conv as conv_file
from models.private.precision import computing
from models.resnet3d import resnet
from tests.models.private import oracle

NARROW = (8, 8, 16, 32)
CPU = torch.device("cpu")


def crops(count, size=16):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, size, size, size, generator=generator), torch.arange(count) % 2


def test_bfloat16_is_near_float32_and_the_clip_holds():
    model, (x, y) = resnet(10, NARROW), crops(3)
    exact = clipped_sum(model, oracle.bce, x, y, [1, 2], 0.1)
    low = clipped_sum(model, oracle.bce, x, y, [1, 2], 0.1, precision="bfloat16")
    assert 1e-4 < oracle.distance(low.sum, exact.sum) < 0.3  # it is another precision, and the same gradient
    assert all(t.dtype == torch.float32 for t in low.sum.values())
    one = clipped_sum(model, oracle.bce, x, y, [3], 0.1, precision="bfloat16")
    assert oracle.length(one.sum) <= 0.1


@pytest.mark.parametrize("count", [1, 4])
def test_bfloat16_sums_are_those_of_the_rounded_factors(count):
    """One linear layer on numbers that bfloat16 holds: nothing is lost, whichever way the engine takes."""
    torch.manual_seed(0)
    model = nn.Linear(64, 64, bias=False)
    x = torch.randint(-2, 3, (2 * count, 64)).float()
    with torch.no_grad():
        model.weight.copy_(torch.randint(-1, 2, (64, 64)) / 4)
    exact = clipped_sum(model, oracle_linear, x, x, [count, count], 1.0)
    low = clipped_sum(model, oracle_linear, x, x, [count, count], 1.0, precision="bfloat16")
    assert oracle.distance(low.sum, exact.sum) <= 1e-6


def oracle_linear(output, y):
    return output.sum(1)


def test_frozen_layers_follow_along_in_bfloat16():
    model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 4, 3), nn.Conv3d(4, 2, 3), nn.Flatten())
    model[1].requires_grad_(False)
    x, y = crops(2, 8)
    found = clipped_sum(model, oracle.squares, x, y, [1, 1], 1.0, precision="bfloat16")
    assert list(found.sum) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_float32_means_float32_inside_a_callers_autocast():
    model, (x, y) = resnet(10, NARROW), crops(2)
    expected = clipped_sum(model, oracle.bce, x, y, [1, 1], 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        found = clipped_sum(model, oracle.bce, x, y, [1, 1], 0.1)
    assert oracle.distance(found.sum, expected.sum) == 0


def test_rounding_of_float32_kernels_is_pinned_inside_and_restored_outside():
    kernels = torch.backends.mkldnn.conv
    before = kernels.fp32_precision
    with pytest.raises(ZeroDivisionError), computing("float32", CPU):
        assert kernels.fp32_precision == "ieee"
        _ = 1 / 0
    assert kernels.fp32_precision == before


@pytest.mark.parametrize(("precision", "said"), [("float16", "write one of float32"), ("tf32", "NVIDIA GPUs only")])
def test_a_precision_that_is_not_there_is_refused(precision, said):
    x, y = crops(1)
    with pytest.raises(ValueError, match=said):
        clipped_sum(resnet(10, NARROW), oracle.bce, x, y, [1], 1.0, precision=precision)


def test_the_opacus_engine_has_float32_only():
    x, y = crops(1)
    with pytest.raises(ValueError, match="write that"):
        opacus_engine.clipped_sum(resnet(10, NARROW), oracle.bce, x, y, [1], 1.0, precision="bfloat16")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_right_kernels_pass_the_self_test(precision):
    self_test(resnet(10, NARROW), (2, 1, 16, 16, 16), precision)


@pytest.mark.parametrize("fault", [torch.nan, 1e17, 1.1])
def test_a_wrong_kernel_is_found_and_its_layer_named(monkeypatch, fault):
    native = conv_file.Conv._weight_gradient

    def wrong(self, g, x, groups):
        found = native(self, g, x, groups)
        return found * fault if g.dtype == torch.bfloat16 and g.shape[2] == 8 else found

    monkeypatch.setattr(conv_file.Conv, "_weight_gradient", wrong)
    with pytest.raises(KernelError, match=r"conv1\.weight: bfloat16 on cpu is off by .*choose precision float32"):
        self_test(resnet(10, NARROW), (2, 1, 16, 16, 16), "bfloat16")


def test_the_weight_gradient_that_torch_gets_wrong_is_found_or_is_right():
    """torch 2.13.0, CPU, 3³ kernel, stride 1, padding 1, a map two voxels deep. Right where oneDNN lacks bfloat16."""
    model = nn.Sequential(nn.Conv3d(16, 16, 3, padding=1), nn.Conv3d(16, 16, 3, padding=1))
    x = torch.randn(2, 16, 2, 12, 12, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    try:
        self_test(model, tuple(x.shape), "bfloat16")
    except KernelError:
        return
    exact = clipped_sum(model, oracle.squares, x, torch.zeros(2), [1, 1], 1e9)
    low = clipped_sum(model, oracle.squares, x, torch.zeros(2), [1, 1], 1e9, precision="bfloat16")
    assert oracle.distance(low.sum, exact.sum) < 0.05
