"""Checkpoints of ours and of others: what fits goes in, what does not is named."""

import os

import pytest
import torch
from safetensors.torch import save_file

from models.resnet3d import resnet
from models.weights import Difference, WeightsError, compare, load, read

NARROW = (4, 4, 8, 8)


def medicalnet(path, *, norm="batch", seed=1, **wrapped):
    """A checkpoint as MedicalNet publishes them: trained data-parallel, without a head, beside an epoch."""
    state = {f"module.{k}": v for k, v in resnet(10, NARROW, norm, seed=seed).state_dict().items() if "fc" not in k}
    torch.save({"state_dict": state, "epoch": 3, **wrapped}, path)
    return path


def test_our_own_checkpoint_fills_the_model(tmp_path):
    saved = resnet(10, NARROW, seed=1)
    save_file(saved.state_dict(), tmp_path / "model.safetensors")
    model = resnet(10, NARROW, seed=2)
    report = load(model, tmp_path / "model.safetensors", strict=True)
    assert report.is_complete
    assert report.matched == tuple(model.state_dict())
    assert compare(model.state_dict(), saved.state_dict()) == ()


def test_a_medicalnet_trunk_goes_in_and_the_head_is_reported_missing(tmp_path):
    model = resnet(10, NARROW, "batch", seed=2)
    head = model.fc.weight.clone()
    report = load(model, medicalnet(tmp_path / "resnet_10.pth"))
    assert report.missing == ("fc.weight", "fc.bias")
    assert len(report.matched) == len(model.state_dict()) - 2
    assert not report.misshaped + report.other_norm + report.unknown
    assert str(report) == "72 matched; 2 missing (fc.weight, fc.bias)"
    assert torch.equal(model.fc.weight, head)
    assert torch.equal(model.layer4[0].conv2.weight, resnet(10, NARROW, "batch", seed=1).layer4[0].conv2.weight)


def test_scales_of_a_batch_norm_do_not_enter_a_group_norm(tmp_path):
    source = medicalnet(tmp_path / "resnet_10.pth")
    spoilt = torch.load(source, weights_only=True)
    spoilt["state_dict"]["module.bn1.weight"] += 5
    torch.save(spoilt, source)
    model = resnet(10, NARROW, "group", seed=2)
    report = load(model, source)
    assert len(report.matched) == 12  # the convolutions
    assert len(report.other_norm) == 24
    assert report.other_norm[:2] == ("bn1.weight", "bn1.bias")
    assert len(report.unknown) == 36  # statistics and counters of twelve batch norms
    assert torch.equal(model.bn1.weight, torch.ones(4))


def test_misshaped_layers_are_named_with_both_shapes_and_left_alone(tmp_path):
    model = resnet(10, (4, 4, 8, 16), "batch", seed=2)
    before = model.layer4[0].conv1.weight.clone()
    report = load(model, medicalnet(tmp_path / "resnet_10.pth"))
    assert "layer4.0.conv1.weight: file float32 (8, 8, 3, 3, 3), model float32 (16, 8, 3, 3, 3)" in report.misshaped
    assert torch.equal(model.layer4[0].conv1.weight, before)


def test_other_precisions_are_converted(tmp_path):
    saved = {name: t.half() for name, t in resnet(10, NARROW, seed=1).state_dict().items()}
    save_file(saved, tmp_path / "half.safetensors")
    model = resnet(10, NARROW, seed=2)
    assert load(model, tmp_path / "half.safetensors", strict=True).is_complete
    assert model.conv1.weight.dtype == torch.float32
    assert torch.equal(model.conv1.weight, saved["conv1.weight"].float())


def test_strict_loads_all_or_nothing(tmp_path):
    model = resnet(10, NARROW, "batch", seed=2)
    with pytest.raises(WeightsError, match=r"72 matched; 2 missing \(fc.weight, fc.bias\); compare model.depth"):
        load(model, medicalnet(tmp_path / "resnet_10.pth"), strict=True)
    assert compare(model.state_dict(), resnet(10, NARROW, "batch", seed=2).state_dict()) == ()


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"encoder.w": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"0 matched; 38 missing \(conv1.weight, bn1.weight, …\); 1 unknown"):
        load(resnet(10, NARROW), tmp_path / "other.pth")


class Payload:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (self.victim,)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    path = medicalnet(tmp_path / "resnet_10.pth", extra=Payload(str(tmp_path / "victim")))
    with pytest.raises(WeightsError, match="not readable as weights"):
        read(path)
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.pth", b"", "not readable as weights"),
        ("words.pth", b"these are not weights", "not readable as weights"),
        ("cut.safetensors", b"\x40\x00\x00\x00\x00\x00\x00\x00{", "not readable as weights"),
        ("model.onnx", b"", "unknown kind of file; write the path of one of .safetensors, .pth"),
    ],
)
def test_unreadable_files_are_named_in_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=said) as raised:
        read(tmp_path / name)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_torch_file_cut_short_is_unreadable(tmp_path):
    path = medicalnet(tmp_path / "resnet_10.pth")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="may be cut short"):
        read(path)


def test_files_without_tensors_and_missing_files_say_so(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="holds no tensors"):
        read(tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="no such file"):
        read(tmp_path / "absent.pth")


def state(norm="group", widths=NARROW, depth=10, seed=1):
    return {name: t.clone() for name, t in resnet(depth, widths, norm, seed=seed).state_dict().items()}


def test_equal_checkpoints_do_not_differ():
    assert compare(state(), state()) == ()


def test_differences_come_from_stem_to_head_whatever_the_order_in_the_file():
    a, b = state(), dict(sorted(state().items()))
    for name in ("fc.bias", "layer1.0.conv1.weight", "layer4.0.conv2.weight"):
        b[name] = b[name] + 0.5
    differences = compare(a, b)
    assert [d.layer for d in differences] == ["layer1.0.conv1", "layer4.0.conv2", "fc"]
    assert str(differences[0]) == "layer1.0.conv1: values: weight: up to 0.5 apart"
    assert all(d.is_compatible for d in differences)


def test_values_within_the_tolerance_are_equal():
    a, b = state(), state()
    b["fc.bias"] += 1e-6
    assert compare(a, b) != ()
    assert compare(a, b, tolerance=2e-6) == ()


def test_not_a_number_equals_itself_only():
    a, b = state(), state()
    a["fc.bias"][0] = float("nan")
    assert compare(a, a) == ()
    assert compare(a, b)[0].how == "values"


@pytest.mark.parametrize(
    ("b", "wanted"),
    [
        (
            state(widths=(4, 4, 8, 16)),
            Difference("layer4.0.bn1", "shape", "weight: A float32 (8,), B float32 (16,)"),
        ),
        (
            state("batch"),
            Difference("bn1", "norm kind", "A norm without statistics (group or layer norm), B batch norm"),
        ),
        (state(depth=18), Difference("layer1.1.bn1", "missing", "only in B")),
        (
            {name: t.double() if name == "layer2.0.conv1.weight" else t for name, t in state().items()},
            Difference("layer2.0.conv1", "dtype", "weight: A float32 (4, 4, 3, 3, 3), B float64 (4, 4, 3, 3, 3)"),
        ),
        (
            {name: t for name, t in state().items() if name != "fc.bias"},
            Difference("fc", "missing", "bias only in A"),
        ),
    ],
    ids=["width", "norm", "depth", "dtype", "leaf"],
)
def test_the_first_difference_says_how(b, wanted):
    structural = [d for d in compare(state(), b) if not d.is_compatible]
    assert structural[0] == wanted
