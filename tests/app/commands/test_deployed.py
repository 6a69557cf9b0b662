import pytest

from app.commands.deployed import deployed, run_at
from app.commands.launch import fresh, settle
from app.config import compose
from app.deploy.errors import DeployError


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


def test_a_run_at_a_coordinator_that_is_not_running_says_how_to_start_it(coordinator, tmp_path):
    job = fresh(tmp_path / "run", deployed(str(coordinator.folder), ["model=tiny"]))
    with pytest.raises(DeployError, match="fedvox coordinator start"):
        run_at(str(coordinator.folder), job, lambda: True)
