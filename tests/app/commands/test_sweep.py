"""A sweep goes on past the points that do not fit or fail, and says of each why.

Settings are tried out as they are; the runs themselves are none here: test_cli has a sweep of real ones.
"""

import json

import pytest

from app.cli import main
from app.commands import launch
from data.statistics import ImplausibleSite
from tests.federation.conftest import SMALL


@pytest.fixture
def sweep(cubes, tmp_path, capsys, monkeypatch):
    """sweep(*overrides) → exit code, rows of the ranking by what varied, what was said."""

    monkeypatch.setattr(launch, "start", started)

    def do(*more):
        given = [*SMALL, f"source.path={cubes}", "rounds=1", "replicates=2", *more]
        code = main(["sweep", *given, "--sweep-dir", str(tmp_path / "sweep"), "--json"])
        said = capsys.readouterr()
        rows = json.loads(said.out) if said.out else []
        shown = {",".join(str(value) for key, value in row.items() if "." in key or "/" in key): row for row in rows}
        return code, shown, " ".join(said.err.split())

    return do


def started(job, **how):
    """Instead of a run: one that is through at once, or fails as hospitals' data may make it fail."""
    if job.config["training"]["lr"] == 0.5:
        raise ImplausibleSite("hospital GE: air is at 3000 HU")
    return {"status": "completed", "stopped": "rounds", "validation": {"auc": 0.75}}


@pytest.mark.parametrize(
    ("overrides", "good", "bad", "reason"),
    [
        (["strategy=scaffold", "strategy/aggregate=mean,median"], "mean", "median", "SCAFFOLD, robust aggregate"),
        (["strategy=fedprox", "strategy.local.mu=-1,0.1"], "0.1", "-1", "mu is a finite number"),
        (["strategy/aggregate=trimmed_mean", "strategy.aggregate.fraction=0.34,0.7"], "0.34", "0.7", "fraction is in"),
        (["stopping.keep_best=true", "strategy/sharing=fedbn,all", "model.norm=batch"], "all", "fedbn", "keep_best"),
        (["strategy/sharing=partial", "strategy.sharing.layers=[fc],[nose]"], "[fc]", "[nose]", "no layer 'nose'"),
        (["strategy/weighting=size,equal", "strategy.weighting.unit=crops"], "size", "equal", "weighting.unit"),
    ],
    ids=["misfit", "part", "fraction", "keep-best", "layers", "unknown-at-some-points"],
)  # fmt: skip
def test_a_point_that_is_refused_is_passed_over_and_the_others_are_ranked(sweep, overrides, good, bad, reason):
    code, rows, said = sweep(*overrides)
    assert code == 0
    assert (rows[bad]["status"], rows[bad]["value"], rows[bad]["folder"]) == ("does not fit", None, "")
    assert rows[good]["status"] == "completed"
    assert f"passed over: {reason}" in said or reason in said.partition("passed over: ")[2]


def test_a_run_that_fails_on_its_data_is_ranked_last(sweep):
    code, rows, said = sweep("training.lr=0.5,0.01")
    assert code == 0
    assert [(row["status"], row["rank"]) for row in rows.values()] == [("completed", 1), ("failed", 2)]
    assert "hospital GE" in said


def test_what_is_wrong_for_every_point_ends_the_sweep_at_once(sweep, tmp_path):
    code, rows, said = sweep("round=3", "seed=0,1")
    assert (code, rows) == (2, {})
    assert "did you mean 'rounds'" in said
    assert not (tmp_path / "sweep").exists()


def test_where_every_point_is_refused_the_exit_code_says_that_the_settings_are_wrong(sweep):
    code, rows, said = sweep("training.lr=-1,-2")
    assert code == 2
    assert {row["status"] for row in rows.values()} == {"does not fit"}
    assert said.count("passed over: ") == 2


def test_trials_of_other_code_are_not_ranked_as_failures(sweep, tmp_path):
    sweep("training.lr=0.001,0.01")
    ranking = (tmp_path / "sweep" / "ranking.json").read_text()
    for told in (tmp_path / "sweep").glob("*/fingerprint.json"):
        told.write_text(json.dumps({**json.loads(told.read_text()), "code": "0123456789abcdef"}))
    code, rows, said = sweep("training.lr=0.001,0.01")
    assert (code, rows) == (2, {})
    assert "0123456789abcdef" in said
    assert (tmp_path / "sweep" / "ranking.json").read_text() == ranking
