"""What a run's journal says reaches the coordinator's audit log, each line once."""

import json

import pytest

from app.deploy import audit_log
from app.deploy.receipts import Receipts, outcome_facts
from app.rounds.folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def line(round, *refused, ledger="12:ab"):
    return {
        "leg": "",
        "round": round,
        "seconds": 1.0,
        "asked": ["north", "south"],
        "reports": {"north": {"loss": 0.5, "ledger": ledger}},
        "bytes_up": {"north": 100},
        "refused": [{"hospital": "south", "round": round, "code": code} for code in refused],
    }


def logged(coordinator):
    return [event for event in audit_log.read(coordinator.folder / "audit.jsonl") if event["event"] == "round"]


def test_each_round_says_who_was_asked_what_was_received_from_whom_and_who_refused(coordinator, folder):
    folder.append(line(1, "policy-bundle"))
    Receipts(coordinator).take("7", str(folder.path))
    (event,) = logged(coordinator)
    assert (event["run"], event["folder"], event["round"], event["leg"]) == ("7", str(folder.path), 1, "")
    assert event["asked"] == ["north", "south"]
    assert event["received"] == {"north": {"bytes": 100, "ledger": "12:ab"}}
    assert event["refused"] == [{"hospital": "south", "round": 1, "code": "policy-bundle"}]


def test_a_round_stands_there_once_however_often_one_looks_and_whoever_looks(coordinator, folder):
    receipts = Receipts(coordinator)
    folder.append(line(1))
    for _ in range(2):
        receipts.take("7", str(folder.path))
    folder.append(line(2))
    receipts.take("7", str(folder.path))
    Receipts(coordinator).take("8", str(folder.path))  # a coordinator that was started again
    assert [event["round"] for event in logged(coordinator)] == [1, 2]


def test_a_round_that_was_run_once_more_stands_there_beside_the_first(coordinator, folder):
    folder.append(line(1, ledger="12:ab"))
    Receipts(coordinator).take("7", str(folder.path))
    folder.forget_after("", 0)
    folder.append(line(1, ledger="14:cd"))
    Receipts(coordinator).take("8", str(folder.path))
    assert [event["received"]["north"]["ledger"] for event in logged(coordinator)] == ["12:ab", "14:cd"]


def test_what_could_not_be_written_down_is_new_the_next_time(coordinator, folder, monkeypatch):
    receipts = Receipts(coordinator)
    folder.append(line(1))
    with monkeypatch.context() as full, pytest.raises(OSError, match="No space"):
        full.setattr(type(coordinator), "record", lambda *_, **__: (_ for _ in ()).throw(OSError("No space left")))
        receipts.take("7", str(folder.path))
    receipts.take("7", str(folder.path))
    assert len(logged(coordinator)) == 1


def test_a_run_without_a_journal_yet_or_without_a_folder_is_no_trouble(coordinator, folder):
    for where in (str(folder.path), ""):
        Receipts(coordinator).take("7", where)
        assert outcome_facts(where) == {"scored": [], "ledgers": {}, "refused": {}}
    assert logged(coordinator) == []


def test_the_end_says_who_scored_and_what_their_ledgers_were_then(folder):
    rows = {
        "north": {"patients": 9, "privacy": {"epsilon": 1.0, "ledger": "20:ef"}, "refused": []},
        "south": {"patients": None, "privacy": None, "refused": [{"round": 5, "code": "timeout"}]},
    }
    folder.summary.write_text(json.dumps({"hospitals": rows}))
    assert outcome_facts(str(folder.path)) == {
        "scored": ["north"],
        "ledgers": {"north": "20:ef"},
        "refused": {"south": [{"round": 5, "code": "timeout"}]},
    }
