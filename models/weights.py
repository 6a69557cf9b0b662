"""Checkpoints on disk: read them, load what fits into a model, say how two of them differ.

Reads our own safetensors files and PyTorch files as MedicalNet publishes them (.pth, a "state_dict" inside, names
that begin with "module."). A PyTorch file is a pickle: it is read with `weights_only=True`, which builds tensors and
plain containers and runs no code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.norm import tensor_kinds

SAFETENSORS = ".safetensors"
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
PREFIX = "module."
"""What `nn.DataParallel` writes before each name."""
HEADS = ("fc", "head", "classifier")
"""Layers that come last, whatever the alphabet says."""


class WeightsError(ValueError):
    """The file cannot be read as weights, or does not fit the model."""


@dataclass(frozen=True)
class Loaded:
    """What of a checkpoint went into a model, tensor by tensor, in the model's order."""

    matched: tuple[str, ...]
    """Copied."""
    missing: tuple[str, ...]
    """In the model, not in the file: left as they were."""
    misshaped: tuple[str, ...]
    """In both, with another shape or kind of number: left as they were. "NAME: file (…), model (…)"."""
    other_norm: tuple[str, ...]
    """Scale and shift that another kind of norm learned (they mean something else): left as they were."""
    unknown: tuple[str, ...]
    """In the file, not in the model."""

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the model came from the file."""
        return not (self.missing or self.misshaped or self.other_norm)

    def __str__(self) -> str:
        rest = ("missing", "misshaped", "other_norm", "unknown")
        parts = [f"{len(self.matched)} matched", *(_listed(name, getattr(self, name)) for name in rest)]
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True)
class Difference:
    """How one layer of checkpoint B differs from A's."""

    layer: str
    how: Literal["setting", "missing", "norm kind", "shape", "dtype", "values"]
    """"setting": of the model's description beside the tensors, which shows in none of them."""
    detail: str

    @property
    def is_compatible(self) -> bool:
        """Whether both checkpoints fit the same model all the same."""
        return self.how == "values"

    def __str__(self) -> str:
        return f"{self.layer}: {self.how}: {self.detail}"


def read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, on the CPU, without the prefix that data-parallel training leaves.

    Raises WeightsError.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; write the path of a .safetensors or .pth checkpoint")
    if path.suffix not in (SAFETENSORS, *TORCH_SUFFIXES):
        known = ", ".join((SAFETENSORS, *TORCH_SUFFIXES))
        raise WeightsError(f"{path}: unknown kind of file; write the path of one of {known}")
    try:
        found = _read_any(path)
    except Exception as error:  # a damaged pickle raises ten kinds, from EOFError to struct.error
        cause = f"{type(error).__name__}: {error}".partition("\n")[0][:120]
        raise WeightsError(
            f"{path}: not readable as weights ({cause}); it may be cut short, or hold objects beside tensors: save "
            "its state_dict alone"
        ) from error
    tensors = {str(name).removeprefix(PREFIX): t for name, t in found.items() if isinstance(t, Tensor)}
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors; save the model's state_dict")
    return tensors


def load(model: nn.Module, path: Path, *, strict: bool = False) -> Loaded:
    """Copy every tensor of the checkpoint that fits into `model`, in place, and report all of them.

    Numbers of another precision are converted. `strict` accepts a checkpoint that fills the model, or nothing.

    Raises WeightsError where nothing fits, or (strict) not all of the model is filled; the model is then unchanged.
    """
    tensors = read(path)
    report = _report(model, tensors)
    if not report.matched or (strict and not report.is_complete):
        raise WeightsError(f"{path}: does not fit the model: {report}; compare model.depth, widths and norm")
    own = model.state_dict()
    with torch.no_grad():
        for name in report.matched:
            own[name].copy_(tensors[name])
    return report


def compare(a: Mapping[str, Tensor], b: Mapping[str, Tensor], *, tolerance: float = 0.0) -> tuple[Difference, ...]:
    """Say of every layer that is not the same in both how it differs, from the stem to the head.

    One difference a layer, the gravest: missing, norm kind, shape, dtype, values. Values may differ by `tolerance`.
    How many groups a group norm has is not in a checkpoint: compare the settings beside it too.
    """
    layers = sorted({_layer(name) for name in (*a, *b)}, key=_position)
    found = (_difference(layer, _tensors_of(a, layer), _tensors_of(b, layer), tolerance) for layer in layers)
    return tuple(difference for difference in found if difference)


def _read_any(path: Path) -> dict[Any, Any]:
    if path.suffix == SAFETENSORS:
        return load_file(path)
    found: Any = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    return found if isinstance(found, dict) else {}


def _report(model: nn.Module, tensors: Mapping[str, Tensor]) -> Loaded:
    own, kinds = model.state_dict(), tensor_kinds(model)
    into: dict[str, list[str]] = {"matched": [], "missing": [], "misshaped": [], "other_norm": []}
    for name, tensor in own.items():
        if name not in tensors:
            into["missing"].append(name)
        elif kinds[name] == "norm" and _has_statistics(own, name) != _has_statistics(tensors, name):
            into["other_norm"].append(name)
        elif not _is_alike(tensor, tensors[name]):
            into["misshaped"].append(f"{name}: file {_form(tensors[name])}, model {_form(tensor)}")
        else:
            into["matched"].append(name)
    unknown = tuple(name for name in tensors if name not in own)
    return Loaded(**{field: tuple(names) for field, names in into.items()}, unknown=unknown)


def _is_alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() == b.is_floating_point()


def _has_statistics(tensors: Mapping[str, Tensor], name: str) -> bool:
    """Whether the norm layer of tensor `name` is a batch norm."""
    return f"{_layer(name)}.running_mean" in tensors


def _listed(what: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:2])
    return f"{len(names)} {what.replace('_', ' ')} ({shown}{', …' if len(names) > 2 else ''})"


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _position(layer: str) -> tuple[bool, list[str | int]]:
    """Sorts layers from stem to head, layer1.10 after layer1.9."""
    return layer.partition(".")[0] in HEADS, [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", layer)]


def _tensors_of(tensors: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    return {name.rpartition(".")[2]: tensor for name, tensor in tensors.items() if _layer(name) == layer}


def _difference(layer: str, a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> Difference | None:
    if not (a and b):
        return Difference(layer, "missing", f"only in {'A' if a else 'B'}")
    if _norm_kind(a) != _norm_kind(b):
        return Difference(layer, "norm kind", f"A {_norm_kind(a)}, B {_norm_kind(b)}")
    if a.keys() != b.keys():
        only = min(a.keys() ^ b.keys())
        return Difference(layer, "missing", f"{only} only in {'A' if only in a else 'B'}")
    for leaf in a:
        if a[leaf].shape != b[leaf].shape:
            return Difference(layer, "shape", f"{leaf}: A {_form(a[leaf])}, B {_form(b[leaf])}")
        if a[leaf].dtype != b[leaf].dtype:
            return Difference(layer, "dtype", f"{leaf}: A {_form(a[leaf])}, B {_form(b[leaf])}")
    return _value_difference(layer, a, b, tolerance)


def _value_difference(layer: str, a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float) -> Difference | None:
    for leaf in a:
        ours, theirs = a[leaf].double(), b[leaf].double()
        if not torch.isclose(ours, theirs, rtol=0, atol=tolerance, equal_nan=True).all():
            return Difference(layer, "values", f"{leaf}: up to {float((ours - theirs).abs().max()):.3g} apart")
    return None


def _norm_kind(layer: dict[str, Tensor]) -> str:
    """Which norm a layer's tensors are of: only a batch norm keeps statistics, only norms have a 1-d weight."""
    if "running_mean" in layer:
        return "batch norm"
    is_norm = "weight" in layer and layer["weight"].ndim == 1
    return "norm without statistics (group or layer norm)" if is_norm else "no norm"


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
