"""Run folders → one table."""

import json

import pytest

from app.cli import main
from app.report.comparison import Figure, finished, markdown, rows, tables
from tests.federation.conftest import SMALL


@pytest.fixture
def folder(tmp_path):
    """folder(name, overrides, pooled, hospitals, curve…) writes what a run leaves."""

    def make(name, *overrides, auc, hospitals, curves=((0.5, 0.7),), mode="federated", status="completed"):
        path = tmp_path / "runs" / name
        path.mkdir(parents=True)
        seed = next((int(o.partition("=")[2]) for o in overrides if o.startswith("seed=")), 0)
        (path / "overrides.txt").write_text(" ".join(overrides))
        (path / "config.yaml").write_text(json.dumps({"federation": {"mode": mode}}))
        plain = [
            {"leg": str(leg), "round": r + 1, "validation_auc": value}
            for leg, curve in enumerate(curves)
            for r, value in enumerate(curve)
        ]
        (path / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in plain))
        table = {n: {"auc": a, "bytes_up": 400_000, "bytes_down": 600_000} for n, a in hospitals.items()}
        summary = {"status": status, "stopped": "rounds", "seed": seed, "pooled": {"auc": auc}, "hospitals": table}
        (path / "summary.json").write_text(json.dumps(summary))
        return tmp_path / "runs"

    return make


def test_a_row_is_the_mean_over_seeds_beside_central(folder):
    folder("c0", "federation.mode=central", "seed=0", auc=0.9, hospitals={"A": 0.9}, mode="central")
    folder("c1", "federation.mode=central", "seed=1", auc=0.8, hospitals={"A": 0.8}, mode="central")
    # seed 0 must reach 0.81, seed 1 must reach 0.72
    folder("a0", "strategy=fedavg", "seed=0", auc=0.8, hospitals={"A": 0.9, "B": 0.6}, curves=[(0.5, 0.7, 0.82)])
    where = folder("a1", "strategy=fedavg", "seed=1", auc=0.6, hospitals={"A": 0.5, "B": None}, curves=[(0.5, 0.73)])
    folder("b0", "strategy=scaffold", "seed=0", auc=0.9, hospitals={"A": 0.9}, curves=[(0.5, 0.6)])
    central, scaffold, fedavg = rows(finished(where))
    assert [row.name for row in (central, scaffold, fedavg)] == ["central", "scaffold", "fedavg"]
    assert fedavg.figures["pooled"] == Figure(pytest.approx(0.7), pytest.approx(0.02**0.5), 2)
    assert fedavg.figures["worst"].mean == pytest.approx(0.55)
    assert fedavg.figures["rounds"].mean == pytest.approx(1.5)  # after 2 rounds, and after 1
    assert fedavg.figures["megabytes"].mean == pytest.approx(2.0)
    assert scaffold.figures["rounds"] == Figure(None, None, 0)
    assert "| fedavg | 2 | 0.700 ± 0.141 | 0.550 ± 0.071 | 1.5 ± 0.7 | 2.0 ± 0.0 |  |" in markdown([fedavg])


def test_each_experiment_has_a_table_and_central_training_of_its_own(folder):
    for experiment, best in (("easy", 0.9), ("hard", 0.6)):
        folder(f"{experiment}-c", f"experiment=[{experiment},central]", auc=best, hospitals={"A": best}, mode="central")
        where = folder(
            f"{experiment}-a", f"experiment={experiment}", "strategy=fedavg", auc=best, hospitals={"A": best}
        )
    easy, hard = tables(finished(where))
    assert [(row.experiment, row.name) for row in easy] == [("easy", "central"), ("easy", "federated")]
    assert easy[1].figures["rounds"].mean is None  # 0.7 is less than 0.9 · 0.9
    assert hard[1].figures["rounds"].mean == 1  # 0.7 is more than 0.9 · 0.6, and 0.5 is not
    assert markdown(hard).startswith("| hard | runs |")


@pytest.mark.parametrize(
    ("gains", "remark"),
    [
        ((-0.02, -0.01, -0.03), "alone is better"),  # mean −0.02, standard error 0.006
        ((-0.05, 0.05, 0.03), "no proven gain"),  # mean 0.01, standard error 0.03
        ((0.02, 0.01, 0.03), ""),
        ((0.02,), ""),  # one seed says nothing
    ],
)
def test_an_algorithm_that_was_not_worth_federating_is_remarked_on(folder, gains, remark):
    alone = (0.5, 0.7, 0.8)  # far apart, but compared seed by seed
    for seed, gain in enumerate(gains):
        at = {"A": alone[seed] - 0.1, "B": alone[seed] + 0.1}
        folder(f"l{seed}", f"seed={seed}", auc=0.99, hospitals=at, mode="local_only")
        where = folder(f"a{seed}", f"seed={seed}", auc=0.5, hospitals={n: auc + gain for n, auc in at.items()})
    yardstick, row = rows(finished(where))
    assert (yardstick.remark, row.remark) == ("", remark)


def test_rounds_of_a_run_with_folds_are_the_mean_over_its_models(folder):
    folder("c", "seed=0", auc=1.0, hospitals={"A": 1.0}, mode="central")
    where = folder("f", "seed=0", auc=1.0, hospitals={"A": 1.0}, curves=[(0.95,), (0.5, 0.5, 0.95)])
    assert rows(finished(where))[1].figures["rounds"].mean == pytest.approx(1.0)


def test_runs_that_failed_are_not_counted(folder):
    folder("x", "seed=0", auc=None, hospitals={}, status="failed")
    assert finished(folder("y", "seed=1", auc=0.7, hospitals={"A": 0.7}))[0].seed == 1


def test_a_figure_of_fewer_runs_says_so(folder):
    folder("a", "seed=0", auc=0.5, hospitals={"A": 0.5})
    where = folder("b", "seed=1", auc=0.7, hospitals={"A": None})
    assert "0.500 (1 of 2)" in markdown(rows(finished(where)))


def test_a_table_goes_between_the_markers_of_a_file_and_nothing_else_changes(folder, tmp_path, capsys):
    where = folder("a", "seed=0", auc=0.75, hospitals={"A": 0.5})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: algorithms -->\nold\n<!-- /table: algorithms -->\nafter\n")
    assert main(["compare", str(where), "--into", str(page)]) == 0
    before, *table, after = page.read_text().splitlines()
    assert (before, after) == ("before", "after")
    assert "0.750" in table[-2]
    assert "old" not in page.read_text()
    page.write_text("no place")
    assert main(["compare", str(where), "--into", str(page)]) == 2
    assert page.read_text() == "no place"
    assert "<!-- table: algorithms -->" in capsys.readouterr().err


def test_a_folder_without_runs_is_refused_in_one_line(capsys, tmp_path):
    assert main(["compare", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_sweeps_into_one_folder_become_one_table(capsys, tmp_path, cubes):
    given = [*SMALL, f"source.path={cubes}", "rounds=1", "replicates=2", "--sweep-dir", str(tmp_path / "sweep")]
    assert main(["sweep", "strategy=fedavg,krum", "seed=0,1", *given]) == 0
    assert "passed over: Krum, too few hospitals" in capsys.readouterr().out
    assert main(["sweep", "--sweep", "yardsticks", "experiment=[]", "seed=0,1", *given]) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "sweep"), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["runs"] for row in table} == {"central": 2, "local_only": 2, "federated": 2}
    assert all(row["figures"]["pooled"]["sd"] is not None for row in table)
