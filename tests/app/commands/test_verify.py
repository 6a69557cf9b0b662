"""`fedvox verify`: compatible or not, and the first layer that tells."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.cli import main
from app.commands.verify import opened
from app.config import build, compose
from app.rounds.checkpoint import save_state
from models.parameters import get_tensors
from strategies.types import ServerState

TINY = ["model=tiny", "model.widths=[4,4,8,8]"]


@pytest.fixture
def checkpoint(tmp_path):
    """checkpoint(name, *overrides, change=…) → a run folder with a model and its card."""

    def make(name, *more, change=None):
        config = compose([*TINY, *more])
        tensors = build(config["model"]).state_dict()
        if change:
            change(tensors)
        folder = tmp_path / name
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        card = {"architecture": config["model"], "preprocessing": config["preprocess"]}
        (folder / "model.json").write_text(json.dumps(card))
        return str(folder)

    return make


def verify(capsys, *args):
    code = main(["verify", *args])
    return code, capsys.readouterr().out


def test_a_checkpoint_equals_itself(capsys, checkpoint):
    a = checkpoint("a")
    code, said = verify(capsys, a, f"{a}/model.safetensors")
    assert (code, said.startswith("equal")) == (0, True)


def test_other_values_are_compatible_unless_exact_is_asked_for(capsys, checkpoint):
    a = checkpoint("a")
    b = checkpoint("b", change=lambda tensors: tensors["layer2.0.conv1.weight"].add_(1.0))
    code, said = verify(capsys, a, b)
    assert (code, "layer2.0.conv1: values: weight: up to 1 apart" in said) == (0, True)
    assert verify(capsys, "--exact", a, b)[0] == 1


@pytest.mark.parametrize(
    ("change", "layer", "how"),
    [
        (["model.widths=[4,4,8,16]"], "architecture", "setting"),
        (["model.norm=batch"], "architecture", "setting"),
        (["preprocess=ct32"], "preprocessing", "setting"),
    ],
)
def test_settings_beside_the_tensors_are_compared_too(capsys, checkpoint, change, layer, how):
    code, said = verify(capsys, checkpoint("a"), checkpoint("b", *change), "--json")
    answer = json.loads(said)
    assert (code, answer["compatible"]) == (1, False)
    assert (answer["first"]["layer"], answer["first"]["how"]) == (layer, how)


@pytest.mark.parametrize(
    ("more", "change", "layer", "how"),
    [
        (["model.widths=[4,4,8,16]"], None, "layer4.0.bn1", "shape"),
        (["model.norm=batch"], None, "bn1", "norm kind"),
        ([], lambda t: t.pop("fc.bias"), "fc", "missing"),
        ([], lambda t: t.update({"conv1.weight": t["conv1.weight"].double()}), "conv1", "dtype"),
    ],
)
def test_the_first_layer_that_does_not_fit_is_named(capsys, checkpoint, more, change, layer, how):
    # files alone: nothing beside them says what they are
    def alone(name, *settings, **changed):
        folder = checkpoint(name, *settings, **changed)
        (Path(folder) / "model.json").unlink()
        return folder

    code, said = verify(capsys, alone("a"), alone("b", *more, change=change), "--json")
    first = json.loads(said)["first"]
    assert (code, first["layer"], first["how"]) == (1, layer, how)


def test_a_run_that_is_not_done_is_compared_by_its_checkpoint(capsys, checkpoint, tmp_path):
    a = checkpoint("a")
    model = get_tensors(build(compose(TINY)["model"]))
    save_state(tmp_path / "run" / "checkpoint", ServerState(3, model, {"m": model}, control=model))
    half = opened(tmp_path / "run")
    assert half.tensors.keys() == model.keys()
    code, said = verify(capsys, a, str(tmp_path / "run"))
    assert (code, said.split()[0]) in ((0, "compatible;"), (0, "equal:"))


def test_what_is_no_checkpoint_is_one_line(capsys, tmp_path, checkpoint):
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    for wrong in ("torn.safetensors", "nowhere.pth", "."):
        assert main(["verify", checkpoint(f"a-{wrong}"), str(tmp_path / wrong)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_pytorch_files_are_read_too(capsys, checkpoint, tmp_path):
    model = build(compose(TINY)["model"])
    path = tmp_path / "published.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}}, path)
    assert verify(capsys, checkpoint("a"), str(path))[0] == 0
