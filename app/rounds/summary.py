"""summary.json: what each hospital got and paid. Built from files and final answers; fields as promised in DESIGN §4.

Every AUC comes from score histograms, added over hospitals and folds, never from averaging AUCs; its interval from
the same histograms of resampled patients (percentile bootstrap, stratified by hospital).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.addresses import derive
from app.config import Config
from app.files import replacing, write_json, write_text
from app.fingerprint import code_hash
from app.metrics import classification, released
from app.privacy.costs import cost
from app.privacy.page import page, section
from app.rounds.folder import RunFolder
from app.rounds.legs import CENTRAL, Leg
from strategies.types import Refusal, Stop

SCHEMA = 1

Answer = Mapping[str, Any]
"""A hospital's final answer: `report` (plain facts), `scores` (named count arrays), `bytes_up`, `bytes_down`."""


@dataclass(frozen=True)
class Outcome:
    """One leg, done."""

    leg: Leg
    stop: Stop
    answers: Mapping[str, Answer]
    refused: Sequence[Refusal] = ()
    """Hospitals that did not score the final model."""


def write_summary(config: Config, folder: RunFolder, outcomes: Sequence[Outcome], *, engine: str) -> dict[str, Any]:
    """Write summary.json of a run that came to its end."""
    outcomes = [replace(one, answers=_readable(one, config)) for one in outcomes]
    reason = outcomes[-1].stop.reason
    why = _failure(outcomes)
    names = list(config["federation"]["hospitals"])
    validation = _sum(_scores(outcomes, "validation", own_only=True))
    threshold = classification.operating_threshold(validation)
    summary = {
        **_frame(config, folder, engine),
        "status": "failed" if why else "completed" if reason == "rounds" else "stopped",
        "stopped": reason,
        "threshold": threshold,
        "validation": {"auc": _auc(validation)},
        "pooled": _figures(list(_own(outcomes)), threshold),
        "hospitals": {name: _hospital(name, config, folder, outcomes) for name in names},
        **_extras(config, outcomes, threshold),
        **({"error": why} if why else {}),
    }
    return _written(config, folder, summary)


def write_ended(
    config: Config, folder: RunFolder, *, engine: str, status: str, reason: str, why: str
) -> dict[str, Any]:
    """Write summary.json of a run that did not come to its end: what the journal knows, and why it ended."""
    rows = {name: _hospital(name, config, folder, ()) for name in config["federation"]["hospitals"]}
    nothing = dict.fromkeys(("auc", "auc_low", "auc_high", "accuracy", "sensitivity", "specificity"))
    frame = {**_frame(config, folder, engine), "status": status, "stopped": reason}
    summary = {
        **frame,
        "threshold": None,
        "validation": {"auc": None},
        "pooled": nothing,
        "hospitals": rows,
        "error": why,
    }
    return _written(config, folder, summary)


def read_summary(folder: RunFolder) -> dict[str, Any] | None:
    """The summary, where there is one."""
    return dict(json.loads(folder.summary.read_text(encoding="utf-8"))) if folder.summary.exists() else None


def write_scores(path: Path, answers: Mapping[str, Answer]) -> None:
    """Keep a leg's final score histograms, so that every figure of the summary can be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{name}/{kind}": counts for name, a in answers.items() for kind, counts in a["scores"].items()}
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def _written(config: Config, folder: RunFolder, summary: dict[str, Any]) -> dict[str, Any]:
    """The privacy page first: who waits for the summary finds both."""
    lines = folder.released()
    write_text(folder.privacy, page(config, lines, summary))
    if privacy := section(config, lines, summary):
        summary["privacy"] = privacy
    write_json(folder.summary, summary)
    return summary


def _readable(outcome: Outcome, config: Config) -> Mapping[str, Answer]:
    """Noised histograms as counts like any other, with replicates of what the noise might have done."""
    return {name: _unfolded(answer, config, name) for name, answer in outcome.answers.items()}


def _unfolded(answer: Answer, config: Config, name: str) -> Answer:
    if (sd := answer["report"].get("noise_sd")) is None:
        return answer
    rng = derive(config["seed"] or 0, name, "noise")
    validation, test = answer["scores"]["validation"], answer["scores"]["test"]
    where = released.by_share(validation)
    scores = {
        "validation": released.fine(validation, released.even(validation.shape[-1])),
        "test": released.fine(test, where),
        "replicates": released.fine(released.simulated(test, sd, config["replicates"], rng), where),
    }
    return {**answer, "scores": scores}


def _frame(config: Config, folder: RunFolder, engine: str) -> dict[str, Any]:
    lines = folder.lines()
    return {
        "schema": SCHEMA,
        "status": "",
        "stopped": "",
        "engine": engine,
        "seed": config["seed"],
        "rounds": max((line["round"] for line in lines), default=0),
        "seconds": round(sum(line["seconds"] for line in lines), 2),
        "fingerprint": code_hash(),
    }


def _failure(outcomes: Sequence[Outcome]) -> str:
    """Why a run is worth nothing; "" where it is worth something."""
    for outcome in outcomes:
        if outcome.stop.reason == "quorum":
            return f"stopped for want of hospitals: {outcome.stop.detail}"
        if not outcome.answers:
            codes = sorted({refusal.code for refusal in outcome.refused})
            return f"no hospital scored the final model ({', '.join(codes) or 'none answered'})"
    return ""


def _hospital(name: str, config: Config, folder: RunFolder, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    answers = [outcome.answers[name] for outcome in outcomes if name in outcome.answers]
    report = answers[-1]["report"] if answers else {}
    own = [outcome.answers[name] for outcome in outcomes if name in outcome.answers and _counts_for(outcome, name)]
    return {
        "patients": report.get("patients"),
        "test_patients": sum(answer["report"]["test_patients"] for answer in own) if own else None,
        "train_samples": report.get("train_samples"),
        **_interval(own),
        **_own_model(own),
        "privacy": cost(name, config, folder.released(), report),
        **_paid(name, folder, answers),
        "refused": _refusals(name, folder, outcomes),
    }


def _paid(name: str, folder: RunFolder, answers: Sequence[Answer]) -> dict[str, Any]:
    lines = folder.lines()
    reports = [line["reports"][name] for line in lines if name in line["reports"]]
    return {
        "bytes_up": _total(lines, "bytes_up", name) + sum(answer["bytes_up"] for answer in answers),
        "bytes_down": _total(lines, "bytes_down", name) + sum(answer["bytes_down"] for answer in answers),
        "seconds": round(sum(report["seconds"] for report in reports), 2),
        "device": reports[-1]["device"] if reports else answers[-1]["report"]["device"] if answers else None,
        "rounds": len(reports),
    }


def _refusals(name: str, folder: RunFolder, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Rounds that a hospital is not in, and why; the final scoring counts as the round of the model it scores."""
    in_rounds = [refusal for line in folder.lines() for refusal in line["refused"]]
    at_the_end = [asdict(refusal) for outcome in outcomes for refusal in outcome.refused]
    every = [*in_rounds, *at_the_end]
    return [{"round": one["round"], "code": one["code"]} for one in every if one["hospital"] == name]


def _extras(config: Config, outcomes: Sequence[Outcome], threshold: float) -> dict[str, Any]:
    """What only some runs have: a baseline beside the model; each local model on the pooled test."""
    extras: dict[str, Any] = {}
    if config["baseline"]:
        baseline = _sum(_scores(outcomes, "baseline", own_only=True))
        extras["baseline"] = {"name": config["baseline"], "auc": classification.auc(baseline)}
    teams = list(dict.fromkeys(outcome.leg.train for outcome in outcomes))
    if len(teams) > 1:
        extras["models"] = {
            team[0]: _figures([a for o in outcomes if o.leg.train == team for a in o.answers.values()], threshold)
            for team in teams
        }
    return extras


def _own(outcomes: Iterable[Outcome]) -> Iterable[Answer]:
    """Each hospital's answers about the model that serves it: the global one, or in local_only mode its own."""
    for outcome in outcomes:
        for name, answer in outcome.answers.items():
            if _counts_for(outcome, name):
                yield answer


def _counts_for(outcome: Outcome, name: str) -> bool:
    alone = len(outcome.leg.train) == 1 and outcome.leg.train != (CENTRAL,) and len(outcome.leg.score) > 1
    return not alone or outcome.leg.train == (name,)


def _scores(outcomes: Sequence[Outcome], kind: str, *, own_only: bool) -> list[NDArray[Any]]:
    answers = _own(outcomes) if own_only else (a for o in outcomes for a in o.answers.values())
    return [answer["scores"][kind] for answer in answers if kind in answer["scores"]]


def _figures(answers: Sequence[Answer], threshold: float) -> dict[str, Any]:
    pooled = _sum([answer["scores"]["test"] for answer in answers])
    at = classification.at_threshold(pooled, threshold)
    plain = {"accuracy": at.accuracy, "sensitivity": at.sensitivity, "specificity": at.specificity}
    return {**_interval(answers), **{name: _share(value) for name, value in plain.items()}}


def _own_model(answers: Sequence[Answer]) -> dict[str, Any]:
    """The AUC of the model that a hospital keeps for itself beside the global one, where it has one."""
    having = [answer for answer in answers if "own_test" in answer["scores"]]
    return {"own_model": _interval(having, prefix="own_")} if having else {}


def _interval(answers: Sequence[Answer], prefix: str = "") -> dict[str, float | None]:
    if not answers:
        return {"auc": None, "auc_low": None, "auc_high": None}
    auc = _auc(_sum([answer["scores"][f"{prefix}test"] for answer in answers]))
    replicates = _sum([answer["scores"][f"{prefix}replicates"] for answer in answers])
    low, high = classification.interval([_auc(replicate) for replicate in replicates])
    return {"auc": auc, "auc_low": low if auc is not None else None, "auc_high": high if auc is not None else None}


def _auc(counts: NDArray[np.int64]) -> float | None:
    """None where noise left nothing of a class."""
    return _share(classification.auc(counts)) if (counts.sum(axis=1) > 0).all() else None


def _share(value: float | None) -> float | None:
    """Noised counts can carry a share below 0 or above 1."""
    return None if value is None else min(1.0, max(0.0, value))


def _sum(histograms: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    empty = np.zeros((2, classification.BINS), dtype=np.int64)
    return reduce(np.add, (h.astype(np.int64) for h in histograms)) if histograms else empty


def _total(lines: Sequence[Mapping[str, Any]], field: str, name: str) -> int:
    return sum(line[field].get(name, 0) for line in lines)
