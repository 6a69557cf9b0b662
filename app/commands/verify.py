"""`fedvox verify A B`: do two checkpoints fit the same model, and where do they differ first?"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

EPILOG = """\
examples:
  fedvox verify runs/monday runs/tuesday
  fedvox verify runs/monday/model.safetensors resnet_10.pth
  fedvox verify --exact runs/undisturbed runs/resumed
"""

CARD = ("architecture", "preprocessing")
"""What of model.json two compatible models share: a group norm's number of groups stands there alone."""


def add_parser(verbs: Any) -> None:
    """Add `verify` to the verbs."""
    parser = verbs.add_parser(
        "verify",
        help="compare two checkpoints layer by layer",
        description="Compares two run folders or checkpoint files: settings first, then layers from stem to head, each "
        "by names, kind of norm, shapes, dtypes and values. Exit code 0: both fit the same model (values may differ); "
        "1: they do not.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", type=Path, metavar="A", help="a run folder, or a .safetensors or .pth file")
    parser.add_argument("b", type=Path, metavar="B", help="another")
    parser.add_argument("--exact", action="store_true", help="other values are a difference too (exit code 1)")
    parser.add_argument("--json", action="store_true", help="print every difference as JSON")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors, and the settings beside them where there are any."""

    path: Path
    tensors: "Mapping[str, Tensor]"
    card: Mapping[str, Any]


def run(args: argparse.Namespace) -> int:
    """Compare, print the first difference, say by the exit code whether it matters."""
    import json

    from models.weights import compare

    a, b = opened(args.a), opened(args.b)
    every = (*_settings_apart(a.card, b.card), *compare(a.tensors, b.tensors))
    found = sorted(every, key=lambda difference: difference.is_compatible)
    is_fine = not any(args.exact or not difference.is_compatible for difference in found)
    if args.json:
        plain = [{"layer": d.layer, "how": d.how, "detail": d.detail} for d in found]
        print(json.dumps({"compatible": is_fine, "first": plain[0] if plain else None, "differences": plain}, indent=2))
    elif not found:
        print(f"equal: {len(a.tensors)} tensors, bit by bit")
    else:
        print(f"{'compatible' if is_fine else 'not compatible'}; first difference: {found[0]}")
        print(f"{len(found)} differences in all")
    return 0 if is_fine else 1


def opened(path: Path) -> Checkpoint:
    """A run folder's final model (or its last checkpoint, where the run is not done), or a file.

    Raises:
        WeightsError: nothing there can be read as weights.
    """
    import json

    from models.weights import read

    file = _file_of(path)
    tensors = {name.removeprefix("model/"): t for name, t in read(file).items() if _is_model(name)}
    beside = file.with_suffix(".json")
    return Checkpoint(file, tensors, json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {})


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    candidates = (path / "model.safetensors", path / "checkpoint" / "state.safetensors")
    return next((file for file in candidates if file.is_file()), candidates[0])


def _is_model(name: str) -> bool:
    """A server's state holds more than the model: its groups have a "/" in their tensors' names."""
    return "/" not in name or name.startswith("model/")


def _settings_apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Any]:
    """Settings of both that differ, where both have a model.json."""
    from app.config import leaves
    from models.weights import Difference

    parts = [part for part in CARD if part in a and part in b]
    ours, theirs = (dict(leaves({part: card[part] for part in parts})) for card in (a, b))
    return [
        Difference(part, "setting", f"{name}: A {ours.get(key)}, B {theirs.get(key)}")
        for key in sorted(ours.keys() | theirs.keys())
        for part, _, name in [key.partition(".")]
        if ours.get(key) != theirs.get(key)
    ]
