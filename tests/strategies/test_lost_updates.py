"""An update that does not count leaves nothing behind: SCAFFOLD still ends at the optimum.

Two hospitals with F_k(w) = a_k/2·(w − t_k)², the real round engine, SCAFFOLD and a hospital's memory on disk. A has
a = 1, t = 0, B has a = 9, t = 1: the best common model is Σ p_k·a_k·t_k / Σ p_k·a_k, which is 0.9 for equal weights.
Were one Δc_k added at a hospital and not at the server, c would be off by it for good: with B's answer of round 1 lost
the end was 1.000, and it was 0.886 with that of round 4.
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from app.site.memory import Memory
from strategies import records
from strategies.gate import Gate
from strategies.local.scaffold import Scaffold
from strategies.types import MEMORY_LOST, Report
from strategies.weighting import Equal, Product, Recency, Size
from strategies.wire.int8 import Int8
from tests.strategies.fakes import FakeGrid, codes, course, federated

ROUNDS, STEPS, LR = 60, 20, 0.05


class Quadratic:
    """A hospital as the application has it: what it keeps is on disk before it answers."""

    def __init__(self, folder, target, curvature, patients=1):
        self.memory = Memory(folder)
        self.target, self.curvature, self.patients = target, curvature, patients

    def __call__(self, message):
        plan, received = records.read_plan(message), records.read_model(message)
        kept = self.memory.before(plan.round, plan.taken).get("kept", {})
        if plan.taken and not kept:
            return records.decline(message, MEMORY_LOST)
        delta, learned = self.fit(received, records.read_control(message), kept)
        self.memory.keep(plan.round, {"kept": learned.kept}, plan.taken)
        report = Report(plan.hospital, plan.round, self.patients, self.patients, steps=STEPS, loss=0.0)
        return records.reply(message, {"values": delta}, report, learned.control)

    def fit(self, received, control, kept):
        local, model = Scaffold(lr=LR), nn.ParameterDict({"w": torch.tensor(received["w"])})
        optimiser, state = local.optimiser(model.parameters(), LR), local.start(model, control, kept)
        for _ in range(STEPS):
            optimiser.zero_grad()
            (self.curvature / 2 * (model["w"] - self.target) ** 2).sum().backward()
            local.correct(model, state)
            optimiser.step()
        delta = {"w": model["w"].detach().numpy() - received["w"]}
        return delta, local.finish(model, state, steps=STEPS, lr=LR)


@pytest.fixture
def hospitals(tmp_path):
    return {"A": Quadratic(tmp_path / "A", 0.0, 1.0), "B": Quadratic(tmp_path / "B", 1.0, 9.0)}


def trained(hospitals, *, facts=None, roster=None, weighting=None, **settings):
    """The model at the end, and each round's facts."""
    nodes = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({nodes[name]: answer for name, answer in hospitals.items()})
    facts = [] if facts is None else facts
    plain = course(
        nodes, {"w": np.float32([2.0])}, rounds=ROUNDS, after_round=lambda _, fact: facts.append(fact), **settings
    )
    if roster:
        plain = replace(plain, roster=lambda grid: {name: nodes[name] for name in roster(len(facts) + 1)})
    state, _ = federated(local=Scaffold(lr=LR), weighting=weighting or Equal()).run(grid, plain)
    return state.model["w"][0], facts


def once(hospital, round, mishap):
    """`hospital`, but for one round, in which `mishap` makes what is answered of the message and the answer."""

    def answer(message):
        reply = hospital(message)
        return mishap(message, reply) if records.read_plan(message).round == round else reply

    return answer


def held_back(hospital, round, until_done, facts):
    """`hospital`, whose answer to `round` comes when so many rounds are done."""
    waiting = []

    def answer(message):
        if records.read_plan(message).round != round:
            return hospital(message)
        waiting[:] = waiting or [hospital(message)]
        return waiting[0] if len(facts) >= until_done else None

    return answer


def lost(message, reply):
    return None


def misstated(message, reply):
    reply.content["report"]["norm"] *= 2
    return reply


def exploded(message, reply):
    encoded, control = records.read_update(reply)
    return records.reply(message, {"values": {"w": 1e6 * encoded["values"]["w"]}}, records.read_report(reply), control)


@pytest.mark.parametrize("round", [1, 4])
@pytest.mark.parametrize(("mishap", "code"), [(lost, "timeout"), (misstated, "norm-misstated")])
def test_an_answer_that_is_lost_or_refused(hospitals, round, mishap, code):
    end, facts = trained({**hospitals, "B": once(hospitals["B"], round, mishap)})
    assert codes(facts[round - 1]) == {"B": code}
    assert end == pytest.approx(0.9, abs=1e-3)


def test_an_update_that_is_left_out_as_too_large(hospitals, tmp_path):
    third = Quadratic(tmp_path / "C", 0.0, 1.0)
    end, facts = trained({**hospitals, "B": once(hospitals["B"], 3, exploded), "C": third}, gate=Gate(1e4))
    assert codes(facts[2]) == {"B": "norm-outlier"}
    assert end == pytest.approx(9 / 11, abs=1e-3)


@pytest.mark.parametrize("round", [1, 4])
def test_a_round_without_a_quorum(hospitals, round):
    end, facts = trained({**hospitals, "B": once(hospitals["B"], round, lost)}, quorum=2)
    assert facts[round - 1].failed == "quorum"
    assert end == pytest.approx(0.9, abs=1e-3)


def test_a_hospital_that_is_cut_off_for_longer_than_files_are_kept(hospitals):
    def cut_off(message):
        reply = hospitals["B"](message)
        return None if 3 <= records.read_plan(message).round <= 8 else reply

    end, facts = trained({**hospitals, "B": cut_off}, strikes=99)
    assert [round for round, fact in enumerate(facts[:12], start=1) if fact.refused] == [3, 4, 5, 6, 7, 8]
    assert end == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("weighting", [Equal(), Product([Size(), Recency(rate=0.5)])])
def test_an_answer_that_comes_a_round_late_and_counts(hospitals, weighting):
    facts = []
    late = held_back(hospitals["B"], 3, 3, facts)
    end, _ = trained({**hospitals, "B": late}, facts=facts, max_staleness=1, weighting=weighting)
    assert (codes(facts[2]), facts[3].late) == ({"B": "timeout"}, {"B": 1})
    assert end == pytest.approx(0.9, abs=1e-3)


def test_hospitals_of_unequal_weight_of_whom_one_is_not_always_there(hospitals):
    hospitals["A"].patients = 9  # (9·0 + 9·1) / (9 + 9)
    end, facts = trained(
        hospitals, weighting=Size(), roster=lambda round: "AB" if round % 3 != 2 or round > 20 else "A"
    )
    assert facts[1].asked == ("A",)
    assert end == pytest.approx(0.5, abs=1e-3)


def test_a_hospital_that_joins_later(hospitals, tmp_path):
    hospitals["C"] = Quadratic(tmp_path / "C", 4.0, 2.0)  # (1·0 + 9·1 + 2·4) / 12
    end, _ = trained(hospitals, roster=lambda round: "ABC" if round > 6 else "AB")
    assert end == pytest.approx(17 / 12, abs=1e-3)


def robbed(hospital, round):
    """`hospital`, whose memory is gone when it is asked in `round`."""

    def answer(message):
        if records.read_plan(message).round == round:
            shutil.rmtree(hospital.memory.folder)
        return hospital(message)

    return answer


def test_a_hospital_whose_memory_is_gone(hospitals):
    end, facts = trained({**hospitals, "B": robbed(hospitals["B"], 5)})
    assert [codes(fact) for fact in facts[4:8]] == [{"B": MEMORY_LOST}, {}, {}, {}]
    assert end == pytest.approx(0.9, abs=1e-3)


def test_a_late_answer_from_before_all_began_anew(hospitals, tmp_path):
    third, facts = Quadratic(tmp_path / "C", 0.0, 1.0), []
    late = held_back(third, 4, 5, facts)
    end, _ = trained({**hospitals, "B": robbed(hospitals["B"], 5), "C": late}, facts=facts, max_staleness=2)
    assert [codes(fact) for fact in facts[3:6]] == [{"C": "timeout"}, {"B": MEMORY_LOST}, {"C": "late"}]
    assert end == pytest.approx(9 / 11, abs=1e-3)


def test_error_feedback_loses_nothing_but_the_update_that_was_lost(tmp_path):
    wire, memory, delta = Int8(), Memory(tmp_path / "A"), np.float32([0.3, 1.0, -0.7])

    def compressing(message):
        plan = records.read_plan(message)
        residual = memory.before(plan.round, plan.taken).get("residual", {})
        encoded, residual = wire.encode({"w": delta}, residual)
        memory.keep(plan.round, {"residual": residual}, plan.taken)
        return records.reply(message, encoded, Report(plan.hospital, plan.round, 1, 1, steps=1, loss=0.0))

    plain = course({"A": 10}, {"w": np.zeros(3, np.float32)}, rounds=4, strikes=9)
    state, _ = federated(wire=wire).run(FakeGrid({10: once(compressing, 2, lost)}), plain)
    left = memory.before(5, taken=4)["residual"]["w"]
    assert (left != 0).any()
    # rounds 1, 3 and 4: what went into the model and what is still to come make up the three updates
    np.testing.assert_allclose(state.model["w"] + left, 3 * delta, rtol=1e-6)
