"""The work of a federated run without the federation: the same fits and the same scoring, in the same order.

Nothing is serialised, checked, journalled or checkpointed; nobody is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from app.config import Config, build
from app.site.directory import open_site
from app.site.site import Parts, divide
from app.training import score
from app.training.fit import fit
from models.parameters import get_tensors, set_tensors
from models.resnet3d import init

Tensors = dict[str, np.ndarray]
CPU = torch.device("cpu")


@dataclass
class Bare:
    """A configuration's hospitals, opened, and one network for all of them."""

    config: Config
    hospitals: Mapping[str, Parts]
    model: Any

    @classmethod
    def of(cls, config: Config) -> "Bare":
        """Open every hospital of a configuration."""
        seed = config["seed"]
        hospitals = {
            name: divide(open_site(config, name).crops(config), config["split"], fold=-1, seed=seed)
            for name in config["federation"]["hospitals"]
        }
        model = build(config["model"])
        init(model, seed)
        return cls(config, hospitals, model)

    def run(self) -> Tensors:
        """All rounds of FedAvg, weighted by training patients, then the final scoring; the last model."""
        init(self.model, self.config["seed"])
        current = get_tensors(self.model)
        for round in range(1, self.config["rounds"] + 1):
            current = self._mean({name: self.visit(name, current, round) for name in self.hospitals})
        set_tensors(self.model, current)
        for parts in self.hospitals.values():
            self._score(parts.test)
            self._score(parts.validation)
        return current

    def visit(self, name: str, current: Tensors, round: int) -> Tensors:
        """One hospital's round: score what came, train it."""
        set_tensors(self.model, current)
        self._score(self.hospitals[name].validation)
        fit(
            self.model,
            self.hospitals[name].train,
            training=build(self.config["training"]),
            augment=build(self.config["augment"]),
            device=CPU,
            address=(self.config["seed"], "", name, round),
        )
        return get_tensors(self.model)

    def _score(self, crops: Any) -> None:
        score.logits(self.model, crops, device=CPU, threads=self.config["training"]["threads"])

    def _mean(self, trained: Mapping[str, Tensors]) -> Tensors:
        patients = {name: len(set(self.hospitals[name].train.patients)) for name in trained}
        shares = {name: count / sum(patients.values()) for name, count in patients.items()}
        parts = [{key: np.float32(shares[name]) * t for key, t in its.items()} for name, its in trained.items()]
        return {key: np.asarray(sum(part[key] for part in parts)) for key in parts[0]}
