import logging
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import Strategy

from strategies import records
from strategies.errors import PartError
from strategies.exchange.plain import Plain as PlainExchange
from strategies.records.arrays import to_record
from strategies.types import Evaluation, Stop
from tests.strategies.fakes import (
    ZERO,
    FakeGrid,
    Hospital,
    course,
    drifting,
    federated,
    raising,
    refusing,
    run,
    silent,
    vector,
)

# --- state, stop, resume ---


def test_a_listener_may_stop_the_run():
    state, stop, facts, _ = run(
        {"A": Hospital(vector(1, 2))}, rounds=9, after_round=lambda s, f: Stop("target") if s.round == 4 else None
    )
    assert (state.round, stop.reason, len(facts)) == (4, "target", 4)


@pytest.mark.parametrize("broken_after", [1, 2, 3])
def test_a_resumed_run_is_bit_equal_to_the_undisturbed_one(broken_after):
    hospitals = {"A": Hospital(drifting, patients=3), "B": Hospital(drifting, patients=5), "C": raising}
    whole, *_ = run(hospitals, rounds=4, model=vector(1, 2))
    half, *_ = run(hospitals, rounds=broken_after, model=vector(1, 2))
    roster = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({roster[name]: handler for name, handler in hospitals.items()})
    resumed, _ = federated().run(grid, replace(course(roster, ZERO, rounds=4), initial=half))
    assert resumed.model["w"].tobytes() == whole.model["w"].tobytes()
    assert resumed.facts == {**whole.facts, "losses": resumed.facts["losses"]}


def test_a_finished_run_asks_nobody():
    a = Hospital(vector(1, 2))
    done, *_ = run({"A": a}, rounds=2)
    federated().run(FakeGrid({10: a}), replace(course({"A": 10}, ZERO, rounds=2), initial=done))
    assert len(a.plans) == 2


@pytest.mark.parametrize("setting", [{"quorum": 0}, {"deadline_s": -1}, {"strikes": 0}, {"max_staleness": -1}])
def test_a_course_out_of_range_is_refused_by_name(setting):
    with pytest.raises(PartError, match=next(iter(setting))):
        course({}, ZERO, **setting)


# --- evaluation ---


def test_an_evaluation_asks_everybody_and_hands_on_plain_values():
    def scoring(message):
        ask = records.read_ask(message)
        assert message.metadata.message_type == "evaluate"
        return records.scores(message, {"split": ask["split"], "bins": ask["bins"]}, {"counts": np.arange(2)})

    grid = FakeGrid({10: scoring, 11: refusing("no-test-patients"), 12: silent, 13: Hospital(vector(1, 2))})
    roster = {"A": 10, "B": 11, "C": 12, "D": 13}
    plain = course(roster, vector(1, 2))
    answers = federated().evaluate(grid, plain, plain.initial, config={"bins": 7})
    assert isinstance(answers["A"], Evaluation)
    assert answers["A"].report == {"split": "test", "bins": 7}
    np.testing.assert_array_equal(answers["A"].arrays["counts"], [0, 1])
    assert [answers[name].code for name in "BCD"] == ["no-test-patients", "timeout", "malformed"]


# --- as a Flower strategy ---


@pytest.fixture
def quiet_flower():
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def test_start_keeps_flowers_signature_and_result(quiet_flower):
    grid = FakeGrid({10: Hospital(vector(1, 2)), 11: Hospital(vector(3, 2))})
    seen = []
    config = ConfigRecord({"lr": 0.1})
    evaluate = lambda round, arrays: seen.append(round)  # noqa: E731
    result = federated().start(grid, to_record(ZERO), 2, 5.0, config, evaluate_fn=evaluate)
    np.testing.assert_allclose(result.arrays["w"].numpy(), [4, 4])
    assert result.train_metrics_clientapp[2]["replied"] == 2
    assert seen == [0, 1, 2]
    assert records.read_ask(grid.sent[0]) == {"lr": 0.1}


def test_flowers_own_loop_drives_the_same_rounds_through_the_four_hooks(quiet_flower):
    def nodes():
        return {10: Hospital(drifting, patients=2), 11: Hospital(drifting, patients=5), 12: raising}

    ours = federated().start(FakeGrid(nodes()), to_record(vector(1, 2)), 3)
    theirs = Strategy.start(federated(), FakeGrid(nodes()), to_record(vector(1, 2)), 3)
    assert isinstance(theirs.arrays, ArrayRecord)
    np.testing.assert_allclose(theirs.arrays["w"].numpy(), ours.arrays["w"].numpy(), rtol=1e-6)
    assert theirs.train_metrics_clientapp[3]["refused"] == 1


def test_an_exchange_that_polls_never_is_refused():
    with pytest.raises(PartError, match="poll_s"):
        PlainExchange(poll_s=0)
