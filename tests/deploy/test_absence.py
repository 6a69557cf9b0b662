"""Who goes and comes back: a hospital without power, the coordinator killed, a terminal killed. What a round cost is
paid once, and where nobody missed a round the model is the one of a run that nothing happened to.
"""

import pytest

from app.deploy.hospital import open_hospital
from app.site.budget import Budget
from strategies.privacy.events import DpSgd
from tests.deploy.conftest import ONLINE_SECONDS
from tests.deploy.processes import SAME, STEADY, TINY, alive, apart, journalled, rounds, wait_for_round

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

PRIVATE = ["strategy/privacy=patient", "training.class_balance=false", "strategy.privacy.steps=4"]
"""Two hospitals of some 13 patients can afford few rounds; the ledger's arithmetic is what is looked at."""


def paid(site) -> list[int]:
    """The rounds of training that a hospital's ledger was charged for, in order."""
    file = open_hospital(site).site()
    budget = Budget(file.state_dir, file.ledger_key, file.name)
    assert budget.verify() == ()
    reserved = budget.read().reserved
    return [entry.round for entry in reserved if any(isinstance(event, DpSgd) for event in entry.events)]


def test_a_hospital_without_power_for_three_rounds_is_in_later_ones_and_pays_for_none_twice(two, tmp_path):
    coordinator, sites = two.up("north", "south")
    run_dir = tmp_path / "run"
    run = two.run(run_dir, *TINY, *PRIVATE, "quorum=1", "deadline_s=20", "rounds=40")
    wait_for_round(run_dir, 1)
    family = sites["north"].family()
    sites["north"].kill()
    assert alive(family) == [], "processes of a hospital without power are left"
    gone = len(rounds(run_dir))
    wait_for_round(run_dir, gone + 3, 150)
    two.start_site("north").wait_for("connected to the coordinator", ONLINE_SECONDS)
    back = journalled(run_dir, lambda line: line["round"] > gone + 2 and "north" in line["reports"], 150)
    run.interrupt()
    without = [line["round"] for line in rounds(run_dir) if "north" not in line["reports"]]
    assert len(without) >= 3
    assert back["round"] > max(without[:3])
    charged = paid(two.site("north"))
    assert len(set(charged)) == len(charged), charged
    assert not set(charged) & {round for round in without if round > gone + 1}
    coordinator.wait_for("what hospitals sent is destroyed", 30)


def test_a_coordinator_that_falls_in_mid_round_ends_with_the_model_of_a_run_that_nothing_happened_to(two, tmp_path):
    coordinator, _ = two.up("north", "south")
    clean, run_dir = tmp_path / "clean", tmp_path / "fallen"
    assert two.run(clean, *TINY, *STEADY, "rounds=3").ended(240) == 0
    run = two.run(run_dir, *TINY, *STEADY, "rounds=3")
    wait_for_round(run_dir, 1)
    family = coordinator.family()
    coordinator.kill()
    assert alive(family) == [], "processes of a coordinator that fell are left"
    assert run.ended(120) == 1
    assert f"fedvox run --resume {run_dir}" in run.said()
    two.start_coordinator()
    for name in ("north", "south"):
        two.wait_until_online(name)
    resumed = two.run(run_dir, resume=True)
    assert resumed.ended(240) == 0, resumed.said()
    assert [line["round"] for line in rounds(run_dir)] == [1, 2, 3]
    assert apart(clean, run_dir) < SAME


def test_a_private_run_whose_coordinator_fell_is_resumed_and_no_round_is_paid_for_twice(two, tmp_path):
    coordinator, _ = two.up("north", "south")
    run_dir = tmp_path / "run"
    run = two.run(run_dir, *TINY, *PRIVATE, "rounds=3")
    wait_for_round(run_dir, 1)
    coordinator.kill()
    assert run.ended(120) == 1
    two.start_coordinator()
    for name in ("north", "south"):
        two.wait_until_online(name)
    resumed = two.run(run_dir, resume=True)
    assert resumed.ended(240) == 0, resumed.said()
    for name in ("north", "south"):
        assert paid(two.site(name)) == [1, 2, 3]


def test_a_run_whose_terminal_was_killed_is_taken_over_by_its_resume(two, tmp_path):
    two.up("north", "south")
    run_dir = tmp_path / "run"
    killed = two.run(run_dir, *TINY, "rounds=4")
    wait_for_round(run_dir, 1)
    killed.kill()
    resumed = two.run(run_dir, resume=True)
    assert resumed.ended(240) == 0, resumed.said()
    assert [line["round"] for line in rounds(run_dir)] == [1, 2, 3, 4]
