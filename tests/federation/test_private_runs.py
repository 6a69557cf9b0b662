"""Runs whose training is private: what is paid, what leaves, and what happens when the budget is spent."""

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from app import client_app
from app.cli import main
from app.commands import console, launch
from app.commands.errors import RunFailed
from app.config import ConfigError, compose
from app.privacy.terms import terms_of
from app.site import work
from app.site.budget import Budget
from strategies.privacy.accountant import epsilon
from strategies.records.arrays import from_record
from strategies.tensors import norm
from tests.federation.conftest import PRIVATE, SMALL

NAMES = ("GE", "PHILIPS", "SIEMENS")


@pytest.fixture
def letters(monkeypatch):
    """Everything that left a hospital, as it left: the contents of all answers, by what was asked."""
    left = defaultdict(list)
    real = client_app._answered

    def answered(handler, message, context):
        sent = real(handler, message, context)
        left[message.metadata.message_type].append(sent.content)
        return sent

    monkeypatch.setattr(client_app, "_answered", answered)
    return left


def budget_of(folder, name):
    return Budget(folder / name / "state", folder / name / f"{name}.ledger-key", name)


PUBLIC = {
    "hospital", "round", "patients", "crops", "steps", "loss", "seconds", "device", "run", "leg", "code", "histogram",
    "norm", "epsilon", "spent", "delta", "cap", "ledger", "salt",
}  # fmt: skip
"""Written out once more, so that a key which the gate's own list gains does not pass here unseen."""


def test_what_leaves_is_noised_declared_or_the_ledger_s(private, letters):
    _, summary = private("run")
    assert {kind: len(contents) for kind, contents in letters.items()} == {
        "query.statistics": 3, "train": 6, "evaluate": 3,
    }  # fmt: skip
    for content in letters["query.statistics"]:
        assert set(content) == {"report", "scores"}
        assert len(content["scores"]) == 0
        assert {key: said for key, said in content["report"].items() if key != "salt"} == {
            "hospital": content["report"]["hospital"], "passed": True,
        }  # fmt: skip
    for content in letters["train"]:
        assert set(content) == {"delta", "report"}
        report = content["report"]
        assert set(report) <= PUBLIC
        assert (report["crops"], report["seconds"], report["histogram"]) == (0, 0.0, [])
        assert np.isnan(report["loss"])
        assert (report["steps"], report["cap"]) == (2, 8.0)
        assert report["norm"] == norm(from_record(content["delta"]))  # whoever reads the update knows it
    for content in letters["evaluate"]:
        assert set(content["scores"]) == {"validation", "test"}
        report = content["report"]
        assert set(report) == {
            "hospital", "round", "patients", "test_patients", "device", "noise_sd", "salt",
            "epsilon", "spent", "delta", "cap", "ledger",
        }  # fmt: skip
        for array in content["scores"].values():
            counts = array.numpy()
            assert counts.shape == (2, 24)
            # With noise of standard deviation 1.3 in 48 bins, not one whole number.
            assert not np.any(counts == np.rint(counts))
    assert all(row["train_samples"] is None for row in summary["hospitals"].values())


def test_every_hospital_pays_what_the_run_promised_and_the_page_says_so(private, hospitals):
    folder = hospitals()
    run, summary = private("run", folder=folder)
    config = compose([*SMALL[4:], *PRIVATE])
    promised = terms_of({**config, "federation": {**config["federation"], "hospitals": {key: {} for key in NAMES}}})
    for name in NAMES:
        paid = summary["hospitals"][name]["privacy"]
        assert paid["unit"] == "patient"
        assert paid["epsilon"] == pytest.approx(promised.promised, abs=1e-9)
        assert 3.19 < paid["epsilon"] <= 3.2
        assert (paid["delta"], paid["cap"]) == (1e-5, 8.0)
        ledger = budget_of(folder, name).read()
        assert epsilon(ledger.events(), 1e-5) == paid["epsilon"]
        assert [event.kind for event in ledger.events()] == ["dp-sgd"] * 2 + ["histogram"] * 2
        assert all(entry.reply for entry in ledger.reserved)
    text = run.privacy.read_text()
    assert "| GE | 3.20 | 1e-05 | 8 |" in text
    assert "too few for ε 3.2" in text
    told = summary["privacy"]
    assert (told["unit"], told["clipping_bound"]) == ("patient", "1 (L2, of one unit's gradient)")
    assert told["randomness"].startswith("AES-256-CTR")
    assert all(f"| {name.replace('_', ' ')} | {said} |" in text for name, said in told.items() if name != "warnings")
    assert told["warnings"]
    assert all(f"* {said}" in text for said in told["warnings"])


def test_a_second_run_is_declined_where_it_would_pass_the_cap(private, hospitals):
    folder = hospitals(epsilon_cap=5.0)
    _, first = private("first", folder=folder)
    assert first["status"] == "completed"
    run, second = private("second", folder=folder)
    codes = {one["code"] for row in second["hospitals"].values() for one in row["refused"]}
    assert codes == {"budget-cap"}
    for name in NAMES:
        assert budget_of(folder, name).read().after((), 1e-5, "second") <= 5.0
    assert "budget-cap since round" in run.privacy.read_text()


def test_the_run_goes_on_without_the_hospital_whose_cap_is_reached(private, hospitals):
    folder = hospitals()
    file = folder / "PHILIPS" / "site.yaml"
    file.write_text(file.read_text().replace("epsilon_cap: 8.0", "epsilon_cap: 2.6"))
    run, summary = private("run", "rounds=3", folder=folder)
    refused = summary["hospitals"]["PHILIPS"]["refused"]
    assert {one["code"] for one in refused} == {"budget-cap"}
    since = refused[0]["round"]
    assert since > 1
    assert [len(line["reports"]) for line in run.lines()] == [3 if n < since else 2 for n in (1, 2, 3)]
    assert summary["status"] == "completed"
    assert budget_of(folder, "PHILIPS").read().after((), 1e-5, run.run_name()) <= 2.6


def test_a_retry_gets_the_stored_bytes_and_pays_nothing(private, hospitals, letters, monkeypatch):
    """The server forgets round 2 and asks again: same plan, same model, same bytes."""
    folder = hospitals()
    run, _ = private("run", folder=folder)
    before = {name: len(budget_of(folder, name).read().lines) for name in NAMES}
    sent = [content["delta"]["fc.weight"].data for content in letters["train"][3:]]
    run.summary.unlink()
    state = run.path / "checkpoint"
    (state / "state.safetensors").unlink()
    (state / "previous.safetensors").rename(state / "state.safetensors")
    job = launch.resumed(run.path, [])
    launch.start(job, engine="inprocess", superlink=None, screen=console.Console())
    again = [content["delta"]["fc.weight"].data for content in letters["train"][6:]]
    assert again == sent
    assert {name: len(budget_of(folder, name).read().lines) for name in NAMES} == before


@pytest.mark.parametrize(
    ("accepted", "code"),
    [
        ({"unit": ["sample"]}, "policy-unit"),
        ({"mechanism": ["secure-aggregation"]}, "policy-mechanism"),
        ({"noise_min": 5.0}, "policy-noise-min"),
        ({"rate_max": 0.1}, "policy-rate-max"),
        ({"steps_max": 1}, "policy-steps-max"),
        ({"clip_max": 0.5}, "policy-clip-max"),
        ({"epsilon_max": 1.0}, "policy-epsilon-max"),
    ],
)
def test_what_a_hospital_does_not_accept_it_declines_by_name_and_pays_nothing(private, hospitals, accepted, code):
    folder = hospitals(accepted=accepted)
    _, summary = private("run", "rounds=1", folder=folder)
    assert {one["code"] for row in summary["hospitals"].values() for one in row["refused"]} == {code}
    assert budget_of(folder, "GE").read() is None


@pytest.fixture
def nameless(hospitals):
    """Three hospitals, of which the first does not know whose its cubes are."""
    folder = hospitals()
    with np.load(folder / "GE" / "cubes.npz") as whole:
        arrays = {key: whole[key] for key in whole.files if key != "patient"}
    np.savez(folder / "GE" / "cubes.npz", **arrays)
    return folder


def test_a_hospital_that_does_not_know_its_patients_promises_them_nothing(nameless, private, monkeypatch):
    with pytest.raises(ConfigError, match=r"hospital GE: .* scans do not say whose they are.*one_scan_a_patient=true"):
        private("told", "rounds=1", folder=nameless)
    monkeypatch.setattr("app.prepare.unowned", lambda *_: "")  # as in a deployment, where nobody sees all hospitals
    _, summary = private("run", "rounds=1", folder=nameless)
    assert {one["code"] for one in summary["hospitals"]["GE"]["refused"]} == {"policy-patients-unknown"}
    assert summary["hospitals"]["PHILIPS"]["refused"] == []
    assert budget_of(nameless, "GE").read() is None


@pytest.mark.parametrize("way", ["its word", "crops as units"])
def test_such_a_hospital_takes_part_on_its_own_word_or_with_crops_as_units(nameless, private, way):
    file = nameless / "GE" / "site.yaml"
    if way == "its word":
        file.write_text(file.read_text().replace("path: cubes.npz", "path: cubes.npz\n  one_scan_a_patient: true"))
    else:
        for name in NAMES:
            site = nameless / name / "site.yaml"
            site.write_text(site.read_text().replace("policy:", "policy:\n  accepted: {unit: [sample]}"))
    unit = [] if way == "its word" else ["strategy/privacy=sample", "strategy.privacy.sample_rate=0.5"]
    _, summary = private("run", "rounds=1", *unit, folder=nameless)
    assert all(row["refused"] == [] for row in summary["hospitals"].values())


def test_a_hospital_that_wants_private_training_declines_a_run_without(hospitals, tmp_path):
    folder = hospitals(accepted={"unit": ["patient"], "epsilon_max": 4.0})
    plain = [text for text in SMALL if not text.startswith(("federation=", "source", "partition="))]
    job = launch.fresh(tmp_path / "run", ["federation=sites", f"federation.sites={folder}", *plain, "rounds=1"])
    with pytest.raises(RunFailed, match="policy-unit"):
        launch.start(job, engine="inprocess", superlink=None, screen=console.Console())


@pytest.mark.parametrize("leak", [{"loss": 0.25}, {"seconds": 1.25}, {"histogram": (31, 17)}, {"score": 0.75}])
def test_a_part_that_would_say_more_in_a_private_run_is_stopped_at_the_door(
    private, letters, monkeypatch, caplog, leak
):
    real = work._public_report
    monkeypatch.setattr(work, "_public_report", lambda *known: replace(real(*known), **leak))
    _, summary = private("run", "rounds=1")
    assert len(letters["train"]) == 3
    for content in letters["train"]:
        assert set(content) == {"report"}
        assert set(content["report"]) == {"declined", "salt"}
        assert content["report"]["declined"] == "declined"
    assert f"an answer with fact {next(iter(leak))!r}" in caplog.text
    assert {one["code"] for row in summary["hospitals"].values() for one in row["refused"]} == {"declined"}


def test_a_fault_in_the_data_leaves_as_declined_and_nothing_else(private, hospitals, letters, monkeypatch):
    def broken(*_, **__):
        raise FloatingPointError("patient 17 made it so")

    monkeypatch.setattr(work, "private_fit", broken)
    folder = hospitals()
    run, summary = private("run", "rounds=1", folder=folder)
    assert {one["code"] for one in run.lines()[0]["refused"]} == {"declined"}
    assert "patient 17" in (folder / "GE" / "state" / "site.log").read_text()
    for content in letters["train"]:
        assert [*content] == ["report"]
        assert {key: said for key, said in content["report"].items() if key != "salt"} == {"declined": "declined"}
    # Reserved before it was computed: spent, although nothing left.
    assert len(budget_of(folder, "GE").read().events()) == 3
    assert "patient 17" not in json.dumps(summary)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.class_balance=true", "training.class_balance=false"),
        ("stopping.patience=3", "stopping=never"),
        ("budget.delta=1.5", "delta strictly between 0 and 1"),
        ("budget.epsilon_cap=-1", "epsilon_cap of 0 or more"),
        ("split=folds", "split=keyed"),
        ("federation.mode=central", "federation.mode=federated"),
        ("baseline=nonzero_voxels", "baseline=null"),
        ("strategy.weighting.unit=crops", "weighting.unit=patients"),
        ("strategy/local=ditto", "strategy/local=plain"),
        ("strategy/weighting=quality", "quality weights"),
        ("strategy/local=scaffold", "SCAFFOLD"),
        ("model.norm=batch", "model.norm=group"),
    ],
)
def test_settings_that_read_patients_data_elsewhere_are_refused_before_anybody_is_asked(
    tmp_path, cubes, override, said
):
    from strategies.errors import StrategyError

    with pytest.raises((ConfigError, StrategyError), match=said):
        launch.fresh(tmp_path / "run", [*SMALL, f"source.path={cubes}", *PRIVATE, override])
    assert not (tmp_path / "run").exists()


def test_a_fixed_seed_repeats_claims_nothing_and_is_not_charged(run):
    seeded = [*PRIVATE, "strategy.privacy.fixed_seed=1", "rounds=1"]
    _, first = run(*seeded, name="first")
    folder, again = run(*seeded, name="again")
    assert first["hospitals"]["GE"]["privacy"]["epsilon"] is None
    assert "fixed seed" in folder.privacy.read_text()
    # The run's random name is part of the address, so that two runs never share noise.
    assert first["hospitals"]["GE"]["refused"] == again["hospitals"]["GE"]["refused"] == []


def test_a_hospital_with_a_cap_does_not_take_a_fixed_seed(private):
    _, summary = private("run", "strategy.privacy.fixed_seed=1", "rounds=1")
    assert {one["code"] for row in summary["hospitals"].values() for one in row["refused"]} == {"policy-fixed-seed"}


def test_samples_as_units_are_told_and_crops_counted(private):
    run, summary = private("run", "strategy/privacy=sample", "strategy.privacy.sample_rate=0.5")
    assert summary["hospitals"]["GE"]["privacy"]["unit"] == "sample"
    assert all(report["crops"] > 0 for report in run.lines()[0]["reports"].values())
    assert "the unit is one crop" in run.privacy.read_text()


def test_site_level_noise_is_told_for_every_hospital(run):
    _, summary = run("strategy/privacy=site")
    rows = [row["privacy"] for row in summary["hospitals"].values()]
    assert rows == [rows[0]] * 3
    # Gaussian, z 4.25, two releases.
    assert rows[0]["unit"] == "site"
    assert rows[0]["epsilon"] == pytest.approx(1.22, abs=0.05)


def test_a_formula_in_circulation_without_clipping_claims_nothing(run):
    folder, summary = run("strategy/privacy=naive_mean_noise", "strategy.privacy.clip=null", "rounds=1")
    assert summary["hospitals"]["GE"]["privacy"]["epsilon"] is None
    assert "no clipping" in folder.privacy.read_text()


def test_every_trial_of_a_sweep_pays_and_the_sweep_stops_at_the_cap(hospitals, tmp_path, capsys):
    folder = hospitals(epsilon_cap=5.0)
    plain = [text for text in SMALL if not text.startswith(("federation=", "source", "partition=", "rounds="))]
    grid = [
        "federation=sites",
        f"federation.sites={folder}",
        *plain,
        *PRIVATE,
        "rounds=1",
        "training.lr=0.01,0.02,0.03",
    ]
    main(["sweep", *grid, "strategy.privacy.epsilon=2.5", "--sweep-dir", str(tmp_path / "sweep")])
    said = capsys.readouterr().out
    ranking = json.loads((tmp_path / "sweep" / "ranking.json").read_text())
    assert [row["status"] for row in ranking] == ["completed", "completed", "over budget"]
    ledger = budget_of(folder, "GE").read()
    whole = epsilon(ledger.events(), 1e-5)
    assert 2.5 < whole < 5.0
    assert f"GE: all 3 runs of this sweep together cost ε {whole:.2f}" in said
    assert "no hospital has budget left for trial 3" in said
