"""What a hospital does when asked: train on its own patients, score the others. Returns what may leave, no more."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Context
from torch import nn

from app.addresses import derive
from app.config import Config, build, compose, from_line
from app.fingerprint import code_hash, config_hash
from app.metrics import baselines, classification
from app.rounds.legs import CENTRAL
from app.site.directory import open_site
from app.site.memory import Memory
from app.site.shield import Declined, logbook
from app.site.site import Parts, Site, divide
from app.training import device as devices
from app.training import score
from app.training.fit import Training, fit
from data.dataset import Crops, joined
from models.parameters import get_tensors, set_tensors
from models.resnet3d import init
from strategies import Federated
from strategies.types import Plan, Report, Tensors
from strategies.wire import Encoded


@dataclass(frozen=True)
class Place:
    """A hospital that was opened for a run: one site, or in central mode all of them."""

    config: Config
    name: str
    sites: tuple[Site, ...]
    parts: Parts

    @property
    def patients(self) -> int:
        """All patients, whatever they are for."""
        return sum(len(set(crops.patients)) for crops in (self.parts.train, self.parts.validation, self.parts.test))


@contextlib.contextmanager
def visit(context: Context, plan: Plan) -> Iterator[Place]:
    """Open the hospital that the plan names, if this node may play it and runs what the server runs.

    Raises:
        Declined: other code or another configuration than the server's.
        ConfigError, DataError: the hospital cannot be opened. Its own log has the words.
    """
    overrides = str(context.run_config.get("overrides", ""))
    config = _composed(overrides)
    _check_fingerprint(plan, config)
    place = _open(overrides, plan.hospital, plan.fold, plan.seed, str(context.node_config.get("site", "")))
    with logbook(place.name, place.sites[0].state_dir):
        yield place


def train(place: Place, plan: Plan, received: Tensors) -> tuple[Encoded, Report]:
    """One round of local training.

    Returns:
        The change of the shared tensors, encoded for the wire, and the report.
    """
    started = time.perf_counter()
    config, strategy, crops = place.config, _strategy(place), place.parts.train
    if not len(crops):
        raise Declined("no-training-patients", f"every patient of {place.name} is held out")
    model, device = _model(config, plan, received), devices.choose(place.sites[0].device)
    histogram = _validation(place, plan, model, device)
    settings: Training = build(config["training"])
    done = fit(
        model,
        crops,
        training=replace(settings, lr=settings.lr * plan.lr_scale),
        local=strategy.local,
        augment=build(config["augment"]),
        device=device,
        address=(plan.seed, plan.leg, place.name, plan.round),
    )
    report = Report(
        hospital=place.name,
        round=plan.round,
        patients=len(set(crops.patients)),
        crops=len(crops),
        steps=done.steps,
        loss=done.loss,
        seconds=time.perf_counter() - started,
        device=devices.describe(device),
        score=_own_score(place, model, device) if plan.score else None,
        data_age_months=place.sites[0].data_age_months,
        histogram=tuple(int(count) for count in histogram.ravel()),
    )
    trained = get_tensors(model)
    delta = {name: trained[name] - tensor for name, tensor in received.items()}
    memory = Memory(place.sites[0].state_dir / "runs" / plan.run / (plan.leg or "all"))
    encoded, residual = strategy.wire.encode(delta, memory.before(plan.round).get("residual", {}))
    memory.keep(plan.round, {"residual": residual})
    return encoded, report


def evaluate(place: Place, plan: Plan, received: Tensors) -> tuple[dict[str, Any], Tensors]:
    """Score the final model on validation and test patients.

    Returns:
        Plain facts, and count arrays: validation, test (2, BINS); replicates (R, 2, BINS).
    """
    model, device = _model(place.config, plan, received), devices.choose(place.sites[0].device)
    test = place.parts.test
    logits = score.logits(model, test, device=device, threads=_threads(place))
    scores: Tensors = {
        "test": classification.histogram(logits, test.labels),
        "replicates": classification.bootstrap(
            logits, test.labels, test.patients, place.config["replicates"], derive(plan.seed, place.name, "bootstrap")
        ),
        "validation": _histogram(place, model, device),
    }
    if place.config["baseline"]:
        scores["baseline"] = classification.histogram(baselines.scores(place.config["baseline"], test), test.labels)
    facts: dict[str, Any] = {
        "hospital": place.name,
        "round": plan.round,
        "patients": place.patients,
        "test_patients": len(set(test.patients)),
        "test_samples": len(test),
        "train_samples": len(place.parts.train),
        "device": devices.describe(device),
    }
    return facts, scores


def _check_fingerprint(plan: Plan, config: Config) -> None:
    ours = (code_hash(), config_hash(config))
    for what, theirs, own in zip(("code", "configuration"), (plan.code, plan.config), ours, strict=True):
        if theirs != own:
            raise Declined(f"other-{what}-{own}", f"the server runs {what} {theirs}, this hospital {own}")


@lru_cache(maxsize=8)
def _composed(overrides: str) -> Config:
    return compose(from_line(overrides))


@lru_cache(maxsize=64)
def _open(overrides: str, name: str, fold: int, seed: int, site_file: str) -> Place:
    """A hospital, its patients divided; remembered, since every round asks."""
    config = _composed(overrides)
    members = tuple(config["federation"]["hospitals"]) if name == CENTRAL else (name,)
    opened = [_opened(overrides, member, site_file) for member in members]
    sites = tuple(site for site, _ in opened)
    parts = [divide(crops, config["split"], fold=fold, seed=seed) for _, crops in opened]
    pooled = Parts(
        train=joined([part.train for part in parts]),
        validation=joined([part.validation for part in parts]),
        test=joined([part.test for part in parts]),
    )
    return Place(config, name, sites, pooled)


@lru_cache(maxsize=64)
def _opened(overrides: str, name: str, site_file: str) -> tuple[Site, Crops]:
    """Opened once per run and process: headers, labels and the memory maps of the cache are kept."""
    config = _composed(overrides)
    site = open_site(config, name, site_file=site_file)
    return site, site.crops(config)


def _strategy(place: Place) -> Federated:
    return _built(json.dumps(place.config["strategy"], sort_keys=True))


@lru_cache(maxsize=8)
def _built(strategy: str) -> Federated:
    made: Federated = build(json.loads(strategy))
    return made


def _model(config: Config, plan: Plan, received: Tensors) -> nn.Module:
    model: nn.Module = build(config["model"])
    init(model, plan.seed)
    set_tensors(model, {**get_tensors(model), **received})
    return model


def _validation(place: Place, plan: Plan, model: nn.Module, device: Any) -> np.ndarray[Any, Any]:
    every = place.config["validate_every"]
    if not plan.validate or not every or (plan.round - 1) % every:
        return np.empty(0, dtype=np.int64)
    return _histogram(place, model, device)


def _histogram(place: Place, model: nn.Module, device: Any) -> np.ndarray[Any, Any]:
    crops = place.parts.validation
    logits = score.logits(model, crops, device=device, threads=_threads(place))
    return classification.histogram(logits, crops.labels)


def _own_score(place: Place, model: nn.Module, device: Any) -> float | None:
    return classification.auc(_histogram(place, model, device))


def _threads(place: Place) -> int | None:
    threads: int | None = place.config["training"]["threads"]
    return threads
