"""Before round 1: every fault that would poison a run is caught by name and number; nothing else is."""

import json
import re
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from app.client_app import app as client
from app.config import compose, to_line
from app.fingerprint import code_hash, config_hash
from app.local_grid import LocalGrid
from app.rounds.comparison import ask, compare
from app.rounds.folder import RunFolder
from app.rounds.roster import STATISTICS, Planned
from data.statistics import ImplausibleSite
from strategies.types import Plan
from tests.app.rounds import spoiled
from tests.app.rounds.spoiled import (
    flipped,
    headers,
    in_the_corner,
    in_units_of,
    labels,
    no_labels,
    scaled,
    swap,
    swap_and_drop_diameters,
    swapped_axes,
    without_rescale,
)

VENDORS = {"north": "GE", "south": "SIEMENS", "west": "TOSHIBA"}


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory) -> Path:
    return spoiled.write_hospitals(tmp_path_factory.mktemp("hospitals"), VENDORS)


class Conference:
    """The coordinator and its hospitals, as far as the comparison."""

    def __init__(self, sites: dict[str, Path], folder: Path, *overrides: str, client=client):
        settings = [
            "federation=sites", "federation.sites=null", "preprocess=ct24", *overrides,
            *(f"++federation.hospitals.{name}={{site: {site / 'site.yaml'}}}" for name, site in sites.items()),
        ]  # fmt: skip
        self.config = compose(settings)
        self.roster = Planned(tuple(sites))
        self.grid = LocalGrid(client, nodes=len(sites), run_config={"overrides": to_line(settings)})
        self.folder = RunFolder(folder)
        self.plan = Plan(
            run="r", leg="", round=0, rounds=1, hospital="", seed=0, fold=-1,
            code=code_hash(), config=config_hash(self.config),
        )  # fmt: skip

    def compare(self) -> dict:
        """What comparison.json says, where nothing stops the run."""
        compare(self.grid, self.config, self.folder, self.roster, self.plan)
        return self.written()

    def ask(self):
        return ask(self.grid, self.config, self.roster, self.plan)

    def written(self) -> dict:
        return json.loads((self.folder.path / "comparison.json").read_text())


@pytest.fixture
def conference(hospitals, tmp_path):
    """conference(*changes, overrides=…) → hospitals of which south is changed so."""

    def meet(*changes, overrides=(), client=client) -> Conference:
        sites = {name: hospitals / name for name in VENDORS}
        if changes:
            sites["south"] = spoiled.spoiled(hospitals / "south", tmp_path / "south", *changes)
        return Conference(sites, tmp_path, *overrides, client=client)

    return meet


def test_hospitals_with_nothing_wrong_are_told_apart_by_nothing(conference):
    found = conference().compare()
    assert [remark for remark in found["remarks"] if remark["stops"]] == []
    assert set(found["hospitals"]) == set(VENDORS)
    assert (found["passed"], found["not_compared"], found["hounsfield"]) == ([], {}, True)


FAULTS = {
    "rescale missing": ([headers(without_rescale)], r"soft tissue is \d{3,4} HU, plausible is -200 to 250 HU"),
    "front to back": ([flipped(1)], r"place of the spine behind the lungs is -0\.\d+, plausible is -0.05 or more"),
    "head down": ([flipped(0)], r"place of the windpipe above the middle of the lungs is -0\.\d+"),
    "on the side": ([swapped_axes(0, 2, 1)], r"side-by-side place of the lungs is 0\.[012]\d*"),
    "across": ([swapped_axes(2, 1, 0)], r"side-by-side place of the lungs is "),
    "tipped over": ([swapped_axes(1, 0, 2)], r"run of the spine along the slices is -0\.\d+"),
    "centimetres": ([headers(in_units_of(10.0)), labels(scaled(0.1))], r"width of slices is 3\d(\.\d+)? mm"),
    "metres": ([headers(in_units_of(1000.0)), labels(scaled(0.001))], r"distance of pixels is 0\.00\d+ mm"),
    "labels in centimetres": ([labels(scaled(0.1))], r"share of labels without a crop in their scan is"),
    "labels in the air": ([in_the_corner], r"share of crops that hold nothing but air is 1"),
    "labels swapped": ([labels(swap)], r"share of negatives with a diameter, less that of positives is 1,"),
    "labels swapped, no diameters": ([labels(swap_and_drop_diameters)], r"labels agree with the other hospitals' by -"),
    "no labels": ([no_labels], r"number of labelled places is 0, plausible is 1 or more"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_stops_the_run_and_is_named(conference, fault):
    changes, said = FAULTS[fault]
    meeting = conference(*changes)
    with pytest.raises(ImplausibleSite) as stopped:
        meeting.compare()
    assert re.search(f"hospital south: {said}", str(stopped.value)), str(stopped.value)
    assert "hospital north" not in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert {remark["hospital"] for remark in meeting.written()["remarks"] if remark["stops"]} == {"south"}


def test_both_values_are_named(conference):
    with pytest.raises(ImplausibleSite, match=r"soft tissue is \d{3,4} HU.*other hospitals: -?\d+(\.\d+)?, -?\d"):
        conference(headers(without_rescale)).compare()


def test_between_two_hospitals_it_is_not_said_which_labels_are_swapped(hospitals, tmp_path):
    south = spoiled.spoiled(hospitals / "south", tmp_path / "south", labels(swap_and_drop_diameters))
    meeting = Conference({"north": hospitals / "north", "south": south}, tmp_path)
    with pytest.raises(ImplausibleSite, match=r"hospital north: labels agree.*here or there.*hospital south: labels"):
        meeting.compare()


def test_switched_off_nobody_is_asked(conference):
    asked = []

    def refuse(message, context):
        asked.append(message)
        raise AssertionError

    meeting = conference(overrides=["comparison=off"], client=refuse)
    compare(meeting.grid, meeting.config, meeting.folder, meeting.roster, meeting.plan)
    assert asked == []
    assert not (meeting.folder.path / "comparison.json").exists()


# --- what leaves ---


def test_at_the_hospital_nothing_leaves_but_that_it_passed(conference):
    meeting = conference(overrides=["comparison=at_hospital"])
    told = meeting.ask()
    assert (set(told.passed), told.sites, told.refused) == (set(VENDORS), {}, {})
    (reply,) = one_reply(meeting, "south")
    assert dict(reply.content["report"]).keys() == {"hospital", "passed", "salt"}


def test_at_the_hospital_a_fault_leaves_as_declined_and_stops_the_run(conference, caplog):
    meeting = conference(headers(without_rescale), overrides=["comparison=at_hospital"])
    with pytest.raises(ImplausibleSite, match="hospital south: declined: its own comparison failed, its log has"):
        meeting.compare()
    (reply,) = one_reply(meeting, "south")
    assert dict(reply.content["report"]).keys() == {"declined", "salt"}
    log = (Path(meeting.config["federation"]["hospitals"]["south"]["site"]).parent / "state" / "site.log").read_text()
    assert "soft tissue is " in log
    assert "rescale" in log


def test_where_training_is_private_hospitals_compare_themselves_whatever_the_run_says(conference):
    private = ["strategy/privacy=patient", "training.class_balance=false", "comparison=standard"]
    # Ranges and sample of the run's own choice would read a patient's numbers off the answers.
    narrow = ["comparison.limits.ranges.tissue_hu=[11.0,11.1]", "comparison.sampling.scans=1"]
    told = conference(overrides=[*private, *narrow]).ask()
    assert (set(told.passed), told.sites, told.refused) == (set(VENDORS), {}, {})


def test_a_hospital_of_few_patients_names_the_quantity_alone(hospitals, tmp_path):
    def stricter(data: Path) -> None:
        file = data.parent / "site.yaml"
        file.write_text(file.read_text().replace("min_patients: 5", "min_patients: 6"))

    quiet = spoiled.spoiled(hospitals / "north", tmp_path / "north", stricter)
    south = spoiled.spoiled(hospitals / "south", tmp_path / "south", stricter, headers(without_rescale))
    meeting = Conference({"north": quiet, "south": south, "west": hospitals / "west"}, tmp_path)
    told = meeting.ask()
    assert (told.passed, set(told.sites), told.refused) == (("north",), {"west"}, {"south": "implausible-tissue-hu"})
    with pytest.raises(ImplausibleSite, match="hospital south: implausible-tissue-hu"):
        meeting.compare()


def one_reply(meeting: Conference, hospital: str) -> list[Message]:
    from dataclasses import replace

    plan = replace(meeting.plan, hospital=hospital)
    message = Message(RecordDict({"plan": ConfigRecord(plan.record())}), 1, STATISTICS)
    return meeting.grid.send_and_receive([message])


# --- who cannot be compared ---


def test_a_hospital_that_cannot_answer_is_named_and_does_not_stop_the_run(conference, caplog):
    def lost(data: Path) -> None:
        next(data.rglob("*.dcm")).write_bytes(b"\0" * 128 + b"DICM")

    meeting = conference(lost)
    found = meeting.compare()
    assert set(found["not_compared"]) == {"south"}
    assert "hospital south:" in caplog.text
    assert "was not compared" in caplog.text


def test_a_hospital_with_other_code_is_not_compared(conference, monkeypatch):
    meeting = conference()
    meeting.plan = meeting.plan.__class__(**{**meeting.plan.record(), "code": "feedfeedfeedfeed"})
    assert all(code.startswith("other-code-") for code in meeting.ask().refused.values())


@pytest.mark.parametrize(
    ("altered", "code"),
    [({"number.tissue_hu": float("nan")}, "malformed"), ({"number.patient_name": 1.0}, "malformed"),
     ({"histogram.positive": [0.5]}, "malformed"), ({"count.patients": -3}, "malformed")],
)  # fmt: skip
def test_statistics_that_are_none_are_not_compared(conference, altered, code):
    def lying(message, context):
        reply = client(message, context)
        if message.content["plan"]["hospital"] == "south":
            reply.content["report"].update(altered)
        return reply

    told = conference(client=lying).ask()
    assert told.refused == {"south": code}
    assert set(told.sites) == {"north", "west"}


def test_statistics_are_kept_until_scans_labels_or_settings_change(conference, monkeypatch):
    from app.site import introduction

    measured = []
    real = introduction.site_statistics
    monkeypatch.setattr(introduction, "site_statistics", lambda *a, **k: measured.append(1) or real(*a, **k))
    meeting = conference(labels(lambda row: row))
    first = meeting.ask()
    count = len(measured)
    assert meeting.ask() == first
    assert len(measured) == count
    south = Path(meeting.config["federation"]["hospitals"]["south"]["site"]).parent
    (south / "state" / "statistics.json").write_text('{"stamp": "torn')
    assert meeting.ask() == first
    assert len(measured) == count + 1
