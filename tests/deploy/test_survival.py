"""What a run comes through: hospitals that go and come back, cut and slow wires; and what of a hospital leaves it."""

import shutil

import pytest
import yaml

from tests.deploy.conftest import ONLINE_SECONDS, founded
from tests.deploy.processes import TINY, rounds, wait_for_round
from tests.deploy.relay import Relay

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

SLOW_BYTES, SLOW_DELAY_S = 250_000.0, 0.1
"""2 Mbit/s; a tenth of a second each way."""


def through(relay, site):
    """Send a hospital's connection through a wire of ours."""
    path = site / "kit" / "kit.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"address": f"localhost:{relay.port}"}))


@pytest.fixture
def two(tmp_path, cohort, bundle):
    """Two hospitals at a running coordinator; `north` is behind a wire."""
    with founded(tmp_path) as federation:
        for name in ("north", "south"):
            federation.enrol(name, cohort, bundle)
        yield federation


def test_a_cut_wire_heals_and_the_hospital_is_in_the_rounds_again(two, tmp_path):
    coordinator, relay = two.start_coordinator(), Relay(two.coordinator)
    through(relay, two.site("north"))
    for name in ("north", "south"):
        two.start_site(name)
        coordinator.wait_for(f"{name} is online", ONLINE_SECONDS)
    run_dir = tmp_path / "run"
    run = two.run(run_dir, *TINY, "quorum=1", "deadline_s=20", "rounds=14")
    wait_for_round(run_dir, 1)
    relay.cut()
    wait_for_round(run_dir, 2, 90)
    relay.heal()
    assert run.ended(400) == 0, run.said()
    there = {line["round"]: sorted(line["reports"]) for line in rounds(run_dir)}
    assert there[1] == ["north", "south"]
    without = [round for round, names in there.items() if names == ["south"]]
    assert without, "no round went on without the hospital"
    assert any("north" in names for round, names in there.items() if round > without[0]), there
    relay.close()


def test_a_run_whose_terminal_was_killed_is_taken_over_by_its_resume(two, tmp_path):
    coordinator = two.start_coordinator()
    for name in ("north", "south"):
        two.start_site(name)
        coordinator.wait_for(f"{name} is online", ONLINE_SECONDS)
    run_dir = tmp_path / "run"
    killed = two.run(run_dir, *TINY, "rounds=4")
    wait_for_round(run_dir, 1)
    killed.kill()
    resumed = two.run(run_dir, resume=True)
    assert resumed.ended(240) == 0, resumed.said()
    assert [line["round"] for line in rounds(run_dir)] == [1, 2, 3, 4]


def test_a_slow_wire_makes_the_same_model(two, tmp_path):
    coordinator = two.start_coordinator()
    relay = Relay(two.coordinator, bytes_a_second=SLOW_BYTES, delay_s=SLOW_DELAY_S)
    for name in ("north", "south"):
        two.start_site(name)
        coordinator.wait_for(f"{name} is online", ONLINE_SECONDS)
    quick = two.run(tmp_path / "quick", *TINY, "rounds=2")
    assert quick.ended(240) == 0, quick.said()
    assert two.running[1].interrupt() == 0
    through(relay, two.site("north"))
    two.start_site("north").wait_for("connected to the coordinator", ONLINE_SECONDS)
    slow = two.run(tmp_path / "slow", *TINY, "rounds=2")
    assert slow.ended(240) == 0, slow.said()
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("quick", "slow")]
    assert models[0] == models[1]
    relay.close()


def test_nothing_that_names_a_patient_leaves_a_hospital_even_in_its_errors(two, tmp_path):
    coordinator, relay, site = two.start_coordinator(), Relay(two.coordinator), two.site("north")
    through(relay, site)
    folder = _moved(site, tmp_path / "planted-folder")
    labels = folder / "labels.csv"
    whole = labels.read_text()
    named = _names(folder, whole)
    labels.write_text(whole + "1.2.826.0.1.3680043.99,PLANTED,not,a,row,\n")
    for name in ("north", "south"):
        two.start_site(name)
        coordinator.wait_for(f"{name} is online", ONLINE_SECONDS)
    broken = two.run(tmp_path / "broken", *TINY, "rounds=1", "quorum=1")
    broken.ended(240)
    log = (site / "logs" / "hospital.log").read_bytes()
    assert b"PLANTED" in log, "the fault that was planted did not show at the hospital"
    labels.write_text(whole)
    healthy = two.run(tmp_path / "healthy", *TINY, "rounds=1")
    assert healthy.ended(240) == 0, healthy.said()
    assert len(relay.sent) > 50_000, "the wire saw no update"
    assert [word for word in named if word in relay.sent] == []
    told = b"".join(path.read_bytes() for path in two.home.rglob("*") if path.is_file())
    told += b"".join(path.read_bytes() for path in tmp_path.glob("*/*.json*")) + broken.said().encode()
    assert [word for word in named if word in told] == []
    relay.close()


def _moved(site, folder):
    """The hospital's data in a folder with a telling name. Returns it."""
    path = site / "site.yaml"
    settings = yaml.safe_load(path.read_text())
    shutil.copytree(settings["source"]["path"], folder)
    settings["source"]["path"] = str(folder)
    path.write_text(yaml.safe_dump(settings))
    return folder


def _names(folder, labels):
    """Everything that would name a patient: series, patients, folders; and the form of an error."""
    series = {line.partition(",")[0] for line in labels.splitlines()[1:]}
    patients = {path.name for path in folder.iterdir() if path.is_dir()}
    assert len(series) > 3
    assert len(patients) > 3
    words = {*series, *patients, "planted-folder", "PLANTED", "1.2.826.0.1.3680043.99", "Traceback"}
    return sorted(word.encode() for word in words)
