"""What hospitals keep from round to round, in real runs in which an answer or a hospital's state gets lost."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from app import client_app
from app.home import home
from app.rounds.checkpoint import load_state
from app.site.memory import Memory
from strategies import records
from strategies.types import MEMORY_LOST


def memory_of(hospital, run):
    (folder,) = home().glob(f"sites/**/runs/{run}/all/{hospital}")
    return Memory(folder)


def refusals(folder):
    return [{refusal["hospital"]: refusal["code"] for refusal in line["refused"]} for line in folder.lines()]


@pytest.fixture
def mishap(monkeypatch):
    """mishap(hospital, round, before=…, after=…): what happens to a request, and to the answer, of that round."""
    honest = client_app.app

    def arrange(hospital, round, *, before=lambda plan: None, after=lambda message, reply: reply):
        def app(message, context):
            plan = records.read_plan(message)
            if message.metadata.message_type != "train" or (plan.hospital, plan.round) != (hospital, round):
                return honest(message, context)
            before(plan)
            return after(message, honest(message, context))

        monkeypatch.setattr(client_app, "app", app)

    return arrange


def rob(plan):
    shutil.rmtree(memory_of(plan.hospital, plan.run).folder)


def lose(message, reply):
    return records.decline(message, "lost-on-the-way")


@pytest.mark.parametrize("lost_in", [None, 2])
def test_the_servers_variate_is_the_sum_of_those_that_the_hospitals_go_on_with(run, mishap, lost_in):
    if lost_in:
        mishap("GE", lost_in, after=lose)
    folder, _ = run("strategy=scaffold", "strategy/weighting=size", "strategy/wire=topk", "rounds=3")
    state = load_state(folder.checkpoint(""))
    seen = state.facts["attendance"]
    kept = {name: memory_of(name, folder.run_name()).before(4, taken=3)["kept"] for name in seen}
    assert [row["taken"] for row in seen.values()] == [3, 3, 3]
    for name, total in state.control.items():
        expected = sum(row["control_weight"] * kept[hospital][name] for hospital, row in seen.items())
        np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_hospital_that_has_lost_its_variate_stays_in_the_run(run, mishap):
    mishap("GE", 2, before=rob)
    folder, summary = run("strategy=scaffold", "rounds=3")
    assert refusals(folder) == [{}, {"GE": MEMORY_LOST}, {}]
    assert summary["status"] == "completed"
    state = load_state(folder.checkpoint(""))
    kept = {name: memory_of(name, folder.run_name()).before(4, taken=3)["kept"] for name in state.facts["attendance"]}
    for name, total in state.control.items():
        np.testing.assert_allclose(total, sum(group[name] for group in kept.values()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sharing", ["partial", "fedbn"])
def test_a_hospital_that_has_lost_what_stays_home_declines_and_is_sent_the_whole_model(run, mishap, sharing):
    settings = ["strategy=partial", "strategy.sharing.layers=[fc]"] if sharing == "partial" else ["strategy=fedbn"]
    mishap("GE", 2, before=rob)
    folder, _ = run(*settings, "rounds=3")
    assert refusals(folder) == [{}, {"GE": MEMORY_LOST}, {}]
    down = [line["bytes_down"]["GE"] for line in folder.lines()]
    assert down[1] < down[0] == down[2]


def test_a_frozen_trunk_that_was_lost_is_that_of_the_checkpoint_again_and_no_other(run, mishap):
    first, _ = run("rounds=1", name="first")
    weights = first.path / "model.safetensors"
    mishap("GE", 2, before=rob)
    folder, _ = run(f"weights={weights}", "strategy=partial", "strategy.sharing.layers=[fc]", "rounds=3", name="second")
    trunk = memory_of("GE", folder.run_name()).before(4)["personal"]
    trained = load_file(weights)
    assert set(trunk) == {name for name in trained if not name.startswith("fc")}
    assert all(np.array_equal(trained[name], tensor) for name, tensor in trunk.items())
