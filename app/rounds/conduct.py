"""One run from its configuration to its summary: every leg trained, scored once on its test patients, written down."""

from dataclasses import dataclass, replace
from typing import Any

from flwr.serverapp import Grid

from app.config import Config, build
from app.fingerprint import code_hash, config_hash
from app.rounds.answers import sound
from app.rounds.best import best_of
from app.rounds.checkpoint import load_state
from app.rounds.comparison import compare
from app.rounds.folder import RunFolder
from app.rounds.legs import Leg, legs
from app.rounds.model_file import save_model
from app.rounds.pretrained import initial_model, write_report
from app.rounds.progress import Listener, Progress, pooled_auc
from app.rounds.roster import Roster, roster_of
from app.rounds.summary import Answer, Outcome, write_scores, write_summary
from app.rounds.workers import check_alive, unharmed
from models.norm import tensor_kinds
from models.parameters import get_tensors
from strategies import Federated
from strategies.course import Course
from strategies.types import Evaluation, Plan, Refusal, ServerState


@dataclass(frozen=True)
class Run:
    """What all legs of a run share."""

    config: Config
    folder: RunFolder
    name: str
    seed: int
    engine: str
    listen: Listener


def conduct(
    grid: Grid, config: Config, folder: RunFolder, *, engine: str, listen: Listener = lambda _: None
) -> dict[str, Any]:
    """Run every leg, from the last checkpoint where there is one, and write summary.json.

    Returns:
        The summary.
    """
    run = Run(config, folder, folder.run_name(), config["seed"] or 0, engine, listen)
    strategy: Federated = build(config["strategy"])
    every = tuple(config["federation"]["hospitals"])
    compare(grid, config, folder, _roster(config, every), _plan(strategy, run, legs(config)[0]))
    outcomes = [_leg(grid, strategy, run, leg) for leg in legs(config)]
    return write_summary(config, folder, outcomes, engine=engine)


def _leg(grid: Grid, strategy: Federated, run: Run, leg: Leg) -> Outcome:
    course, progress = _course(strategy, run, leg)
    stop = progress.verdict()
    state, stop = (course.initial, stop) if stop else strategy.run(grid, course)
    state = _delivered(grid, strategy, course, progress, state, run.config)
    save_model(run.folder, leg, run.config, state)
    replies = sound(strategy.evaluate(grid, replace(course, roster=_roster(run.config, leg.score)), state), run.config)
    answers = {name: _answer(reply, state) for name, reply in replies.items() if isinstance(reply, Evaluation)}
    refused = [reply for reply in replies.values() if isinstance(reply, Refusal)]
    if _is_simulated(run):
        check_alive(refused, "the final scoring")
    write_scores(run.folder.scores(leg.name), answers)
    return Outcome(leg, stop, answers, refused)


def _delivered(
    grid: Grid, strategy: Federated, course: Course, progress: Progress, last: ServerState, config: Config
) -> ServerState:
    """The last state; or with `stopping.keep_best` the best one, for which the last is scored on validation too."""
    if progress.best is None or best_of(progress.values) is None:
        return last
    replies = sound(strategy.evaluate(grid, course, last, split="validation"), config, split="validation")
    counts = [reply.arrays["validation"] for reply in replies.values() if isinstance(reply, Evaluation)]
    return progress.best.choose(progress.values, last, pooled_auc(counts))


def _answer(reply: Evaluation, state: ServerState) -> Answer:
    up, down = (sum(tensor.nbytes for tensor in sent.values()) for sent in (reply.arrays, state.model))
    return {"report": reply.report, "scores": reply.arrays, "bytes_up": up, "bytes_down": down}


def _course(strategy: Federated, run: Run, leg: Leg) -> tuple[Course, Progress]:
    config = run.config
    kept = load_state(run.folder.checkpoint(leg.name))
    run.folder.forget_after(leg.name, kept.round if kept else 0)
    model, loaded = initial_model(config if kept is None else {**config, "weights": None})
    if loaded:
        write_report(run.folder.path / "weights.json", config, loaded)
    initial = kept or ServerState(round=0, model=get_tensors(model))
    progress = Progress.resumed(run.folder, leg.name, build(config["stopping"]), initial, run.listen)
    schedule, engine = build(config["schedule"]), build(config["engine"])
    course = Course(
        plan=_plan(strategy, run, leg),
        roster=_roster(config, leg.train),
        quorum=min(config["quorum"], len(leg.train)),
        deadline_s=config["deadline_s"],
        wait_s=config["wait_s"],
        initial=initial,
        after_round=unharmed(progress) if _is_simulated(run) else progress,
        lr_scale=lambda round: schedule.scale(round, rounds=config["rounds"]),
        kinds=tensor_kinds(model),
    )
    return engine.steer(course), progress


def _is_simulated(run: Run) -> bool:
    """Over Flower, with all hospitals in Ray's workers on this machine."""
    return run.engine == "flower" and run.config["deploy"]["roster"] == "plan"


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


def _roster(config: Config, hospitals: tuple[str, ...]) -> Roster:
    return roster_of(config["deploy"]["roster"], hospitals)
