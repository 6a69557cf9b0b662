"""What leaves a hospital: which of the model's tensors travel, and which local training may change.

Tensors are chosen by kind, and the kind comes from the type of the module that owns the tensor (conv, linear, norm,
norm-statistic, counter, other), never from its name.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Protocol

from strategies.errors import PartError

NORM_KINDS = ("norm", "norm-statistic", "counter")
"""Scale and shift of a normalisation layer, its running statistics, and how many batches these have seen."""


class Sharing(Protocol):
    """`kinds` maps every tensor of the model to its kind, in the model's order."""

    def shared(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the tensors that travel, in the model's order. The others stay in each hospital."""

    def trained(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the tensors that local training may change."""


@dataclass(frozen=True)
class All:
    """Everything travels, everything is trained."""

    def shared(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(kinds)

    def trained(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(kinds)


@dataclass(frozen=True)
class FedBN:
    """Normalisation layers stay home, with their statistics; the rest travels.

    Scanners differ in contrast and noise; each hospital's own normalisation takes that up.

    Source: Li et al. 2021, "FedBN: Federated learning on non-IID features via local batch normalization". The paper
    has batch norm; scale and shift of group norm stay home here just as well.
    """

    def shared(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(name for name, kind in kinds.items() if kind not in NORM_KINDS)

    def trained(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(kinds)


@dataclass(frozen=True)
class Partial:
    """Named layers only: transfer learning.

    `layers`: names of modules or tensors ("fc", "layer4.0"), or patterns ("layer4.*"); a module stands for all its
    tensors. They travel; with `freeze` nothing else is trained either, without it the rest is trained and stays home
    (a personal head, Arivazhagan et al. 2019, "Federated learning with personalization layers").

    Raises PartError, with the nearest names, for a layer that the model does not have.
    """

    layers: Sequence[str]
    freeze: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.layers, str) or not self.layers:
            raise PartError(f"sharing partial: layers is a list with at least one name, got {self.layers!r}")

    def shared(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        for layer in self.layers:
            if not any(_belongs(name, layer) for name in kinds):
                raise PartError(f"sharing partial: the model has no layer {layer!r}{_nearest(layer, kinds)}")
        return tuple(name for name in kinds if any(_belongs(name, layer) for layer in self.layers))

    def trained(self, kinds: Mapping[str, str]) -> tuple[str, ...]:
        return self.shared(kinds) if self.freeze else tuple(kinds)


def _belongs(tensor: str, layer: str) -> bool:
    return tensor == layer or tensor.startswith(f"{layer}.") or fnmatchcase(tensor, layer)


def _nearest(layer: str, names: Mapping[str, str]) -> str:
    modules = {prefix for name in names for prefix in accumulate(name.split("."), "{}.{}".format)}
    near = difflib.get_close_matches(layer, sorted(modules), n=3, cutoff=0.4)
    return f"; nearest: {', '.join(near)}" if near else ""
