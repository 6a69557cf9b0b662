"""The short form, part of every test run: three hospitals, one killed, the coordinator killed, the run resumed."""

import json
import re
import sqlite3
from contextlib import closing

import pytest

from app.deploy import audit_log
from tests.deploy.conftest import HOSPITALS
from tests.deploy.processes import TINY, alive, rounds, wait_for_round

pytestmark = pytest.mark.slow


def test_a_run_survives_the_end_of_a_hospital_and_of_the_coordinator(three, tmp_path):
    coordinator = three.start_coordinator()
    sites = {name: three.start_site(name) for name in HOSPITALS}
    for name in HOSPITALS:
        coordinator.wait_for(f"{name} is online", 90)
    run_dir = tmp_path / "run"
    run = three.run(run_dir, *TINY, "rounds=3")
    wait_for_round(run_dir, 1, 120)

    # A power cut at one hospital, and then at the coordinator.
    family = sites["west"].family()
    sites["west"].kill()
    assert alive(family) == [], "processes of a killed hospital are left"
    wait_for_round(run_dir, 2, 150)
    family = coordinator.family()
    coordinator.kill()
    assert alive(family) == [], "processes of a killed coordinator are left"
    assert run.ended(90) == 1
    assert f"fedvox run --resume {run_dir} --superlink {three.home}" in run.said()

    coordinator, before = three.start_coordinator(), len(rounds(run_dir))
    sites["west"] = three.start_site("west")
    for name in HOSPITALS:
        coordinator.wait_for(f"{name} is online", 120)
    resumed = three.run(run_dir, resume=True)
    assert resumed.ended(150) == 0, resumed.said()
    assert re.search(
        r"round 3  3 of 3 hospitals  loss [\d.]+  validation AUC of the model before: [\d.]+  [\d.]+ s  "
        r"[\d.]+ MB up, [\d.]+ down",
        resumed.said(),
    ), resumed.said()
    assert re.search(r"pooled +\d+ +\d+ +[\d.]+ \([\d.]+–[\d.]+\) +none +[\d.]+/[\d.]+", resumed.said())

    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("completed", 3)
    assert before >= 2
    assert [line["round"] for line in rounds(run_dir)] == [1, 2, 3]
    assert set(summary["hospitals"]) == set(HOSPITALS)
    events = [line["event"] for line in audit_log.read(three.home / "audit.jsonl")]
    assert events.count("run-started") == 2
    coordinator.wait_for("what hospitals sent is destroyed", 30)
    state = three.coordinator.state_dir
    with closing(sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True)) as database:
        assert database.execute("SELECT count(*) FROM objects").fetchone() == (0,)
    family = coordinator.family()
    assert coordinator.interrupt() == 0
    assert alive(family) == []
    assert not state.exists(), "raw updates are left after the coordinator's end"
    for site in sites.values():
        family = site.family()
        assert site.interrupt() == 0
        assert alive(family) == []
