"""What a hospital does when asked: train on its own patients, score the others. Returns what may leave, no more.

What stays is kept in the hospital's memory, by group:

    residual    what the codec lost and adds to the next update
    kept        what the local part remembers (SCAFFOLD's control variate)
    personal    tensors of the model that do not travel (FedBN's norms, a personal head)
    own         a whole model of the hospital's own beside the global one (Ditto)
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.addresses import derive
from app.config import build
from app.metrics import baselines, classification
from app.site.place import Place
from app.site.shield import Declined
from app.tensor_files import Groups
from app.training import device as devices
from app.training import score
from app.training.fit import Fit, Training, fit
from data.dataset import Crops
from models.norm import tensor_kinds
from models.parameters import get_tensors, set_tensors
from models.resnet3d import init
from strategies.local import NOTHING, Local
from strategies.tensors import difference
from strategies.types import Plan, Report, Tensors
from strategies.wire import Encoded


@dataclass(frozen=True)
class Work:
    """A round's work at a hospital, about to begin."""

    place: Place
    plan: Plan
    received: Tensors
    remembered: Groups
    model: nn.Module
    device: torch.device

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the tensors that travel."""
        return self.place.strategy.sharing.shared(tensor_kinds(self.model))


def train(place: Place, plan: Plan, received: Tensors, control: Tensors) -> tuple[Encoded, Report, Tensors]:
    """One round of local training.

    Returns:
        The change of the shared tensors, encoded for the wire; the report; the change of the control variate.
    """
    started = time.perf_counter()
    if not len(place.parts.train):
        raise Declined("no-training-patients", f"every patient of {place.name} is held out")
    work = _begin(place, plan, received, plan.round)
    histogram = _validation(work)
    _freeze(work)
    done = _fit(work, work.model, place.strategy.local.at(plan), control, "kept", ())
    own = _train_own(work)
    trained = get_tensors(work.model)
    delta = difference(trained, received, work.shared)
    encoded, residual = place.strategy.wire.encode(delta, work.remembered.get("residual", {}))
    personal = {name: tensor for name, tensor in trained.items() if name not in set(work.shared)}
    groups = {"residual": residual, "kept": done.learned.kept, "personal": personal, "own": own}
    place.memory(plan).keep(plan.round, groups)
    return encoded, _report(work, done, histogram, time.perf_counter() - started), done.learned.control


def evaluate(place: Place, plan: Plan, received: Tensors) -> tuple[dict[str, Any], Tensors]:
    """Score the final model on validation and test patients; and the hospital's own one, where it has one.

    Returns:
        Plain facts, and count arrays: validation, test (2, BINS); replicates (R, 2, BINS); own_test, own_replicates.
    """
    work = _begin(place, plan, received, plan.round + 1)
    test = place.parts.test
    scores: Tensors = {"validation": _histogram(work, work.model, place.parts.validation), **_tested(work, work.model)}
    if own := work.remembered.get("own"):
        set_tensors(work.model, own)
        scores |= {f"own_{name}": counts for name, counts in _tested(work, work.model).items()}
    if place.config["baseline"]:
        scores["baseline"] = classification.histogram(baselines.scores(place.config["baseline"], test), test.labels)
    facts: dict[str, Any] = {
        "hospital": place.name,
        "round": plan.round,
        "patients": place.patients,
        "test_patients": len(set(test.patients)),
        "test_samples": len(test),
        "train_samples": len(place.parts.train),
        "device": devices.describe(work.device),
    }
    return facts, scores


def _begin(place: Place, plan: Plan, received: Tensors, before_round: int) -> Work:
    """The received model, with what this hospital keeps of its own put in its place."""
    remembered = place.memory(plan).before(before_round)
    model: nn.Module = build(place.config["model"])
    init(model, plan.seed)
    set_tensors(model, {**get_tensors(model), **received, **remembered.get("personal", {})})
    return Work(place, plan, received, remembered, model, devices.choose(place.sites[0].device))


def _freeze(work: Work) -> None:
    trained = set(work.place.strategy.sharing.trained(tensor_kinds(work.model)))
    for name, parameter in work.model.named_parameters():
        parameter.requires_grad_(name in trained)


def _fit(work: Work, model: nn.Module, local: Local, control: Tensors, memory: str, address: tuple[str, ...]) -> Fit:
    place, plan = work.place, work.plan
    settings: Training = build(place.config["training"])
    return fit(
        model,
        place.parts.train,
        training=replace(settings, lr=settings.lr * plan.lr_scale),
        local=local,
        augment=build(place.config["augment"]),
        device=work.device,
        address=(plan.seed, plan.leg, place.name, plan.round, *address),
        control=control,
        kept=work.remembered.get(memory, NOTHING),
    )


def _train_own(work: Work) -> Tensors:
    """A model of the hospital's own, trained beside the global one (Ditto); nothing where there is none."""
    local = work.place.strategy.local.personal
    if local is None:
        return {}
    model: nn.Module = build(work.place.config["model"])
    set_tensors(model, {**get_tensors(model), **work.received, **work.remembered.get("own", {})})
    _fit(work, model, local, work.received, "", ("own",))
    return get_tensors(model)


def _report(work: Work, done: Fit, histogram: NDArray[np.int64], seconds: float) -> Report:
    place, plan, crops = work.place, work.plan, work.place.parts.train
    own_score = classification.auc(_histogram(work, work.model, place.parts.validation)) if plan.score else None
    return Report(
        hospital=place.name,
        round=plan.round,
        patients=len(set(crops.patients)),
        crops=len(crops),
        steps=done.steps,
        loss=done.loss,
        seconds=seconds,
        device=devices.describe(work.device),
        score=own_score,
        data_age_months=place.sites[0].data_age_months,
        histogram=tuple(int(count) for count in histogram.ravel()),
    )


def _validation(work: Work) -> NDArray[np.int64]:
    every = work.place.config["validate_every"]
    if not work.plan.validate or not every or (work.plan.round - 1) % every:
        return np.empty(0, dtype=np.int64)
    return _histogram(work, work.model, work.place.parts.validation)


def _histogram(work: Work, model: nn.Module, crops: Crops) -> NDArray[np.int64]:
    logits = score.logits(model, crops, device=work.device, threads=work.place.threads)
    return classification.histogram(logits, crops.labels)


def _tested(work: Work, model: nn.Module) -> Tensors:
    place, test = work.place, work.place.parts.test
    logits = score.logits(model, test, device=work.device, threads=place.threads)
    # One stream a hospital, or patients that stand at the same place would come and go together.
    rng = derive(work.plan.seed, place.name, "bootstrap")
    return {
        "test": classification.histogram(logits, test.labels),
        "replicates": classification.bootstrap(logits, test.labels, test.patients, place.config["replicates"], rng),
    }
