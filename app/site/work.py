"""What a hospital does when asked: train on its own patients, score the others. Returns what may leave, no more.

What stays is kept in the hospital's memory, by group; `app.site.memory` says which round's is used:

    residual    what the codec lost and adds to the next update
    kept        what the local part remembers (SCAFFOLD's control variate)
    personal    tensors of the model that do not travel (FedBN's norms, a personal head)
    own         a whole model of the hospital's own beside the global one (Ditto)
"""

import time
from dataclasses import dataclass, replace
from logging import getLogger
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.addresses import Address, derive
from app.metrics import baselines, classification, released
from app.privacy.terms import Terms
from app.site.place import Place
from app.site.shield import Declined
from app.tensor_files import Groups
from app.training import device as devices
from app.training import score
from app.training.fit import Fit, fit
from app.training.private_fit import private_fit
from data.dataset import Crops
from models.norm import tensor_kinds
from models.parameters import get_tensors, set_tensors
from strategies.local import NOTHING, Local
from strategies.privacy.generator import Generator
from strategies.tensors import difference
from strategies.types import MEMORY_LOST, Plan, Report, Tensors
from strategies.wire import Encoded

log = getLogger(__name__)


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

    Raises:
        Declined: there is nobody to train on, or what the server counts on was lost here; the next round mends that.
    """
    started = time.perf_counter()
    if not len(place.parts.train):
        raise Declined("no-training-patients", f"every patient of {place.name} is held out")
    work = _begin(place, plan, received, plan.round)
    _check_remembered(work)
    histogram = _validation(work)
    _freeze(work)
    done = _fit(work, work.model, place.strategy.local.at(plan), control, "kept", ())
    own = _train_own(work)
    trained = get_tensors(work.model)
    shared = work.shared
    delta = difference(trained, received, shared)
    encoded, residual = place.strategy.wire.encode(delta, work.remembered.get("residual", {}))
    personal = {name: tensor for name, tensor in trained.items() if name not in shared}
    groups = {"residual": residual, "kept": done.learned.kept, "personal": personal, "own": own}
    place.memory(plan).keep(plan.round, groups, plan.taken)
    return (
        place.strategy.exchange.seal(encoded),
        _report(work, done, histogram, time.perf_counter() - started),
        done.learned.control,
    )


def evaluate(place: Place, plan: Plan, received: Tensors, split: str = "test") -> tuple[dict[str, Any], Tensors]:
    """Score the final model on validation and test patients; and the hospital's own one, where it has one.

    With `split` "validation" on validation patients alone: no test patient is read.

    Returns:
        Plain facts, and count arrays: validation, test (2, BINS); replicates (R, 2, BINS); own_test, own_replicates.
    """
    if place.terms is not None:
        return _evaluate_privately(place, plan, received, place.terms)
    work = _begin_scoring(place, plan, received)
    test = place.parts.test
    scores: Tensors = {"validation": _histogram(work, work.model, place.parts.validation)}
    if split == "validation":
        return _scored_facts(work), scores
    scores |= _tested(work, work.model)
    if own := work.remembered.get("own"):
        set_tensors(work.model, own)
        scores |= {f"own_{name}": counts for name, counts in _tested(work, work.model).items()}
    if place.config["baseline"]:
        scores["baseline"] = classification.histogram(baselines.scores(place.config["baseline"], test), test.labels)
    return _scored_facts(work), scores


def _evaluate_privately(place: Place, plan: Plan, received: Tensors, terms: Terms) -> tuple[dict[str, Any], Tensors]:
    """As `evaluate`, as one release: noised histograms, and facts that are public anyway.

    Returns:
        Plain facts with `noise_sd`; validation, test (2, bins), noised.
    """
    work = _begin_scoring(place, plan, received)
    generator = terms.part.randomness.open(plan.run, plan.leg, place.name, plan.round, "scores")
    validation = _noised(work, place.parts.validation, released.even(terms.bins), terms, generator)
    test = _noised(work, place.parts.test, released.by_share(validation), terms, generator)
    facts = {name: value for name, value in _scored_facts(work).items() if name not in SENSITIVE_FACTS}
    return {**facts, "noise_sd": terms.score_noise}, {"validation": validation, "test": test}


def _noised(work: Work, crops: Crops, edges: released.Edges, terms: Terms, generator: Generator) -> NDArray[np.float64]:
    """(2, bins) of the scores of `crops`, with the noise that `terms` pay for."""
    # Were a score that is not finite refused, the refusal would tell of one patient, and nobody would have paid for it.
    logits = score.logits(work.model, crops, device=work.device, threads=work.place.threads, instead=0.0)
    units = crops.patients if terms.part.unit == "patient" else tuple(map(str, range(len(crops))))
    counts = released.coarse(logits, crops.labels, units, edges)
    return counts + terms.score_noise * generator.normals(counts.size).reshape(counts.shape)


SENSITIVE_FACTS = ("test_samples", "train_samples")
"""How many crops patients have. How many patients there are is public."""


def _scored_facts(work: Work) -> dict[str, Any]:
    place, plan, test = work.place, work.plan, work.place.parts.test
    return {
        "hospital": place.name,
        "round": plan.round,
        "patients": place.patients,
        "test_patients": len(set(test.patients)),
        "test_samples": len(test),
        "train_samples": len(place.parts.train),
        "device": devices.describe(work.device),
    }


def _begin(place: Place, plan: Plan, received: Tensors, before_round: int) -> Work:
    """The received model, with what this hospital keeps of its own put in its place. Raises Declined."""
    remembered = place.memory(plan).before(before_round, plan.taken)
    model, known = place.network(), {**received, **remembered.get("personal", {})}
    if lost := model.state_dict().keys() - known.keys():
        # Drawn anew they would be another model's. A hospital that declines is sent the whole model next time.
        raise Declined(MEMORY_LOST, f"{min(lost)} and {len(lost) - 1} more tensors that stay here are gone")
    set_tensors(model, known)
    return Work(place, plan, received, remembered, model, devices.choose(place.sites[0].device))


def _begin_scoring(place: Place, plan: Plan, received: Tensors) -> Work:
    """As `_begin`, after the round: the server sends the whole model, as it was at first where tensors stay home."""
    work = _begin(place, plan, received, plan.round + 1)
    if len(work.shared) < len(received) and not work.remembered.get("personal"):
        log.warning("this hospital has no tensors of its own for the model: it is scored with their initial values")
    return work


def _check_remembered(work: Work) -> None:
    """Decline where the server's sum holds a control variate that is gone here: it then lets all begin anew.

    What else is gone of a round that the server took costs a little and biases nothing: that is said, and training
    goes on.
    """
    strategy, remembered = work.place.strategy, work.remembered
    if not work.plan.taken:
        return
    if strategy.local.uses_control and "kept" not in remembered:
        raise Declined(MEMORY_LOST, f"the control variate of round {work.plan.taken} is gone")
    if not strategy.wire.is_linear and "residual" not in remembered:
        log.warning("what compression left over in round %d is gone; error feedback begins anew", work.plan.taken)
    if strategy.local.personal and "own" not in remembered:
        log.warning("the model of this hospital's own is gone; it begins anew at the received one")


def _freeze(work: Work) -> None:
    trained = set(work.place.strategy.sharing.trained(tensor_kinds(work.model)))
    for name, parameter in work.model.named_parameters():
        parameter.requires_grad_(name in trained)


def _fit(work: Work, model: nn.Module, local: Local, control: Tensors, memory: str, address: tuple[str, ...]) -> Fit:
    place, plan, terms = work.place, work.plan, work.place.terms
    common: dict[str, Any] = {
        "training": replace(place.training, lr=place.training.lr * plan.lr_scale),
        "local": local,
        "augment": place.augment,
        "device": work.device,
        "control": control,
        "kept": work.remembered.get(memory, NOTHING),
    }
    if terms is None:
        where: Address = (plan.seed, plan.leg, place.name, plan.round, *address)
        return fit(model, place.parts.train, address=where, validation=place.parts.validation, **common)
    return private_fit(
        model,
        place.parts.train,
        privacy=terms.part,
        noise_multiplier=terms.noise,
        generator=terms.part.randomness.open(plan.run, plan.leg, place.name, plan.round, "train"),
        **common,
    )


def _train_own(work: Work) -> Tensors:
    """A model of the hospital's own, trained beside the global one (Ditto); nothing where there is none."""
    local = work.place.strategy.local.personal
    if local is None:
        return {}
    model = work.place.network()
    set_tensors(model, {**get_tensors(model), **work.received, **work.remembered.get("own", {})})
    _fit(work, model, local, work.received, "", ("own",))
    return get_tensors(model)


def _report(work: Work, done: Fit, histogram: NDArray[np.int64], seconds: float) -> Report:
    place, plan, crops = work.place, work.plan, work.place.parts.train
    if place.terms is not None:
        return _public_report(work, done, place.terms)
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
        memory_mb=devices.free_mb(work.device),
        histogram=tuple(int(count) for count in histogram.ravel()),
    )


def _public_report(work: Work, done: Fit, terms: Terms) -> Report:
    """Declared constants alone: no loss, no score, no histogram, no time, and no count of a patient's crops."""
    place, crops = work.place, work.place.parts.train
    return Report(
        hospital=place.name,
        round=work.plan.round,
        patients=len(set(crops.patients)),
        crops=len(crops) if terms.part.unit == "sample" else 0,
        steps=done.steps,
        device=devices.describe(work.device),
        data_age_months=place.sites[0].data_age_months,
    )


def _validation(work: Work) -> NDArray[np.int64]:
    every = work.place.config["validate_every"]
    if work.place.terms is not None or not every or (work.plan.round - 1) % every:
        return np.empty(0, dtype=np.int64)
    return _histogram(work, work.model, work.place.parts.validation)


def _histogram(work: Work, model: nn.Module, crops: Crops) -> NDArray[np.int64]:
    logits = score.logits(model, crops, device=work.device, threads=work.place.threads)
    return classification.histogram(logits, crops.labels)


def _tested(work: Work, model: nn.Module) -> Tensors:
    place, test = work.place, work.place.parts.test
    logits = score.logits(model, test, device=work.device, threads=place.threads)
    # One stream a hospital and fold, or patients that stand at the same place would come and go together.
    rng = derive(work.plan.seed, place.name, work.plan.fold, "bootstrap")
    return {
        "test": classification.histogram(logits, test.labels),
        "replicates": classification.bootstrap(logits, test.labels, test.patients, place.config["replicates"], rng),
    }
