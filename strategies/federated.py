"""The round engine: nine parts, composed into Flower's one `Strategy`.

`run` is the engine: quorum, deadline, streaming aggregation, resume, stop. `start` is Flower's own entry to it, and
the four hooks serve Flower's own loop, which can drive the same rounds.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from strategies import records
from strategies.aggregate import Aggregate
from strategies.checks import check
from strategies.course import Course
from strategies.errors import StrategyError
from strategies.exchange import Exchange
from strategies.exchange.post import Answer, Post
from strategies.local import Local
from strategies.parts import NAMES
from strategies.privacy import Privacy
from strategies.records.arrays import from_record, to_record
from strategies.round import Round
from strategies.selection import Selection
from strategies.server_opt import ServerOpt
from strategies.sharing import Sharing
from strategies.types import Evaluation, Plan, Refusal, RoundFacts, Scalar, ServerState, Stop
from strategies.weighting import Weighting
from strategies.wire import Wire

log = logging.getLogger(__name__)

FAILED_ROUNDS_TO_STOP = 3
"""A run stops after this many rounds in a row without a quorum: something is wrong that waiting does not mend."""

ROSTER_POLL_S = 1.0


class Federated(Strategy):
    """A federated algorithm, as its nine parts. Raises Misfit where two of them do not fit together."""

    def __init__(
        self,
        *,
        selection: Selection,
        weighting: Weighting,
        local: Local,
        sharing: Sharing,
        privacy: Privacy,
        wire: Wire,
        exchange: Exchange,
        aggregate: Aggregate,
        server_opt: ServerOpt,
    ) -> None:
        self.selection = selection
        self.weighting = weighting
        self.local = local
        self.sharing = sharing
        self.privacy = privacy
        self.wire = wire
        self.exchange = exchange
        self.aggregate = aggregate
        self.server_opt = server_opt
        self._hooked: tuple[Round, dict[str, Message]] | None = None
        self._after: ServerState | None = None
        check(self)

    # --- the engine -----------------------------------------------------------------------------------------------

    def run(self, grid: Grid, course: Course) -> tuple[ServerState, Stop]:
        """Run rounds from `course.initial` to the plan's last, or until something says stop.

        Returns the last state and why it is the last. Raises Misfit where the parts do not fit the model, NoWeight
        where all weights of a round are zero.
        """
        check(self, kinds=course.kinds)
        post, state = self.exchange.open(grid), course.initial
        while state.round < course.plan.rounds:
            state, facts = self._round(post, course, state)
            stop = course.after_round(state, facts) or _quorum_lost(state)
            if stop is not None:
                return state, stop
        return state, Stop("rounds", f"all {course.plan.rounds} rounds done")

    def _round(self, post: Post, course: Course, state: ServerState) -> tuple[ServerState, RoundFacts]:
        oldest_used = state.round + 1 - course.max_staleness
        post.forget(before_round=oldest_used - 1)  # one round more, so that what is too late is still counted
        roster = _wait_for(max(course.quorum, self.aggregate.least), post.grid, course)
        round = Round(self, course, state, roster, busy=post.waiting_for(oldest_used))
        for answer in post.send(round.requests(), round.number):
            round.take(answer)
        for answer in post.collect(round.number, course.deadline_s, round.is_enough):
            round.take(answer)
        return round.close()

    def evaluate(
        self,
        grid: Grid,
        course: Course,
        state: ServerState,
        split: str = "test",
        config: Mapping[str, Scalar] | None = None,
    ) -> dict[str, Evaluation | Refusal]:
        """Ask every hospital that is there to score the state's model on a split of its patients.

        What they answer is handed on as plain values; a hospital that does not answer has a Refusal instead.
        """
        post, roster = self.exchange.open(grid), course.roster(grid)
        model = to_record(state.model)
        messages = {
            hospital: records.request(
                node,
                "evaluate",
                replace(course.plan, hospital=hospital, round=state.round),
                model=model,
                ask={**(config or {}), "split": split},
                ttl_s=course.deadline_s,
            )
            for hospital, node in sorted(roster.items())
        }
        answers = [*post.send(messages, state.round), *post.collect(state.round, course.deadline_s)]
        return {answer.hospital: _evaluation(answer) for answer in answers}

    # --- Flower's entry -------------------------------------------------------------------------------------------

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
        *,
        course: Course | None = None,
    ) -> Result:
        """Flower's own entry: run, and give back Flower's Result.

        Without a course every node is a hospital of its own name, and `num_rounds`, `timeout` and `train_config`
        say what is asked; with one, the course does, and `initial_arrays` is the model to begin with. No node is
        asked for an evaluation each round, so `evaluate_config` is not used: see `evaluate`.
        """
        model = from_record(initial_arrays)
        if course is None:
            course = _plain_course(model, num_rounds, timeout, train_config)
        result = Result()
        _call(evaluate_fn, 0, initial_arrays, result)

        def after_round(state: ServerState, facts: RoundFacts) -> Stop | None:
            result.train_metrics_clientapp[state.round] = _metrics(facts)
            _call(evaluate_fn, state.round, to_record(state.model) if evaluate_fn else None, result)
            return course.after_round(state, facts)

        begin = replace(course.initial, model=model)
        state, _ = self.run(grid, replace(course, initial=begin, after_round=after_round))
        result.arrays = to_record(state.model)
        return result

    # --- Flower's hooks -------------------------------------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Open a round over all nodes and give its messages."""
        model = from_record(arrays)
        before = self._after if self._after is not None else ServerState(0, model)
        course = _plain_course(model, server_round, 3600.0, config)
        round = Round(self, course, replace(before, round=server_round - 1, model=model), course.roster(grid))
        messages = round.requests()
        self._hooked = (round, messages)
        return list(messages.values())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take the replies in, one at a time, and give the next model; None where too few were usable."""
        if self._hooked is None or self._hooked[0].number != server_round:
            raise StrategyError(f"aggregate_train of round {server_round} without configure_train of that round")
        round, messages = self._hooked
        asked = {message.metadata.message_id: hospital for hospital, message in messages.items()}
        for reply in replies:
            hospital = asked.get(reply.metadata.reply_to_message_id)
            if hospital is not None:
                has_content = not reply.has_error()
                round.take(
                    Answer(hospital, server_round, reply if has_content else None, "" if has_content else "failed")
                )
        self._after, facts = round.close()
        self._hooked = None
        return None if facts.failed else to_record(self._after.model), _metrics(facts)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nobody: hospitals score the received model when they train, and the test is read once, by `evaluate`."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing to aggregate: see `configure_evaluate`."""
        return None

    def summary(self) -> None:
        """Log the nine parts."""
        for name in NAMES:
            log.info("%s: %s", name, getattr(self, name))


def _wait_for(needed: int, grid: Grid, course: Course) -> Mapping[str, int]:
    """Who is there, as soon as they are enough or the wait is over."""
    end = time.monotonic() + course.wait_s
    while len(roster := course.roster(grid)) < needed and time.monotonic() < end:
        log.info("waiting for hospitals: %d of %d are there", len(roster), needed)
        time.sleep(min(ROSTER_POLL_S, max(0.0, end - time.monotonic())))
    return roster


def _quorum_lost(state: ServerState) -> Stop | None:
    failed = int(state.facts.get("failed", 0))
    if failed < FAILED_ROUNDS_TO_STOP:
        return None
    return Stop("quorum", f"{failed} rounds in a row had too few usable updates")


def _evaluation(answer: Answer) -> Evaluation | Refusal:
    if answer.message is None:
        return Refusal(answer.hospital, answer.round, answer.code)
    try:
        if code := records.declined(answer.message):
            return Refusal(answer.hospital, answer.round, code)
        return records.read_scores(answer.message)
    except StrategyError as error:
        log.warning("the evaluation of hospital %s cannot be read: %s", answer.hospital, error)
        return Refusal(answer.hospital, answer.round, error.code)


def _plain_course(model: dict[str, Any], rounds: int, timeout: float, config: ConfigRecord | None) -> Course:
    """What Flower's own arguments say: every node a hospital of its own name."""
    plan = Plan(run="flower", leg="", round=0, rounds=rounds, hospital="", seed=0, fold=-1)
    return Course(
        plan,
        roster=lambda grid: {str(node): node for node in grid.get_node_ids()},
        initial=ServerState(0, model),
        deadline_s=timeout,
        ask={key: value for key, value in (config or {}).items() if isinstance(value, str | int | float | bool)},
    )


def _metrics(facts: RoundFacts) -> MetricRecord:
    loss = sum(weight * facts.reports[name].loss for name, weight in facts.weights.items() if name in facts.reports)
    return MetricRecord({"replied": len(facts.reports), "refused": len(facts.refused), "loss": float(loss)})


def _call(
    evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None,
    round: int,
    arrays: ArrayRecord | None,
    result: Result,
) -> None:
    if evaluate_fn is None or arrays is None:
        return
    metrics = evaluate_fn(round, arrays)
    if metrics is not None:
        result.evaluate_metrics_serverapp[round] = metrics
