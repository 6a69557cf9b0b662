import contextlib
import zipfile
from types import SimpleNamespace

import pytest

from app.cli import main
from app.commands.deployed import _note, deployed, run_at
from app.commands.launch import fresh, settle
from app.config import compose, to_line
from app.deploy import audit_log
from app.deploy.approval import approvals
from app.deploy.control import FlowerRun
from app.deploy.errors import DeployError
from app.deploy.hospital import open_hospital
from app.deploy.policy_check import check_run
from app.site.shield import Declined


def hospitals(coordinator, *overrides):
    return list(compose(deployed(str(coordinator.folder), list(overrides)))["federation"]["hospitals"])


def test_all_that_are_enrolled_take_part_where_none_is_named(coordinator):
    assert hospitals(coordinator, "rounds=3") == ["north", "south"]


@pytest.mark.parametrize("named", ["federation.hospitals={south:{}}", "++federation.hospitals.south={}"])
def test_those_that_are_named_take_part_and_no_other(coordinator, named):
    assert hospitals(coordinator, named) == ["south"]


def test_a_hospital_that_nobody_enrolled_cannot_take_part(coordinator):
    with pytest.raises(DeployError, match="not enrolled: west; there are: north, south"):
        deployed(str(coordinator.folder), ["++federation.hospitals.west={}"])


def test_an_experiment_s_own_hospitals_give_way_to_the_enrolled(coordinator):
    assert hospitals(coordinator, "experiment=demo") == ["north", "south"]


def test_hospitals_are_told_nothing_of_where_data_lie(coordinator):
    overrides = deployed(str(coordinator.folder), ["experiment=demo", "source=dicom", "source.path=scans"])
    _, settled = settle(overrides)
    assert not [text for text in settled if text.startswith("source.path=") and "/" in text]


@pytest.mark.parametrize(("run", "named"), [("7", "ab" * 32), ("9", "unknown")])
def test_the_audit_log_names_the_bytes_that_flower_took(coordinator, tmp_path, monkeypatch, run, named):
    flower = SimpleNamespace(runs=lambda: [FlowerRun(7, "running", "ab" * 32, "/runs/one")])
    monkeypatch.setattr("app.commands.deployed.control", lambda _: contextlib.nullcontext(flower))
    _note(coordinator, fresh(tmp_path / "run", deployed(str(coordinator.folder), ["model=tiny"])), run)
    started = audit_log.read(coordinator.folder / "audit.jsonl")[-1]
    assert (started["event"], started["run"], started["bundle"]) == ("run-started", run, named)


def test_a_run_at_a_coordinator_that_is_not_running_says_how_to_start_it(coordinator, tmp_path):
    job = fresh(tmp_path / "run", deployed(str(coordinator.folder), ["model=tiny"]))
    with pytest.raises(DeployError, match="fedvox coordinator start"):
        run_at(str(coordinator.folder), job, lambda: True)


@pytest.fixture
def approved(tmp_path):
    """What a hospital answers after `site approve --only LINE`: a coordinator's line of overrides, or a refusal."""
    folder, bundle = tmp_path / "at-north", tmp_path / "one.fab"
    main(["site", "init", str(folder), "--name", "north", "--data", str(tmp_path)])
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("app/x.py", "a = 1")

    def approve(line, policy=None):
        assert main(["site", "approve", str(folder), str(bundle), "--yes", "--only", line]) == 0
        (approval,) = approvals(open_hospital(folder))
        return lambda sent: check_run(policy or {}, {"overrides": to_line(sent)}, approval.configurations)

    return approve


def sent(coordinator, *overrides):
    """The line that hospitals get, as `fedvox run --superlink` settles it."""
    return settle(deployed(str(coordinator.folder), list(overrides)))[1]


LINE = ("experiment=demo", "rounds=5")


def test_a_run_that_a_hospital_approved_by_its_line_is_answered_at_any_coordinator(coordinator, approved):
    answered = approved(" ".join(LINE))
    assert answered(sent(coordinator, *LINE))["rounds"] == 5
    assert answered(sent(coordinator, *LINE, "++federation.hospitals.south={}", "wait_s=5"))


@pytest.mark.parametrize(
    "changed",
    [
        ["rounds=6"],
        ["strategy/privacy=site"],
        ["seed=1"],
        ["training.lr=0.5"],
        ["strategy/weighting=quality"],
        ["federation.mode=local_only"],
        ["budget.evaluation=0.5"],
    ],
)
def test_a_change_of_anything_else_is_refused(coordinator, approved, changed):
    answered = approved(" ".join(LINE))
    with pytest.raises(Declined) as declined:
        answered(sent(coordinator, *LINE, *changed))
    assert declined.value.code == "policy-configuration"


@pytest.mark.parametrize("seed", ["seed=0", "seed=7", "seed=null"])
def test_an_approval_without_a_seed_is_of_every_seed(coordinator, approved, seed):
    assert approved(" ".join([*LINE, "seed=null"]))(sent(coordinator, *LINE, seed))


def test_what_a_coordinator_adds_by_itself_needs_no_place_on_a_hospitals_list(coordinator, approved):
    answered = approved(" ".join(LINE), {"overrides": ["experiment", "rounds"]})
    assert answered(sent(coordinator, *LINE))
    with pytest.raises(Declined) as declined:
        answered(sent(coordinator, *LINE, "deploy.client_cpus=2"))
    assert declined.value.code == "policy-override"
