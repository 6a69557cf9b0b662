"""What a hospital's ledger shows after private runs, and who sees that it went back."""

import json
import shutil

import pytest

from app.cli import main
from app.privacy import payment


def test_the_ledger_is_shown_and_its_faults_are_named(private, hospitals, capsys):
    folder = hospitals()
    run, _ = private("run", folder=folder)
    site = str(folder / "GE" / "site.yaml")
    capsys.readouterr()
    assert main(["budget", "show", site, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["cap"], len(shown["runs"])) == (8.0, 1)
    assert shown["runs"][0]["epsilon"] == pytest.approx(3.2, abs=0.01)
    assert shown["left"] == pytest.approx(8.0 - shown["runs"][0]["epsilon"], abs=1e-6)
    assert shown["runs"][0]["rounds_left"] > 0
    assert main(["budget", "verify", site, "--remembers", str(run.path)]) == 0
    assert main(["budget", "show", site]) == 0
    ledger = folder / "GE" / "state" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"round":2', '"round":1', 1))
    capsys.readouterr()
    assert main(["budget", "verify", site]) == 1
    assert "edited" in capsys.readouterr().out
    assert main(["budget", "show", site]) == 1
    _, summary = private("after", folder=folder)
    assert {one["code"] for one in summary["hospitals"]["GE"]["refused"]} == {"budget-tampered"}


def test_an_older_copy_of_everything_is_shown_by_what_a_run_remembers(private, hospitals, tmp_path, capsys):
    folder = hospitals()
    private("first", "rounds=1", folder=folder)
    older = tmp_path / "backup"
    shutil.copytree(folder / "GE", older)
    run, _ = private("second", "rounds=1", folder=folder)
    shutil.rmtree(folder / "GE")
    shutil.copytree(older, folder / "GE")
    site = str(folder / "GE" / "site.yaml")
    capsys.readouterr()
    assert main(["budget", "verify", site]) == 0
    assert "only others can tell" in capsys.readouterr().out
    assert main(["budget", "verify", site, "--remembers", str(run.path)]) == 1
    assert "cut" in capsys.readouterr().out


def test_a_ledger_that_is_rolled_back_during_a_run_is_on_the_run_s_own_page(private, hospitals, tmp_path, monkeypatch):
    """Ledger and anchor of one hospital are those of round 1 again before it is asked for round 3."""
    folder, older = hospitals(), tmp_path / "backup"
    real = payment.pay

    def pay(place, message, plan, what, answer):
        if (plan.hospital, plan.round, what) == ("GE", 3, "round"):
            shutil.copytree(older, folder / "GE", dirs_exist_ok=True)
        sent = real(place, message, plan, what, answer)
        if (plan.hospital, plan.round) == ("GE", 1):
            shutil.copytree(folder / "GE", older)
        return sent

    monkeypatch.setattr(payment, "pay", pay)
    run, summary = private("run", "rounds=3", folder=folder)
    (said,) = [text for text in summary["privacy"]["warnings"] if text.startswith("ledger-rolled-back")]
    assert "the ledger of GE has 5 lines in round 3" in said
    assert f"* {said}" in run.privacy.read_text()
