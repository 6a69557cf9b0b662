from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from strategies.errors import PartError
from strategies.local.plain import Plain
from strategies.local.prox import Prox
from strategies.local.scaffold import Scaffold
from tests.strategies.fakes import PLAN, FakeGrid, Hospital, course, federated


class Point(nn.Module):
    """One parameter; hospital k wants it at `target`, with curvature `a`: F_k(w) = a/2·(w − target)²."""

    def __init__(self, start, target=0.0, a=1.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([float(start)]))
        self.target, self.a = target, a

    def loss(self):
        return (self.a / 2 * (self.w - self.target) ** 2).sum()


def train(model, local, *, steps, lr, control=None, kept=None):
    """The loop as the application has it."""
    optimiser = local.optimiser(model.parameters(), lr) or torch.optim.SGD(model.parameters(), lr)
    state = local.start(model, control or {}, kept or {})
    for _ in range(steps):
        optimiser.zero_grad()
        model.loss().backward()
        local.correct(model, state)
        optimiser.step()
    return local.finish(model, state, steps=steps, lr=lr)


def gradient(model, local, move=0.0, control=None):
    state = local.start(model, control or {}, {})
    with torch.no_grad():
        model.w += move
    model.loss().backward()
    local.correct(model, state)
    return model.w.grad.item()


# --- plain and FedProx ---


def test_plain_training_adds_nothing():
    assert gradient(Point(3), Plain()) == 3
    assert Plain().optimiser([], 0.1) is None


def test_prox_pulls_back_in_proportion_to_the_distance_gone():
    # at w = 3 + 2: gradient 5, pull 0.1·2
    assert gradient(Point(3), Prox(mu=0.1), move=2) == pytest.approx(5.2)


def test_prox_with_mu_zero_is_plain():
    assert gradient(Point(3), Prox(mu=0), move=2) == 5


def test_prox_ends_where_both_pulls_are_equal():
    # from 0 towards target 4 with a = 1, μ = 3: minimum of ½(w−4)² + 3/2·w² at w = 1
    model = Point(0, target=4)
    train(model, Prox(mu=3), steps=200, lr=0.1)
    assert model.w.item() == pytest.approx(1, abs=1e-4)


def test_prox_leaves_parameters_without_gradient_alone():
    model = Point(1)
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    model.frozen = frozen
    train(model, Prox(mu=1), steps=1, lr=0.1)
    assert frozen.grad is None


def test_dittos_own_model_is_pulled_to_the_received_one_and_not_to_its_own_start():
    # own model at 5, received at 1, target 5: gradient 0, pull 0.5·(5 − 1)
    assert gradient(Point(5, target=5), Prox(mu=0.5, anchor="control"), control={"w": np.float32([1])}) == 2


def test_ditto_is_plain_training_with_a_part_for_the_hospitals_own_model():
    own = Prox(mu=0.5, anchor="control")
    ditto = Plain(personal=own)
    assert ditto.personal is own
    assert gradient(Point(3), ditto) == 3


def test_an_adaptive_mu_grows_when_the_loss_rises_and_shrinks_after_a_row_of_falls():
    part = Prox(mu=0.5, adaptive=True, step=0.1, patience=3)
    assert part.strength([]) == 0.5
    assert part.strength([1.0, 1.1]) == pytest.approx(0.6)
    assert part.strength([1.0, 0.9, 0.8]) == 0.5
    assert part.strength([1.0, 0.9, 0.8, 0.7]) == pytest.approx(0.4)
    assert part.strength([1.0, 0.9, 0.8, 0.8, 0.7, 0.6]) == 0.5  # the row was broken
    assert Prox(mu=0.0, adaptive=True, step=0.1, patience=1).strength([2, 1]) == 0


def test_an_adaptive_mu_travels_in_the_plan():
    losses = iter([0.5, 0.9, 0.4])
    a = Hospital(lambda plan, model: {"w": np.float32([1])})

    def losing(message):
        a.facts["loss"] = next(losses)
        return a(message)

    part = Prox(mu=0.5, adaptive=True)
    federated(local=part).run(FakeGrid({10: losing}), course({"A": 10}, {"w": np.float32([0])}, rounds=3))
    assert [part.at(plan).mu for plan in a.plans] == pytest.approx([0.5, 0.5, 0.6])


def test_a_plan_without_a_strength_leaves_mu_as_configured():
    assert Prox(mu=0.3).at(PLAN).mu == 0.3


# --- SCAFFOLD ---


def test_scaffold_by_hand():
    # c 1, c_k 0.4: gradients get + 0.6. From 2 with a = 1, η 0.5: g 2 + 0.6 → 0.7; g 0.7 + 0.6 → 0.05
    # (x − y)/(K·η) = 1.95/1 = 1.95; Δc_k = 1.95 − c = 0.95; c_k⁺ = c_k + Δc_k = 1.35
    model = Point(2)
    learned = train(model, Scaffold(), steps=2, lr=0.5, control={"w": np.float32([1])}, kept={"w": np.float32([0.4])})
    assert model.w.item() == pytest.approx(0.05)
    assert learned.control["w"][0] == pytest.approx(0.95)
    assert learned.kept["w"][0] == pytest.approx(1.35)


def test_scaffold_uses_its_own_learning_rate_scaled_by_the_schedule():
    part = Scaffold(lr=0.5).at(replace(PLAN, lr_scale=0.5))
    model = Point(2)
    learned = train(model, part, steps=1, lr=99.0, control={"w": np.float32([0])})
    assert model.w.item() == pytest.approx(1.5)
    assert learned.kept["w"][0] == pytest.approx(2)


def test_scaffold_brings_plain_sgd():
    optimiser = Scaffold(lr=0.1).optimiser(Point(0).parameters(), 1.0)
    assert type(optimiser) is torch.optim.SGD
    assert (optimiser.defaults["lr"], optimiser.defaults["momentum"], optimiser.defaults["weight_decay"]) == (0.1, 0, 0)


def test_scaffold_leaves_tensors_that_stay_home_uncorrected():
    learned = train(Point(2), Scaffold(), steps=1, lr=0.5, control={}, kept={"w": np.float32([5])})
    assert (learned.control, learned.kept) == ({}, {})


def test_scaffold_without_a_step_changes_nothing():
    learned = train(Point(2), Scaffold(), steps=0, lr=0.5, control={"w": np.float32([1])}, kept={"w": np.float32([3])})
    assert learned.control["w"][0] == 0
    assert learned.kept["w"][0] == 3


def federation(local, rounds):
    """Two hospitals of unlike curvature and target; the best common model is (1·0 + 9·1) / 10 = 0.9."""
    kept = {"A": {}, "B": {}}

    def hospital(target, a):
        def answer(message):
            from strategies import records
            from strategies.types import Report

            plan, received = records.read_plan(message), records.read_model(message)
            model = Point(received["w"][0], target, a)
            control = records.read_control(message)
            learned = train(model, local, steps=20, lr=0.05, control=control, kept=kept[plan.hospital])
            kept[plan.hospital] = learned.kept
            delta = {"w": model.w.detach().numpy() - received["w"]}
            report = Report(plan.hospital, plan.round, 1, 1, steps=20, loss=0.0)
            return records.reply(message, {"values": delta}, report, learned.control)

        return answer

    grid = FakeGrid({10: hospital(0.0, 1.0), 11: hospital(1.0, 9.0)})
    state, _ = federated(local=local).run(grid, course({"A": 10, "B": 11}, {"w": np.float32([0.0])}, rounds=rounds))
    return state


def test_scaffold_finds_the_common_optimum_that_fedavg_drifts_away_from():
    assert abs(federation(Plain(), 60).model["w"][0] - 0.9) > 0.1
    assert federation(Scaffold(), 60).model["w"][0] == pytest.approx(0.9, abs=0.01)


def test_the_servers_control_variate_is_the_mean_of_the_hospitals():
    # at the optimum 0.9 the hospitals' gradients are 1·0.9 and 9·(−0.1): their mean is 0
    assert federation(Scaffold(), 60).control["w"][0] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    "make",
    [lambda: Prox(mu=-1), lambda: Prox(anchor="end"), lambda: Prox(adaptive=True, patience=0), lambda: Scaffold(lr=0)],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(PartError, match="got"):
        make()
