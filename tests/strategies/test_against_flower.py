"""Our parts beside Flower's own strategies, on the same replies."""

import logging

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from strategies.aggregate.krum import Krum
from strategies.aggregate.mean import Mean
from strategies.aggregate.robust import Median, TrimmedMean
from strategies.server_opt import Adaptive, Momentum, Sgd
from tests.strategies.fakes import FakeGrid

ROUNDS = 4
PATIENTS = (530, 164, 59, 55, 120, 90, 300)


@pytest.fixture(autouse=True)
def _quiet_flower():
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def deltas(round):
    rng = np.random.default_rng(round)
    return [
        {"a": rng.normal(size=(3, 4)).astype(np.float32), "b": rng.normal(size=5).astype(np.float32)} for _ in PATIENTS
    ]


def start():
    rng = np.random.default_rng(99)
    return {"a": rng.normal(size=(3, 4)).astype(np.float32), "b": rng.normal(size=5).astype(np.float32)}


def record(tensors):
    return ArrayRecord({name: Array(tensor) for name, tensor in tensors.items()})


def flower_round(theirs, round, model, patients):
    """One round of a Flower strategy on the models that our deltas stand for."""
    grid = FakeGrid(dict.fromkeys(range(10, 10 + len(patients)), lambda message: None))
    asked = list(theirs.configure_train(round, record(model), ConfigRecord(), grid))
    asked.sort(key=lambda message: message.metadata.dst_node_id)
    replies = [
        Message(
            RecordDict(
                {
                    "arrays": record({name: model[name] + delta[name] for name in model}),
                    "metrics": MetricRecord({"num-examples": n}),
                }
            ),
            reply_to=message,
        )
        for message, delta, n in zip(asked, deltas(round), patients, strict=True)
    ]
    arrays, _ = theirs.aggregate_train(round, replies)
    return {name: arrays[name].numpy() for name in model}


def our_round(aggregate, server_opt, moments, round, model, patients):
    fold = aggregate.begin(model)
    for i, (delta, n) in enumerate(zip(deltas(round), patients, strict=True)):
        fold.add(f"{i:02d}", delta, float(n))
    return server_opt.step(moments, model, fold.combine().delta)


def compare(theirs, aggregate, server_opt, *, patients=PATIENTS, moments=None, stretch=lambda round: 1.0):
    """Run both for some rounds from Flower's model each time; `stretch` is a factor Flower puts on its step."""
    model, moments = start(), moments or {}
    for round in range(1, ROUNDS + 1):
        after = flower_round(theirs, round, model, patients)
        moments, ours = our_round(aggregate, server_opt, moments, round, model, patients)
        for name in model:
            expected = model[name] + (after[name] - model[name]) / stretch(round)
            np.testing.assert_allclose(ours[name], expected, rtol=2e-4, atol=2e-5)
        model = {name: tensor.astype(np.float32) for name, tensor in after.items()}


def test_fedavg():
    compare(flower.FedAvg(), Mean(), Sgd())


def test_fedmedian():
    compare(flower.FedMedian(), Median(), Sgd())


def test_fedtrimmedavg():
    compare(flower.FedTrimmedAvg(beta=0.2), TrimmedMean(0.2), Sgd())


def test_krum():
    compare(flower.Krum(num_malicious_nodes=2), Krum(2), Sgd())


def test_multikrum():
    compare(flower.MultiKrum(num_malicious_nodes=2, num_nodes_to_select=3), Krum(2, 3), Sgd())


def test_fedavgm():
    compare(flower.FedAvgM(server_learning_rate=0.7, server_momentum=0.9), Mean(), Momentum(0.7, 0.9))


def from_zero():
    """Flower starts the second moment at 0; the paper, and we, at τ²."""
    return {"m": {}, "v": {name: np.zeros_like(tensor) for name, tensor in start().items()}}


def test_fedadagrad():
    theirs = flower.FedAdagrad(eta=0.1, tau=1e-2)
    compare(theirs, Mean(), Adaptive("adagrad", lr=0.1, beta1=0.0, tau=1e-2), moments=from_zero())


def test_fedyogi():
    theirs = flower.FedYogi(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-2)
    compare(theirs, Mean(), Adaptive("yogi", 0.1, 0.9, 0.99, 1e-2), moments=from_zero())


def test_fedadam_but_for_flowers_bias_correction():
    # Flower multiplies η by √(1 − β₂^(t+1)) / (1 − β₁^(t+1)); the paper's algorithm 2 does not
    theirs = flower.FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-2)
    correction = lambda round: np.sqrt(1 - 0.99 ** (round + 1)) / (1 - 0.9 ** (round + 1))  # noqa: E731
    compare(theirs, Mean(), Adaptive("adam", 0.1, 0.9, 0.99, 1e-2), moments=from_zero(), stretch=correction)
