"""One run from its configuration to its summary: every leg trained, scored once on its test patients, written down."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from app.config import Config, build
from app.fingerprint import code_hash, config_hash
from app.metrics import classification
from app.rounds.checkpoint import load_state, save_state
from app.rounds.folder import RunFolder
from app.rounds.legs import Leg, legs
from app.rounds.model_file import save_model
from app.rounds.roster import Introduced, Planned
from app.rounds.summary import Answer, Outcome, write_scores, write_summary
from models.norm import tensor_kinds
from models.parameters import get_tensors
from models.resnet3d import init
from strategies import Federated
from strategies.course import Course
from strategies.types import Evaluation, Plan, Refusal, RoundFacts, ServerState, Stop

log = logging.getLogger(__name__)

Listener = Callable[[Mapping[str, Any]], None]
"""Told every journal line as it is written."""


@dataclass(frozen=True)
class Run:
    """What all legs of a run share."""

    config: Config
    folder: RunFolder
    name: str
    seed: int
    listen: Listener


def conduct(
    grid: Grid, config: Config, folder: RunFolder, *, engine: str, listen: Listener = lambda _: None
) -> dict[str, Any]:
    """Run every leg, from the last checkpoint where there is one, and write summary.json.

    Returns:
        The summary.
    """
    run = Run(config, folder, folder.run_name(), config["seed"] or 0, listen)
    strategy: Federated = build(config["strategy"])
    outcomes = [_leg(grid, strategy, run, leg) for leg in legs(config)]
    return write_summary(config, folder, outcomes, engine=engine)


def _leg(grid: Grid, strategy: Federated, run: Run, leg: Leg) -> Outcome:
    course = _course(strategy, run, leg)
    state, stop = strategy.run(grid, course)
    save_model(run.folder, leg, run.config, state)
    replies = strategy.evaluate(grid, replace(course, roster=_roster(run.config, leg.score)), state)
    answers = {name: _answer(reply, state) for name, reply in replies.items() if isinstance(reply, Evaluation)}
    refused = [reply for reply in replies.values() if isinstance(reply, Refusal)]
    write_scores(run.folder.scores(leg.name), answers)
    return Outcome(leg, stop, answers, refused)


def _answer(reply: Evaluation, state: ServerState) -> Answer:
    up, down = (sum(tensor.nbytes for tensor in sent.values()) for sent in (reply.arrays, state.model))
    return {"report": reply.report, "scores": reply.arrays, "bytes_up": up, "bytes_down": down}


def _course(strategy: Federated, run: Run, leg: Leg) -> Course:
    config = run.config
    # From the seed alone, so that server and hospitals start from the same.
    model = build(config["model"])
    init(model, run.seed)
    kept = load_state(run.folder.checkpoint(leg.name))
    run.folder.forget_after(leg.name, kept.round if kept else 0)
    schedule, engine = build(config["schedule"]), build(config["engine"])
    course = Course(
        plan=_plan(strategy, run, leg),
        roster=_roster(config, leg.train),
        quorum=min(config["quorum"], len(leg.train)),
        deadline_s=config["deadline_s"],
        wait_s=config["wait_s"],
        initial=kept or ServerState(round=0, model=get_tensors(model)),
        after_round=_after_round(run, leg),
        lr_scale=lambda round: schedule.scale(round, rounds=config["rounds"]),
        kinds=tensor_kinds(model),
    )
    steered: Course = engine.steer(course)
    return steered


def _plan(strategy: Federated, run: Run, leg: Leg) -> Plan:
    return Plan(
        run=run.name,
        leg=leg.name,
        round=0,
        rounds=run.config["rounds"],
        hospital="",
        seed=run.seed,
        fold=leg.fold,
        score=strategy.weighting.needs_score,
        code=code_hash(),
        config=config_hash(run.config),
    )


def _roster(config: Config, hospitals: tuple[str, ...]) -> Planned | Introduced:
    return Planned(hospitals) if config["deploy"]["roster"] == "plan" else Introduced(hospitals)


def _after_round(run: Run, leg: Leg) -> Callable[[ServerState, RoundFacts], Stop | None]:
    """Journal first, then checkpoint: a line too many is dropped on resume, a missing one could not be made up."""
    stopping, started = build(run.config["stopping"]), time.monotonic()
    values = [line["validation_auc"] for line in run.folder.lines_of(leg.name)]
    before = sum(line["seconds"] for line in run.folder.lines_of(leg.name))

    def after_round(state: ServerState, facts: RoundFacts) -> Stop | None:
        line = {"leg": leg.name, **_plain(facts), "validation_auc": _validation_auc(facts)}
        run.folder.append(line)
        save_state(run.folder.checkpoint(leg.name), state)
        run.listen(line)
        values.append(line["validation_auc"])
        verdict: Stop | None = stopping.verdict(values, seconds=before + time.monotonic() - started)
        return verdict

    return after_round


def _validation_auc(facts: RoundFacts) -> float | None:
    histograms = [report.histogram for report in facts.reports.values() if report.histogram]
    if not histograms:
        return None
    pooled = np.sum([np.array(counts).reshape(2, -1) for counts in histograms], axis=0)
    return classification.auc(pooled)


def _plain(facts: RoundFacts) -> dict[str, Any]:
    """A journal line: everything but the histograms, which the validation AUC stands for."""
    plain = asdict(facts)
    for report in plain["reports"].values():
        del report["histogram"], report["salt"]
    return plain
